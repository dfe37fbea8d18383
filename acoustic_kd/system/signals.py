"""SIGTERM, by which a scheduler warns that it will kill the process, and Ctrl-C.

Most work stops at once. At SIGTERM training finishes its step and saves a checkpoint first.
"""

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any


class Stopped(BaseException):
    """The process got SIGTERM. Not an `Exception`: only the command line handles it."""


class _Handler:
    """The handler of SIGTERM; while `deferred`, it only notes that the signal came.

    Only the first signal raises: a second one would interrupt the clean-up.
    """

    def __init__(self) -> None:
        self.stop_requested = self.deferred = False

    def __call__(self, number: int, frame: Any) -> None:
        first, self.stop_requested = not self.stop_requested, True
        if first and not self.deferred:
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
def raise_on_first_ctrl_c() -> Iterator[None]:
    """Raise KeyboardInterrupt at the first Ctrl-C; ignore others while the command cleans up.

    They are ignored until the process ends, because the interpreter and PyTorch clean up, too.
    """

    def interrupted(number: int, frame: Any) -> None:
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        raise KeyboardInterrupt

    main = threading.current_thread() is threading.main_thread()
    # What a shell starts in the background ignores Ctrl-C.
    if main and signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, interrupted)
    try:
        yield
    finally:
        if signal.getsignal(signal.SIGINT) is interrupted:
            signal.signal(signal.SIGINT, signal.default_int_handler)


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
