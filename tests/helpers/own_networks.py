"""Networks as a user writes them, right and wrong."""

import torch
from torch import nn


class Recurrent(nn.Module):
    """A network that no module of the package has, with a buffer that is not stored."""

    def __init__(self, frames, features, classes, units=8):
        super().__init__()
        self.recurrent = nn.GRU(features, units, batch_first=True)
        self.norm = nn.BatchNorm1d(units)
        self.output = nn.Linear(units, classes)
        self.register_buffer("scale", torch.full((features,), 0.5), persistent=False)

    def forward(self, windows):
        hidden = self.recurrent(windows.float() * self.scale)[0][:, -1]
        return self.output(self.norm(hidden))


class Linear(nn.Module):
    """One layer; `change` is what its logits become."""

    change = staticmethod(lambda logits: logits)

    def __init__(self, frames, features, classes):
        super().__init__()
        self.layer = nn.Linear(frames * features, classes)

    def forward(self, windows):
        return type(self).change(self.layer(windows.flatten(1)))


class Sequence(Linear):
    change = staticmethod(lambda logits: logits[:, None])


class NotANumber(Linear):
    change = staticmethod(lambda logits: logits * torch.nan)


class Integers(Linear):
    change = staticmethod(lambda logits: logits.argmax(-1, keepdim=True).expand_as(logits))


class Detached(Linear):
    change = staticmethod(lambda logits: logits.detach())


class Pair(Linear):
    change = staticmethod(lambda logits: (logits, logits))


class Unused(Linear):
    def __init__(self, frames, features, classes):
        super().__init__(frames, features, classes)
        self.spare = nn.Parameter(torch.zeros(1))


class Steep(Linear):
    """Finite logits, but the gradient of √0 is infinite."""

    change = staticmethod(lambda logits: (logits - logits.detach()).abs().sqrt())


class Fails(Linear):
    change = staticmethod(lambda logits: logits.reshape(7, 11, 13))


class Doubles(Linear):
    def __init__(self, frames, features, classes):
        super().__init__(frames, features, classes)
        self.double()


class Complex(Linear):
    def __init__(self, frames, features, classes):
        super().__init__(frames, features, classes)
        self.register_buffer("wave", torch.zeros(1, dtype=torch.complex64))


class Lazy(Linear):
    def __init__(self, frames, features, classes):
        super().__init__(frames, features, classes)
        self.layer = nn.LazyLinear(classes)


class ExtraState(Linear):
    def get_extra_state(self):
        return {}

    def set_extra_state(self, state):
        """Nothing to set."""


class Masked(Linear):
    """Buffers as a transformer has them: an attention mask with -inf, and one of booleans."""

    def __init__(self, frames, features, classes):
        super().__init__(frames, features, classes)
        self.register_buffer("mask", torch.full((3, 3), -torch.inf).triu(1))
        self.register_buffer("used", torch.ones(3, dtype=torch.bool))


def function(frames, features, classes):
    """No class."""
    return Linear(frames, features, classes)
