"""The processes of a run: as many as were started, and the numbers of one."""

import json
import logging
import os
import re
import shutil
import signal
import socket
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from itertools import count as numbers
from pathlib import Path
from typing import Any

import pytest
import torch
from forked import Program
from safetensors.torch import load_file
from tiny_training import (
    CONVOLUTIONS,
    MODEL,
    TRAIN,
    in_chunks,
    make_frames,
    sharded,
    trainer,
    weights,
    write_shards,
)
from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
from torch.distributed.launcher.api import LaunchConfig, elastic_launch
from waiting import PATIENCE

from acoustic_kd.settings import ModelConfig
from acoustic_kd.system.errors import UserError
from acoustic_kd.training import processes
from acoustic_kd.training.processes import make_accelerator
from acoustic_kd.training.trainer import Trainer


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


def in_processes(count: int, function: Callable[..., None], *arguments: Any) -> None:
    launch({"rdzv_endpoint": "localhost:0", "rdzv_backend": "c10d"}, 1, count, function, arguments)


def on_machine(rank: int, port: int, function: Callable[..., None], *arguments: Any) -> None:
    """Number `rank` of two launchers with a process each, as `torchrun --nnodes 2` starts them."""
    options = {"rdzv_endpoint": f"localhost:{port}", "rdzv_backend": "static"}
    options |= {"rdzv_configs": {"rank": rank, "timeout": PATIENCE}}
    launch(options, 2, 1, function, arguments)


def launch(
    options: dict[str, Any], nodes: int, count: int, function: Callable[..., None], arguments: Any
) -> None:
    os.environ |= {"ACCELERATE_USE_CPU": "true", "OMP_NUM_THREADS": "1"}
    config = LaunchConfig(
        min_nodes=nodes, max_nodes=nodes, nproc_per_node=count, start_method="fork",
        max_restarts=0, run_id="test", **options,
    )  # fmt: skip
    logging.getLogger("torch.distributed.elastic").setLevel(logging.CRITICAL)
    try:
        elastic_launch(config, function)(*arguments)
    except ChildFailedError:
        sys.exit(1)


def work(folder: Path, count: int, function: Callable[..., None], *arguments: Any) -> Program:
    return Program(folder, count, function, *arguments, function=in_processes)


@pytest.mark.slow
def test_two_processes_give_the_numbers_of_one(tmp_path, capfd):
    write_shards(tmp_path)
    program = work(tmp_path, 2, train_all, tmp_path, tmp_path / "two")
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


# Its gradients fill several of PyTorch's buckets, whose order depends on the first steps.
WIDE = ModelConfig(layers=2, width=512, dropout=0.2, left_frames=3, right_frames=3)


def train_wide(folders: Path, killed: tuple[int, int] | None = None) -> None:
    """Train 20 steps with a checkpoint every 5.

    Args:
        folders: {} is the rank.
        killed: a rank, and the number of the step before which it is killed.
    """
    rank = int(os.environ["RANK"])
    step, steps = Trainer._step, numbers(1)

    def dying(self, *batch):
        if killed == (rank, next(steps)):
            os.kill(os.getpid(), signal.SIGKILL)
        return step(self, *batch)

    Trainer._step = dying
    train = replace(TRAIN, epochs=2, checkpoint_steps=5, batch_frames=60)
    trainer(Path(str(folders).format(rank)), train=train, model=WIDE, data=WIDE_DATA).run()


WIDE_DATA = make_frames(classes=200)


@pytest.mark.slow
@pytest.mark.parametrize("count", [2, 3, 4, 5])
def test_a_killed_run_of_several_processes_ends_with_the_same_bits(tmp_path, count):
    """Whichever is killed; and only the first process needs to see the checkpoint."""
    assert work(tmp_path, count, train_wide, tmp_path / "whole").end()[0] == 0
    for number, (rank, step) in enumerate([(0, 8), (count - 1, 12)]):
        folders = tmp_path / f"killed-{number}-{{}}"
        assert work(tmp_path, count, train_wide, folders, (rank, step)).end()[0] == 1
        own, other = (tmp_path / f"killed-{number}-{rank}" for rank in range(2))
        if number:  # the other process sees another one
            other.mkdir()
            shutil.copy(tmp_path / "other.safetensors", other / "checkpoint.safetensors")
        shutil.copy(own / "checkpoint.safetensors", tmp_path / "other.safetensors")
        status, errors = work(tmp_path, count, train_wide, folders).end()
        assert status == 0, errors
        same = weights(own) == weights(tmp_path / "whole")
        assert same  # pytest would show the difference of megabytes


