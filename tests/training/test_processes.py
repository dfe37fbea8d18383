"""The processes of a run: as many as were started, the numbers of one, and their tracker."""

import json
import os
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from forked import Program
from safetensors.torch import load_file
from tiny_training import MODEL, TRAIN, in_chunks, sharded, trainer, write_shards
from torch.distributed.launcher.api import LaunchConfig, elastic_launch

from acoustic_kd.system.errors import UserError
from acoustic_kd.training.processes import make_accelerator, tracking


def train_all(store: Path, folder: Path) -> None:
    """Train without dropout, whose masks belong to processes.

    In memory, where a process's share of a batch has three micro-batches of ten frames; in chunks;
    in chunks of streams; in one chunk of streams.
    """
    data, streams = sharded(store, True), replace(TRAIN, streams=2)
    chunks = in_chunks(data)
    memory = 2.5 * chunks.memory_gb  # of which a process of two needs half
    for name, frames, train in (
        ("memory", None, replace(TRAIN, max_logits_mb=10 * 2 * 4 * 5 / 1e6)),
        ("chunks", data, chunks),
        ("streams", data, replace(streams, memory_gb=memory, batch_frames=31)),
        ("whole", data, streams),
    ):
        model = replace(MODEL, dropout=0.0)
        trainer(folder / name, data=frames, train=train, model=model).run()


def train_in_two_processes(store: Path, folder: Path) -> None:
    os.environ["ACCELERATE_USE_CPU"] = "true"
    config = LaunchConfig(
        min_nodes=1, max_nodes=1, nproc_per_node=2, start_method="fork",
        rdzv_backend="c10d", rdzv_endpoint="localhost:0",
    )  # fmt: skip
    elastic_launch(config, train_all)(store, folder)


@pytest.mark.slow
def test_two_processes_give_the_numbers_of_one(tmp_path):
    write_shards(tmp_path)
    program = Program(tmp_path, tmp_path, tmp_path / "two", function=train_in_two_processes)
    status, errors = program.end()
    assert status == 0, errors
    train_all(tmp_path, tmp_path / "one")
    chunks = {}
    for folder in (tmp_path / "one").iterdir():
        folders = folder, tmp_path / "two" / folder.name
        one, two = (load_file(path / "model.safetensors") for path in folders)
        for name in one:
            torch.testing.assert_close(two[name], one[name], rtol=1e-3, atol=1e-4)
        descriptions = [json.loads((path / "model.json").read_text()) for path in folders]
        chunks[folder.name] = [description["chunks"] for description in descriptions]
    assert chunks["chunks"] == [3, 3] and chunks["whole"] == [1, 1]


def test_the_number_of_processes_is_checked(monkeypatch):
    make_accelerator()  # Accelerate looks at the environment once
    two = {"RANK": "0", "WORLD_SIZE": "2", "LOCAL_RANK": "0"}
    for name, value in (two | {"MASTER_ADDR": "localhost", "MASTER_PORT": "29500"}).items():
        monkeypatch.setenv(name, value)
    with pytest.raises(UserError, match="2 processes were started but Accelerate joins 1"):
        make_accelerator()


# --- the tracker --------------------------------------------------------------------------------


def test_without_a_tracker_nothing_is_written(tmp_path):
    with tracking(None, "run", tmp_path) as track:
        track({"loss": 1.0}, 1)
    assert not list(tmp_path.iterdir())


def test_tensorboard_has_every_epoch_of_a_model(tmp_path):
    accumulator = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    subject = trainer(tmp_path / "model", True, replace(TRAIN, epochs=2, tracker="tensorboard"))
    subject.training_run = replace(subject.training_run, logs=tmp_path / "logs")
    history = subject.run()
    (folder,) = (tmp_path / "logs").iterdir()
    events = accumulator.EventAccumulator(str(folder)).Reload()
    for name in ("train_loss", "learning_rate", "frames_per_second"):
        logged = events.Scalars(name)
        assert [event.step for event in logged] == [1, 2]
        expected = [row[name] for row in history]
        assert [event.value for event in logged] == pytest.approx(expected, rel=1e-6)


def test_a_tracker_that_is_not_installed(tmp_path, monkeypatch):
    for name in ("torch.utils.tensorboard", "tensorboardX"):
        monkeypatch.setitem(sys.modules, name, None)
    monkeypatch.delattr("torch.utils.tensorboard", raising=False)
    with (
        pytest.raises(UserError, match=r"pip install '/path/to/checkout\[tensorboard\]'"),
        tracking("tensorboard", "run", tmp_path),
    ):
        pass
