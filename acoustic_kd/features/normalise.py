"""Mean and variance normalisation of features, over speakers, utterances or all frames."""

from collections.abc import Callable, Hashable, Iterable

import numpy as np


class Moments:
    """Mean and variance of frames, summed in float64 in one pass."""

    def __init__(self, dimension: int) -> None:
        self.count = 0
        self.sum = np.zeros(dimension)
        self.squares = np.zeros(dimension)

    def add(self, frames: np.ndarray) -> None:
        """Add `frames` [T, D]."""
        frames = frames.astype(np.float64)
        self.count += len(frames)
        self.sum += frames.sum(0)
        self.squares += np.square(frames).sum(0)

    def normalise(self, frames: np.ndarray) -> np.ndarray:
        """Scale `frames` [T, D] to zero mean and unit variance by these moments; float32."""
        mean = self.sum / self.count
        variance = np.maximum(self.squares / self.count - np.square(mean), 1e-6)
        return ((frames - mean) / np.sqrt(variance)).astype(np.float32)


def grouping(method: str) -> Callable[[str, str], str]:
    """A function (utterance id, speaker) → group; the group's moments normalise the utterance.

    Args:
        method: the setting `features.normalise`.
    """
    groups: dict[str, Callable[[str, str], str]] = {
        "global": lambda utterance, speaker: "",
        "speaker": lambda utterance, speaker: speaker,
        "utterance": lambda utterance, speaker: utterance,
    }
    return groups[method]


def gather_moments(items: Iterable[tuple[Hashable, np.ndarray]]) -> dict[Hashable, Moments]:
    """Moments of each group from (group, frames [T, D]) pairs."""
    moments: dict[Hashable, Moments] = {}
    for group, frames in items:
        moments.setdefault(group, Moments(frames.shape[1])).add(frames)
    return moments
