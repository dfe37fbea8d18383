"""The study of encodings: end to end on the tiny recipe, its statistics, its tables."""

import json
import math
from pathlib import Path

import numpy as np
import pytest
from tiny_recipe import TinyRecipe, one_core

import soft_target_study
from acoustic_kd.config import Config
from acoustic_kd.errors import UserError
from study import cells, noise, tables

CELLS = """
measure:
  - {temperature: [1, 2], encoding: top-k, kept_classes: 3, bits: [16, 8]}
  - {temperature: 2, encoding: sampled, kept_classes: 20, bits: 8}
train:
  - {temperature: 2, encoding: dense, bits: 16}
  - {temperature: 2, encoding: top-p, kept_classes: 20, kept_mass: 0.9, bits: 8}
"""


@pytest.fixture
def study(finished_recipe, tmp_path):
    """The tiny recipe's own experiment, copied; calling it runs the tool."""
    recipe: TinyRecipe = finished_recipe.copy(tmp_path / "tiny")
    (tmp_path / "cells.yaml").write_text(CELLS)

    def run(*more: str) -> int:
        options = ["--exp-dir", str(recipe.directory), "--cells", str(tmp_path / "cells.yaml")]
        with one_core():
            return soft_target_study.main([*options, "--seeds", "2", *more, *recipe.settings])

    run.directory = recipe.directory
    return run


@pytest.mark.slow
def test_the_study_from_members_to_tables(study, tmp_path, capfd):
    docs = tmp_path / "docs.md"
    docs.write_text("before\n<!-- study tiny -->\nold\n<!-- end of study tiny -->\nafter\n")
    assert study("--docs", str(docs)) == 0
    results = json.loads((study.directory / "study.json").read_text())
    rows = {row["name"]: row for row in results["cells"]}
    assert list(rows) == [
        "T1/top-k-3-16bit", "T1/top-k-3-8bit", "T2/dense-16bit", "T2/top-k-3-16bit",
        "T2/top-k-3-8bit", "T2/top-p-0.9-20-8bit", "T2/sampled-20-8bit",
    ]  # fmt: skip
    trained = {name: row for name, row in rows.items() if "models" in row}
    assert list(trained) == ["T2/dense-16bit", "T2/top-p-0.9-20-8bit"]
    assert all(len(row["models"]) == 2 for row in trained.values())
    over = trained["T2/top-p-0.9-20-8bit"]["over_dense"]
    means = [row["accuracy"]["dev"]["mean"] for row in trained.values()]
    assert over["mean"] == pytest.approx(means[1] - means[0])
    assert rows["T2/sampled-20-8bit"]["measured"]["divergence"] is None
    assert rows["T2/dense-16bit"]["measured"]["kept_mass"] == pytest.approx(1)
    text = docs.read_text()
    assert text.startswith("before\n<!--") and text.endswith("-->\nafter\n") and "old" not in text
    assert "| top-p, p = 0.9 of at most 20 classes, 8 bits |" in text and "- T = 2: " in text

    # Only what is trained on is kept; with no training, what is there stays.
    folder = study.directory / "study"
    shards = sorted(path.parent.name for path in folder.rglob("shard-*.h5"))
    assert shards == ["dense-16bit", "top-p-0.9-20-8bit"]
    made = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    times = {path: path.stat().st_mtime_ns for path in made}
    assert study("--only-store") == 0 and "distilled models a row" not in tables_of(study)
    assert study() == 0 and "distilled models a row" in tables_of(study)
    assert times == {path: path.stat().st_mtime_ns for path in made}

    # What was lost, or was not kept, is made again with the same bytes.
    model = folder / "models" / "T2" / "dense-16bit" / "02" / "model.safetensors"
    shard = folder / "stores" / "T2" / "dense-16bit" / "shard-00000.h5"
    for path in (model, shard):
        path.unlink()
    capfd.readouterr()
    assert study() == 0
    assert "  2 pieces of " in capfd.readouterr().out
    assert all(path.read_bytes() == made[path] for path in (model, shard))


def tables_of(study) -> str:
    """The tables as they were last written."""
    return (study.directory / "study.md").read_text()