@pytest.mark.slow
def test_two_machines_give_the_bits_of_two_processes_of_one(tmp_path):
    assert work(tmp_path, 2, train_wide, tmp_path / "one").end()[0] == 0
    with socket.socket() as free:
        free.bind(("localhost", 0))
        port = free.getsockname()[1]
    machines = [
        Program(tmp_path / f"{n}", n, port, train_wide, tmp_path / "two", function=on_machine)
        for n in range(2)
    ]
    assert [machine.end()[0] for machine in machines] == [0, 0], machines[0].errors
    same = weights(tmp_path / "two") == weights(tmp_path / "one")
    assert same


def divide(folder: Path) -> None:
    accelerator = make_accelerator()
    rank = accelerator.process_index
    processes.CACHE_SECONDS = 0.2
    processes.check_common_directory(accelerator, folder / "common")
    with pytest.raises(UserError, match="process 2 of 2 does not see the files of process 1; give"):
        processes.check_common_directory(accelerator, folder / f"own-{rank}")
    decided = processes.from_first(accelerator, lambda: f"of process {rank}")
    with pytest.raises(UserError, match="^of process 0$"):
        processes.from_first(accelerator, lambda: refuse(f"of process {rank}"))
    for _ in range(2):  # a slow process keeps nothing from a fast one
        taken = []
        for number in processes.shared_numbers(accelerator, 9):
            taken.append(number)
            time.sleep(0.2 * rank + 0.01)
        print(json.dumps([decided, taken]))


def refuse(text: str) -> None:
    raise UserError(text)


@pytest.mark.slow
def test_the_first_process_decides_and_all_divide_the_work(tmp_path):
    program = work(tmp_path, 2, divide, tmp_path)
    status, errors = program.end()
    assert status == 0, errors
    rows = [json.loads(line) for line in program.output.splitlines()]
    assert len(rows) == 4 and {decided for decided, _ in rows} == {"of process 0"}
    shares = [taken for _, taken in rows]
    assert sorted(number for share in shares for number in share) == sorted(2 * list(range(9)))
    assert all(share == sorted(set(share)) for share in shares)
    assert max(map(len, shares)) > 5
    assert [path.name for path in tmp_path.rglob("*.tmp")] == []


def test_the_number_of_processes_is_checked(monkeypatch):
    make_accelerator()  # Accelerate looks at the environment once
    two = {"RANK": "0", "WORLD_SIZE": "2", "LOCAL_RANK": "0"}
    for name, value in (two | {"MASTER_ADDR": "localhost", "MASTER_PORT": "29500"}).items():
        monkeypatch.setenv(name, value)
    with pytest.raises(UserError, match="2 processes were started but Accelerate joins 1"):
        make_accelerator()


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("USE_FSDP", "true", r"ACCELERATE_USE_FSDP is 'true', by .*: several GPUs train with DDP"),
        ("USE_DEEPSPEED", "true", "several GPUs train with DDP"),
        ("USE_MEGATRON_LM", "True", "several GPUs train with DDP"),
        ("USE_PARALLELISM_CONFIG", "true", "several GPUs train with DDP"),
        ("GRADIENT_ACCUMULATION_STEPS", "2", "unset it: train.batch_frames is the batch of a step"),
        ("GRADIENT_ACCUMULATION_STEPS", "x", "train.max_logits_mb divides it to fit in memory"),
    ],
)
def test_settings_of_accelerate_that_would_be_ignored_are_refused(
    monkeypatch, name, value, message
):
    monkeypatch.setenv(f"ACCELERATE_{name}", value)
    with pytest.raises(UserError, match=message):
        make_accelerator()


def test_settings_of_accelerate_that_change_nothing_are_accepted(monkeypatch):
    monkeypatch.setenv("ACCELERATE_USE_FSDP", "false")
    monkeypatch.setenv("ACCELERATE_GRADIENT_ACCUMULATION_STEPS", "1")
    make_accelerator()
