"""The stages of the recipe in order, how one is run, and how a finished experiment is opened.

`system/steps.py` decides whether a stage is up to date.
"""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

from acoustic_kd.experiment.experiment import Experiment, Stage
from acoustic_kd.experiment.kaldi_targets import check_has_tree
from acoustic_kd.settings import Config, from_flat
from acoustic_kd.system.environment import is_main_process, processes
from acoustic_kd.system.errors import UserError
from acoustic_kd.system.files import exclusive_lock, shared_lock
from acoustic_kd.system.records import read_done
from acoustic_kd.system.steps import Step

STAGES: dict[str, Stage] = {
    stage.name: stage
    for stage in (
        Stage("corpus", "corpus", (), sources="verbs.corpus:corpus_sources"),
        Stage("features", "features", ("corpus",)),
        Stage(
            "align", "align", ("corpus", "features"),
            sources="experiment.aligning_models:align_sources", format=2,
        ),
        Stage("senones", "senones", ("corpus", "features", "align"), format=2),
        Stage("frames", "frames", ("corpus", "features", "align", "senones"), format=2),
        Stage("copies", "copies", ("corpus", "features", "frames"), format=3),
        Stage(
            "train", "members", ("frames",),
            also_reads=("copies",), whole=False, distributed=True, parts="members",
        ),
        Stage(
            "soft-targets", "soft_targets", ("frames", "copies", "train"),
            sources="experiment.kaldi_targets:posterior_sources",
            format=2, distributed=True, parts="shards", own_checks="shard-*.h5",
        ),
        Stage(
            "distill", "distilled", ("frames", "copies", "soft-targets"),
            whole=False, distributed=True, parts="models",
        ),
        Stage(
            "graph", "graph", ("corpus", "senones", "frames"),
            sources="experiment.language_model:sources", format=2, also_reads=("align",),
        ),
        Stage(
            "decode", "decode", ("corpus", "frames", "train", "distill", "graph"),
            also_reads=("features", "senones"), whole=False, parts="systems",
        ),
        Stage(
            "report", "report", ("decode",), format=2,
            also_reads=("corpus", "frames", "train", "soft-targets", "distill", "graph"),
            beside=("results.json", "results.md", "report.html"),
        ),
    )
}  # fmt: skip


def run_stage(experiment: Experiment, name: str) -> None:
    """Run one stage unless its output is up to date; print which of the two."""
    stage, step = experiment.stages[name], experiment.step(name)
    main = is_main_process()
    if _is_current(experiment, stage, step):
        if main:
            print("  up to date", flush=True)
        return
    _check_processes(experiment, stage)
    experiment.verify_inputs(name)
    begun = time.monotonic()
    wait = _join_processes(stage)  # if that fails, older output is still there
    with _locked(experiment, step, main):
        wait()  # until the first process has deleted output of other settings
        stage.run(experiment)
    if main:
        print(f"  done in {time.monotonic() - begun:.1f} s", flush=True)


def explain_stage(experiment: Experiment, name: str) -> None:
    """Print what `run_stage` would do, and why; run and download nothing."""
    from acoustic_kd.system.download import NotDownloaded, no_downloads  # slow to import

    for other in experiment.inputs(name):
        try:
            experiment.done(other)
        except UserError:
            print(f"  would run: its input '{other}' is out of date")
            return
    try:
        with no_downloads():
            reason = experiment.step(name).why_out_of_date()
    except NotDownloaded as missing:
        reason = f"{missing} is missing; would download it"
    print(f"  would run: {reason}" if reason else "  up to date")


@contextmanager
def _locked(experiment: Experiment, step: Step, main: bool) -> Iterator[None]:
    """Run a stage alone in the experiment's directory, or beside runs with other shares.

    A run with a share does not mark the stage as done. A later run without a share does, after it
    has made what is missing.
    """
    if not main:  # the first process holds the lock
        yield
    elif experiment.share is None:
        with exclusive_lock(experiment.directory), step.run():
            yield
    else:
        with shared_lock(experiment.directory, step.directory, step.join_running):
            yield


def _check_processes(experiment: Experiment, stage: Stage) -> None:
    """Refuse a wrong number of processes, before older output is deleted."""
    count = processes().count
    if stage.distributed and experiment.processes not in (None, count):
        raise UserError(
            f"--num-processes is {experiment.processes}, but {count} processes run; start them "
            f"with 'recipes/run.sh --num-processes {experiment.processes}' or torchrun"
        )
    if not stage.distributed and count > 1:
        raise UserError(f"stage '{stage.name}' runs on one process, but {count} were started")


def _is_current(experiment: Experiment, stage: Stage, step: Step) -> bool:
    """Whether a stage is up to date, as the first process sees it: all must do the same."""
    if processes().count == 1 or not stage.distributed:
        return step.is_current()
    _check_processes(experiment, stage)
    from acoustic_kd.training import processes as joined  # slow to import

    accelerator = joined.make_accelerator()
    with joined.report_lost_processes(accelerator, stage.name):
        joined.check_common_directory(accelerator, experiment.directory)
        return joined.from_first(accelerator, step.is_current)


def _join_processes(stage: Stage) -> Callable[[], None]:
    """Connect the processes of a stage; returns a function that waits for all of them."""
    if not (stage.distributed or stage.name == "report"):  # the others do without Accelerate
        return lambda: None
    from acoustic_kd.training.processes import make_accelerator, wait  # slow to import

    return partial(wait, make_accelerator(), stage.name)


DEFAULT_MODEL = "distilled/01"


def open_experiment(directory: Path, needed: str = "decode") -> Experiment:
    """The experiment in a directory, with the settings that it was made with.

    The records of its stages have these settings, so no settings file is needed.

    Args:
        needed: the stage that must be done, with the stages that it reads.
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
        raise UserError(
            f"{directory}: {error}; another version made it: run the recipe again"
        ) from None
    experiment = Experiment(config, directory, STAGES)
    if needed == "decode":
        check_has_tree(experiment)  # without a tree there is no decode stage to run
    experiment.done(needed)
    return experiment
