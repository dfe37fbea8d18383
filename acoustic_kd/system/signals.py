"""SIGTERM, by which a scheduler warns that it will kill the process, and Ctrl-C.

Most work stops at once. At SIGTERM training finishes its step and saves a checkpoint first.
"""

import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

REPEAT_SECONDS = 0.01


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
        if first:
            self.stop(number, frame)

    def stop(self, number: int, frame: Any) -> None:
        """Raise `Stopped`, unless it is deferred."""
        if not self.deferred:
            raise Stopped


@contextmanager
def _not_lost(error: type[BaseException], repeat: Callable[[int, Any], None]) -> Iterator[None]:
    """Repeat what the handler of a signal raised, if Python drops it.

    Python only prints an exception that is raised in `__del__` or in the callback of a weak
    reference, so the process would go on.
    """
    before = sys.unraisablehook

    def hook(dropped: Any) -> None:
        if dropped.exc_type is error:
            signal.signal(signal.SIGALRM, repeat)
            signal.setitimer(signal.ITIMER_REAL, REPEAT_SECONDS)
        else:
            before(dropped)

    sys.unraisablehook = hook
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        sys.unraisablehook = before


@contextmanager
def raise_on_sigterm() -> Iterator[None]:
    """Raise `Stopped` at SIGTERM, so that a command can clean up.

    Only the main thread receives signals; in other threads this has no effect.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    handler = _Handler()
    before = signal.signal(signal.SIGTERM, handler)
    try:
        with _not_lost(Stopped, handler.stop):
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
    if not main or signal.getsignal(signal.SIGINT) is not signal.default_int_handler:
        yield
        return
    signal.signal(signal.SIGINT, interrupted)
    try:
        with _not_lost(KeyboardInterrupt, interrupted):
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
