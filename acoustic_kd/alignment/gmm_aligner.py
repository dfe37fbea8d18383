"""The Gaussian-mixture model of a flat start on disk, alignment with it, and utterances that do
not fit their transcripts.
"""

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from acoustic_kd.alignment.gmm import Mixtures, log_likelihoods
from acoustic_kd.alignment.viterbi import Transcripts
from acoustic_kd.language.lexicon import SILENCE
from acoustic_kd.system.errors import UserError
from acoustic_kd.system.tensors import load_tensors, save_tensors

BEAM = 500.0  # nats; where utterances are long, many times as fast as dropping nothing


@dataclass(frozen=True)
class Iteration:
    """Where a round of training has led.

    Attributes:
        mixtures: the model, fitted to the last alignment.
        durations: float64 [K], mean frames in a state at a visit. They change when the number of
            Gaussians does and at the end: graphs that have them serve for several rounds.
        scores: float64 [U], of each utterance in the last alignment, as `score_path`.
        history: of each round its number, Gaussians a state, log-likelihood a frame, and how many
            utterances it did not learn from.
        finished: whether the gain has stopped, or there are to be no more rounds.
    """

    mixtures: Mixtures
    durations: np.ndarray
    scores: np.ndarray
    history: list[dict[str, Any]] = field(default_factory=list)
    finished: bool = False

    def write(self, path: Path) -> None:
        """Write it as safetensors, whole or not at all."""
        model = self.mixtures
        tensors = {
            "weights": model.weights,
            "means": model.means,
            "variances": model.variances,
            "durations": self.durations,
            "scores": self.scores,
        }
        notes = {"history": self.history, "finished": self.finished}
        save_tensors(path, tensors, {"round": json.dumps(notes)})


def read_iteration(path: Path) -> Iteration:
    """Read what `Round.write` wrote."""
    arrays, metadata = load_tensors(path, "np")
    try:
        notes = json.loads(metadata["round"])
        return Iteration(
            Mixtures(arrays["weights"], arrays["means"], arrays["variances"]),
            arrays["durations"],
            arrays["scores"],
            notes["history"],
            notes["finished"],
        )
    except (KeyError, TypeError, ValueError) as error:
        raise UserError(f"{path}: damaged ({error}); delete it and run the stage again") from None


class FlatAligner:
    """Aligns utterances with mixtures of Gaussians, one of each of the transcripts' senones."""

    def __init__(self, mixtures: Mixtures, transcripts: Transcripts) -> None:
        self.mixtures, self.transcripts = mixtures, transcripts
        self.silent = np.array([leaf.phone == SILENCE for leaf in transcripts.inventory.leaves])

    def align(
        self, words: list[str], frames: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Align one utterance.

        Args:
            words: its transcript.
            frames: its cepstra [T, D].

        Returns:
            The state of every frame, int32 [T]; components [T, G, K]; log-likelihoods [T, K].

        Raises:
            AlignmentFailure: a word is not in the lexicon, or the words do not fit the frames.
        """
        self.transcripts.check(words, len(frames))
        components = self.mixtures.components(frames)
        loglikes = log_likelihoods(components)
        return self.transcripts.path(words, loglikes, BEAM), components, loglikes

    def score(self, path: np.ndarray, loglikes: np.ndarray) -> float:
        """How well an utterance fits its alignment: see `score_path`."""
        return score_path(loglikes, path, self.silent)


MOST = 10.0  # nats that a frame counts for; docs/alignment.md
NARROWEST = 0.25  # nats a frame: the spread of few or uniform utterances says little


def score_path(loglikes: np.ndarray, path: np.ndarray, silent: np.ndarray) -> float:
    """How well an utterance fits its alignment: nats a frame below the states that fit best.

    No frame counts for more than `MOST`: a few of digital silence within words, where a recording
    was gated, or a click, would otherwise outweigh seconds that fit.

    A frame of which the alignment and the best fitting state both say that it is silence counts
    for nothing, so that pauses neither hide a bad transcript nor make a good one look bad; but what
    the transcript takes for silence and sounds like speech counts. Against the best state, and not
    in itself, because speakers, noise and channels make likelihoods of right alignments differ.

    Args:
        loglikes: [T, K] log-likelihoods.
        path: int [T], the state of every frame.
        silent: bool [K], which states are silence's.

    Returns:
        0 or less.
    """
    best = loglikes.argmax(axis=1)
    counted = np.flatnonzero(~(silent[path] & silent[best]))
    if not len(counted):
        return 0.0
    worse = loglikes[counted, best[counted]] - loglikes[counted, path[counted]]
    return -float(np.minimum(worse, MOST).mean())


def lowest_score(scores: np.ndarray, spreads: float) -> float:
    """Below which score an utterance is an outlier among some.

    median - spreads · (median - lower quartile) / 0.6745: the second factor, which is NARROWEST at
    least, is the standard deviation where scores are normally distributed, and up to a quarter of
    them may be anything without moving it much. Of the lower side alone, since scores are skewed.

    Args:
        scores: [U]; not a number where there is none, which is passed over.
        spreads: standard deviations.
    """
    known = scores[np.isfinite(scores)]
    if not len(known):
        return -np.inf
    quarter, middle = np.percentile(known, [25, 50])
    return float(middle - spreads * max((middle - quarter) / 0.6745, NARROWEST))


def find_outliers(scores: np.ndarray, spreads: float) -> np.ndarray:
    """Which of some scores lie too far below the others, bool [U]: see `lowest_score`."""
    return scores < lowest_score(scores, spreads)
