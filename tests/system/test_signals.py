"""SIGTERM: training saves and ends, on one process or several; a dead process ends the others."""

import os
import signal
import subprocess
import sys
import textwrap
import threading
import time
from pathlib import Path

import pytest
import tiny_training
from safetensors.torch import load_file
from tiny_training import trainer, weights
from waiting import PATIENCE, wait_until

from acoustic_kd.system.signals import Stopped, defer_sigterm, raise_on_sigterm
from acoustic_kd.training.trainer import Trainer


def terminate_self():
    os.kill(os.getpid(), signal.SIGTERM)


def test_it_raises_where_nobody_puts_it_off():
    before = signal.getsignal(signal.SIGTERM)
    with pytest.raises(Stopped), raise_on_sigterm():
        terminate_self()
        time.sleep(5)
    assert signal.getsignal(signal.SIGTERM) is before


def test_put_off_it_is_told_and_raised_at_the_end():
    seen = []
    with pytest.raises(Stopped), raise_on_sigterm(), defer_sigterm() as asked:
        seen.append(asked())
        terminate_self()
        seen.append(asked())
    assert seen == [False, True]


def test_outside_the_command_line_nothing_changes():
    before = signal.getsignal(signal.SIGTERM)
    with defer_sigterm() as asked:
        assert signal.getsignal(signal.SIGTERM) is before and not asked()


def test_in_another_thread_nothing_changes():
    found = []

    def work():
        with raise_on_sigterm(), defer_sigterm() as asked:
            found.append((signal.getsignal(signal.SIGTERM), asked()))

    before = signal.getsignal(signal.SIGTERM)
    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert found == [(before, False)]


@pytest.mark.parametrize("step", [1, 13, 14, 38])
def test_training_saves_and_goes_on_to_the_same_bits(tmp_path, monkeypatch, step):
    trainer(tmp_path / "whole").run()
    calls, original = [], Trainer._loss

    def told(self, frames):
        calls.append(1)
        if len(calls) == step:
            terminate_self()
        return original(self, frames)

    monkeypatch.setattr(Trainer, "_loss", told)
    with pytest.raises(Stopped), raise_on_sigterm():
        trainer(tmp_path / "stopped").run()
    assert len(calls) == step and (tmp_path / "stopped" / "checkpoint.safetensors").exists()
    trainer(tmp_path / "stopped").run()
    assert len(calls) == 39  # none was made twice
    assert weights(tmp_path / "stopped") == weights(tmp_path / "whole")


SAID = "acoustic-kd inspect: stopped; run the same command again to resume"

PROGRAM = """
    import os, sys, time
    from dataclasses import replace
    from pathlib import Path

    sys.path.insert(0, {tests!r})
    import tiny_training
    from acoustic_kd import cli
    from acoustic_kd.training import trainer as train
    from acoustic_kd.verbs import inspect

    step, directory = train.Trainer._step, Path(sys.argv[1])

    def held(self, *arguments):
        # After its first step a process waits until it may go on, or is asked to end.
        step(self, *arguments)
        rank = self.accelerator.process_index
        (directory / f"pid-{{rank}}").write_text(str(os.getpid()))
        while not ((directory / f"go-{{rank}}").exists() or self._stop_requested()):
            time.sleep(0.01)

    train.Trainer._step = held
    tiny_training.MODEL = replace(tiny_training.MODEL, dropout=0.0)

    def run(options):
        tiny_training.trainer(directory, True, replace(tiny_training.TRAIN, epochs=4)).run()

    # The command line with another verb's work, so that its handling is what is tested.
    inspect.run = run
    sys.exit(cli.main(["inspect", "."]))
"""


class Run:
    """A training of two processes."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(exist_ok=True)
        program = folder / "program.py"
        program.write_text(
            textwrap.dedent(PROGRAM.format(tests=str(Path(tiny_training.__file__).parent)))
        )
        code = (
            "import sys; from torch.distributed import run; from acoustic_kd import launch; "
            "original = run.main; "
            f"run.main = lambda a: original([*a[:3], {str(program)!r}, {str(folder)!r}]); "
            "sys.exit(launch.main(['2', 'verb']))"
        )
        environment = os.environ | {"OMP_NUM_THREADS": "1", "ACCELERATE_USE_CPU": "true"}
        self.folder = folder
        self.process = subprocess.Popen(
            [sys.executable, "-c", code], env=environment, stderr=subprocess.PIPE, text=True
        )

    def wait_for(self, name: str) -> int:
        """Its content, once it is there."""
        path = self.folder / name
        wait_until(lambda: path.exists() and path.read_text())
        return int(path.read_text())

    def end(self) -> tuple[int, list[str]]:
        """Exit status, and what it says on standard error."""
        errors = self.process.communicate(timeout=PATIENCE)[1]
        return self.process.returncode, [line for line in errors.splitlines() if line.strip()]

    def release(self, *ranks: int) -> "Run":
        """Let processes go on."""
        for rank in ranks:
            (self.folder / f"go-{rank}").touch()
        return self

    def forget(self) -> None:
        for path in (*self.folder.glob("pid-*"), *self.folder.glob("go-*")):
            path.unlink()


@pytest.mark.slow
def test_two_processes_stop_at_the_same_step_and_go_on_and_none_outlives_the_other(tmp_path):
    whole = Run(tmp_path / "whole")
    assert whole.release(0, 1).end() == (0, [])
    expected = load_file(tmp_path / "whole" / "model.safetensors")

    run = Run(tmp_path / "told")
    run.wait_for("pid-0")
    os.kill(run.wait_for("pid-1"), signal.SIGTERM)  # one process alone
    run.release(0)
    status, errors = run.end()
    assert status == 143 and errors == [SAID]
    assert (tmp_path / "told" / "checkpoint.safetensors").exists()

    run.forget()
    run = Run(tmp_path / "told")
    run.wait_for("pid-0"), run.wait_for("pid-1")
    run.process.send_signal(signal.SIGTERM)  # the launcher
    status, errors = run.end()
    assert status == 143 and errors[-1] == SAID

    run.forget()
    run = Run(tmp_path / "told")
    run.wait_for("pid-0")
    os.kill(run.wait_for("pid-1"), signal.SIGKILL)
    run.release(0)
    status, errors = run.end()
    assert status == 137
    assert "process 2 of 2 was killed by signal 9, and the others were ended" in errors[-1]
    # What the other one says, if the launcher has not ended it before.
    assert all("another process of this run has ended" in line for line in errors[:-1])

    assert Run(tmp_path / "told").release(0, 1).end() == (0, [])
    found = load_file(tmp_path / "told" / "model.safetensors")
    assert all((found[name] == expected[name]).all() for name in expected)
