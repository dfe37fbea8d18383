"""Models that are trained side by side in worker processes."""

import multiprocessing
import os
import shutil
import signal
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from damage import forget_check_sums
from forked import Program
from waiting import wait_until

from acoustic_kd.cli import main
from acoustic_kd.experiment import model_training as training
from acoustic_kd.system import memory as memory
from acoustic_kd.system.errors import UserError
from acoustic_kd.system.files import exclusive_lock
from acoustic_kd.system.steps import read_done
from acoustic_kd.training.trainer import Trainer

FOLDERS = {"train": "members", "distill": "distilled"}
LONG = ("train.epochs=9", "train.schedule=cosine")  # 49 steps an epoch
HELD = 70  # steps after which a model waits for a signal


def weights(recipe, stage):
    paths = sorted((recipe.directory / FOLDERS[stage]).glob("*/model.safetensors"))
    return {path.parent.name: path.read_bytes() for path in paths}


def train_on_two_cores(held, *arguments):
    """The command line, with worker processes that are forked, too.

    Args:
        held: after so many steps each model waits until it is asked to end, or killed.
    """
    step, steps, context = Trainer._step, [], multiprocessing.get_context

    def counted(self, *batch):
        loss = step(self, *batch)
        steps.append(self.training_run.name)
        if len(steps) == held:
            print(f"{self.training_run.name} is held", flush=True)
            wait_until(self._stop_requested)
        return loss

    Trainer._step = counted
    training.cores = lambda: 2
    multiprocessing.get_context = lambda kind: context("fork")
    os.register_at_fork(after_in_child=lambda: signal.signal(signal.SIGTERM, signal.SIG_DFL))
    return main(list(arguments))


def start(recipe, held, stage, *more):
    """A stage in a process of its own, with two workers."""
    arguments = recipe.arguments(stage, *more)
    folder = recipe.directory.with_name("program")
    return Program(folder, held, *arguments, function=train_on_two_cores)


@pytest.mark.parametrize("stage", FOLDERS)
def test_side_by_side_they_have_the_bits_of_models_trained_one_after_another(
    finished_recipe, recipe, outcome, stage
):
    shutil.rmtree(recipe.directory / FOLDERS[stage])
    program = start(recipe, None, stage, "train.tracker=tensorboard", "train.log_steps=40")
    assert program.end() == (0, "")
    runs = {"train": {"member-01", "member-02"}, "distill": {"distilled-01", "control"}}[stage]
    assert {path.parent.name for path in recipe.directory.glob("logs/*/events.*")} == runs
    names = {"train": ("member 1", "member 2"), "distill": ("distilled 1", "control")}[stage]
    for text in ("epoch 2, loss ", "epoch 2/2, step 40/"):
        assert all(f"  {name}: {text}" in program.output for name in names)
    assert weights(recipe, stage) == weights(finished_recipe, stage)
    assert read_done(recipe.directory / FOLDERS[stage])
    assert outcome(recipe, stage) == (0, "  up to date\n", "")


def test_an_error_in_a_worker_is_one_line(recipe, monkeypatch, refusal):
    monkeypatch.setattr(training, "cores", lambda: 2)
    path = recipe.directory / "frames" / "train" / "shard-00001.h5"
    path.write_bytes(path.read_bytes()[:300])
    forget_check_sums(recipe.directory, "files")
    assert f"{path}: not a" in refusal(recipe, "train", "train.epochs=1")


@pytest.mark.parametrize(
    ("models", "processes", "device", "workers"),
    [(1, 1, "cpu", 1), (2, 1, "cpu", 2), (9, 1, "cpu", 4), (9, 2, "cpu", 1), (9, 1, "cuda", 1)],
)
def test_how_many_are_trained_at_the_same_time(monkeypatch, models, processes, device, workers):
    monkeypatch.setattr(training, "cores", lambda: 4)
    accelerator = SimpleNamespace(num_processes=processes, device=torch.device(device))
    assert training.count_workers(models, accelerator) == workers


