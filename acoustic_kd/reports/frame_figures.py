"""Figures of a system over single test frames: accuracy and confusions by phone, calibration, and
example frames with their tempered predictions.

They are summed utterance by utterance, so that no posterior is kept.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from acoustic_kd.alignment.senones import SenoneInventory
from acoustic_kd.decoding.search import MIN_PROBABILITY
from acoustic_kd.features.fbank import SHIFT_SECONDS

NUM_BINS = 15  # of equal width, as Guo et al., *On Calibration of Modern Neural Networks* (2017)
TEMPERATURES = (1.0, 2.0, 5.0, 10.0)  # those the paper tried for speech (section 4.1)
MIN_EXAMPLE_PROBABILITY = 0.9  # of the label at temperature 1, if a phone has such a frame
MAX_EXAMPLE_SENONES = 10
MIN_WRITTEN_MASS = 0.0005  # of a phone; smaller ones are left out of frames.json


@dataclass(frozen=True)
class Example:
    """A frame whose label is `senone`; each phone keeps the frame of most `interest`."""

    interest: float
    utterance: str
    frame: int
    senone: int
    features: np.ndarray


class FrameFigures:
    """Sums over the frames of one system.

    P phones, K senones. Attributes:
        frames, right: int64 [P], frames of a phone, and those with the right senone.
        confusions: int64 [P, P], frames of one phone whose best senone is of another.
        probability_mass: [P, P], probability that frames of one phone give to the senones of
            another, summed.
        binned: [3, NUM_BINS], by the probability of the best senone: frames, frames with the right
            senone, that probability summed.
        negative_log_likelihood: Σ −log p(label), nats.
        seconds: time that the posteriors took.
        examples: phone → its example.
    """

    def __init__(self, inventory: SenoneInventory) -> None:
        count = len(inventory.phones)
        self.inventory = inventory
        self.phone = np.array([inventory.index[leaf.phone] for leaf in inventory.leaves])
        self._groups = torch.eye(count)[torch.from_numpy(self.phone)]
        self.frames, self.right = np.zeros((2, count), np.int64)
        self.confusions = np.zeros((count, count), np.int64)
        self.probability_mass = np.zeros((count, count))
        self.binned = np.zeros((3, NUM_BINS))
        self.negative_log_likelihood = self.seconds = 0.0
        self.examples: dict[int, Example] = {}

    def add(
        self,
        name: str,
        features: np.ndarray,
        probabilities: np.ndarray,
        targets: np.ndarray,
        seconds: float = 0.0,
    ) -> None:
        """Add an utterance.

        Args:
            features: [T, D], kept while one of its frames is an example.
            probabilities: posteriors [T, K].
            targets: senones [T].
            seconds: time that the posteriors took.
        """
        count, rows = len(self.frames), np.arange(len(targets))
        best, phones = probabilities.argmax(-1), self.phone[targets]
        confidence, of_label = probabilities[rows, best], probabilities[rows, targets]
        right = best == targets
        # PyTorch's threads are limited beside the search; NumPy's would keep all cores busy.
        masses = (torch.from_numpy(probabilities).float() @ self._groups).numpy()
        self.frames += np.bincount(phones, minlength=count)
        self.right += np.bincount(phones[right], minlength=count)
        pairs = phones * count + self.phone[best]
        self.confusions += np.bincount(pairs, minlength=count**2).reshape(count, count)
        np.add.at(self.probability_mass, phones, masses)
        which = np.minimum((confidence * NUM_BINS).astype(np.int64), NUM_BINS - 1)
        weights = np.ones(len(rows)), right, confidence
        self.binned += [np.bincount(which, weight, NUM_BINS) for weight in weights]
        self.negative_log_likelihood -= float(
            np.log(np.maximum(of_label, MIN_PROBABILITY), dtype=np.float64).sum()
        )
        self.seconds += seconds
        # Right frames by the probability of other phones; those with a probable label first.
        interest = np.where(
            right, 1 - masses[rows, phones] + (of_label >= MIN_EXAMPLE_PROBABILITY), -1.0
        )
        self._choose(name, features, phones, targets, interest)

    def _choose(
        self,
        name: str,
        features: np.ndarray,
        phones: np.ndarray,
        targets: np.ndarray,
        interest: np.ndarray,
    ) -> None:
        """Make the frame of most interest the example of its phone, if it exceeds the former."""
        order = np.lexsort((-np.arange(len(phones)), interest))  # the first of equal frames is last
        best_frames = np.full(len(self.frames), -1)
        best_frames[phones[order]] = order  # the last assignment stays
        for phone in np.flatnonzero(best_frames >= 0).tolist():
            frame = int(best_frames[phone])
            value, former = float(interest[frame]), self.examples.get(phone)
            if value >= 0 and (former is None or value > former.interest):
                self.examples[phone] = Example(value, name, frame, int(targets[frame]), features)

    def as_json(self) -> dict[str, Any]:
        """The figures of `frames.json` (docs/files.md), without the examples."""
        total, phones = int(self.frames.sum()), self.inventory.phones
        return {
            "frames": total,
            "right": int(self.right.sum()),
            "cross_entropy": self.negative_log_likelihood / max(total, 1),
            "real_time_factor": self.seconds / max(total * SHIFT_SECONDS, SHIFT_SECONDS),
            "bins": [
                {"frames": int(frames), "right": int(right), "confidence": float(confidence)}
                for frames, right, confidence in self.binned.T
            ],
            "phones": {
                phone: {
                    "frames": int(self.frames[n]),
                    "right": int(self.right[n]),
                    "taken_for": _named(phones, self.confusions[n], 1),
                    "mass": _named(
                        phones, self.probability_mass[n] / self.frames[n], MIN_WRITTEN_MASS
                    ),
                }
                for n, phone in enumerate(phones)
                if self.frames[n]
            },
        }

    def example_predictions(
        self, predict: Callable[[Example, float], np.ndarray], temperatures: Sequence[float]
    ) -> list[dict[str, Any]]:
        """The examples with their tempered predictions, of the most probable senones.

        Args:
            predict: (example, temperature) → the system's prediction [K] for its frame.
        """
        names, rows = self.inventory.names(), []
        for phone, example in sorted(self.examples.items()):
            tempered = np.stack([predict(example, t) for t in temperatures])
            chosen = np.argsort(-tempered[0], kind="stable")[:MAX_EXAMPLE_SENONES]
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


def _named(phones: Sequence[str], values: np.ndarray, minimum: float) -> dict[str, float | int]:
    """Phone → value, the largest first, without values below `minimum`."""
    order = np.argsort(-values, kind="stable")
    whole = np.issubdtype(values.dtype, np.integer)
    return {
        phones[n]: int(values[n]) if whole else round(float(values[n]), 4)
        for n in order
        if values[n] >= minimum
    }


def expected_calibration_error(bins: Sequence[dict[str, Any]]) -> float:
    """The expected calibration error (Guo et al. 2017, equation 5), a share: 0 … 1."""
    total = sum(b["frames"] for b in bins)
    return sum(abs(b["right"] - b["confidence"]) for b in bins) / max(total, 1)
