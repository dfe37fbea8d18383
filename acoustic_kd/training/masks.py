"""Masks over time and frequency of training windows.

Park et al., *SpecAugment* (2019), section 2, applied to windows: each window has one mask of
neighbouring frames and one of neighbouring filters, drawn anew in each step.
"""

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Masks:
    """Hides a random part of each window.

    Attributes:
        frames: the width of a mask over time is drawn from 0 … `frames`.
        filters: likewise over frequency.
    """

    frames: int = 0
    filters: int = 0

    def __call__(self, windows: Tensor) -> Tensor:
        """Windows [B, W, D] with masked features set to 0, the mean of normalised features."""
        if not self.frames and not self.filters:
            return windows
        times, bands = _mask(windows, 1, self.frames), _mask(windows, 2, self.filters)
        return windows.masked_fill(times[:, :, None] | bands[:, None, :], 0)


def _mask(windows: Tensor, axis: int, widest: int) -> Tensor:
    """bool [B, size of the axis], a random run of at most `widest` places of each window."""
    batch, size = len(windows), windows.shape[axis]
    width = torch.randint(widest + 1, (batch, 1), device=windows.device)
    first = (torch.rand(batch, 1, device=windows.device) * (size - width + 1)).long()
    places = torch.arange(size, device=windows.device)
    return (first <= places) & (places < first + width)
