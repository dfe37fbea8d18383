"""Work that is killed: −9 at random moments, again and again until it ends by itself, or by an
exception in the middle of a training step, after which nothing more is done.
"""

import random
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from itertools import count
from typing import Any

import pytest
from forked import CONTEXT
from waiting import PATIENCE

BEGUN, DONE = "begun", "done"


class Killed(BaseException):
    """Nothing that the package catches."""


@contextmanager
def killed_at(step: int) -> Iterator[None]:
    """Training within the block dies in its step number `step`, counted from 1."""
    from acoustic_kd.training.trainer import Trainer

    steps, loss = count(1), Trainer._loss

    def die(self, frames):
        if next(steps) == step:
            raise Killed
        return loss(self, frames)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Trainer, "_loss", die)
        with pytest.raises(Killed):
            yield


def run(function: Callable[..., None], *arguments: Any) -> float:
    """Run an importable function in a child, to its end; returns the seconds it took."""
    child, messages = _start(function, arguments)
    begun = time.perf_counter()
    assert messages.poll(PATIENCE) and messages.recv() == DONE, "the work failed"
    seconds = time.perf_counter() - begun
    child.join()
    return seconds


def run_killed(
    function: Callable[..., None],
    *arguments: Any,
    seconds: float,
    rng: random.Random,
    after_kill: Callable[[], None] = lambda: None,
    most: int = 100,
) -> int:
    """Run an importable function in children that are killed −9, until one ends by itself.

    Args:
        seconds: the most that the first child is given; each gets a random part of it. So that
            the work ends, it must progress in less. Each further child is given a little more: the
            machine may be slower than when the work was timed.
        after_kill: called after each kill, to look at what was left behind.
        most: kills; more mean that there is no progress.

    Returns:
        How many children were killed between the beginning of the function and its end.
    """
    kills = 0
    while True:
        child, messages = _start(function, arguments)
        messages.poll(rng.uniform(0, seconds))  # or until it ends
        child.kill()
        child.join()
        with suppress(EOFError):
            if messages.poll() and messages.recv() == DONE:
                return kills
        assert child.exitcode == -signal.SIGKILL, f"the work itself failed ({child.exitcode})"
        kills += 1
        seconds *= 1.02
        assert kills <= most, "the work gets no further"
        after_kill()


def _start(function: Callable[..., None], arguments: tuple[Any, ...]) -> tuple[Any, Any]:
    """A child in which the function has just begun, and where messages from it come in."""
    messages, sender = CONTEXT.Pipe(duplex=False)
    child = CONTEXT.Process(target=_work, args=(sender, function, arguments))
    child.start()
    sender.close()  # the child's end is the only one left: its death is noticed
    assert messages.poll(PATIENCE) and messages.recv() == BEGUN, "the child did not start"
    return child, messages


def _work(sender: Any, function: Callable[..., None], arguments: tuple[Any, ...]) -> None:
    import torch

    torch.set_num_threads(1)
    sender.send(BEGUN)
    function(*arguments)
    sender.send(DONE)
