"""The frames of an utterance, and what their targets mean."""

from dataclasses import dataclass

import numpy as np

NO_TARGET = -1  # target of a frame without a transcript, in memory only


@dataclass(frozen=True)
class Classes:
    """What the targets of a store mean.

    Attributes:
        count: K.
        inventory: hash of the class inventory; equal hashes mean equal classes.
    """

    count: int
    inventory: str


@dataclass(frozen=True)
class FrameSequence:
    """The frames of an utterance: features [T, D] and targets [T] or None."""

    id: str
    features: np.ndarray
    targets: np.ndarray | None

    @property
    def labels(self) -> np.ndarray:
        """The targets; a ValueError if there are none."""
        if self.targets is None:
            raise ValueError(f"utterance '{self.id}' has no targets")
        return self.targets
