"""Processes that a launcher started: they end with it."""

import ctypes
import os
import signal
import sys
import threading
import time

LAUNCHER_VARIABLE = "ACOUSTIC_KD_LAUNCHER"  # the process id of the launcher, for its children
TORCHRUN_VARIABLE = "TORCHELASTIC_RUN_ID"  # torchrun and accelerate launch set it
PR_SET_PDEATHSIG = 1  # of Linux


def child_environment() -> dict[str, str]:
    """The environment of a child that ends with this process, if it calls `end_with_launcher`."""
    return {**os.environ, LAUNCHER_VARIABLE: str(os.getpid())}


def end_with_launcher() -> None:
    """Let the system kill this process when its launcher ends, whatever it waits for.

    Else it would wait for the others without end when the launcher is killed, keep the lock of the
    experiment, and ignore SIGTERM. A process that no launcher started does not change.
    """
    launcher = os.environ.pop(LAUNCHER_VARIABLE, "")
    if not launcher.isdigit() and TORCHRUN_VARIABLE not in os.environ:
        return
    parent = os.getppid()
    if not _killed_with_parent():
        threading.Thread(target=_wait_for_end, args=(parent,), daemon=True).start()
    if os.getppid() != parent or not _runs(launcher):  # it has ended meanwhile, or before
        _end()


def _killed_with_parent() -> bool:
    """Ask Linux to kill this process when its parent ends; other systems cannot."""
    prctl = getattr(ctypes.CDLL(None), "prctl", None) if sys.platform == "linux" else None
    return prctl is not None and prctl(PR_SET_PDEATHSIG, signal.SIGKILL) == 0


def _wait_for_end(parent: int) -> None:
    while os.getppid() == parent:
        time.sleep(0.5)
    _end()


def _runs(process: str) -> bool:
    """Whether a process runs; true if none is given."""
    try:
        if process.isdigit():
            os.kill(int(process), 0)
    except ProcessLookupError:
        return False
    except (PermissionError, OverflowError):
        pass
    return True


def _end() -> None:
    os.kill(os.getpid(), signal.SIGKILL)
