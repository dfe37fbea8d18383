"""Runs `acoustic-kd` in forked processes, with limits, and finds the processes that it leaves."""

import atexit
import ctypes
import multiprocessing
import os
import resource
import select
import signal
import sys
import tempfile
import threading
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

from acoustic_kd.cli import main

SET_DEATH_SIGNAL, SET_SUBREAPER = 1, 36  # of prctl
NEW_MOUNTS, PRIVATE_RECURSIVE, REMOUNT, DETACH = 0x20000, 0x44000, 32, 2  # of unshare, mount
MOST_FILE_BYTES = 1 << 28
MOST_MEMORY = 6 << 30  # of address space, more than the process has when it is forked
MOST_OUTPUT = 1 << 20
GRACE = 20  # seconds that other processes of a command may run longer than the command
LIBC = ctypes.CDLL(None, use_errno=True)


@dataclass(frozen=True)
class Ended:
    """How a command ended.

    Attributes:
        status: exit status; −N if signal N killed it; None if it ran too long and was killed.
        seconds: how long it ran.
    """

    status: int | None
    output: str
    errors: str
    seconds: float


class Command:
    """A function in a process of its own, the leader of a session; its output is read from pipes.

    Args:
        arguments: of `function`, which returns the exit status.
        temporary: its folder for temporary files.
        cores: number of cores that it may use.
        file_bytes: the largest file that it may write.
    """

    def __init__(
        self,
        arguments: Sequence[str],
        temporary: Path,
        cores: int = 1,
        file_bytes: int = MOST_FILE_BYTES,
        function: Callable[[list[str]], int] = main,
    ) -> None:
        self._begun, self._written, self._status = time.monotonic(), {1: b"", 2: b""}, None
        pipes = {stream: os.pipe() for stream in self._written}
        sys.stdout.flush()
        sys.stderr.flush()
        self.pid = os.fork()
        if self.pid == 0:
            try:
                _prepare({stream: end for stream, (_, end) in pipes.items()}, temporary)
                _limit(cores, file_bytes)
                _run(function, list(arguments))
            finally:
                os._exit(70)  # unreachable unless the preparation failed
        self._pipes = {}
        for stream, (reader, writer) in pipes.items():
            os.close(writer)
            os.set_blocking(reader, False)
            self._pipes[reader] = stream
        self._process: int | None = os.pidfd_open(self.pid)

    @property
    def running(self) -> bool:
        return self._process is not None

    def wait(self, seconds: float, for_output: bool = False) -> bool:
        """Wait until it ends, at most so many seconds; returns whether it has ended.

        Args:
            for_output: stop waiting when it has written something.
        """
        end = time.monotonic() + seconds
        while self._process is not None:
            left = end - time.monotonic()
            if left <= 0 or (for_output and self._written[1]):
                return False
            ready, _, _ = select.select([self._process, *self._pipes], [], [], left)
            self._read()
            if self._process in ready:
                _, status = os.waitpid(self.pid, 0)
                self._status = os.waitstatus_to_exitcode(status)
                self._read()
                for handle in (self._process, *self._pipes):
                    os.close(handle)
                self._process, self._pipes = None, {}
        return True

    def end(self, seconds: float) -> Ended:
        """Wait for its end; kill it, with its processes, if that takes longer than `seconds`."""
        late = not self.wait(seconds)
        if late:
            for pid in (*descendants(self.pid), self.pid):
                _kill(pid, signal.SIGKILL)
            self.wait(seconds)
        output, errors = (text.decode(errors="replace") for text in self._written.values())
        status = None if late else self._status
        return Ended(status, output, errors, time.monotonic() - self._begun)

    def _read(self) -> None:
        for handle, stream in list(self._pipes.items()):
            with suppress(BlockingIOError):
                while text := os.read(handle, 1 << 16):
                    room = MOST_OUTPUT - len(self._written[stream])
                    self._written[stream] += text[: max(0, room)]
                del self._pipes[handle]  # its end: select would report it again and again
                os.close(handle)


