"""The processes of a run: as many as were started, and the numbers of one."""

import json
import os
import re
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from forked import Program
from safetensors.torch import load_file
from tiny_training import CONVOLUTIONS, MODEL, TRAIN, in_chunks, sharded, trainer, write_shards
from torch.distributed.launcher.api import LaunchConfig, elastic_launch

from acoustic_kd.system.errors import UserError
from acoustic_kd.training.processes import make_accelerator


def train_all(store: Path, folder: Path) -> None:
    """Train without dropout, whose masks belong to processes.

    In memory, where a process's share of a batch has three micro-batches of ten frames; in chunks;
    in chunks of streams; in one chunk of streams.
    """
    data, streams = sharded(store, True), replace(TRAIN, streams=2)
    chunks = in_chunks(data)
    memory = 2.5 * chunks.memory_gb  # of which a process of two needs half
    dnn, cnn = replace(MODEL, dropout=0.0), replace(CONVOLUTIONS, dropout=0.0)
    for name, frames, train, model in (
        ("memory", None, replace(TRAIN, max_logits_mb=10 * 2 * 4 * 5 / 1e6), dnn),
        ("convolutions", None, TRAIN, cnn),
        ("averaged", None, replace(TRAIN, average=0.9), replace(dnn, batch_norm=True)),
        ("chunks", data, chunks, dnn),
        ("streams", data, replace(streams, memory_gb=memory, batch_frames=31), dnn),
        ("whole", data, streams, dnn),
    ):
        train = replace(train, log_steps=5)
        trainer(folder / name, data=frames, train=train, model=model).run()


def train_in_two_processes(store: Path, folder: Path) -> None:
    os.environ["ACCELERATE_USE_CPU"] = "true"
    config = LaunchConfig(
        min_nodes=1, max_nodes=1, nproc_per_node=2, start_method="fork",
        rdzv_backend="c10d", rdzv_endpoint="localhost:0",
    )  # fmt: skip
    elastic_launch(config, train_all)(store, folder)


@pytest.mark.slow
def test_two_processes_give_the_numbers_of_one(tmp_path, capfd):
    write_shards(tmp_path)
    program = Program(tmp_path, tmp_path, tmp_path / "two", function=train_in_two_processes)
    status, errors = program.end()
    assert status == 0, errors
    train_all(tmp_path, tmp_path / "one")
    one, two = (re.findall(r"step \d+/\d+, loss ([\d.]+)", text)
                for text in (capfd.readouterr().out, program.output))  # fmt: skip
    assert len(one) >= 4 * 6
    assert [float(loss) for loss in two] == pytest.approx([float(loss) for loss in one], rel=2e-3)
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
