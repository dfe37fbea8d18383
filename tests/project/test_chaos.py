"""tools/chaos.py: what its trials do, and what they accept and refuse."""

import json
import os
import random
import shutil
import signal
import sys
import time
from pathlib import Path

import pytest
from forked import Program
from tiny_recipe import TinyRecipe

import chaos
from acoustic_kd.experiment.stages import STAGES
from chaos_experiment import Reader, Site, kind_of, readers_of, stage_of, without_times
from chaos_processes import Command, adopt_orphans, end_descendants
from chaos_trials import REFUSED, SAME, Known, Trial, Violation, damage

PATIENCE = 60


# --- trials on a finished experiment --------------------------------------------------------------

FAST = ("senones", "frames", "soft-targets", "graph", "report")
STAGES_OF = {"disk": ("senones", "graph", "report")}  # others': FAST


def try_some(recipe: TinyRecipe, folder, kinds):
    """Trials of the fast stages; prints what came of them, as JSON."""
    adopt_orphans()
    site = Site(folder, recipe.settings, options=())
    shutil.copytree(recipe.directory, site.exp)
    site.keep()
    known = {name: Reader(tuple(site.arguments(name)), name) for name in FAST}
    undisturbed = Known(dict.fromkeys(STAGES, 0.05), known, {}, {})
    rng = random.Random(1)
    results = []
    for kind in kinds:
        trial = Trial(site, undisturbed, rng, PATIENCE, STAGES_OF.get(kind, FAST))
        results.append(chaos.tried(trial, kind))
    print(json.dumps(results))
    return 0


def test_an_experiment_survives(finished_recipe, tmp_path):
    kinds = ["kills", "disk", "together"]
    program = Program(
        tmp_path / "program", finished_recipe, tmp_path / "site", kinds, function=try_some
    )
    status, errors = program.end()
    assert status == 0, errors
    results = json.loads(program.output.splitlines()[-1])
    wrong = [
        (*r["did"], r["what"], r["details"]) for r in results if r["outcome"] not in (SAME, REFUSED)
    ]
    assert not wrong and len(results) == len(kinds)


# --- damage and comparison ------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(20))
def test_damage_changes_a_file(tmp_path, seed):
    rng = random.Random(seed)
    path, before = tmp_path / "file", bytes(rng.choices(range(2), k=rng.choice((0, 1, 500))))
    path.write_bytes(before)
    damage(path, rng)
    assert not path.exists() or path.read_bytes() != before


@pytest.mark.parametrize(
    ("name", "old", "new", "equal"),
    [
        ("done.json", {"seconds": 1, "digest": "a"}, {"seconds": 2, "digest": "a"}, True),
        ("done.json", {"seconds": 1, "digest": "a"}, {"seconds": 1, "digest": "b"}, False),
        ("done.json", {"files": {"frames.json": 1}}, {"files": {"frames.json": 2}}, True),
        ("done.json", {"files": {"a.h5": 1}}, {"files": {"a.h5": 2}}, False),
        ("other.json", [{"errors": 1}], [{"errors": 2}], False),
    ],
)
def test_times_alone_do_not_count(name, old, new, equal):
    contents = {without_times(name, json.dumps(value).encode()) for value in (old, new)}
    assert (len(contents) == 1) is equal


@pytest.mark.parametrize(
    ("name", "kind", "stage", "commands"),
    [
        ("corpus/audio/dev/aunty/aunty-017.wav", "corpus/audio/….wav", "corpus", {"features"}),
        ("members/02/model.json", "members/N/model.json", "train", {"soft-targets", "run"}),
        ("decode/ensemble/test.txt", "decode/SYSTEM/SPLIT.txt", "decode", {"report", "run"}),
        ("results.json", "results.json", "report", {"run"}),
        ("frames/dev/shard-00001.h5", "frames/SPLIT/shard-N.h5", "frames", {"inspect frames/dev"}),
    ],
)
def test_files_have_kinds_and_readers(name, kind, stage, commands):
    assert (kind_of(name), stage_of(name)) == (kind, stage)
    known = (*STAGES, "run", "inspect frames/dev", "inspect frames/train")
    found = set(readers_of(name, known))
    assert found >= commands and "inspect frames/train" not in found and stage not in found


# --- what a command does --------------------------------------------------------------------------


def misbehave(folder, case):
    """One command; what the trial says about it."""
    adopt_orphans()
    site = Site(folder, ())
    for path in (site.exp, site.out, site.tmp):
        path.mkdir(parents=True)
    trial = Trial(site, Known({}, {}, {}, {}), random.Random(1), 1.0)
    try:
        ended = trial.finish(Command([str(folder)], site.tmp, function=MISBEHAVIOURS[case]))
        end_descendants.__defaults__ = (0.1, ())
        trial.leave_nothing()
        trial.refused(ended)
    except Violation as violation:
        print(violation.what)
    return 0


def says(text, status=2):
    def run(arguments):
        print(text.replace("DIR", arguments[0]), file=sys.stderr)
        return status

    return run


def leaves_a_file(arguments):
    Path(os.environ["TMPDIR"], "left").touch()
    return 2


def leaves_a_process(arguments):
    if os.fork() == 0:
        time.sleep(PATIENCE)
    return 2


def is_full(arguments):
    with Path(arguments[0], "exp", "large").open("wb") as file:
        file.seek(1 << 29)
        file.write(b"x")


MISBEHAVIOURS = {
    "": says("acoustic-kd: error: DIR/exp/model.json: damaged"),
    "the line names no file": says("acoustic-kd: error: damaged"),
    "status 2 with several lines": says("DIR/a\nDIR/b"),
    "a line of more than 500 characters": says(f"DIR/{'a' * 500}"),
    "status 2 without a line": lambda arguments: 2,
    "status 1": says("DIR/exp", 1),
    "status -9": lambda arguments: os.kill(os.getpid(), signal.SIGKILL),
    "traceback: ZeroDivisionError": lambda arguments: 1 // 0,
    "traceback: OSError": is_full,
    "ran too long": lambda arguments: time.sleep(PATIENCE),
    "processes left": leaves_a_process,
    "temporary files left": leaves_a_file,
}


@pytest.mark.parametrize("case", MISBEHAVIOURS)
def test_what_no_command_may_do_is_noticed(tmp_path, case):
    program = Program(tmp_path / "program", tmp_path / "site", case, function=misbehave)
    status, errors = program.end()
    assert status == 0, errors
    assert program.output.strip() == case
