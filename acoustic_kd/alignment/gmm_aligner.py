"""The Gaussian-mixture model of a flat start: its file, alignment with it, and its outliers.

An outlier is an utterance that does not fit its transcript.
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

BEAM_NATS = 500.0  # for long utterances many times as fast as a search without a beam
MAX_NATS_PER_FRAME = 10.0  # that a frame lowers a score by; docs/alignment.md
MIN_SPREAD_NATS = 0.25  # a frame: few or uniform utterances have a spread that says little


@dataclass(frozen=True)
class Iteration:
    """The model after an iteration of training.

    Attributes:
        mixtures: estimated from the last alignment.
        durations: float64 [K], mean frames in a state at a visit. They change only when the number
            of Gaussians does and at the end, so that several iterations use the same graphs.
        scores: float64 [U], of each utterance in the last alignment, as `score_path`.
        history: of each iteration its number, Gaussians a state, log-likelihood a frame, and the
            number of utterances that it left out.
    """

    mixtures: Mixtures
    durations: np.ndarray
    scores: np.ndarray
    history: list[dict[str, Any]] = field(default_factory=list)
    finished: bool = False

    def write(self, path: Path) -> None:
        """Write it as safetensors, whole or not at all."""
        tensors = {**vars(self.mixtures), "durations": self.durations, "scores": self.scores}
        notes = {"history": self.history, "finished": self.finished}
        save_tensors(path, tensors, {"round": json.dumps(notes)})


def read_iteration(path: Path) -> Iteration:
    """Read what `Iteration.write` wrote."""
    arrays, metadata = load_tensors(path, "np")
    try:
        mixtures = Mixtures(arrays["weights"], arrays["means"], arrays["variances"])
        notes = json.loads(metadata["round"])
        return Iteration(mixtures, arrays["durations"], arrays["scores"], **notes)
    except (KeyError, TypeError, ValueError) as error:
        raise UserError(f"{path}: damaged ({error}); delete it and run the stage again") from None


class FlatAligner:
    """Aligns utterances with a mixture of Gaussians for each senone of the transcripts."""

    def __init__(self, mixtures: Mixtures, transcripts: Transcripts) -> None:
        self.mixtures, self.transcripts = mixtures, transcripts
        self.silent = np.array([leaf.phone == SILENCE for leaf in transcripts.inventory.leaves])

    def align(
        self, words: list[str], frames: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Align one utterance.

        Args:
            frames: its cepstra [T, D].

        Returns:
            The state of every frame, int32 [T]; components [T, G, K]; log-likelihoods [T, K].

        Raises:
            AlignmentFailure: a word is not in the lexicon, or the words do not fit the frames.
        """
        self.transcripts.check(words, len(frames))
        components = self.mixtures.components(frames)
        loglikes = log_likelihoods(components)
        return self.transcripts.path(words, loglikes, BEAM_NATS), components, loglikes

    def score(self, path: np.ndarray, loglikes: np.ndarray) -> float:
        """`score_path` of an utterance with the silent states of the inventory."""
        return score_path(loglikes, path, self.silent)


def score_path(loglikes: np.ndarray, path: np.ndarray, silent: np.ndarray) -> float:
    """How well an utterance fits its alignment: mean nats a frame below the best fitting states.

    A frame counts for at most `MAX_NATS_PER_FRAME`. Otherwise a click, or a few frames of digital
    silence in a gated recording, would outweigh seconds that fit.

    A frame counts for nothing if both the alignment and the best fitting state are silence, so that
    pauses neither hide a wrong transcript nor make a right one look wrong. A frame that is aligned
    to silence and sounds like speech counts. The comparison is with the best state because
    likelihoods of right alignments differ between speakers, noises and channels.

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
    return -float(np.minimum(worse, MAX_NATS_PER_FRAME).mean())


def lowest_score(scores: np.ndarray, threshold: float) -> float:
    """The score below which an utterance is an outlier.

    median - threshold · max((median - lower quartile) / 0.6745, MIN_SPREAD_NATS): the quotient is
    the standard deviation of normally distributed scores, and up to a quarter of the scores hardly
    move it, whatever they are. It comes from the lower half because scores are skewed.

    Args:
        scores: [U]; NaN for an utterance without a score.
        threshold: in standard deviations.
    """
    known = scores[np.isfinite(scores)]
    if not len(known):
        return -np.inf
    quartile, median = np.percentile(known, [25, 50])
    return float(median - threshold * max((median - quartile) / 0.6745, MIN_SPREAD_NATS))


def find_outliers(scores: np.ndarray, threshold: float) -> np.ndarray:
    """Which of the scores are below `lowest_score`, bool [U]."""
    return scores < lowest_score(scores, threshold)
