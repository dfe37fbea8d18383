"""Studies of settings: what rows have in common is made once; their table and chart."""

import json
from pathlib import Path

import pytest
from tiny_recipe import one_core, prepare
from tiny_study import FASTER, write_study

import study
import study_file
from study_table import chart, over_control, table, write_section

ROOT = Path(__file__).parents[2]
COMPARISONS = ["an4", "demo", "diversity", "regularise", "specialists", "temperature"]
SYSTEMS = ("members", "ensemble", "control", "distilled")
COLUMNS = [f"{system} dev" for system in SYSTEMS]
COLUMNS += ["control train", "distilled train", "ensemble test", "distilled test", "distilled wer"]


@pytest.mark.slow
def test_a_study_from_audio_to_table(tmp_path, capfd):
    out, docs = tmp_path / "out", tmp_path / "docs.md"
    docs.write_text("before\n<!-- study tiny -->\nold\n<!-- end of study tiny -->\nafter\n")
    recipe = (*prepare(tmp_path / "recipe").settings, *FASTER)
    path = write_study(tmp_path / "tiny.yaml", recipe, columns=COLUMNS)
    command = [str(path), "--exp-dir", str(out), "--docs", str(docs)]
    with one_core():
        assert study.main(command) == 0
    rows = json.loads((out / "study.json").read_text())["rows"]
    assert [(row["factor"], row["name"]) for row in rows] == [
        ("views", "none"),
        ("views", "a warp"),
    ]
    for name in ("members dev", "ensemble dev"):  # no row changes them
        assert rows[0][name] == rows[1][name]
    assert rows[0]["distilled dev"] != rows[1]["distilled dev"]
    for row in rows:
        assert all(len(row[column]) == 2 for column in COLUMNS)
        assert all(0 <= value <= 100 for column in COLUMNS[:-1] for value in row[column])
    made = sorted(path.name.rpartition("-")[0] for path in (out / "shared").iterdir())
    assert made.count("train") == 2 and made.count("copies") == 2 and made.count("frames") == 1
    assert made.count("model") == 8
    text = docs.read_text()
    assert text.startswith("before\n<!--") and text.endswith("-->\nafter\n") and "old" not in text
    assert "| a warp |" in text
    assert "</svg>" in (tmp_path / "pictures" / "study-tiny.svg").read_text()

    # Output that exists stays; lost output is made again, in a worker process with the same bits.
    files = {
        path: path.stat().st_mtime_ns for path in (out / "shared").rglob("*") if path.is_file()
    }
    model = next(
        path for path in files if path.name == "model.safetensors" and "model-" in str(path)
    )
    weights = model.read_bytes()
    model.unlink()
    with one_core():
        assert study.main([*command, "--jobs", "2"]) == 0
    assert model.read_bytes() == weights
    again = json.loads((out / "study.json").read_text())["rows"][0]
    assert again["control dev"] == rows[0]["control dev"]
    same = [path for path in files if path.parent != model.parent]
    assert all(path.stat().st_mtime_ns == files[path] for path in same)


