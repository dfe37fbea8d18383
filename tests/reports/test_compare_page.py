"""`acoustic-kd compare`: two experiments side by side, and what it refuses."""

import json
import shutil

import numpy as np
import pytest
from html_pages import read_page, section, tables

from acoustic_kd.cli import main
from acoustic_kd.decoding.scoring import error_counts
from acoustic_kd.reports.comparison import paired_differences
from acoustic_kd.reports.experiment_files import read_experiment


@pytest.fixture(scope="module")
def pair(finished_recipe, tmp_path_factory):
    """The tiny experiment, and one whose distilled model learnt from hard targets above all."""
    folder = tmp_path_factory.mktemp("compared")
    other = finished_recipe.copy(folder / "hard")
    for stage in ("distill", "decode", "report"):
        assert other(stage, "distill.hard_weight=9", "distill.epochs=1") == 0
    return finished_recipe.directory, other.directory


@pytest.fixture(scope="module")
def page(pair, tmp_path_factory):
    out = tmp_path_factory.mktemp("out") / "new" / "page.html"
    assert main(["compare", *map(str, pair), "--out", str(out)]) == 0
    return read_page(out.read_text(encoding="utf-8"))


@pytest.fixture
def refusal(capsys, tmp_path):
    """refusal(directory, …) → the one line of a run that must end with status 2."""

    def run(*directories, out=None):
        out = out or tmp_path / "page.html"
        there = out.exists()
        assert main(["compare", *map(str, directories), "--out", str(out)]) == 2
        error = capsys.readouterr().err
        assert error.startswith("acoustic-kd compare: error: ") and error.count("\n") == 1
        assert out.exists() == there
        return error

    return run


def results_of(folder):
    return json.loads((folder / "results.json").read_text(encoding="utf-8"))


def test_all_systems_of_both_stand_side_by_side(page, pair):
    rows = tables(section(page, "results"))[0][1:]
    systems = [(folder.name, s) for folder in pair for s in results_of(folder)["systems"]]
    assert len(rows) == 8
    for row, (name, system) in zip(rows, systems, strict=True):
        assert row[0] == name and row[1].startswith(system["name"])
        assert row[4].startswith(f"{system['frame_accuracy']['test']:.2f}")
        assert row[6].startswith(f"{system['wer']['test']['percent']:.2f}")


def test_the_settings_that_differ_are_named(page):
    found = {row[0]: row[1:] for row in tables(section(page, "settings"))[0][1:]}
    assert set(found) == {"distill.hard_weight", "distill.epochs"}
    assert found["distill.hard_weight"] == ["0.5", "9.0"] and found["distill.epochs"][1] == "1"


def test_distilled_models_are_compared_pair_by_pair(page, pair):
    (row,) = tables(section(page, "differences"))[0][1:]
    distilled = [results_of(f)["systems"][-1] for f in pair]
    assert {system["name"] for system in distilled} == {"distilled"}
    accuracies = [system["frame_accuracy"]["test"] for system in distilled]
    wers = [system["wer"]["test"]["percent"] for system in distilled]
    assert row[0] == pair[1].name
    assert float(row[1]) == pytest.approx(accuracies[1] - accuracies[0], abs=0.006)
    assert float(row[4]) == pytest.approx(wers[1] - wers[0], abs=0.006)
    sources = [read_experiment(folder, folder.name) for folder in pair]
    found = paired_differences(sources)["wer"]["pairs"][pair[1].name]
    counts = [
        error_counts(sources[0].references, source.transcripts["distilled-01"])[:, 0]
        for source in sources
    ]
    words = sum(map(len, sources[0].references.values()))
    assert found["points"] == pytest.approx(100 * np.subtract(*counts).sum() / words)
    low, high = found["ci95"]
    assert low <= found["points"] <= high