def test_members_must_be_trained(study, capfd):
    (study.directory / "members" / "done.json").unlink()
    assert study() == 2
    error = capfd.readouterr().err
    assert error.count("\n") == 1 and "'train' is not done yet; run stage 5 (train) first" in error


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("tarin: []", "expected the lists 'measure' and 'train'"),
        ("train: [{bits: 12}]", "setting 'train.1.bits' is 12; it must be 8 or 16"),
        ("train: [{bit: 8}]", "unknown setting 'train.1.bit'; did you mean 'train.1.bits'?"),
        ("measure: []", "there are no cells"),
    ],
)
def test_wrong_cells_are_refused(tmp_path, text, expected):
    path = tmp_path / "cells.yaml"
    path.write_text(text)
    with pytest.raises(UserError) as found:
        cells.read_cells(path, Config(), 100)
    assert expected in str(found.value)


def test_the_docs_have_a_place_for_the_recipe(study, tmp_path, capfd):
    docs = Path(__file__).parents[1] / "docs" / "soft-targets.md"
    tables.around_section(docs, "an4_study")
    assert study("--docs", str(docs)) == 2
    assert "marker lines '<!-- study tiny -->' and" in capfd.readouterr().err
    assert not (study.directory / "study").exists()
    assert study("--docs", str(tmp_path)) == 2
    assert "cannot be read (Is a directory)" in capfd.readouterr().err


def test_the_tools_own_cells():
    found = cells.read_cells(soft_target_study.CELLS, Config(), 700)
    assert sum(found.values()) == 15
    assert len({cell.name for cell in found}) == len(found)
    small = cells.read_cells(soft_target_study.CELLS, Config(), 15)
    assert all(cell.encoding.name != "top-k" or cell.encoding.kept_classes < 15 for cell in small)


@pytest.mark.parametrize(
    ("freedom", "expected"), [(1, 12.7062), (2, 4.30265), (4, 2.77645), (30, 2.04227), (1e6, 1.96)]
)
def test_t_quantiles_are_those_of_the_tables(freedom, expected):
    assert noise.t_quantile(freedom) == pytest.approx(expected, rel=1e-4)


def test_welch_by_hand():
    """1, 2, 3 and 2, 4, 9: variances 1 and 13, so the error is √(14/3) and f = 98 / 42.5 …"""
    found = noise.welch([1, 2, 3], [2, 4, 9])
    assert found.mean == pytest.approx(-3)
    assert found.error == pytest.approx(math.sqrt(14 / 3))
    freedom = 14**2 / (1**2 / 2 + 13**2 / 2)
    assert found.high - found.mean == pytest.approx(noise.t_quantile(freedom) * found.error)
    assert found.verdict == "within noise"
    assert noise.welch([1.0, 1.1], [9.0, 9.1]).verdict == "worse"
    assert noise.welch([9.0, 9.0], [1.0, 1.0]).verdict == "better"


def test_welch_intervals_hold_the_truth_as_often_as_they_say():
    random = np.random.default_rng(0)
    pairs = random.normal(size=(200, 2, 3)) * [[1], [2]]
    held = [noise.welch(*pair.tolist()).verdict == "within noise" for pair in pairs]
    assert 0.92 < np.mean(held) < 0.99


def test_the_smallest_store_that_is_not_worse():
    def row(name, bits, size, dev):
        return {
            "temperature": 2.0,
            "encoding": f"{name} {bits}",
            "settings": {"name": name, "bits": bits},
            "bytes_per_frame": size,
            "models": [{"dev": value, "test": value - 1} for value in dev],
        }

    rows = [
        row("dense", 16, 1400, [60.0, 60.2, 60.4]),
        row("top-k", 16, 80, [60.1, 60.2, 60.3]),
        row("top-k", 8, 60, [60.0, 60.1, 60.4]),
        row("sampled", 8, 30, [57.0, 57.1, 57.3]),
    ]
    members = [{"dev": 58.0, "test": 57.0}, {"dev": 58.2, "test": 57.2}]
    noise.compare(rows, {"members": members, "ensemble": {"dev": 60.1, "test": 59.1}})
    assert rows[0]["gain_kept"]["dev"] == pytest.approx(2.1 / 2)
    (said,) = tables.statement(rows)
    assert said.startswith("Within noise of dense: top-k 16; top-k 8. Worse than dense: sampled 8.")
    assert "is top-k 8: 60.0 bytes a frame instead of 1400.0, −0.03 points" in said
    assert tables.statement(rows[:1]) == []
