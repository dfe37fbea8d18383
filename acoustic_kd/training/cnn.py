"""A network that convolves over time and frequency, small enough to train on a CPU.

Residual blocks of two 3 × 3 convolutions with batch normalisation (He et al. 2016, "Deep Residual
Learning for Image Recognition", section 3), on the window as a picture of W frames × D filters;
then hidden layers like the paper's, with batch normalisation and residual connections.
"""

from itertools import pairwise

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn

from acoustic_kd.training.dnn import Dropout, HiddenLayer, initialise


class ResidualBlock(nn.Module):
    """Two 3 × 3 convolutions beside a shortcut; it halves time and frequency."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.first = nn.Conv2d(inputs, outputs, 3, stride=2, padding=1, bias=False)
        self.first_norm = nn.BatchNorm2d(outputs)
        self.second = nn.Conv2d(outputs, outputs, 3, padding=1, bias=False)
        self.second_norm = nn.BatchNorm2d(outputs)
        self.shortcut = nn.Conv2d(inputs, outputs, 1, stride=2, bias=False)

    def forward(self, units: Tensor) -> Tensor:
        """[B, outputs, ⌈time / 2⌉, ⌈frequency / 2⌉] of [B, inputs, time, frequency]."""
        inner = F.relu(self.first_norm(self.first(units)))
        return F.relu(self.second_norm(self.second(inner)) + self.shortcut(units))


class CNN(nn.Module):
    """Two residual blocks over time and frequency, then `layers` hidden layers of `width` units."""

    def __init__(
        self,
        frames: int,
        features: int,
        classes: int,
        channels: int,
        layers: int,
        width: int,
        dropout: float,
        input_dropout: float = 0.0,
    ) -> None:
        """
        Args:
            frames: W of a window.
            features: D of a frame.
            channels: of the first block; the second one has twice as many.
        """
        super().__init__()
        self.input_dropout = Dropout(input_dropout) if input_dropout > 0 else nn.Identity()
        self.stem = nn.Conv2d(1, channels, 5, stride=2, padding=2, bias=False)
        self.stem_norm = nn.BatchNorm2d(channels)
        blocks = ResidualBlock(channels, channels), ResidualBlock(channels, 2 * channels)
        self.blocks = nn.Sequential(*blocks)
        sizes = [2 * channels * _eighth(frames) * _eighth(features), *layers * [width]]
        self.hidden = nn.Sequential(*(HiddenLayer(*pair, dropout) for pair in pairwise(sizes)))
        self.output = nn.Linear(sizes[-1], classes)
        self.apply(initialise)

    def forward(self, windows: Tensor) -> Tensor:
        """Logits [B, K] of windows [B, W, D]."""
        picture = self.input_dropout(windows)[:, None]
        units = self.stem(picture).contiguous(memory_format=torch.channels_last)  # faster on CPUs
        units = self.blocks(F.relu(self.stem_norm(units)))
        logits: Tensor = self.output(self.hidden(units.flatten(1)))
        return logits


def _eighth(size: int) -> int:
    """The size after three convolutions with stride 2: an eighth, rounded up."""
    return -(-size // 8)
