"""Waiting for other processes and threads, however slow the machine is."""

import time
from collections.abc import Callable

PATIENCE = 600  # seconds; what takes longer hangs


def wait_until(condition: Callable[[], object]) -> None:
    """Wait until the condition holds."""
    end = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < end, "it never came"
        time.sleep(0.02)