@pytest.mark.parametrize(
    ("options", "missing", "threads", "sharers"),
    [((), ("", "02"), 3, 2), (("--shard", "1/2"), ("", "01", "02"), 1, 1)],
    ids=str,
)
def test_the_only_model_due_has_the_threads_of_a_worker(
    recipe, monkeypatch, options, missing, threads, sharers
):
    """It is trained in this process; of the only model of a share, all threads are its own."""
    found = []

    class Trainer:
        def __init__(self, training_run, *_, accelerator, sharers):
            found.append((training_run.name, torch.get_num_threads(), sharers))

        def run(self, keep_checkpoint):
            pass

    monkeypatch.setattr(training, "cores", lambda: 6)
    monkeypatch.setattr(training, "Trainer", Trainer)
    for name in missing:
        (recipe.directory / "members" / name / "done.json").unlink()
    recipe.options = options
    assert recipe("train") == 0
    assert found == [("member 2", threads, sharers)] and torch.get_num_threads() == 1


def test_each_takes_its_share_of_the_free_memory(monkeypatch):
    monkeypatch.setattr(memory, "free_memory", lambda device: 1000)
    monkeypatch.setattr(memory, "free_host_memory", lambda: 2000)
    cpu = torch.device("cpu")
    assert memory.memory_budget(cpu, None, 100, sharers=2) == 850 // 2 - 100
    assert memory.memory_budget(cpu, 3e-6, 100, sharers=2) == 3000  # a process


def processes(leader):
    """The processes of a leader's session, and those of them that are its workers."""
    session, workers = [], []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            fields = (folder / "stat").read_text().rpartition(")")[2].split()
            command = (folder / "cmdline").read_text()
        except OSError:
            continue
        if int(fields[3]) == leader and fields[0] != "Z":
            session.append(int(folder.name))
            if int(fields[1]) == leader and "resource_tracker" not in command:
                workers.append(int(folder.name))
    return session, workers


def is_locked(directory):
    try:
        with exclusive_lock(directory):
            return False
    except UserError:
        return True


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="it looks for processes in /proc")
def test_stopped_and_killed_they_resume_to_the_same_bits(recipe):
    whole = recipe.copy(recipe.directory.with_name("whole"))
    whole.run(["train"], *LONG)
    more = (*LONG, "train.checkpoint_steps=6")
    line = "acoustic-kd train: {}; run the same command again to resume\n".format
    checkpoints = [
        recipe.directory / "members" / n / "checkpoint.safetensors" for n in ("01", "02")
    ]

    def end(run):
        ended = run.end()
        wait_until(lambda: not processes(run.pid)[0])
        # The threads of a killed process hold its files a little longer than its first one lives.
        wait_until(lambda: not is_locked(recipe.directory))
        return ended

    def worker(leader, number):
        os.kill(processes(leader)[1][0], number)

    for kill, number, status, expected in (
        (os.kill, signal.SIGTERM, 143, line("stopped")),
        (os.killpg, signal.SIGTERM, 143, line("stopped")),
        (os.killpg, signal.SIGINT, 130, line("interrupted")),  # as a terminal does
        (os.kill, signal.SIGKILL, -9, None),  # Python's own helper may warn
        (worker, signal.SIGKILL, 2, "acoustic-kd train: error: a worker process died"),
    ):
        before = [path.stat().st_mtime_ns if path.exists() else 0 for path in checkpoints]
        run = start(recipe, HELD, "train", *more)
        wait_until(lambda run=run: run.output.count(" is held") == 2 or not run.process.is_alive())
        assert run.process.is_alive(), run.errors
        kill(run.pid, number)
        code, error = end(run)
        assert code == status, error
        if expected is not None:
            assert error.startswith(expected) and error.count("\n") == 1
        after = [path.stat().st_mtime_ns for path in checkpoints]
        assert all(new > old for new, old in zip(after, before, strict=True))
        assert not read_done(recipe.directory / "members")
    assert end(start(recipe, None, "train", *more)) == (0, "")
    assert weights(recipe, "train") == weights(whole, "train")
