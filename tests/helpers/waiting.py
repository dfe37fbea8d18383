"""Waiting for other processes and threads, however slow the machine is."""

import os
import time
from collections.abc import Callable
from pathlib import Path

PATIENCE = 600  # seconds; what takes longer hangs


def wait_until(condition: Callable[[], object]) -> None:
    """Wait until the condition holds."""
    end = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < end, "it never came"
        time.sleep(0.02)


def runs(process: int) -> bool:
    """Whether a process runs: one that has ended may wait for its parent to notice."""
    try:
        return "\nState:\tZ" not in Path(f"/proc/{process}/status").read_text()
    except FileNotFoundError:  # no Linux, or it has ended
        pass
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    return True