def test_curves_soft_targets_and_calibration_are_there(page, pair):
    assert len(section(page, "training").all("polyline")) == 2 * 3
    assert tables(section(page, "soft-targets"))[0][0][1:] == [folder.name for folder in pair]
    rows = [row[0] for row in tables(section(page, "calibration"))[0][1:]]
    kinds = ("baseline", "control", "ensemble", "distilled")
    assert rows == [f"{folder.name}, {kind}" for folder in pair for kind in kinds]
    assert len(section(page, "calibration").all("polyline")) == 2


def test_experiments_of_one_name_are_told_apart_by_their_folders(pair, tmp_path):
    folders = [tmp_path / place / "exp" for place in "ab"]
    for folder, source in zip(folders, pair, strict=True):
        shutil.copytree(source, folder)
    # One was decoded by an older version, and its recognised words are gone.
    for name in ("frames.json", "test.txt"):
        for path in folders[1].glob(f"decode/*/{name}"):
            path.unlink()
    out = tmp_path / "page.html"
    assert main(["compare", *map(str, folders), "--out", str(out)]) == 0
    page = read_page(out.read_text(encoding="utf-8"))
    assert {row[0] for row in tables(section(page, "results"))[0][1:]} == {"a/exp", "b/exp"}
    assert "figures cannot be compared" in section(page, "results").text()
    assert "Not measured" in section(page, "differences").text()
    assert "b/exp: decode/…/frames.json is missing" in section(page, "calibration").text()


def test_other_corpora_and_other_words_are_warned_of(pair, tmp_path):
    for number, key in enumerate(("corpus", "text")):
        folder = tmp_path / str(number) / "exp"
        shutil.copytree(pair[1], folder)
        name = "results.json" if key == "corpus" else "corpus/test.jsonl"
        path = folder / name
        if key == "corpus":
            path.write_text(json.dumps(results_of(folder) | {"corpus": "an4"}))
        else:
            rows = [json.loads(line) for line in path.read_text().splitlines()]
            path.write_text("".join(json.dumps(row | {"text": "ELSE"}) + "\n" for row in rows))
        out = tmp_path / f"{number}.html"
        assert main(["compare", str(pair[0]), str(folder), "--out", str(out)]) == 0
        text = section(read_page(out.read_text(encoding="utf-8")), "results").text()
        expected = (
            "corpora differ (an4, demo)" if key == "corpus" else "Test utterances or their words"
        )
        assert expected in text


def test_what_is_no_finished_experiment(pair, refusal, tmp_path):
    one, other = pair
    assert f"{tmp_path / 'none'}: no such experiment" in refusal(one, tmp_path / "none")
    assert "two experiments or more" in refusal(one)
    assert "given twice" in refusal(one, other, one)
    assert "a folder; give the name of a file" in refusal(one, other, out=tmp_path)
    (tmp_path / "empty").mkdir()
    assert f"{tmp_path / 'empty'}: the experiment is not finished; run" in refusal(
        tmp_path / "empty", one
    )


def test_an_experiment_that_is_out_of_date(pair, refusal, tmp_path):
    exp = tmp_path / "exp"
    shutil.copytree(pair[1], exp)
    record = exp / "decode" / "done.json"
    value = json.loads(record.read_text())
    record.write_text(json.dumps(value | {"digest": "another"}))
    assert f"{exp}: results.json is older than the decoded test set" in refusal(pair[0], exp)
    (exp / "report" / "done.json").unlink()
    assert f"{exp}: the experiment is not finished" in refusal(pair[0], exp)


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        ('{"corpus": "mnist"}', "not results of speech"),
        ("[]", "not results of speech"),
        ('{"corpus": "an4"}', "not results of speech"),
        ("{", "not valid JSON"),
    ],
)
def test_other_results(pair, refusal, tmp_path, content, expected):
    exp = tmp_path / "exp"
    exp.mkdir()
    (exp / "results.json").write_text(content)
    error = refusal(pair[0], exp)
    assert f"{exp / 'results.json'}: {expected}" in error
