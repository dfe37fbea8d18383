"""What a system makes of single test frames: right by phone, what else a phone might be, how well
calibrated, and some frames whose tempered predictions are worth a look.

All of it is summed utterance by utterance, so that no posterior has to be kept.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from acoustic_kd.alignment.senones import SenoneInventory
from acoustic_kd.features.fbank import SHIFT_SECONDS
from acoustic_kd.training.ensemble import MIN_PROBABILITY

BINS = 15  # of equal width, as Guo et al., *On Calibration of Modern Neural Networks* (2017)
TEMPERATURES = (1.0, 2.0, 5.0, 10.0)  # those the paper tried for speech (section 4.1)
SURE = 0.9  # probability of the label at temperature 1, of a frame that is shown
SENONES = 10  # of a frame that is shown
LEAST_MASS = 0.0005  # of a phone, to be written


@dataclass(frozen=True)
class Example:
    """A frame to be shown: `interest` says how much, `senone` is its label."""

    interest: float
    utterance: str
    frame: int
    senone: int
    features: np.ndarray


class FrameFigures:
    """Sums over the frames of one system.

    P phones, K senones. Attributes:
        frames, right: int64 [P], frames of a phone, and how many have the senone right.
        taken: int64 [P, P], frames of one phone whose best senone is of another.
        mass: [P, P], probability that frames of one phone give to the senones of another, summed.
        binned: [3, BINS], by the probability of the best senone: frames, those with the senone
            right, that probability summed.
        surprise: Σ −log p(label), nats.
        seconds: that the posteriors took.
        examples: phone → the frame of it that is worth showing.
    """

    def __init__(self, inventory: SenoneInventory) -> None:
        count = len(inventory.phones)
        self.inventory = inventory
        self.phone = np.array([inventory.index[leaf.phone] for leaf in inventory.leaves])
        self._groups = torch.eye(count)[torch.from_numpy(self.phone)]
        self.frames, self.right = np.zeros((2, count), np.int64)
        self.taken = np.zeros((count, count), np.int64)
        self.mass = np.zeros((count, count))
        self.binned = np.zeros((3, BINS))
        self.surprise = self.seconds = 0.0
        self.examples: dict[int, Example] = {}

    def add(
        self,
        name: str,
        features: np.ndarray,
        probabilities: np.ndarray,
        targets: np.ndarray,
        seconds: float = 0.0,
    ) -> None:
        """Take an utterance into account.

        Args:
            features: [T, D], kept where one of its frames is an example.
            probabilities: posteriors [T, K].
            targets: senones [T].
            seconds: that the posteriors took.
        """
        count, rows = len(self.frames), np.arange(len(targets))
        best, phones = probabilities.argmax(-1), self.phone[targets]
        confidence, own = probabilities[rows, best], probabilities[rows, targets]
        right = best == targets
        # PyTorch's threads are limited beside the search; NumPy's would keep all cores busy.
        masses = (torch.from_numpy(probabilities).float() @ self._groups).numpy()
        self.frames += np.bincount(phones, minlength=count)
        self.right += np.bincount(phones[right], minlength=count)
        pairs = phones * count + self.phone[best]
        self.taken += np.bincount(pairs, minlength=count**2).reshape(count, count)
        np.add.at(self.mass, phones, masses)
        which = np.minimum((confidence * BINS).astype(np.int64), BINS - 1)
        weights = np.ones(len(rows)), right, confidence
        self.binned += [np.bincount(which, weight, BINS) for weight in weights]
        self.surprise -= float(np.log(np.maximum(own, MIN_PROBABILITY), dtype=np.float64).sum())
        self.seconds += seconds
        # Where the label is found, what other phones get; first of all where it is sure.
        interest = np.where(right, 1 - masses[rows, phones] + (own >= SURE), -1.0)
        self._choose(name, features, phones, targets, interest)

    def _choose(
        self,
        name: str,
        features: np.ndarray,
        phones: np.ndarray,
        targets: np.ndarray,
        interest: np.ndarray,
    ) -> None:
        """Keep the most interesting frame of each phone here, if it is more so than that before."""
        order = np.lexsort((-np.arange(len(phones)), interest))  # of equal ones the first is last
        most = np.full(len(self.frames), -1)
        most[phones[order]] = order  # the last one stays
        for phone in np.flatnonzero(most >= 0).tolist():
            frame, found = int(most[phone]), float(interest[most[phone]])
            before = self.examples.get(phone)
            if found >= 0 and (before is None or found > before.interest):
                self.examples[phone] = Example(found, name, frame, int(targets[frame]), features)

    def as_json(self) -> dict[str, Any]:
        """The figures of `frames.json` (docs/files.md), but for the examples."""
        total, phones = int(self.frames.sum()), self.inventory.phones
        return {
            "frames": total,
            "right": int(self.right.sum()),
            "cross_entropy": self.surprise / max(total, 1),
            "real_time_factor": self.seconds / max(total * SHIFT_SECONDS, SHIFT_SECONDS),
            "bins": [
                {"frames": int(frames), "right": int(right), "confidence": float(confidence)}
                for frames, right, confidence in self.binned.T
            ],
            "phones": {
                phone: {
                    "frames": int(self.frames[n]),
                    "right": int(self.right[n]),
                    "taken_for": _named(phones, self.taken[n], 1),
                    "mass": _named(phones, self.mass[n] / self.frames[n], LEAST_MASS),
                }
                for n, phone in enumerate(phones)
                if self.frames[n]
            },
        }

    def shown(
        self, predict: Callable[[Example, float], np.ndarray], temperatures: Sequence[float]
    ) -> list[dict[str, Any]]:
        """The examples with their tempered predictions, of the most probable senones.

        Args:
            predict: (example, temperature) → the system's prediction [K] for its frame.
        """
        names, rows = self.inventory.names(), []
        for phone, example in sorted(self.examples.items()):
            tempered = np.stack([predict(example, t) for t in temperatures])
            chosen = np.argsort(-tempered[0], kind="stable")[:SENONES]
            rows.append(
                {
                    "phone": self.inventory.phones[phone],
                    "utterance": example.utterance,
                    "frame": example.frame,
                    "senone": names[example.senone],
                    "temperatures": list(temperatures),
                    "senones": {
                        names[n]: [float(f"{p:.4g}") for p in tempered[:, n]] for n in chosen
                    },
                }
            )
        return rows


def _named(phones: Sequence[str], values: np.ndarray, least: float) -> dict[str, float | int]:
    """Phone → value, of those that are not too small, the largest first."""
    order = np.argsort(-values, kind="stable")
    whole = np.issubdtype(values.dtype, np.integer)
    return {
        phones[n]: int(values[n]) if whole else round(float(values[n]), 4)
        for n in order
        if values[n] >= least
    }


def expected_error(bins: Sequence[dict[str, Any]]) -> float:
    """The expected calibration error (Guo et al. 2017, equation 5), a share: 0 … 1."""
    total = sum(b["frames"] for b in bins)
    return sum(abs(b["right"] - b["confidence"]) for b in bins) / max(total, 1)
