"""`acoustic-kd posteriors`: what a model says of a split's frames, as an archive for Kaldi's tools.

docs/kaldi.md
"""

from collections.abc import Iterable, Iterator
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
from acoustic_kd.stages.recogniser import Recogniser, find_system
from acoustic_kd.stages.transfer import all_splits


def write_posteriors(
    directory: Path, split: str, out: Path, model: str = DEFAULT_MODEL, likelihoods: bool = False
) -> int:
    """Write log posteriors [T, K] of every utterance of a split; returns how many there are.

    Beside the archive, `OUT.counts` has the senones' frames in train as a Kaldi vector, as
    `--class-frame-counts` takes it.

    Args:
        likelihoods: log-likelihoods instead, that is, less the log priors (as the recipe decodes).

    Raises:
        UserError: the experiment is not decoded, or has no such split or model.
    """
    experiment = open_experiment(directory)
    if split not in all_splits(experiment):
        raise UserError(
            f"split is '{split}'; {experiment.directory} has {', '.join(all_splits(experiment))}"
        )
    recogniser = Recogniser.of(experiment, find_system(experiment, model))
    counts = read_json(experiment.path("frames") / STATISTICS)["frames"]
    number = write_archive(Path(out), _matrices(experiment, recogniser, split, likelihoods))
    write_text(Path(f"{out}.counts"), f" [ {' '.join(map(str, counts))} ]\n")
    return number


def _matrices(
    experiment: Experiment, recogniser: Recogniser, split: str, likelihoods: bool
) -> Iterator[tuple[str, np.ndarray]]:
    for utterance in progress(normalised(experiment, split), split, unit="utt"):
        found = recogniser.posteriors(utterance.features)
        prior = recogniser.log_prior if likelihoods else np.zeros(1)
        yield utterance.id, log_likelihoods(found, prior)


def write_archive(path: Path, matrices: Iterable[tuple[str, np.ndarray]]) -> int:
    """Write (id, [T, K]) pairs as float32, whole or not at all; returns how many."""
    return write_objects(path, ((name, matrix_bytes(matrix)) for name, matrix in matrices))
