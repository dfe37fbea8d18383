"""`acoustic-kd posteriors`: a model's posteriors for the frames of a split, as a Kaldi archive.

docs/kaldi.md
"""

import argparse
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from acoustic_kd.experiment.experiment import Experiment
from acoustic_kd.experiment.models import Recogniser, find_system
from acoustic_kd.experiment.normalised import normalised
from acoustic_kd.experiment.options import add_finished_experiment
from acoustic_kd.experiment.outputs import STATISTICS, Statistics, frame_targets
from acoustic_kd.experiment.stages import DEFAULT_MODEL, open_experiment
from acoustic_kd.experiment.transfer_set import all_splits
from acoustic_kd.kaldi.objects import write_archive
from acoustic_kd.system.errors import UserError
from acoustic_kd.system.files import read_json, write_text
from acoustic_kd.system.parallel import progress
from acoustic_kd.system.paths import path_argument
from acoustic_kd.training.ensemble import log_likelihoods


@dataclass
class Written:
    """Counts of what was written.

    Attributes:
        utterances: number of utterances.
        frames, right: number of frames with a known class, and how often it is the most probable.
    """

    utterances: int = 0
    frames: int = 0
    right: int = 0


def write_posteriors(
    directory: Path, split: str, out: Path, model: str = DEFAULT_MODEL, likelihoods: bool = False
) -> Written:
    """Write log posteriors [T, K] of every utterance of a split; returns counts.

    Beside the archive, `OUT.counts` has the senones' frames in train as a Kaldi vector, as
    `--class-frame-counts` takes it.

    Args:
        likelihoods: subtract the log priors, as for decoding.
    """
    trained = "distill" if model.startswith("distilled") else "train"
    experiment = open_experiment(directory, trained)
    if split not in all_splits(experiment):
        raise UserError(
            f"split is '{split}'; {experiment.directory} has {', '.join(all_splits(experiment))}"
        )
    recogniser = Recogniser.of(experiment, find_system(experiment, model))
    counts = read_json(experiment.path("frames") / STATISTICS, Statistics)["frames"]
    written = Written()
    matrices = _matrices(experiment, recogniser, split, likelihoods, written)
    written.utterances = write_archive(Path(out), matrices)
    write_text(Path(f"{out}.counts"), f" [ {' '.join(map(str, counts))} ]\n")
    return written


def _matrices(
    experiment: Experiment, recogniser: Recogniser, split: str, likelihoods: bool, written: Written
) -> Iterator[tuple[str, np.ndarray]]:
    targets = frame_targets(experiment, split)
    for utterance in progress(normalised(experiment, split), split, unit="utt"):
        probabilities = recogniser.posteriors(utterance.features)
        labels = targets.get(utterance.id)
        if labels is not None:
            written.frames += len(labels)
            written.right += int((probabilities.argmax(-1) == labels).sum())
        prior = recogniser.log_prior if likelihoods else np.zeros(1)
        yield utterance.id, log_likelihoods(probabilities, prior)


def add_options(parser: argparse.ArgumentParser) -> None:
    parser.description = (
        "Log posteriors of every frame of a split as a Kaldi archive, with the "
        "senones' frame counts beside it."
    )
    parser.epilog = "Example: acoustic-kd posteriors exp/an4 test --out test.ark --log-likelihoods"
    add_finished_experiment(parser)
    parser.add_argument("split", metavar="SPLIT", help="train, dev, test or untranscribed")
    parser.add_argument(
        "--out", type=path_argument, metavar="ARK", required=True, help="output archive"
    )
    parser.add_argument(
        "--log-likelihoods", action="store_true", help="subtract the log priors of the senones"
    )


def run(options: argparse.Namespace) -> None:
    written = write_posteriors(
        options.experiment, options.split, options.out, options.model, options.log_likelihoods
    )
    known = ""
    if written.frames:
        accuracy = 100 * written.right / written.frames
        known = f", frame accuracy {accuracy:.2f} % of {written.frames} frames"
    print(f"{options.out}: {written.utterances} utterances{known}")
