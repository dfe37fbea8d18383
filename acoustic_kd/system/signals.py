"""SIGTERM: a scheduler's warning that the process is about to be killed.

Work that can only be done again stops at once, as at Ctrl-C. Training goes on to the end of a step
and saves first.
"""

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any


class Stopped(BaseException):
    """The process was asked to end. Not an `Exception`: nothing but the command line handles it."""


class _Handler:
    """What is done at SIGTERM."""

    def __init__(self) -> None:
        self.asked = self.put_off = False

    def __call__(self, number: int, frame: Any) -> None:
        self.asked = True
        if not self.put_off:
            raise Stopped


@contextmanager
def raise_on_sigterm() -> Iterator[None]:
    """Around a whole command: SIGTERM raises `Stopped` in it, so that it cleans up behind itself.

    Outside the main thread, which alone hears signals, nothing changes.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGTERM, _Handler())
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


@contextmanager
def defer_sigterm() -> Iterator[Callable[[], bool]]:
    """Within `raise_on_sigterm`: let the work itself decide when it stops. Elsewhere: no effect.

    Yields:
        A function that says whether the process was asked to end.

    Raises:
        Stopped: it was, and the block has ended.
    """
    handler = signal.getsignal(signal.SIGTERM)
    if not isinstance(handler, _Handler):
        yield lambda: False
        return
    handler.put_off = True
    try:
        yield lambda: handler.asked
    finally:
        handler.put_off = False
    if handler.asked:
        raise Stopped
