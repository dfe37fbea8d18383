"""Soft targets in memory: encoded as in the store, decoded a batch at a time on the device."""

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from acoustic_kd.soft_targets.encoding import Encoded, Encoding, encode, from_codes


@dataclass(frozen=True)
class SoftTargets:
    """Soft targets, frame for frame those of a `Frames`.

    Attributes:
        encoding: how they are encoded, `of` their classes.
        temperature: at which they must be learnt.
        first: int64 [T]; where a frame's entries are: their row if all frames have as many, else
            the number of the first one.
        counts: int32 [T], entries of each frame, or None if all have as many.
        classes: int16 [N] (the bits of uint16) or int32 [N], or None if dense.
        codes: [N] float16, uint8, or int16 (the bits of uint16).
        tails: uint8 [T], codes of the mass that was not kept, or None.
        width: the most entries of a frame.
        exponent: temperature when stored / `temperature`; only dense ones may be re-tempered.
    """

    encoding: Encoding
    temperature: float
    first: Tensor
    counts: Tensor | None
    classes: Tensor | None
    codes: Tensor
    tails: Tensor | None
    width: int
    exponent: float = 1.0

    def __len__(self) -> int:
        return len(self.first)

    def to(self, device: torch.device) -> "SoftTargets":
        """The same on a device."""
        moved: dict[str, Any] = {
            name: value.to(device)
            for name, value in vars(self).items()
            if isinstance(value, Tensor)
        }
        return replace(self, **moved)

    def batch(self, frames: Tensor) -> tuple[Tensor | None, Tensor]:
        """The soft targets of some frames, for `distillation_loss`.

        Args:
            frames: int64 [B], on the device of the soft targets.

        Returns:
            Classes int64 [B, k], or None where all are kept: then they are in their order, and the
            loss is the dense one; and probabilities float32 [B, k]. Dense and sampled rows sum to
            1; what others lack is the mass of the classes that were not kept. A frame with fewer
            than k entries is filled up with its first class and probability 0, which changes
            neither the loss nor which classes were kept.
        """
        rows, kept = self.first[frames], None
        if self.classes is None:
            return None, self._dense(from_codes(self.codes.view(-1, self.width)[rows]))
        if self.counts is None:
            codes = self.codes.view(-1, self.width)[rows]
            classes = _unsigned(self.classes.view(-1, self.width)[rows])
        else:
            steps = torch.arange(self.width, device=rows.device)
            kept = steps < self.counts[frames, None]
            entries = rows[:, None] + steps * kept
            codes, classes = self.codes[entries], _unsigned(self.classes[entries])
        sampled = self.encoding.name == "sampled"
        if sampled:
            probabilities = _unsigned(codes).float() / self.encoding.kept_classes
        else:
            probabilities = from_codes(codes)
        if kept is not None:
            probabilities *= kept
        if sampled:
            return classes, probabilities
        whole = probabilities.sum(-1, keepdim=True)
        if self.tails is None:
            # Rounding may make too much of them, never a tail of less than nothing.
            return classes, probabilities / whole.clamp(min=1)
        return classes, probabilities / (whole + from_codes(self.tails[frames, None]))

    def _dense(self, probabilities: Tensor) -> Tensor:
        if self.exponent == 1:
            return probabilities / probabilities.sum(-1, keepdim=True)
        return (self.exponent * probabilities.log()).softmax(-1)


def encode_in_memory(
    probabilities: Tensor, encoding: Encoding, temperature: float, *key: int | str
) -> SoftTargets:
    """Encode predictions [T, K] without storing them; `key` as for `encode`."""
    encoding = encoding.of(probabilities.shape[-1])
    return from_encoded(
        encode(probabilities, encoding, *key), encoding, temperature, len(probabilities)
    )


def from_encoded(
    encoded: Encoded, encoding: Encoding, temperature: float, total: int
) -> SoftTargets:
    """Encoded predictions of `total` frames, ready to be decoded."""
    counts = encoded.counts
    if counts is None:
        first = torch.arange(total, device=encoded.codes.device)
        width = encoding.kept_classes
    else:
        first, width = counts.cumsum(0) - counts, int(counts.max()) if total else 0
    return SoftTargets(
        encoding, temperature, first, counts, encoded.classes, encoded.codes, encoded.tails, width
    )


def as_signed_bits(stored: np.ndarray) -> Tensor:
    """Stored numbers as a tensor of the same bits; PyTorch indexes no uint16."""
    kinds = {np.dtype(np.uint16): np.int16, np.dtype(np.uint32): np.int32}
    return torch.from_numpy(stored.view(kinds.get(stored.dtype, stored.dtype)))


def _unsigned(numbers: Tensor) -> Tensor:
    """int64 of what `signed` made."""
    if numbers.dtype == torch.int16:
        return numbers.long() & 0xFFFF
    return numbers.long()
