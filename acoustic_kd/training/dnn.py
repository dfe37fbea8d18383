"""The paper's acoustic model (section 4): a deep network of ReLU layers over a window of frames."""

from itertools import pairwise

import torch
from torch import Tensor, nn


class Dropout(nn.Module):
    """Dropout whose masks are cheap on a CPU: a random byte a unit instead of a random float.

    On a CPU PyTorch's own dropout takes over a quarter of a training step of a small model. The
    price is that the rate is rounded to 1/256; the scale of the kept units fits the rounded rate.
    """

    def __init__(self, rate: float) -> None:
        super().__init__()
        self.rate = rate
        self.dropped = min(255, max(1, round(256 * rate)))  # of 256

    def forward(self, units: Tensor) -> Tensor:
        """In training mode, set a share `rate` of the units to zero and scale up the others."""
        if not self.training:
            return units
        if units.device.type != "cpu":
            return nn.functional.dropout(units, self.rate)
        words = torch.empty((units.numel() + 7) // 8, dtype=torch.int64).random_(-(2**63), None)
        kept = words.view(torch.uint8)[: units.numel()] >= self.dropped
        mask, scale = kept.view(units.shape).to(units.dtype), 256 / (256 - self.dropped)
        # bfloat16 would round the scale, by up to 0.4 % in each layer.
        return units * mask.mul_(scale) if units.dtype == torch.float32 else units * mask * scale


class HiddenLayer(nn.Module):
    """A linear layer, batch normalisation, ReLU and dropout; residual if its sizes are equal."""

    def __init__(
        self,
        inputs: int,
        outputs: int,
        dropout: float,
        batch_norm: bool = True,
        residual: bool = True,
    ) -> None:
        super().__init__()
        self.linear = nn.Linear(inputs, outputs, bias=not batch_norm)
        self.norm = nn.BatchNorm1d(outputs) if batch_norm else nn.Identity()
        self.dropout = Dropout(dropout) if dropout > 0 else nn.Identity()
        self.residual = residual and inputs == outputs

    def forward(self, units: Tensor) -> Tensor:
        """[B, outputs] of [B, inputs]."""
        hidden: Tensor = self.dropout(nn.functional.relu(self.norm(self.linear(units))))
        return units + hidden if self.residual else hidden


class DNN(nn.Module):
    """`layers` hidden layers of `width` ReLU units with dropout, and a linear layer to the classes.

    The paper's model is 8 × 2560 over 26 × 40 inputs and 14,000 senones.
    """

    def __init__(
        self,
        inputs: int,
        classes: int,
        layers: int,
        width: int,
        dropout: float,
        input_dropout: float = 0.0,
        batch_norm: bool = False,
        residual: bool = False,
    ) -> None:
        super().__init__()
        sizes = [inputs] + layers * [width]
        hidden: list[nn.Module] = [Dropout(input_dropout)] if input_dropout > 0 else []
        for fan_in, fan_out in pairwise(sizes):
            if batch_norm or residual:
                hidden.append(HiddenLayer(fan_in, fan_out, dropout, batch_norm, residual))
                continue
            hidden += [nn.Linear(fan_in, fan_out), nn.ReLU(inplace=True)]
            # Without dropout no layer, which would draw and copy.
            hidden += [Dropout(dropout)] if dropout > 0 else []
        self.hidden = nn.Sequential(*hidden)
        self.output = nn.Linear(sizes[-1], classes)
        self.apply(initialise)

    def forward(self, windows: Tensor) -> Tensor:
        """Logits [B, K] of windows [B, W, D]."""
        logits: Tensor = self.output(self.hidden(windows.flatten(1)))
        return logits


def initialise(module: nn.Module) -> None:
    """He initialisation: keeps the scale of activations through deep ReLU layers."""
    if isinstance(module, nn.Linear | nn.Conv2d):
        nn.init.kaiming_normal_(module.weight, nonlinearity="relu")
        if module.bias is not None:
            nn.init.zeros_(module.bias)
