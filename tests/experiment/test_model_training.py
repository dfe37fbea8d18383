"""Models that are trained side by side in worker processes."""

import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from waiting import PATIENCE, wait_until

from acoustic_kd.experiment import model_training as training
from acoustic_kd.system import memory as memory
from acoustic_kd.system.steps import read_done

FOLDERS = {"train": "members", "distill": "distilled"}
LONG = ("train.epochs=30", "train.schedule=cosine")  # enough to be stopped several times
COMMAND = """
import sys
from acoustic_kd.cli import main
from acoustic_kd.experiment import model_training as training
training.cores = lambda: 2
sys.exit(main(sys.argv[1:]))
"""


@pytest.fixture
def recipe(finished_recipe, tmp_path):
    return finished_recipe.copy(tmp_path / "exp")


@pytest.fixture
def two_cores(monkeypatch):
    monkeypatch.setattr(training, "cores", lambda: 2)


def weights(recipe, stage):
    paths = sorted((recipe.directory / FOLDERS[stage]).glob("*/model.safetensors"))
    return {path.parent.name: path.read_bytes() for path in paths}


@pytest.mark.parametrize("stage", FOLDERS)
def test_they_have_the_bits_of_models_trained_one_after_another(
    finished_recipe, recipe, two_cores, capfd, stage
):
    shutil.rmtree(recipe.directory / FOLDERS[stage])
    assert recipe(stage) == 0
    out, error = capfd.readouterr()
    names = {"train": ("member 1", "member 2"), "distill": ("distilled 1", "control")}[stage]
    assert error == "" and all(f"  {name}: epoch 2, loss " in out for name in names)
    assert weights(recipe, stage) == weights(finished_recipe, stage)
    assert read_done(recipe.directory / FOLDERS[stage])
    assert recipe(stage) == 0 and capfd.readouterr().out == "  up to date\n"


def test_an_error_in_a_worker_is_one_line(recipe, two_cores, capfd):
    path = recipe.directory / "frames" / "train" / "shard-00001.h5"
    path.write_bytes(path.read_bytes()[:300])
    assert recipe("train", "train.epochs=1") == 2
    error = capfd.readouterr().err
    assert error.startswith(f"acoustic-kd train: error: {path}: not a") and error.count("\n") == 1


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

        def run(self):
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


class Run:
    """The stage in a process of its own, with workers."""

    def __init__(self, recipe):
        self.process = subprocess.Popen(
            [sys.executable, "-c", COMMAND, *recipe.arguments("train", *LONG)],
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True,
        )  # fmt: skip

    def wait_for_epochs(self):
        """Until each model has ended one."""
        left = {"member 1", "member 2"}
        while left:
            line = self.process.stdout.readline()
            assert line, self.process.stderr.read()
            left.discard(line.strip().partition(":")[0])

    def end(self):
        """Exit status and standard error, when all its processes have ended."""
        error = self.process.communicate(timeout=PATIENCE)[1]
        wait_until(lambda: not processes(self.process.pid))
        return self.process.returncode, error


def processes(session, kind=""):
    """Those that run in a session and have `kind` in their command line."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            fields = (folder / "stat").read_text().rpartition(")")[2].split()
            command = (folder / "cmdline").read_text()
        except OSError:
            continue
        if int(fields[3]) == session and fields[0] != "Z" and kind in command:
            found.append(int(folder.name))
    return found


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="it looks for processes in /proc")
def test_stopped_and_killed_they_go_on_to_the_same_bits(recipe, capfd):
    whole = recipe.copy(recipe.directory.with_name("whole"))
    assert whole("train", *LONG, "train.checkpoint_steps=1000") == 0
    said = "acoustic-kd train: {}; run the same command again to resume\n".format
    checkpoints = [
        recipe.directory / "members" / n / "checkpoint.safetensors" for n in ("01", "02")
    ]

    def group(run, number):
        os.killpg(run.process.pid, number)

    def parent(run, number):
        os.kill(run.process.pid, number)

    def worker(run, number):
        os.kill(processes(run.process.pid, "spawn_main")[0], number)

    for whom, number, status, expected in (
        (parent, signal.SIGTERM, 143, said("stopped")),
        (group, signal.SIGTERM, 143, said("stopped")),
        (group, signal.SIGINT, 130, said("interrupted")),  # as a terminal does
        (parent, signal.SIGKILL, -9, None),  # Python's own helper may warn
        (worker, signal.SIGKILL, 2, "acoustic-kd train: error: a worker process died"),
    ):
        before = [path.stat().st_mtime_ns if path.exists() else 0 for path in checkpoints]
        run = Run(recipe)
        run.wait_for_epochs()
        whom(run, number)
        found, error = run.end()
        assert found == status
        if expected is not None:
            assert error.startswith(expected) and error.count("\n") == 1
        after = [path.stat().st_mtime_ns for path in checkpoints]
        assert all(new > old for new, old in zip(after, before, strict=True))
        assert not read_done(recipe.directory / "members")
    assert Run(recipe).end() == (0, "")
    assert weights(recipe, "train") == weights(whole, "train")
