"""SIGTERM: training saves and ends, on one process or several; a dead process ends the others."""

import logging
import os
import signal
import threading
import time
import weakref
from dataclasses import replace
from pathlib import Path

import pytest
import tiny_training
from forked import Program
from safetensors.torch import load_file
from tiny_training import trainer, weights
from torch.distributed import run
from waiting import runs, wait_until

from acoustic_kd import cli, launch
from acoustic_kd.system.signals import (
    Stopped,
    defer_sigterm,
    raise_on_first_ctrl_c,
    raise_on_sigterm,
)
from acoustic_kd.training.trainer import Trainer
from acoustic_kd.verbs import inspect


def terminate_self():
    os.kill(os.getpid(), signal.SIGTERM)


def test_it_raises_unless_it_is_deferred():
    before = signal.getsignal(signal.SIGTERM)
    with pytest.raises(Stopped), raise_on_sigterm():
        terminate_self()
        time.sleep(5)
    assert signal.getsignal(signal.SIGTERM) is before


def test_only_the_first_signal_of_a_kind_raises():
    """Others would interrupt the clean-up, which prints a traceback."""
    for number, error, once in (
        (signal.SIGTERM, Stopped, raise_on_sigterm),
        (signal.SIGINT, KeyboardInterrupt, raise_on_first_ctrl_c),
    ):
        before, cleaned = signal.getsignal(number), []
        try:
            with pytest.raises(error), once():
                try:
                    os.kill(os.getpid(), number)
                    time.sleep(5)
                finally:
                    os.kill(os.getpid(), number)
                    cleaned.append(number)
            assert cleaned
        finally:
            signal.signal(number, before)


@pytest.mark.parametrize(
    ("number", "error", "once"),
    [
        (signal.SIGTERM, Stopped, raise_on_sigterm),
        (signal.SIGINT, KeyboardInterrupt, raise_on_first_ctrl_c),
    ],
)
def test_a_signal_in_a_callback_is_not_lost(number, error, once):
    """There Python would print what the handler raises, and go on."""
    before = signal.getsignal(number)
    try:
        with pytest.raises(error), once():
            thing = type("Thing", (), {})()
            _ = weakref.ref(thing, lambda _: [os.kill(os.getpid(), number), time.sleep(0.1)])
            del thing
            time.sleep(5)
    finally:
        signal.signal(number, before)


def test_a_command_that_ends_leaves_ctrl_c_as_it_was():
    before = signal.getsignal(signal.SIGINT)
    with raise_on_first_ctrl_c():
        assert signal.getsignal(signal.SIGINT) is not before
    assert signal.getsignal(signal.SIGINT) is before


def test_deferred_it_is_reported_and_raised_at_the_end():
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
def test_training_saves_and_resumes_to_the_same_bits(tmp_path, monkeypatch, step):
    trainer(tmp_path / "whole").run()
    calls, original = [], Trainer._loss

    def terminated(self, frames):
        calls.append(1)
        if len(calls) == step:
            terminate_self()
        return original(self, frames)

    monkeypatch.setattr(Trainer, "_loss", terminated)
    with pytest.raises(Stopped), raise_on_sigterm():
        trainer(tmp_path / "stopped").run()
    assert len(calls) == step and (tmp_path / "stopped" / "checkpoint.safetensors").exists()
    trainer(tmp_path / "stopped").run()
    assert len(calls) == 39  # none was made twice
    assert weights(tmp_path / "stopped") == weights(tmp_path / "whole")


STOPPED = "acoustic-kd inspect: stopped; run the same command again to resume\n"


def two_processes(folder):
    """`acoustic_kd.launch` with two forked processes, each of which trains under the command line.

    After its first step a process waits until it may continue, or is asked to end.
    """
    os.environ["ACCELERATE_USE_CPU"] = "true"
    # PyTorch warns on behalf of forked processes alone; the launcher's own are programs.
    logging.getLogger("torch.multiprocessing.spawn").setLevel(logging.CRITICAL)
    step, config_from_args = Trainer._step, run.config_from_args

    def held(self, *batch):
        loss = step(self, *batch)
        rank = self.accelerator.process_index
        (folder / f"pid-{rank}").write_text(str(os.getpid()))
        wait_until(lambda: (folder / f"go-{rank}").exists() or self._stop_requested())
        return loss

    def train(options):
        tiny_training.MODEL = replace(tiny_training.MODEL, dropout=0.0)
        trainer(folder, True, replace(tiny_training.TRAIN, epochs=4)).run()

    def work():  # the command line with another verb's work, so that its handling is tested
        raise SystemExit(cli.main(["inspect", "."]))

    def forked(arguments):
        config, _, _ = config_from_args(arguments)
        config.start_method = "fork"
        return config, work, []

    Trainer._step, inspect.run, run.config_from_args = held, train, forked
    return launch.main(["2", "inspect"])


def start(folder: Path, *released: int) -> Program:
    """Two processes; those whose ranks are given do not wait."""
    folder.mkdir(exist_ok=True)
    for path in (*folder.glob("pid-*"), *folder.glob("go-*")):
        path.unlink()
    release(folder, *released)
    return Program(folder, folder, function=two_processes)


def release(folder: Path, *ranks: int) -> None:
    for rank in ranks:
        (folder / f"go-{rank}").touch()


def pid(folder: Path, rank: int) -> int:
    """The process of a rank, once it waits."""
    path = folder / f"pid-{rank}"
    wait_until(lambda: path.exists() and path.read_text())
    return int(path.read_text())


@pytest.mark.slow
def test_two_processes_stop_at_the_same_step_and_resume_and_none_outlives_the_other(tmp_path):
    assert start(tmp_path / "whole", 0, 1).end() == (0, "")
    expected = load_file(tmp_path / "whole" / "model.safetensors")
    folder = tmp_path / "stopped"

    program = start(folder)
    pid(folder, 0)
    os.kill(pid(folder, 1), signal.SIGTERM)  # one process alone
    release(folder, 0)
    assert program.end() == (143, STOPPED)
    assert (folder / "checkpoint.safetensors").exists()

    program = start(folder)
    pid(folder, 0), pid(folder, 1)
    os.kill(program.pid, signal.SIGTERM)  # the launcher
    status, errors = program.end()
    assert status == 143 and errors.endswith(STOPPED)

    program = start(folder)
    pid(folder, 0)
    os.kill(pid(folder, 1), signal.SIGKILL)  # the other one waits until the launcher ends it
    status, errors = program.end()
    *others, last = [line for line in errors.splitlines() if line.strip()]
    assert status == 137
    assert "process 2 of 2 was killed by signal 9, and the others were ended" in last
    # What the other one says, if the launcher has not ended it before.
    assert all("another process of this run has ended" in line for line in others)

    program = start(folder)
    workers = pid(folder, 0), pid(folder, 1)
    os.kill(program.pid, signal.SIGKILL)  # the launcher
    program.end()
    wait_until(lambda: not any(map(runs, workers)))

    assert start(folder, 0, 1).end() == (0, "")
    resumed = load_file(folder / "model.safetensors")
    assert all((resumed[name] == expected[name]).all() for name in expected)
