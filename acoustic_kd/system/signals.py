"""SIGTERM, by which a scheduler warns that it will kill the process.

Most work stops at once, as at Ctrl-C. Training finishes its step and saves a checkpoint first.
"""

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any


class Stopped(BaseException):
    """The process got SIGTERM. Not an `Exception`: only the command line handles it."""


class _Handler:
    """The handler of SIGTERM; while `deferred`, it only notes that the signal came."""

    def __init__(self) -> None:
        self.stop_requested = self.deferred = False

    def __call__(self, number: int, frame: Any) -> None:
        self.stop_requested = True
        if not self.deferred:
            raise Stopped


@contextmanager
def raise_on_sigterm() -> Iterator[None]:
    """Raise `Stopped` at SIGTERM, so that a command can clean up.

    Only the main thread receives signals; in other threads this has no effect.
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
        A function that tells whether SIGTERM came.

    Raises:
        Stopped: at the end of the block, if SIGTERM came.
    """
    handler = signal.getsignal(signal.SIGTERM)
    if not isinstance(handler, _Handler):
        yield lambda: False
        return
    handler.deferred = True
    try:
        yield lambda: handler.stop_requested
    finally:
        handler.deferred = False
    if handler.stop_requested:
        raise Stopped
