"""The report of folds: what was trained and measured in each, and in which settings they differ."""

import json

import pytest
from html_pages import read_page, section, tables

from acoustic_kd.reports.frame_sections import MISSING
from acoustic_kd.reports.pages import report_page
from acoustic_kd.system.files import write_json


@pytest.fixture
def folds(finished_recipe, tmp_path):
    """Two copies of the tiny experiment, which say that they are different folds."""
    folders = [finished_recipe.copy(tmp_path / name).directory for name in ("fold0", "fold1")]
    for number, folder in enumerate(folders):
        change(folder, {"corpus.folds": 2, "corpus.fold": number})
    return folders


def change(folder, settings):
    """As if a stage had been run with these settings."""
    path = folder / "corpus" / "done.json"
    record = json.loads(path.read_text())
    write_json(path, record | {"settings": record["settings"] | settings})


def page_of(folds):
    results = json.loads((folds[0] / "results.json").read_text(encoding="utf-8"))
    return read_page(report_page(folds, results)), results


def notes(page, name):
    return [note.text() for note in section(page, name).all("p")]


def test_it_shows_every_fold_and_what_they_have_together(folds):
    page, results = page_of(folds)
    names = ["fold0"] * 4 + ["fold1"] * 4
    for part in ("folds", "cost"):
        assert [row[0] for row in tables(section(page, part))[0][1:]] == names
    legends = [text.text() for text in section(page, "training").all("text")]
    assert "baseline (4)" in legends and "distilled (2)" in legends
    one = json.loads((folds[0] / "decode" / "ensemble" / "frames.json").read_text())
    row = tables(section(page, "calibration"))[0][3]
    assert row[:2] == ["ensemble", f"{100 * one['right'] / one['frames']:.2f}"]
    assert len(tables(section(page, "models"))[0]) == 1 + len(results["each_model"])
    settings = dict(tables(section(page, "settings"))[0])
    assert settings["corpus.folds"] == "2" and "corpus.fold" not in settings
    assert not any("differ" in note for note in notes(page, "folds"))


def test_folds_that_differ_in_more_are_told(folds):
    change(folds[1], {"corpus.seed": 99})
    page, _ = page_of(folds)
    assert "The folds differ in more than corpus.fold: corpus.seed." in notes(page, "folds")


def test_without_figures_of_frames_it_says_of_which_fold(folds):
    (folds[1] / "decode" / "ensemble" / "frames.json").unlink()
    page, _ = page_of(folds)
    for name in ("phones", "calibration"):
        assert notes(page, name) == [f"fold1: {MISSING}"]
