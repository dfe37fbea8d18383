#!/usr/bin/env python3
"""Accuracy, speed and memory of training by chunks, against training in memory.

Small networks (2 × 256) are trained on the frames of an experiment, with several seeds: in memory,
and with the `train.memory_gb` that divides an epoch into about so many chunks. For each: dev frame
accuracy after the last epoch, mean ± s.d. over the seeds; its difference from the first row, with
the standard error over pairs of equal seed; frames per processor second (training, dev and reading
included); and the peak bytes of the chunks' tensors. --soft trains on the experiment's soft targets
too.
"""

import itertools
import tempfile
import time
import weakref
from collections.abc import Iterator, Sequence
from pathlib import Path
from statistics import mean, stdev
from typing import Any

import numpy as np
import torch

import bench
from acoustic_kd.features.frame_shard import shard_paths
from acoustic_kd.features.frames import Frames, read_frames
from acoustic_kd.reports.tables import plus_minus
from acoustic_kd.settings import ModelConfig, TrainConfig
from acoustic_kd.system.errors import UserError
from acoustic_kd.system.memory import GIGABYTE
from acoustic_kd.training.chunks import Chunk, ShardedData, SoftTargetSource
from acoustic_kd.training.precision import use_bfloat16
from acoustic_kd.training.processes import make_accelerator
from acoustic_kd.training.schedule import TrainingRun
from acoustic_kd.training.trainer import Trainer

MODEL = ModelConfig(layers=2, width=256)
COLUMNS = {
    "chunks": "chunks", "accuracy": "dev frame accuracy, %", "difference": "difference",
    "frames_per_second": "frames/s|,.0f", "megabytes": "MB of chunks at once|.0f",
}  # fmt: skip


def measure(
    experiment: Path,
    *,
    chunks: Sequence[int] = (1, 4, 16),
    seeds: int = 3,
    epochs: int = 4,
    soft: bool = False,
    temperature: float = 2.0,
    block_frames: int = 16384,
) -> Iterator[bench.Row]:
    """Yield a row for each number of chunks, with the figures of its networks as `nets`."""
    dev = read_frames(experiment / "frames" / "dev")
    shards = shard_paths(experiment / "frames" / "train")
    source = SoftTargetSource(experiment / "soft_targets", temperature) if soft else None
    nets: dict[int, list[bench.Row]] = {count: [] for count in chunks}
    for seed in range(seeds):  # seed by seed, so that a busy machine slows all rows alike
        for count, rows in nets.items():
            data = CountedData(shards, source, block_frames)
            rows.append(train(data, dev, count, seed, epochs))
    base = [net["accuracy"] for net in nets[chunks[0]]]
    for rows in nets.values():
        accuracies = [net["accuracy"] for net in rows]
        differences = [a - b for a, b in zip(accuracies, base, strict=True)]
        several = len(rows) > 1
        error = stdev(differences) / len(rows) ** 0.5 if several else 0.0
        yield {
            "chunks": rows[0]["chunks"],
            "accuracy": plus_minus(mean(accuracies), stdev(accuracies) if several else 0.0, 2),
            "difference": plus_minus(mean(differences), error, 2, sign=True),
            "frames_per_second": max(net["frames_per_second"] for net in rows),
            "megabytes": max(net["megabytes"] for net in rows),
            "nets": rows,
        }


class CountedData(ShardedData):
    """Data that counts the bytes of the chunks alive at once."""

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self.peak_bytes, self._alive, self._numbers = 0, {}, itertools.count()

    def read(self, blocks: np.ndarray, kind: torch.dtype) -> Chunk:
        """Read a chunk and count it for as long as it is held."""
        chunk, number = super().read(blocks, kind), next(self._numbers)
        self._alive[number] = chunk.bytes
        weakref.finalize(chunk.frames.targets, self._alive.pop, number)  # the loader's, on a CPU
        self.peak_bytes = max(self.peak_bytes, sum(self._alive.values()))
        return chunk


def train(data: CountedData, dev: Frames, chunks: int, seed: int, epochs: int) -> bench.Row:
    """Train one network; returns its figures."""
    memory_gb = memory_for(data, chunks)
    settings = TrainConfig(epochs=epochs, schedule="cosine", memory_gb=memory_gb)
    with tempfile.TemporaryDirectory() as folder:
        job = TrainingRun(f"{chunks} chunks, seed {seed}", seed, MODEL, settings, 0.5, "bench")
        trainer = Trainer(job, Path(folder), data, dev, None, make_accelerator())
        begin = time.process_time()
        history = trainer.run()
        seconds = time.process_time() - begin
    return {
        "chunks": trainer.state.chunks,
        "seed": seed,
        "accuracy": history[-1]["dev_frame_accuracy"],
        "frames_per_second": epochs * int(data.sizes.sum()) / seconds,
        "megabytes": data.peak_bytes / 1e6,
        "memory_gb": memory_gb,
    }


def memory_for(data: ShardedData, chunks: int) -> float | None:
    """The least `train.memory_gb` that divides an epoch into at most `chunks`; None for one."""
    if chunks == 1:
        return None
    number_bytes = 2 if use_bfloat16(None, make_accelerator().device) else 4
    low, high = 0.0, 100.0
    for _ in range(60):  # halved until it is exact
        middle = (low + high) / 2
        try:
            fits = data.num_chunks(int(middle * GIGABYTE), number_bytes) <= chunks
        except UserError:
            fits = False
        low, high = (low, middle) if fits else (middle, high)
    return high


if __name__ == "__main__":
    bench.main(measure, COLUMNS)
