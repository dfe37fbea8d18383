"""Studies of word errors: what is shared, resumed and refused; what the table is made of."""

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import yaml
from tiny_recipe import SETTINGS, one_core, prepare
from tiny_study import FASTER, write_study

import wer_study
from acoustic_kd.experiment.models import load_model
from acoustic_kd.system.records import read_done
from wer_table import table

ROOT = Path(__file__).parents[2]
ROWS = {
    "start": {"as it is": None},
    "alone": {
        "a warp": {"features.vtlp_warps": [1.0, 0.9]},
        "wide": {"model.width": 48, "kept": False, "note": "too large"},
    },
    "together": {
        "wide, warp": {"based_on": "a warp", "model.width": 48},
        "mean": {"based_on": "wide", "ensemble": ["wide", "wide, warp"]},
    },
}


def write(path: Path, recipe: tuple[str, ...] = SETTINGS, **changes) -> Path:
    recipe = tuple(s for s in recipe if not s.startswith("train.members"))
    return write_study(path, recipe, **({"rows": ROWS} | changes))


@dataclass
class Made:
    """A finished study."""

    command: list[str]
    out: Path
    docs: Path
    printed: str

    def results(self) -> dict:
        return json.loads((self.out / "study.json").read_text())

    def files(self) -> dict[Path, int]:
        paths = (self.out / "shared").rglob("*")
        return {path: path.stat().st_mtime_ns for path in paths if path.is_file()}


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    folder = tmp_path_factory.mktemp("wer")
    docs = folder / "docs.md"
    docs.write_text("before\n<!-- study tiny -->\nold\n<!-- end of study tiny -->\nafter\n")
    recipe = (*prepare(folder / "recipe").settings, *FASTER)
    recipe = (
        *recipe,
        "corpus.demo_dev_voices=2",
        "corpus.demo_eval_sentences=3",
        "decode.dev_share=0.5",
    )
    recipe = (*recipe, "train.epochs=6", "train.learning_rate=0.01")  # to recognise some words
    path = write(folder / "tiny.yaml", recipe)
    command = [str(path), "--exp-dir", str(folder / "out"), "--docs", str(docs)]
    with one_core():
        assert wer_study.main(command) == 0
    return Made(command, folder / "out", docs, docs.read_text())


@pytest.mark.slow
def test_rows_share_what_they_have_in_common(made):
    kinds = [path.name.rpartition("-")[0] for path in (made.out / "shared").iterdir()]
    counts = {kind: kinds.count(kind) for kind in kinds}
    assert counts["corpus"] == counts["frames"] == counts["graph"] == 1 and counts["copies"] == 2
    assert counts["member"] == 8 and counts["decode"] == 9


@pytest.mark.slow
def test_the_figures_are_those_of_the_runs(made):
    results = made.results()
    rows = {row["name"]: row for row in results["rows"]}
    assert list(rows) == ["as it is", "a warp", "wide", "wide, warp", "mean"]
    assert [len(row["runs"]) for row in rows.values()] == [2, 2, 2, 2, 1]
    assert [row["runs"][0]["models"] for row in rows.values()] == [1, 1, 1, 1, 4]
    for row in rows.values():
        for run in row["runs"]:
            errors, words = np.sum(list(run["speakers"].values()), axis=0)
            assert errors == run["errors"] and words == results["words"]
            assert run["wer"] == pytest.approx(100 * errors / words)
        if row["based_on"]:
            change = row["difference"]
            before = rows[row["based_on"]]
            assert change["points"] == pytest.approx(row["wer"] - before["wer"])
            assert change["percent"] == pytest.approx(100 * change["points"] / before["wer"])
            assert change["ci95"][0] <= change["points"] <= change["ci95"][1]
    # The share of dev that is decoded, and the training times and sizes of the models.
    measurements = [json.loads(p.read_text()) for p in made.out.glob("shared/*/measurement.json")]
    assert {len(m["utterances"]) for m in measurements} == {4}  # of 2 speakers, 2 of 3 each
    members = {path: load_model(path) for path in made.out.glob("shared/member-*")}
    assert {run["parameters"] for row in rows.values() for run in row["runs"][:1]} == {
        *(model.description["parameters"] for model in members.values()),
        sum(run["parameters"] for name in ROWS["together"]["mean"]["ensemble"]
            for run in rows[name]["runs"]),
    }  # fmt: skip
    assert sum(
        run["seconds"] for name, row in rows.items() if name != "mean" for run in row["runs"]
    ) == pytest.approx(sum(read_done(path)["seconds"] for path in members))
    frames = {row["name"]: row["runs"][0]["frames_seen"] for row in results["rows"]}
    assert frames["a warp"] == frames["as it is"] and frames["mean"] == 4 * frames["wide"]


@pytest.mark.slow
def test_the_table_goes_into_a_page(made):
    assert made.printed.startswith("before\n<!--") and made.printed.endswith("-->\nafter\n")
    assert "old" not in made.printed
    assert "| wide |" in made.printed and "| no: too large |" in made.printed
    assert "| wide, warp | a warp |" in made.printed and "| **together** |" in made.printed
    for row in made.results()["rows"]:
        assert f"| {row['wer']:.2f} |" in made.printed


@pytest.mark.slow
def test_what_is_made_is_not_made_again(made):
    files = made.files()
    with one_core():
        assert wer_study.main(made.command) == 0
    assert made.files() == files
    assert made.docs.read_text() == made.printed


