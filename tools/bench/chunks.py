#!/usr/bin/env python3
"""What it costs in accuracy, speed and memory to train chunk by chunk instead of in memory.

Small nets (2 × 256) learn the frames of an experiment whose stage 'frames' is done, some seeds
each: all in memory, and with `train.memory_gb` such that an epoch is read in about so many chunks.
For each: the last epoch's dev frame accuracy, mean ± s.d. over the seeds; frames per second of the
processor's time (frames of an epoch over processor seconds of training, dev and reading included,
which other work on the machine stretches less than the clock); and the most bytes of the tensors of
chunks that were there at once. A difference from 'in memory' is given with its standard error, the
nets of a seed being pairs. With --soft, soft targets of the experiment are learnt too.

usage: tools/bench/chunks.py EXP_DIR [--chunks 1 4 16] [--seeds 3] [--epochs 4] [--soft]
           [--block-frames 16384] [--json FILE]
"""

import argparse
import tempfile
import time
import weakref
from dataclasses import replace
from pathlib import Path
from statistics import mean, stdev
from typing import Any

import numpy as np
import torch
from tables import Table

from acoustic_kd.features.frames import Frames, read_frames, shard_paths
from acoustic_kd.reports.tables import plus_minus
from acoustic_kd.settings import ModelConfig, TrainConfig
from acoustic_kd.system.errors import UserError
from acoustic_kd.system.memory import GIGABYTE
from acoustic_kd.training.chunks import Chunk, ShardedData, SoftTargetSource
from acoustic_kd.training.model import use_bfloat16
from acoustic_kd.training.processes import make_accelerator
from acoustic_kd.training.schedule import TrainingRun
from acoustic_kd.training.trainer import Trainer

MODEL = ModelConfig(layers=2, width=256)
COLUMNS = {
    "chunks": "chunks|", "accuracy": "dev frame accuracy, %|", "difference": "difference|",
    "frames_per_second": "frames/s|,.0f", "megabytes": "MB of chunks at once|.0f",
}  # fmt: skip


class Counted(ShardedData):
    """Counts the bytes of the chunks that are there at once."""

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self.most, self._alive = 0, {}

    def read(self, blocks: np.ndarray, kind: torch.dtype) -> Chunk:
        """As it was, and counted."""
        chunk = super().read(blocks, kind)
        if id(chunk) not in self._alive:
            self._alive[id(chunk)] = chunk.bytes
            weakref.finalize(chunk, self._alive.pop, id(chunk))
        self.most = max(self.most, sum(self._alive.values()))
        return chunk


def memory_for(data: ShardedData, chunks: int) -> float | None:
    """10⁹ bytes with which an epoch is read in so many chunks; None: as many as there are."""
    if chunks == 1:
        return None
    number_bytes = 2 if use_bfloat16(None, make_accelerator().device) else 4
    low, high = 0.0, 100.0  # halved until it is exact
    for _ in range(60):
        middle = (low + high) / 2
        try:
            fits = data.num_chunks(int(middle * GIGABYTE), number_bytes) <= chunks
        except UserError:
            fits = False
        low, high = (low, middle) if fits else (middle, high)
    return high


def train(options: argparse.Namespace, chunks: int, seed: int, dev: Frames) -> dict[str, float]:
    """One net."""
    exp = options.exp_dir
    soft = SoftTargetSource(exp / "soft_targets", options.temperature) if options.soft else None
    data = Counted(shard_paths(exp / "frames" / "train"), soft, options.block_frames)
    settings = TrainConfig(epochs=options.epochs, schedule="cosine")
    settings = replace(settings, memory_gb=memory_for(data, chunks))
    with tempfile.TemporaryDirectory() as folder:
        job = TrainingRun(f"{chunks} chunks, seed {seed}", seed, MODEL, settings, 0.5, "bench")
        trainer = Trainer(job, Path(folder), data, dev, None, make_accelerator())
        begun = time.process_time()
        history = trainer.run()
        seconds = time.process_time() - begun
    return {
        "chunks": trainer.state.chunks,
        "seed": seed,
        "accuracy": history[-1]["dev_frame_accuracy"],
        "frames_per_second": options.epochs * int(data.sizes.sum()) / seconds,
        "megabytes": data.most / 1e6,
        "memory_gb": settings.memory_gb,
    }


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("exp_dir", type=Path)
    parser.add_argument("--chunks", type=int, nargs="+", default=[1, 4, 16])
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--epochs", type=int, default=4)
    parser.add_argument("--soft", action="store_true")
    parser.add_argument("--temperature", type=float, default=2.0)
    parser.add_argument("--block-frames", type=int, default=16384)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    torch.set_num_threads(1)
    dev = read_frames(options.exp_dir / "frames" / "dev")
    rows: list[dict] = []
    for seed in range(options.seeds):  # in turn, so that a busy machine hits all alike
        for chunks in options.chunks:
            rows.append({"asked": chunks} | train(options, chunks, seed, dev))
    base = [row["accuracy"] for row in rows if row["asked"] == options.chunks[0]]
    with Table(COLUMNS, options.json) as table:
        table.notes = {"nets": rows}
        for chunks in options.chunks:
            some = [row for row in rows if row["asked"] == chunks]
            found = [row["accuracy"] for row in some]
            apart = [one - other for one, other in zip(found, base, strict=True)]
            error = stdev(apart) / len(apart) ** 0.5 if len(apart) > 1 else 0.0
            table.add(
                {
                    "chunks": some[0]["chunks"],
                    "accuracy": plus_minus(mean(found), stdev(found) if found[1:] else 0.0, 2),
                    "difference": plus_minus(mean(apart), error, 2, sign=True),
                    "frames_per_second": max(row["frames_per_second"] for row in some),
                    "megabytes": max(row["megabytes"] for row in some),
                }
            )


if __name__ == "__main__":
    main()
