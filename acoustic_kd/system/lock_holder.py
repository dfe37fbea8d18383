"""The process that holds a lock, as far as Linux tells: for messages."""

import os
import socket
import time
from contextlib import suppress
from pathlib import Path

PROC = Path("/proc")


def lock_holder(handle: int, proc: Path = PROC) -> str:
    """The process of this machine that holds a lock (flock) on an open file, in words.

    It comes from the kernel, so it is never that of a run that has ended.

    Returns:
        Process, host and time of its start; "" if they are unknown, such as on another machine.
    """
    wanted = os.fstat(handle)
    with suppress(OSError, ValueError):
        for line in (proc / "locks").read_text().splitlines():
            _, kind, *_, process, _, _, _ = line.split()
            if kind == "FLOCK" and _has_open(proc / process, wanted):
                return f"process {process} on {socket.gethostname()}{_since(proc, process)}"
    return ""


def _has_open(process: Path, wanted: os.stat_result) -> bool:
    with suppress(OSError):  # it is another user's, or has ended
        for descriptor in (process / "fd").iterdir():
            with suppress(OSError):
                if os.path.samestat(descriptor.stat(), wanted):
                    return True
    return False


def _since(proc: Path, process: str) -> str:
    """The time when a process began."""
    try:
        ticks = int((proc / process / "stat").read_text().rpartition(")")[2].split()[19])
        uptime = float((proc / "uptime").read_text().split()[0])
        begun = time.time() - uptime + ticks / os.sysconf("SC_CLK_TCK")
        return time.strftime(" since %Y-%m-%d %H:%M", time.localtime(begun))
    except (OSError, ValueError, IndexError):
        return ""