@pytest.mark.slow
def test_a_lost_model_is_made_again_with_the_same_bits(made):
    lost = next(iter(sorted(made.out.glob("shared/member-*/model.safetensors"))))
    files, weights = made.files(), lost.read_bytes()
    lost.unlink()
    with one_core():
        assert wer_study.main(made.command) == 0
    assert lost.read_bytes() == weights
    now = made.files()
    assert all(now[path] == files[path] for path in files if path.parent != lost.parent)


BASE = {"start": {"first": None}}


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"seeds": 0}, "seeds is 0; it must be a number from 1 to 99"),
        ({"config": 3}, "config must be text, it is 3"),
        ({"rows": {}}, "rows has no row"),
        ({"rows": BASE | {"x": {"a": 3}}}, "row 'a' must be a mapping, it is 3"),
        ({"rows": BASE | {"x": {"first": None}}}, "two rows are named 'first'"),
        ({"rows": BASE | {"x": {"a": {"bases_on": "first"}}}}, "'bases_on' is neither a setting"),
        ({"rows": BASE | {"x": {"a": {"based_on": "b"}}}}, "based_on is 'b'; it must name a row"),
        ({"rows": BASE | {"x": {"a": {"based_on": ["first"]}}}}, "it must name a row above"),
        ({"rows": {"x": {"a": {"based_on": "a"}}}}, "based_on is 'a'; it must name a row above"),
        ({"rows": BASE | {"x": {"a": {"kept": False}}}}, "kept is false; give the reason in note"),
        ({"rows": BASE | {"x": {"a": {"kept": "no"}}}}, "kept must be true or false"),
        ({"rows": BASE | {"x": {"a": {"ensemble": "first"}}}}, "ensemble must be a list of rows"),
        ({"rows": BASE | {"x": {"a": {"ensemble": ["b"]}}}}, "ensemble has 'b'; it must name rows"),
        (
            {"rows": BASE | {"x": {"a": {"ensemble": ["first"], "model.width": 3}}}},
            "row 'a': an ensemble has no settings",
        ),
        (
            {"rows": BASE | {"x": {"a": {"ensemble": ["first"]}, "b": {"based_on": "a"}}}},
            "row 'b': based_on is 'a', an ensemble",
        ),
        ({"rows": BASE | {"x": {"a": {"train.members": 3}}}}, "train.members cannot be set"),
        ({"rows": BASE | {"x": {"a": {"train.epoch": 3}}}}, "train.epochs"),
    ],
)
def test_a_wrong_study_is_refused_in_one_line(tmp_path, capfd, changes, expected):
    path = write(tmp_path / "wrong.yaml", **changes)
    assert wer_study.main([str(path), "--exp-dir", str(tmp_path / "out")]) == 2
    error = capfd.readouterr().err
    assert error.count("\n") == 1 and error.startswith("tools/wer_study.py: error: ")
    assert expected in error
    assert not (tmp_path / "out" / "shared").exists()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("row", "expected"),
    [
        ({"corpus.demo_eval_sentences": 2}, "it has other dev utterances than row 'as it is'"),
        ({"senones.leaves": 118}, "row 'both': the senones of rows that it averages differ"),
        ({"features.normalise": "global"}, "row 'both': features.normalise differs in rows"),
    ],
)
def test_rows_that_cannot_be_compared_are_refused_before_training(made, capfd, row, expected):
    changed = {"changed": row, "both": {"ensemble": ["as it is", "changed"]}}
    path = Path(made.command[0]).with_name("incomparable.yaml")
    contents = yaml.safe_load(Path(made.command[0]).read_text())
    path.write_text(json.dumps(contents | {"rows": {"start": {"as it is": None} | changed}}))
    with one_core():
        assert wer_study.main([str(path), "--exp-dir", str(made.out)]) == 2
    output = capfd.readouterr()
    assert expected in output.err and output.err.count("error:") == 1
    assert "member" not in output.out


def test_the_settings_of_the_study_in_the_repository_fit_together():
    contents, rows = wer_study.read_wer_study(ROOT / "tools" / "studies" / "accuracy.yaml")
    wer_study.experiments_of(contents, rows, Path("exp"))


def test_settings_of_rows_add_up(tmp_path):
    _, rows = wer_study.read_wer_study(write(tmp_path / "tiny.yaml"))
    assert rows["wide, warp"].settings == {"features.vtlp_warps": [1.0, 0.9], "model.width": 48}
    assert rows["wide"].settings == {"model.width": 48} and rows["wide"].based_on == "as it is"


def test_the_table_shows_changes_in_points_and_percent():
    run = {"wer": 40.0}
    row = {"factor": "f", "name": "a", "based_on": None, "kept": True, "note": "", "runs": [run]}
    row |= {"frame_accuracy": 50.0, "wer": 40.0, "seconds": 120.0, "difference": None}
    change = {"points": -4.0, "ci95": [-5.0, -3.0], "percent": -10.0, "drawn": "speakers"}
    other = row | {"name": "b", "based_on": "a", "difference": change, "wer": 36.0}
    results = {"title": "T.", "words": 1000, "speakers": 12, "rows": [row, other]}
    text = table(results, "run it")
    assert "| a |  | 50.00 | 40.00 | 40.00 |  |  |  | 2 |" in text
    assert "| 36.00 | −4.00 (−5.00 … −3.00) | −10.0 % | yes | 2 |" in text
    assert "run it" in text and "On 1,000 words of 12 speakers of dev" in text
