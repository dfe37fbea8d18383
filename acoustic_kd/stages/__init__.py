"""The recipe: its stages in order, and how one is run."""

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager

from acoustic_kd.errors import UserError
from acoustic_kd.files import one_of_several, only_one
from acoustic_kd.stages.experiment import Experiment, Stage
from acoustic_kd.work import Work

_FEATURES = tuple(
    f"features.{key}" for key in ("sample_rate", "mel_bins", "low_hz", "high_hz", "train_warps")
)
_LANGUAGE_MODEL = tuple(f"decode.{key}" for key in ("ngram", "vocabulary", "min_counts", "prune"))
_UNITS = ("lang.units", "lang.pieces", "lang.piece_model")
_SEARCH = tuple(
    f"decode.{key}"
    for key in (
        "beam", "lattice_beam", "max_active", "acoustic_scale", "lm_weights", "insertion_penalties",
    )
)  # fmt: skip

STAGES: dict[str, Stage] = {
    stage.name: stage
    for stage in (
        Stage(
            "corpus", "read audio and transcripts", "corpus",
            ("corpus", "align.unknown_words", "lang.case", "lang.positions"), (),
            "prepare:run_corpus", sources="prepare:corpus_sources",
        ),
        Stage(
            "features", "log-mel filterbanks", "features", (*_FEATURES, "frames"), ("corpus",),
            "prepare:run_features",
        ),
        Stage(
            "align", "forced alignment to HMM states", "align", ("align",),
            ("corpus", "features"), "align:run_align",
            sources="realign:align_sources",
        ),
        Stage(
            "senones", "phonetic decision tree", "senones", ("senones", "features.normalise"),
            ("corpus", "features", "align"), "label:run_senones",
        ),
        Stage(
            "frames", "frame shards with senones", "frames", ("frames", "features.normalise"),
            ("corpus", "features", "align", "senones"), "label:run_frames",
        ),
        Stage(
            "train", "the ensemble's members", "members", ("model", "train"), ("frames",),
            "learn:run_train", whole=False, distributed=True, parts="members",
        ),
        Stage(
            "copies", "copies at other vocal tract lengths", "copies",
            ("features", "frames"), ("corpus", "features", "frames"), "copies:run_copies",
        ),
        Stage(
            "soft-targets", "the ensemble's tempered predictions", "soft_targets",
            ("soft_targets",), ("frames", "copies", "train"), "learn:run_soft_targets", format=2,
            sources="outside:posterior_sources",
            distributed=True, parts="shards",
        ),
        Stage(
            "distill", "the distilled models and their control", "distilled",
            ("model", "train", "distill"), ("frames", "copies", "soft-targets"),
            "learn:run_distill",
            whole=False, distributed=True, parts="models",
        ),
        Stage(
            "graph", "language model and decoding graph", "graph", (*_UNITS, *_LANGUAGE_MODEL),
            ("corpus", "senones", "frames"), "graph:run_graph", sources="language_model:sources",
        ),
        Stage(
            "decode", "frame accuracy, search and WER", "decode", _SEARCH,
            ("corpus", "frames", "train", "distill", "graph"), "recognise:run_decode", whole=False,
            parts="systems",
        ),
        Stage(
            "report", "the table", "report", (), ("decode",), "recognise:run_report", format=2,
            beside=("results.json", "results.md", "report.html"),
        ),
    )
}  # fmt: skip


def is_main_process() -> bool:
    """Whether this is the first process of a run; torchrun and accelerate number them alike."""
    return int(os.environ.get("RANK", "0")) == 0


def run_stage(experiment: Experiment, name: str) -> None:
    """Run one stage unless its output is current; says which on the terminal.

    Raises:
        UserError: an input is missing or out of date, or the stage itself found something wrong.
    """
    stage = experiment.stages[name]
    work = experiment.work(name)
    main = is_main_process()
    if work.is_current():
        if main:
            print("  current, nothing to do", flush=True)
        return
    _check_processes(experiment, stage)
    begun = time.monotonic()
    with _at_work(experiment, work, main):
        stage.resolve(stage.run)(experiment)
    if main:
        print(f"  done in {time.monotonic() - begun:.1f} s", flush=True)


def say_stage(experiment: Experiment, name: str) -> None:
    """Say what `run_stage` would do, and why, without doing it, or fetching what it reads.

    Raises:
        UserError: a file that the stage reads is missing or damaged.
    """
    from acoustic_kd.download import Absent, nothing_fetched  # half of what a verb must import

    for other in experiment.inputs(name):
        try:
            experiment.done(other)
        except UserError:
            print(f"  would run: '{other}' comes before it, and is not current")
            return
    try:
        with nothing_fetched():
            due = experiment.work(name).due()
    except Absent as missing:
        due = f"{missing} of LibriSpeech is not there, and is fetched first"
    print(f"  would run: {due}" if due else "  current")


@contextmanager
def _at_work(experiment: Experiment, work: Work, main: bool) -> Iterator[None]:
    """Around a stage: alone in the experiment's directory, or beside runs with other shares.

    A run with a share does not mark the stage done: that is for one without, which finds what all
    of them made and makes what is missing.
    """
    if not main:  # the first process sees to it
        yield
    elif experiment.share is None:
        with only_one(experiment.directory), work.making():
            yield
    else:
        with one_of_several(experiment.directory, work.directory, work.join):
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
