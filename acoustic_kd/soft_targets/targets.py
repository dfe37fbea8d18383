"""Soft targets in memory: encoded like the store, decoded a batch at a time on the device."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from acoustic_kd.soft_targets.encoding import Encoded, Encoding, SparseTargets, from_codes


@dataclass(frozen=True)
class SoftTargets(Dataset[Tensor | SparseTargets]):
    """Soft targets of the frames of utterances: a map-style dataset of frames.

    `soft[n]` is that of frame n: a tensor [K] if dense, otherwise `SparseTargets` [k]. A slice, a
    list or tensor of numbers, an utterance id (key) and a list of keys give [B, K] or [B, k], for
    the frames of utterance after utterance; of an image, an utterance of one frame, B is 1.

    Attributes:
        encoding: for the number of classes (`Encoding.of`).
        temperature: for the loss.
        first: int64 [T], the row of a frame's entries if all frames have the same number of
            entries, else the number of its first entry. None: frame n has row n.
        counts: int32 [T], number of entries of each frame; None: all have the same.
        classes: int16 [N] (the bits of uint16) or int32 [N], or None if dense.
        codes: [N] float16, uint8, or int16 (the bits of uint16).
        tails: uint8 [T], codes of the mass of the classes that were not kept, or None.
        width: the largest number of entries of a frame.
        exponent: stored temperature / `temperature`; 1 unless dense.
        keys: U utterance ids, if they are known.
        offsets: int64 [U + 1], utterance u is frames offsets[u] … offsets[u + 1] - 1.
    """

    encoding: Encoding
    temperature: float
    first: Tensor | None
    counts: Tensor | None
    classes: Tensor | None
    codes: Tensor
    tails: Tensor | None
    width: int
    exponent: float = 1.0
    keys: Sequence[str] = ()
    offsets: np.ndarray | tuple[int, ...] = (0,)

    def __len__(self) -> int:
        return len(self.codes) // self.width if self.first is None else len(self.first)

    def __getitem__(
        self, which: int | slice | str | list[int] | list[str] | Tensor
    ) -> Tensor | SparseTargets:
        if isinstance(which, str):
            which = [which]
        if isinstance(which, list | tuple) and which and isinstance(which[0], str):
            spans = [self.offsets[self.numbers[key] :][:2] for key in map(str, which)]
            numbers = torch.cat([torch.arange(int(first), int(last)) for first, last in spans])
        elif isinstance(which, slice):
            numbers = torch.arange(*which.indices(len(self)))
        elif isinstance(which, int):
            numbers = torch.tensor(range(len(self))[which])
        else:
            numbers = torch.arange(len(self))[torch.as_tensor(which)]
        classes, p = self.batch(numbers.reshape(-1).to(self.codes.device))
        if not numbers.ndim:
            classes, p = None if classes is None else classes[0], p[0]
        return p if classes is None else SparseTargets(classes, p)

    @cached_property
    def numbers(self) -> dict[str, int]:
        """Utterance id → its number."""
        return {key: number for number, key in enumerate(self.keys)}

    def to(self, device: torch.device) -> "SoftTargets":
        """Copy the tensors to a device."""
        tensors: Any = {k: v.to(device) for k, v in vars(self).items() if isinstance(v, Tensor)}
        return replace(self, **tensors)

    def batch(self, frames: Tensor) -> tuple[Tensor | None, Tensor]:
        """The soft targets of some frames, for `distillation_loss`.

        Args:
            frames: int64 [B], on the device of the soft targets.

        Returns:
            Classes int64 [B, k], or None for all classes in their order (the dense loss); and
            probabilities float32 [B, k]. Dense and sampled rows sum to 1; what other rows lack is
            the mass of the classes that were not kept. A frame with fewer than k entries is padded
            with its first class and probability 0, which does not change the loss.
        """
        rows, kept = frames if self.first is None else self.first[frames], None
        if self.classes is None:
            p = from_codes(self.codes.view(-1, self.width)[rows])
            if self.exponent == 1:
                return None, p / p.sum(-1, keepdim=True)
            return None, (self.exponent * p.log()).softmax(-1)
        if self.counts is None:
            codes = self.codes.view(-1, self.width)[rows]
            classes = _unsigned(self.classes.view(-1, self.width)[rows])
        else:
            steps = torch.arange(self.width, device=rows.device)
            kept = steps < self.counts[frames, None]
            entries = rows[:, None] + steps * kept
            codes, classes = self.codes[entries], _unsigned(self.classes[entries])
        sampled = self.encoding.name == "sampled"
        p = _unsigned(codes).float() / self.encoding.kept_classes if sampled else from_codes(codes)
        p = p if kept is None else p * kept
        if sampled:
            return classes, p
        whole = p.sum(-1, keepdim=True)
        if self.tails is None:  # rounding may give a sum above 1; the tail must not be negative
            return classes, p / whole.clamp(min=1)
        return classes, p / (whole + from_codes(self.tails[frames, None]))


def as_soft_targets(encoded: Encoded, encoding: Encoding, temperature: float) -> SoftTargets:
    """The soft targets of some frames from their encoded predictions."""
    first, width = None, encoding.kept_classes
    if (counts := encoded.counts) is not None:
        first, width = counts.cumsum(0) - counts, int(counts.max()) if len(counts) else 0
    return SoftTargets(encoding, temperature, first, width=width, **vars(encoded))


def as_signed_bits(stored: np.ndarray) -> Tensor:
    """Stored numbers as a tensor with the same bits; PyTorch cannot index uint16."""
    kinds = {np.dtype(np.uint16): np.int16, np.dtype(np.uint32): np.int32}
    return torch.from_numpy(stored.view(kinds.get(stored.dtype, stored.dtype)))


def _unsigned(numbers: Tensor) -> Tensor:
    """The numbers of `as_signed_bits`, as int64."""
    return numbers.long() & 0xFFFF if numbers.dtype == torch.int16 else numbers.long()
