"""tools/write_results.py: experiments into one page, written from their files alone."""

import json
from pathlib import Path

import pytest

import write_results


@pytest.fixture
def tool(tmp_path, monkeypatch):
    monkeypatch.setattr(write_results, "TARGET", tmp_path / "RESULTS.md")

    def write(*experiments: Path) -> tuple[int, str]:
        monkeypatch.setattr("sys.argv", ["write_results.py", *map(str, experiments)])
        status, page = write_results.main(), write_results.TARGET
        return status, page.read_text() if page.exists() else ""

    return write


def test_an_experiment_gets_its_section_and_others_keep_theirs(tool, finished_recipe, tmp_path):
    for name in ("first", "second"):
        finished_recipe.copy(tmp_path / name)
    status, before = tool(tmp_path / "first", tmp_path / "second")
    assert status == 0
    results = json.loads((tmp_path / "first" / "results.json").read_text())
    graph = json.loads((tmp_path / "first" / "graph" / "graph.json").read_text())
    assert before.index("## first") < before.index("## second")
    assert results["command"] in before and f"{graph['ngrams']:,} n-grams" in before
    for system in results["systems"]:
        assert f"{system['frame_accuracy']['test']:.2f}" in before
    pair = results["differences"]["wer"]["pairs"]["distilled over baseline"]
    assert f"{100 * pair['probability_better']:.0f} %" in before
    assert all(f"| {model['name']} |" in before for model in results["each_model"])
    rows = [line for line in before.splitlines() if line.startswith(("| first |", "| second |"))]
    assert len(rows) == 4 and before.index("## Summary") < before.index("## first")
    gain = results["differences"]["frame_accuracy"]["pairs"]["distilled over control"]
    low, high = gain["ci95"]
    assert f"| {gain['points']:+.2f} ({low:+.2f} … {high:+.2f}) |" in rows[0]
    status, after = tool(tmp_path / "second")
    assert (status, after) == (0, before)


def test_an_experiment_without_results_is_named(tool, tmp_path, capfd):
    assert tool(tmp_path / "none") == (2, "")
    (tmp_path / "results.json").write_text("{")
    assert tool(tmp_path) == (2, "")
    missing, damaged = capfd.readouterr().err.splitlines()
    assert f"{tmp_path}/none/results.json: cannot be read; run the recipe first" in missing
    assert f"{tmp_path}/results.json: not valid JSON" in damaged
