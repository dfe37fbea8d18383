"""Every variant of the recipe: run again, dry run, changed settings, lost files, and killed."""

import re

import pytest
from variants import BUILDERS

from acoustic_kd.experiment.stages import STAGES
from acoustic_kd.system.records import RECORDS

NAMES = list(STAGES)
UP_TO_DATE = "  up to date\n"
FROM_COPIES = ["soft-targets", "distill", "decode", "report"]
MEMBERS = "  member 1: up to date\n  member 2: "
FROM_GRAPH = ["graph", "decode", "report"]

TIMED = (
    *("results.json", "results.md", "report.html", "metrics.jsonl", "measurement.json"),
    *("frames.json", "graph.json", *RECORDS),
)  # hold seconds


@pytest.mark.parametrize("name", BUILDERS)
def test_run_again_it_changes_nothing(variant, outcome, name):
    recipe = variant(name)
    before = recipe.files()
    for stage in recipe.done_stages():
        assert outcome(recipe, stage) == outcome(recipe, stage, "--dry-run") == (0, UP_TO_DATE, "")
    assert recipe.files() == before
    assert not [file for file in before if "/." in file or "/checkpoint" in file]


@pytest.mark.parametrize(
    ("name", "setting", "stale"),
    [
        ("plain", "corpus.demo_train_sentences=9", NAMES),
        ("plain", "senones.leaves=110", NAMES[3:]),
        ("plain", "soft_targets.temperature=5", FROM_COPIES),
        ("plain", "distill.hard_weight=0.1", FROM_COPIES[1:]),
        ("plain", "distill.layers=2", FROM_COPIES[1:]),
        ("plain", "lm.order=2", FROM_GRAPH),
        ("plain", "decode.lm_weights=[6]", FROM_GRAPH[1:]),
        ("plain", "align.max_failed=0.5", []),
        ("plain", "train.checkpoint_steps=7", []),
        ("untranscribed", "distill.transfer_set=untranscribed", FROM_COPIES[1:]),
        ("letters", "lang.units=pieces", FROM_GRAPH),
        ("letters", "align.iterations=3", NAMES[2:]),
        ("pieces", "lang.pieces=50", FROM_GRAPH),
        ("pieces", "lang.positions=false", NAMES),
        ("copies", "features.transfer_vtlp_warps=[0.9]", ["copies", *FROM_COPIES]),
        ("realigned", "align.outlier_threshold=5", NAMES[2:5]),
        ("realigned", "features.normalise=global", NAMES[2:5]),
        ("greek", "align.max_failed=0.5", []),
        ("greek", "align.iterations=6", ["align"]),
        ("kaldi_targets", "align.pdfs=160", NAMES[2:9]),
        ("unknown_words", "align.unknown_words=exclude", ["corpus"]),
    ],
    ids=str,
)
def test_a_changed_setting_makes_its_stages_stale_and_no_others(
    variant, outcome, name, setting, stale
):
    recipe = variant(name)
    before, found, reasons = recipe.files(), [], []
    for stage in recipe.done_stages():
        status, output, error = outcome(recipe, stage, setting, "--dry-run")
        assert (status, error) == (0, "")
        if output != UP_TO_DATE:
            found.append(stage)
            reasons.append(output)
    assert found == stale and recipe.files() == before
    key = setting.partition("=")[0]
    for number, reason in enumerate(reasons):
        assert reason.startswith("  would run: ") and reason.count("\n") == 1
        assert key in reason or (number and "its input '" in reason)


@pytest.mark.parametrize(
    ("name", "stage", "file"),
    [
        ("plain", "train", "members/02/model.safetensors"),
        ("plain", "soft-targets", "soft_targets/shard-00002.h5"),
        ("plain", "decode", "decode/ensemble/test.txt"),
        ("plain", "report", "results.json"),
        ("untranscribed", "soft-targets", "soft_targets/shard-untranscribed-00001.h5"),
        ("untranscribed", "distill", "distilled/01/model.safetensors"),
        ("pieces", "graph", "graph/pieces.model"),
        ("kaldi_targets", "distill", "distilled/control/model.safetensors"),
        ("unknown_words", "corpus", "corpus/lexicon.txt"),
    ],
    ids=str,
)
def test_a_lost_file_is_rebuilt_and_nothing_else(variant, outcome, tmp_path, name, stage, file):
    recipe = variant(name).copy(tmp_path / "exp")
    before = recipe.files()
    (recipe.directory / file).unlink()
    status, output, _ = outcome(recipe, stage)
    assert status == 0 and UP_TO_DATE not in output
    after = recipe.files()
    assert after.keys() == before.keys()
    files = [other for other in before if other.rpartition("/")[2] not in TIMED]
    assert [other for other in files if after[other][1] != before[other][1]] == []
    changed = {other for other in files if after[other] != before[other]}
    folder, stem = file.rpartition("/")[0], file.rpartition(".")[0]
    if stage == "soft-targets":
        assert {other for other in changed if other.startswith(stem)} == changed
    assert all(other.startswith(folder or "report/") for other in changed)
    for later in recipe.done_stages():
        assert outcome(recipe, later)[1] == UP_TO_DATE


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "stage", "kills", "says"),
    [
        ("plain", "train", ["01/checkpoint.safetensors", "02/checkpoint.safetensors"], MEMBERS),
        ("plain", "soft-targets", ["shard-00002.json"], "already written"),
        ("copies", "copies", ["transfer-train/shard-00003.h5"], ""),
        ("copies", "distill", ["01/checkpoint.safetensors", "control/checkpoint.safetensors"],
         "  distilled 1: up to date\n"),
        ("greek", "align", ["flat/model.safetensors"], "^  iteration 2: "),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)  # fmt: skip
def test_killed_it_resumes_to_the_same_bytes(variant, outcome, tmp_path, name, stage, kills, says):
    """Killed where it would replace a file for the second time, or write a shard."""
    finished = variant(name)
    recipe = finished.copy(tmp_path / "exp")
    folder = recipe.directory / STAGES[stage].folder
    whole = contents(folder)
    for path in sorted(folder.rglob("*"), reverse=True):
        path.rmdir() if path.is_dir() else path.unlink()
    for file in kills:
        times = 0 if "shard" in file else 2
        assert recipe.killed(folder / file, times, stage, "train.checkpoint_steps=3")
        assert not (folder / "done.json").exists()
    complete = [
        path
        for path in folder.rglob("*")
        if (path.parent / "done.json").exists() or path.with_suffix(".json").exists()
    ]
    complete = {path: path.stat().st_mtime_ns for path in complete if path.suffix != ".json"}
    if stage in ("train", "soft-targets", "distill"):
        assert complete
    status, output, error = outcome(recipe, stage)
    assert (status, error) == (0, "") and re.search(says, output, re.MULTILINE), output
    assert contents(folder) == whole
    assert {path: path.stat().st_mtime_ns for path in complete} == complete
    assert outcome(recipe, stage)[1] == UP_TO_DATE


def contents(folder):
    """Every file with its bytes, but those that hold times."""
    paths = (path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): path.read_bytes() for path in paths
            if path.name not in TIMED}  # fmt: skip
