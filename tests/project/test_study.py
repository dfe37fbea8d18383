"""Studies of settings: what rows have in common is made once; their table and chart."""

import json
from pathlib import Path

import pytest
from tiny_recipe import one_core, prepare
from tiny_study import FASTER, write_study

import study
from study_table import chart, over_control, table, write_section

ROOT = Path(__file__).parents[2]


@pytest.mark.slow
def test_a_study_from_audio_to_table(tmp_path, capfd):
    out, docs = tmp_path / "out", tmp_path / "docs.md"
    docs.write_text("before\n<!-- study tiny -->\nold\n<!-- end of study tiny -->\nafter\n")
    path = write_study(tmp_path / "tiny.yaml", (*prepare(tmp_path / "recipe").settings, *FASTER))
    command = [str(path), "--exp-dir", str(out), "--docs", str(docs)]
    with one_core():
        assert study.main(command) == 0
    rows = json.loads((out / "study.json").read_text())["rows"]
    assert [(row["factor"], row["name"]) for row in rows] == [
        ("views", "none"),
        ("views", "a warp"),
    ]
    for name in ("members", "ensemble"):  # no row changes them
        assert rows[0][name] == rows[1][name]
    assert rows[0]["distilled"] != rows[1]["distilled"]
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
    assert json.loads((out / "study.json").read_text())["rows"][0]["control"] == rows[0]["control"]
    same = [path for path in files if path.parent != model.parent]
    assert all(path.stat().st_mtime_ns == files[path] for path in same)


@pytest.mark.parametrize(
    ("changes", "options", "expected"),
    [
        ({"sedes": 3}, [], "a study has title, config, settings, seeds, rows and nothing else"),
        ({"seeds": 1}, [], "seeds is 1; it must be a number from 2 to 8"),
        ({"seeds": "three"}, [], "seeds is three; it must be"),
        ({"seeds": True}, [], "seeds is True; it must be"),
        ({"title": None}, [], "title must be text, it is None"),
        ({"rows": {"views": {"a": 3}}}, [], "row 'a' must be a mapping, it is 3"),
        ({"rows": []}, [], "rows must be a mapping, it is []"),
        ({"rows": {"views": None}}, [], "rows of views must be a mapping"),
        ({"settings": None}, [], "settings must be a mapping"),
        ({}, ["--jobs", "-1"], "--jobs is -1"),
        ({}, ["--docs", "README.md"], "README.md: the marker lines"),
        ({"settings": {"distill.hard_baseline": False}}, [], "each row of a study has a control"),
        ({"config": "dmeo"}, [], "dmeo: there is no such file"),
        ({"settings": {"train.epoch": 3}}, [], "train.epochs"),
    ],
)
def test_a_wrong_study_is_refused_in_one_line(tmp_path, capfd, changes, options, expected):
    path = write_study(tmp_path / "wrong.yaml", **changes)
    assert study.main([str(path), "--exp-dir", str(tmp_path / "out"), *options]) == 2
    error = capfd.readouterr().err
    assert error.count("\n") == 1 and error.startswith("tools/study.py: error: ")
    assert expected in error
    assert not (tmp_path / "out" / "shared").exists()


@pytest.mark.parametrize("name", ["an4", "demo"])
def test_the_settings_of_a_study_in_the_repository_fit_together(name):
    contents = study.read_study(ROOT / "tools" / "studies" / f"{name}.yaml")
    for rows in contents.rows.values():
        for settings in rows.values():
            study.make_experiment(contents, settings or {}, 0, Path("exp"), None)


def row(control, distilled):
    values = {"factor": "f", "name": "n", "members": [50] * 3, "ensemble": [54] * 3, "epochs": 12}
    values |= {"control": control, "distilled": distilled, "bytes": [1e6] * 3}
    return values | {"seconds": [1] * 3, "teacher_seconds": [2] * 3}


def test_the_interval_is_that_of_paired_differences():
    mean, half = over_control(row([50.0, 51.0, 52.0], [51.0, 52.5, 54.0]))
    assert mean == 1.5 and half == pytest.approx(4.303 * 0.5 / 3**0.5)


def test_the_table_has_the_share_of_the_gain_over_the_control():
    text = table({"title": "T.", "seeds": 3, "rows": [row([50.0] * 3, [53.0] * 3)]}, "run it")
    assert "\n| **f** |  |" in text
    assert "| n | 50.00 | 54.00 | 50.00 ± 0.00 | 53.00 ± 0.00 | +3.00 ± 0.00 | 75 % | 12 |" in text
    assert "run it" in text


def test_the_chart_orders_accuracies_from_left_to_right():
    results = {"rows": [row([50.0] * 3, [53.0] * 3)]}
    places = [float(part.split('"')[1]) for part in chart(results).split("cx=")[4:]]
    ensemble, control, distilled = places
    assert control < distilled < ensemble


def test_markers_that_are_missing_are_named(tmp_path):
    (tmp_path / "docs.md").write_text("no markers\n")
    with pytest.raises(study.UserError, match="marker lines"):
        write_section(tmp_path / "docs.md", "x", "text")