@pytest.mark.parametrize(
    ("changes", "options", "expected"),
    [
        (
            {"sedes": 3},
            [],
            "a study has title, config, settings, seeds, rows, columns and nothing else",
        ),
        ({"seeds": 1}, [], "seeds is 1; it must be a number from 2 to 8"),
        ({"seeds": "three"}, [], "seeds is three; it must be"),
        ({"seeds": True}, [], "seeds is True; it must be"),
        ({"title": None}, [], "title must be text, it is None"),
        ({"rows": {"views": {"a": 3}}}, [], "row 'a' must be a mapping, it is 3"),
        ({"rows": []}, [], "rows must be a mapping, it is []"),
        ({"rows": {"views": None}}, [], "rows of views must be a mapping"),
        ({"settings": None}, [], "settings must be a mapping"),
        ({"columns": ["ensemble train"]}, [], "columns has 'ensemble train'; it may have"),
        ({"columns": 3}, [], "columns has 3; it may have members train"),
        ({"columns": ["control dev"]}, [], "columns has no figure of the distilled model"),
        ({}, ["--jobs", "-1"], "--jobs is -1"),
        ({}, ["--docs", "README.md"], "README.md: the marker lines"),
        ({"settings": {"distill.hard_baseline": False}}, [], "each row of a study has a control"),
        ({"config": "dmeo"}, [], "dmeo: there is no such file"),
        ({"settings": {"train.epoch": 3}}, [], "train.epochs"),
        ({}, ["train.epoch=3"], "train.epochs"),
        ({}, ["three"], "'three' is no setting; write KEY=VALUE"),
    ],
)
def test_a_wrong_study_is_refused_in_one_line(tmp_path, capfd, changes, options, expected):
    path = write_study(tmp_path / "wrong.yaml", **changes)
    assert study.main([str(path), "--exp-dir", str(tmp_path / "out"), *options]) == 2
    error = capfd.readouterr().err
    assert error.count("\n") == 1 and error.startswith("tools/study.py: error: ")
    assert expected in error
    assert not (tmp_path / "out" / "shared").exists()


@pytest.mark.parametrize("name", COMPARISONS)
def test_the_settings_of_a_study_in_the_repository_fit_together(name):
    contents = study_file.read_comparison(ROOT / "tools" / "studies" / f"{name}.yaml")
    for rows in contents.rows.values():
        for settings in rows.values():
            study.make_experiment(contents, settings or {}, 0, Path("exp"))


def test_settings_of_the_command_line_are_those_of_all_rows(tmp_path):
    text = ["lm.text=a/novels.txt", "train.epochs=3"]
    options = study.study_parser("p", "d").parse_args([str(tmp_path / "s.yaml"), *text])
    assert study.given_settings(options) == {"lm.text": "a/novels.txt", "train.epochs": "3"}
    assert study.command_of("p", options).endswith("s.yaml lm.text=novels.txt train.epochs=3")


def row(control, distilled, measure="dev", ensemble=54):
    values = {"factor": "f", "name": "n", "epochs": 12}
    values |= {f"members {measure}": [50] * 3, f"ensemble {measure}": [ensemble] * 3}
    return values | {f"control {measure}": control, f"distilled {measure}": distilled}


def results(row, measure="dev"):
    columns = [f"{system} {measure}" for system in SYSTEMS]
    return {"title": "T.", "seeds": 3, "columns": columns, "rows": [row]}


def test_the_interval_is_that_of_paired_differences():
    mean, half = over_control(row([50.0, 51.0, 52.0], [51.0, 52.5, 54.0]), "dev")
    assert mean == 1.5 and half == pytest.approx(4.303 * 0.5 / 3**0.5)


def test_the_table_has_the_share_of_the_gain_over_the_control():
    text = table(results(row([50.0] * 3, [53.0] * 3)), "run it")
    assert "\n| **f** |  |" in text
    assert "| n | 50.00 | 54.00 | 50.00 ± 0.00 | 53.00 ± 0.00 | +3.00 ± 0.00 | 75 % | 12 |" in text
    assert "run it" in text


def test_fewer_word_errors_are_a_gain():
    text = table(results(row([8.0] * 3, [7.0] * 3, "wer", 6), "wer"), "run it")
    assert "| n | 50.00 | 6.00 | 8.00 ± 0.00 | 7.00 ± 0.00 | −1.00 ± 0.00 | 50 % | 12 |" in text


def test_the_chart_orders_accuracies_from_left_to_right():
    picture = chart(results(row([50.0] * 3, [53.0] * 3)))
    places = [float(part.split('"')[1]) for part in picture.split("cx=")[4:]]
    ensemble, control, distilled = places
    assert control < distilled < ensemble


def test_markers_that_are_missing_are_named(tmp_path):
    (tmp_path / "docs.md").write_text("no markers\n")
    with pytest.raises(study.UserError, match="marker lines"):
        write_section(tmp_path / "docs.md", "x", "text")
