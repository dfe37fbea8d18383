"""Processes that are forked from a server which has imported PyTorch: they start in milliseconds.

A process that imports PyTorch takes seconds to start. So one process, the server, imports what the
work needs and does nothing else. Its children have no threads, locks or signal handlers of the
tests.
"""

import multiprocessing
import os
import signal
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from waiting import PATIENCE

from acoustic_kd.cli import main

CONTEXT = multiprocessing.get_context("forkserver")
CONTEXT.set_forkserver_preload([
    "pytest", "acoustic_kd.experiment.training_jobs", "acoustic_kd.verbs.soft_targets",
    "torch._dynamo",  # else the optimizer imports it at its first step, which takes a second
    "torch.distributed.run",
])  # fmt: skip


class Program:
    """A function in a process of its own: the leader of a session, with its output in files.

    Args:
        function: importable; returns the exit status. Default: the command line, `acoustic-kd`.
    """

    def __init__(
        self, folder: Path, *arguments: Any, function: Callable[..., int | None] | None = None
    ) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._files = [folder / name for name in ("stdout.txt", "stderr.txt")]
        for path in self._files:
            path.write_text("")
        work = (self._files, sorted(os.sched_getaffinity(0)), function or _cli, arguments)
        self.process = CONTEXT.Process(target=_run, args=work)
        self.process.start()
        self.pid = self.process.pid

    @property
    def output(self) -> str:
        return self._files[0].read_text()

    @property
    def errors(self) -> str:
        return self._files[1].read_text()

    def end(self) -> tuple[int, str]:
        """Wait for the end; the exit status (minus the signal that killed it), standard error."""
        self.process.join(PATIENCE)
        assert self.process.exitcode is not None, f"it hangs: {self.errors}"
        return self.process.exitcode, self.errors


def _cli(*arguments: str) -> int:
    return main(list(arguments))


def _run(
    files: Sequence[Path], cores: Sequence[int], function: Callable[..., int | None], arguments: Any
) -> None:
    """Run a function as a program does that a terminal starts: other processes' parent, too."""
    import torch

    os.setsid()
    os.sched_setaffinity(0, cores)  # the server has those of whoever started it
    for path, stream in zip(files, (sys.stdout, sys.stderr), strict=True):
        stream.flush()
        os.dup2(os.open(path, os.O_WRONLY | os.O_APPEND), stream.fileno())
    signal.signal(signal.SIGINT, signal.default_int_handler)
    multiprocessing.process._parent_process = None  # the package treats its workers differently
    torch.set_num_threads(1)
    sys.exit(function(*arguments))
