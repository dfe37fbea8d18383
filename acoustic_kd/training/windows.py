"""The windows around frames, which are the input of a model; masks of them in training."""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from acoustic_kd.settings import ModelConfig
from acoustic_kd.training.precision import dtype_of

MAX_STEPS = 2**15 - 1  # of a window to each side of its frame; the settings allow fewer


class Splicer(nn.Module):
    """Gathers the window around each frame, on the device the features are on.

    A frame's window holds `left` frames before it and `right` after it; beyond an utterance's ends
    its first and last frame are repeated. Features are stored once, windows never.
    """

    features: Tensor
    before: Tensor
    after: Tensor
    steps: Tensor

    def __init__(self, features: Tensor, offsets: Tensor, left: int, right: int) -> None:
        """
        Args:
            features: [T, D], the utterances' frames one after the other.
            offsets: int64 [U + 1], utterance u is frames offsets[u] … offsets[u + 1] - 1.
        """
        super().__init__()
        lengths = torch.diff(offsets)
        first, end = (ends.int() for ends in (offsets[:-1], offsets[1:]))
        numbers = torch.arange(len(features), dtype=torch.int32)
        before = torch.repeat_interleave(first, lengths).neg_().add_(numbers)
        self.register_buffer("features", features)
        # How many frames of its utterance come before and after each frame, at most MAX_STEPS.
        self.register_buffer("before", before.clamp_(max=MAX_STEPS).short())
        del before  # as large as what stays of it
        after = torch.repeat_interleave(end, lengths).sub_(numbers).sub_(1)
        self.register_buffer("after", after.clamp_(max=MAX_STEPS).short())
        self.register_buffer("steps", torch.arange(-left, right + 1, dtype=torch.int32))

    def forward(self, frames: Tensor, steps: Tensor | None = None) -> Tensor:
        """Windows [B, W, D] around the frames with numbers `frames`, int64 [B].

        Args:
            steps: int32 [W], the window's frames, relative to the current one; None: as made.
        """
        steps = self.steps if steps is None else steps
        near = steps.clamp(-self.before[frames, None].int(), self.after[frames, None].int())
        index = frames.int()[:, None] + near
        # Not -1: it fails where B = 0.
        return self.features[index.flatten()].view(len(frames), len(steps), self.features.shape[1])

    def around(self, frames: Tensor, config: ModelConfig) -> Tensor:
        """Windows [B, W, D] of the model `config`, whatever the splicer was made for."""
        ends = -config.left_frames, config.right_frames + 1
        steps = torch.arange(*ends, dtype=torch.int32, device=self.steps.device)
        return self.forward(frames, steps)


def make_splicer(
    config: ModelConfig, features: Tensor, offsets: np.ndarray, bfloat16: bool
) -> Splicer:
    """A `Splicer` of some frames for a model, in the precision of its products."""
    features = features.to(dtype_of(bfloat16))
    return Splicer(features, torch.as_tensor(offsets), config.left_frames, config.right_frames)


@dataclass(frozen=True)
class Masks:
    """Masks over time and frequency of training windows.

    Park et al., *SpecAugment* (2019), section 2, applied to windows: each window has one mask of
    neighbouring frames and one of neighbouring filters, drawn anew in each step.

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
