"""The moving average of a network's weights over the steps of its training."""

import copy
from collections.abc import Iterator

import torch
from torch import Tensor, nn


class MovingAverage:
    """`network`: a copy of a network, with the exponential moving average of its weights.

    Mean and variance of batch normalisation belong to the weights and are averaged, too. Other
    buffers are copied: indices, and masks with -inf in them, have no average.
    (`torch.optim.swa_utils.AveragedModel` averages all buffers or none.)
    """

    def __init__(self, network: nn.Module, decay: float) -> None:
        self.network, self.decay = copy.deepcopy(network), decay

    @torch.no_grad()
    def update(self, network: nn.Module, first: bool) -> None:
        """Move the average towards the weights of `network`; in the first step it becomes them."""
        share = 1.0 if first else 1 - self.decay
        pairs = zip(_tensors(self.network), _tensors(network), strict=True)
        for (average, is_averaged), (value, _) in pairs:
            average.lerp_(value, share) if is_averaged else average.copy_(value)


def _tensors(network: nn.Module) -> Iterator[tuple[Tensor, bool]]:
    """Weights and buffers, and whether they are averaged."""
    yield from ((weight, True) for weight in network.parameters())
    for layer in network.modules():
        norm = isinstance(layer, nn.modules.batchnorm._BatchNorm)
        for buffer in layer.buffers(recurse=False):
            yield buffer, norm and buffer.is_floating_point()
