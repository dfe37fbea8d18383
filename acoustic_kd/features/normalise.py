"""Mean and variance normalisation of features, over speakers, utterances or all frames.

Digital zeros, and the noise of one or two steps of 16 bits that dither and coders put in their
place, are no sound of a room. Their share differs from recording to recording, and their logarithm
is far from that of speech. So such frames are silence, and do not count in the moments.
"""

from collections.abc import Hashable, Iterable

import numpy as np
from numpy.typing import ArrayLike

SILENCE_LEVEL = 7.0  # mean log energy; noise of two steps of 16 bits has 6.8
SILENCE_BELOW = 12.0  # of log energy, 52 dB: how far below the speaker's loudest frame it also lies
MIN_VARIANCE = 1e-6  # of features
SILENCE_FLOOR = -2.0  # standard deviations from the mean: the pauses of a quiet room
UNKNOWN_LEVEL = -np.inf  # of features that may be no log energies: no frame is silence


def level(frames: np.ndarray) -> np.ndarray:
    """The mean log energy of each of the frames [T, D]."""
    levels: np.ndarray = frames.mean(1)
    return levels


def loudest_levels(items: Iterable[tuple[Hashable, np.ndarray]]) -> dict[Hashable, float]:
    """The level of the loudest frame of each group, from (group, frames [T, D]) pairs."""
    levels: dict[Hashable, float] = {}
    for group, frames in items:
        loudest = float(level(frames).max(initial=-np.inf))
        levels[group] = max(levels.get(group, -np.inf), loudest)
    return levels


def silent(frames: np.ndarray, loudest: float) -> np.ndarray:
    """Which of the frames [T, D] are silence, bool [T].

    Args:
        loudest: the level of the speaker's loudest frame, or UNKNOWN_LEVEL.
    """
    return np.asarray(level(frames) < min(SILENCE_LEVEL, loudest - SILENCE_BELOW))


class Moments:
    """Mean and variance of all frames that are no silence, summed in float64 in one pass.

    It begins with the number of earlier frames, their sums [D] and sums of squares [D], if given.
    """

    def __init__(self, count: int = 0, sums: ArrayLike = 0.0, squares: ArrayLike = 0.0) -> None:
        self.count, self.sum, self.squares = count, np.array(sums), np.array(squares)

    def add(self, frames: np.ndarray, loudest: float) -> None:
        """Add `frames` [T, D] of a speaker; `loudest` is as for `silent`."""
        frames = frames[~silent(frames, loudest)].astype(np.float64)
        self.count += len(frames)
        self.sum = self.sum + frames.sum(0)
        self.squares = self.squares + np.square(frames).sum(0)

    @property
    def mean(self) -> np.ndarray:
        """float64 [D]."""
        mean: np.ndarray = self.sum / self.count
        return mean

    @property
    def deviation(self) -> np.ndarray:
        """The standard deviation, float64 [D]."""
        variance = self.squares / self.count - np.square(self.mean)
        deviation: np.ndarray = np.sqrt(np.maximum(variance, MIN_VARIANCE))
        return deviation

    def normalise(self, frames: np.ndarray, loudest: float) -> np.ndarray:
        """Scale `frames` [T, D] to zero mean and unit variance by these moments; float32.

        The logarithm of digital silence is arbitrary and far from all that a model learns from, so
        features of silence are raised to SILENCE_FLOOR.
        """
        scaled: np.ndarray = ((frames - self.mean) / self.deviation).astype(np.float32)
        quiet = silent(frames, loudest)
        scaled[quiet] = np.maximum(scaled[quiet], np.float32(SILENCE_FLOOR))
        return scaled


def group_of(method: str, utterance: str, speaker: str) -> str:
    """The group whose moments normalise an utterance; `method`: setting `features.normalise`."""
    return {"global": "", "speaker": speaker, "utterance": utterance}[method]


def gather_moments(items: Iterable[tuple[Hashable, np.ndarray, float]]) -> dict[Hashable, Moments]:
    """Moments of each group from (group, frames [T, D], level of the speaker's loudest frame)."""
    moments: dict[Hashable, Moments] = {}
    for group, frames, loudest in items:
        moments.setdefault(group, Moments()).add(frames, loudest)
    return moments
