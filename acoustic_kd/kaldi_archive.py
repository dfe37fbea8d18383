"""`acoustic-kd posteriors`: what a model says of a split's frames, as an archive for Kaldi's tools.

docs/kaldi.md
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from acoustic_kd.ensemble import log_likelihoods
from acoustic_kd.errors import UserError
from acoustic_kd.files import read_json, write_text
from acoustic_kd.kaldi.objects import matrix_bytes, write_objects
from acoustic_kd.parallel import progress
from acoustic_kd.stages.experiment import Experiment
from acoustic_kd.stages.finished import DEFAULT_MODEL, open_experiment
from acoustic_kd.stages.label import STATISTICS
from acoustic_kd.stages.prepare import normalised
from acoustic_kd.stages.recogniser import Recogniser, find_system, frame_targets
from acoustic_kd.stages.transfer import all_splits


@dataclass
class Written:
    """What was written.

    Attributes:
        utterances: how many.
        frames, right: of how many frames the class is known, and how often it is the most probable.
    """

    utterances: int = 0
    frames: int = 0
    right: int = 0


def write_posteriors(
    directory: Path, split: str, out: Path, model: str = DEFAULT_MODEL, likelihoods: bool = False
) -> Written:
    """Write log posteriors [T, K] of every utterance of a split; returns how many, and how right.

    Beside the archive, `OUT.counts` has the senones' frames in train as a Kaldi vector, as
    `--class-frame-counts` takes it.

    Args:
        likelihoods: log-likelihoods instead, that is, less the log priors (as the recipe decodes).

    Raises:
        UserError: the model is not trained, or there is no such split or model.
    """
    trained = "distill" if model.startswith("distilled") else "train"
    experiment = open_experiment(directory, trained)
    if split not in all_splits(experiment):
        raise UserError(
            f"split is '{split}'; {experiment.directory} has {', '.join(all_splits(experiment))}"
        )
    recogniser = Recogniser.of(experiment, find_system(experiment, model))
    counts = read_json(experiment.path("frames") / STATISTICS)["frames"]
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
        found = recogniser.posteriors(utterance.features)
        labels = targets.get(utterance.id)
        if labels is not None:
            written.frames += len(labels)
            written.right += int((found.argmax(-1) == labels).sum())
        prior = recogniser.log_prior if likelihoods else np.zeros(1)
        yield utterance.id, log_likelihoods(found, prior)


def write_archive(path: Path, matrices: Iterable[tuple[str, np.ndarray]]) -> int:
    """Write (id, [T, K]) pairs as float32, whole or not at all; returns how many."""
    return write_objects(path, ((name, matrix_bytes(matrix)) for name, matrix in matrices))
