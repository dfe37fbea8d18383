"""The stages of the recipe in order, how one is run, and how a finished experiment is opened."""

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from acoustic_kd.experiment.experiment import Experiment, Stage
from acoustic_kd.experiment.kaldi_targets import check_has_tree
from acoustic_kd.settings import Config, from_flat
from acoustic_kd.system.environment import is_main_process
from acoustic_kd.system.errors import UserError
from acoustic_kd.system.files import exclusive_lock, shared_lock
from acoustic_kd.system.steps import Step, read_done

STAGES: dict[str, Stage] = {
    stage.name: stage
    for stage in (
        Stage("corpus", "corpus", (), sources="verbs.corpus:corpus_sources"),
        Stage("features", "features", ("corpus",)),
        Stage(
            "align", "align", ("corpus", "features"),
            sources="experiment.aligning_models:align_sources",
        ),
        Stage("senones", "senones", ("corpus", "features", "align")),
        Stage("frames", "frames", ("corpus", "features", "align", "senones")),
        Stage("train", "members", ("frames",), whole=False, distributed=True, parts="members"),
        Stage("copies", "copies", ("corpus", "features", "frames")),
        Stage(
            "soft-targets", "soft_targets", ("frames", "copies", "train"),
            sources="experiment.kaldi_targets:posterior_sources",
            format=2, distributed=True, parts="shards",
        ),
        Stage(
            "distill", "distilled", ("frames", "copies", "soft-targets"),
            whole=False, distributed=True, parts="models",
        ),
        Stage(
            "graph", "graph", ("corpus", "senones", "frames"),
            sources="experiment.language_model:sources",
        ),
        Stage(
            "decode", "decode", ("corpus", "frames", "train", "distill", "graph"),
            whole=False, parts="systems",
        ),
        Stage(
            "report", "report", ("decode",), format=2,
            beside=("results.json", "results.md", "report.html"),
        ),
    )
}  # fmt: skip


def run_stage(experiment: Experiment, name: str) -> None:
    """Run one stage unless its output is current; says which on the terminal.

    Raises:
        UserError: an input is missing or out of date, or the stage itself found something wrong.
    """
    stage = experiment.stages[name]
    work = experiment.step(name)
    main = is_main_process()
    if work.is_current():
        if main:
            print("  up to date", flush=True)
        return
    _check_processes(experiment, stage)
    begun = time.monotonic()
    with _at_work(experiment, work, main):
        stage.run(experiment)
    if main:
        print(f"  done in {time.monotonic() - begun:.1f} s", flush=True)


def explain_stage(experiment: Experiment, name: str) -> None:
    """Say what `run_stage` would do, and why, without doing it, or fetching what it reads.

    Raises:
        UserError: a file that the stage reads is missing or damaged.
    """
    from acoustic_kd.system.download import (
        NotDownloaded,
        no_downloads,  # half of what a verb must import
    )

    for other in experiment.inputs(name):
        try:
            experiment.done(other)
        except UserError:
            print(f"  would run: its input '{other}' is out of date")
            return
    try:
        with no_downloads():
            due = experiment.step(name).why_out_of_date()
    except NotDownloaded as missing:
        due = f"{missing} of LibriSpeech is missing; would download it"
    print(f"  would run: {due}" if due else "  up to date")


@contextmanager
def _at_work(experiment: Experiment, work: Step, main: bool) -> Iterator[None]:
    """Around a stage: alone in the experiment's directory, or beside runs with other shares.

    A run with a share does not mark the stage done: that is for one without, which finds what all
    of them made and makes what is missing.
    """
    if not main:  # the first process sees to it
        yield
    elif experiment.share is None:
        with exclusive_lock(experiment.directory), work.run():
            yield
    else:
        with shared_lock(experiment.directory, work.directory, work.join_running):
            yield


def _check_processes(experiment: Experiment, stage: Stage) -> None:
    """Before anything of older output is cleared away: are there as many processes as there must?

    Raises:
        UserError: another number than was asked for, or several for a stage that runs on one.
    """
    found = int(os.environ.get("WORLD_SIZE", "1"))
    if stage.distributed and experiment.processes not in (None, found):
        raise UserError(
            f"{experiment.processes} processes were asked for but {found} run; start them with "
            f"'recipes/run.sh --num-processes {experiment.processes}' or torchrun"
        )
    if not stage.distributed and found > 1:
        raise UserError(f"stage '{stage.name}' runs on one process, but {found} were started")


DEFAULT_MODEL = "distilled/01"


def open_experiment(directory: Path, needed: str = "decode") -> Experiment:
    """The experiment in a directory, with the settings that it was made with.

    Args:
        needed: the stage that must be done, and those before it that it needs.

    Raises:
        UserError: there is none, a stage is not done or out of date, its classes are Kaldi's and it
            cannot decode, or a version of this program with other settings made it.
    """
    directory = Path(directory)
    if not directory.is_dir():
        raise UserError(f"{directory}: no such experiment")
    settings: dict[str, Any] = {}
    for stage in STAGES.values():
        settings |= (read_done(directory / stage.folder) or {}).get("settings", {})
    settings.pop("format", None)
    try:
        config = from_flat(settings) if settings else Config()
    except UserError as error:
        raise UserError(f"{directory}: {error}; another version made it: run it again") from None
    experiment = Experiment(config, directory, STAGES)
    if needed == "decode":
        check_has_tree(experiment)  # else it would be asked to run what cannot be
    experiment.done(needed)
    return experiment
