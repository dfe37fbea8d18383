"""Training that dies in this process, in the middle of a step: nothing after it is done."""

from collections.abc import Iterator
from contextlib import contextmanager
from itertools import count

import pytest

from acoustic_kd.training.trainer import Trainer


class Killed(BaseException):
    """Nothing that the package catches."""


@contextmanager
def killed_at(step: int) -> Iterator[None]:
    """Whatever trains within dies in its step number `step`, of all that are begun, from 1 on."""
    steps, loss = count(1), Trainer._loss

    def dying(self, frames):
        if next(steps) == step:
            raise Killed
        return loss(self, frames)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Trainer, "_loss", dying)
        with pytest.raises(Killed):
            yield
