#!/usr/bin/env python3
"""Time to train several models: one after the other, and side by side.

Each of N models trains for two epochs: first one after the other, each with all threads, then side
by side, in processes that share the threads. Networks and data are those of training.py.
"""

import tempfile
import time
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path

import torch
from training import Net

import bench
from acoustic_kd.system.parallel import torch_threads, worker_map

COLUMNS = {
    "net": "net", "batch": "batch", "type": "type", "models": "models",
    "turns": "one after another, s|.1f", "side": "side by side, s|.1f", "ratio": "ratio|.2f",
}  # fmt: skip


def measure(
    *,
    models: int = 2,
    nets: Sequence[str] = ("3x256:700",),
    batch: int = 512,
    steps: int = 117,
    kept: int = 20,
) -> Iterator[bench.Row]:
    """Yield a row for each network; `steps` are those of an epoch."""
    for text in nets:
        with tempfile.TemporaryDirectory() as name:
            net = Net.parse(text, batch, Path(name))
            net.write_data(steps, kept)
            turns, side = (seconds_of_models(net, models, jobs) for jobs in (1, models))
        row = {"net": text, "batch": batch, "type": net.type_name, "models": models}
        yield row | {"turns": turns, "side": side, "ratio": turns / side}


def train_on_threads(threads: int, net: Net, number: int) -> None:
    """Train model `number` for two epochs on a number of threads."""
    with torch_threads(threads):
        net.train(2, number)


def seconds_of_models(net: Net, models: int, jobs: int) -> float:
    """Seconds of several trainings, `jobs` at a time; the jobs share the threads."""
    work = partial(train_on_threads, max(1, torch.get_num_threads() // jobs), net)
    with worker_map(models, jobs) as over:
        for _ in range(2):  # the first time is a warm-up
            begin = time.perf_counter()
            list(over(work, range(models)))
    return time.perf_counter() - begin


if __name__ == "__main__":
    bench.main(measure, COLUMNS)