def _prepare(streams: dict[int, int], temporary: Path) -> None:
    """In the new process: what differs from a program that a terminal starts."""
    LIBC.prctl(SET_DEATH_SIGNAL, signal.SIGKILL)
    os.setsid()
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    for stream, handle in streams.items():
        os.dup2(handle, stream)
    # The old objects may belong to a file or terminal, whose properties they remember.
    sys.stdout = os.fdopen(1, "w", encoding="utf-8", closefd=False)
    sys.stderr = os.fdopen(2, "w", 1, "utf-8", "backslashreplace", closefd=False)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    os.environ["TMPDIR"] = tempfile.tempdir = str(temporary)
    # What is killed are processes, not the machine: nothing that was written is lost.
    os.fsync = lambda handle: None  # type: ignore[assignment]


def _limit(cores: int, file_bytes: int) -> None:
    """Limits that also hold for the processes that the command starts."""
    os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:cores])
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    memory = pages * resource.getpagesize() + MOST_MEMORY
    for kind, most in (
        (resource.RLIMIT_AS, memory), (resource.RLIMIT_FSIZE, file_bytes), (resource.RLIMIT_CORE, 0)
    ):  # fmt: skip
        resource.setrlimit(kind, (most, most))


def _run(function: Callable[[list[str]], int], arguments: list[str]) -> NoReturn:
    """Run and exit as Python does, but without unwinding the stack of the forked process."""
    try:
        status = function(arguments)
    except SystemExit as end:
        status = end.code if isinstance(end.code, int) else 1
    except BaseException:
        traceback.print_exc()
        status = 1
    multiprocessing.util._exit_function()
    threading._shutdown()  # type: ignore[attr-defined]
    atexit._run_exitfuncs()
    for stream in (sys.stdout, sys.stderr):
        with suppress(OSError):
            stream.flush()
    os._exit(status & 0xFF)


# --- other processes ----------------------------------------------------------------------------


def adopt_orphans() -> None:
    """Processes whose parent ends become children of this one: none escapes `descendants`."""
    LIBC.prctl(SET_SUBREAPER, 1)


def descendants(pid: int, but: Sequence[int] = ()) -> list[int]:
    """The living processes below a process, without those of `but` and the processes below them."""
    children: dict[int, list[int]] = {}
    for folder in Path("/proc").iterdir():
        if folder.name.isdecimal():
            with suppress(OSError):
                state, parent = (folder / "stat").read_text().rpartition(")")[2].split()[:2]
                if state != "Z" and int(folder.name) not in but:
                    children.setdefault(int(parent), []).append(int(folder.name))
    found = list(children.get(pid, []))
    for child in found:  # grows
        found += children.get(child, [])
    return found


def command_line(pid: int) -> str:
    """The command line of a process, "" if it has ended."""
    with suppress(OSError):
        return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode().strip()
    return ""


def end_descendants(grace: float = GRACE, but: Sequence[int] = ()) -> list[str]:
    """Wait until no process is left below this one; kill those that run on, return their names.

    Args:
        but: processes that are left alone, with those below them.
    """
    end, killed = time.monotonic() + grace, {}
    while True:
        with suppress(ChildProcessError):
            while not but and os.waitpid(-1, os.WNOHANG)[0]:
                pass
        left = descendants(os.getpid(), but)
        if not left:
            return list(killed.values())
        if time.monotonic() > end:
            for pid in left:
                killed[pid] = command_line(pid)
                _kill(pid, signal.SIGKILL)
        time.sleep(0.01)


def _kill(pid: int, number: int) -> None:
    with suppress(ProcessLookupError):
        os.kill(pid, number)


# --- small disks --------------------------------------------------------------------------------


@contextmanager
def small_disk(folder: Path, wanted: bool) -> Iterator[bool]:
    """A disk in memory, mounted on a folder for this process and its children; whether it is.

    Args:
        wanted: else nothing is mounted.
    """
    mounted = wanted and not (
        LIBC.unshare(NEW_MOUNTS)  # fails without privileges
        or LIBC.mount(b"none", b"/", None, PRIVATE_RECURSIVE, None)
        or LIBC.mount(b"tmpfs", os.fsencode(folder), b"tmpfs", 0, b"size=256m")
    )
    try:
        yield mounted
    finally:
        if mounted:
            LIBC.umount2(os.fsencode(folder), DETACH)


def resize_disk(folder: Path, size: int) -> None:
    """Change the bytes that fit on such a disk."""
    if LIBC.mount(b"tmpfs", os.fsencode(folder), b"tmpfs", REMOUNT, b"size=%d" % size):
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()), str(folder))
