#!/usr/bin/env python3
"""How much of the matrix products' speed training reaches, for small nets and large.

For each width, images per second of the training loop (two hidden layers, 784 inputs, 10 classes,
soft targets), those that the bare matrix products of its forward and backward pass would allow, and
the ratio of the two. Both are measured in turn, several times; the best counts.

usage: tools/bench/training.py [--widths 30 100 300 800 1200] [--batch 128] [--threads 1]
"""

import argparse
import tempfile
import time
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

import numpy as np
import torch

from acoustic_kd.config import ModelConfig, TrainConfig
from acoustic_kd.frames import Classes, Frames
from acoustic_kd.precision import use_bfloat16
from acoustic_kd.processes import make_accelerator
from acoustic_kd.soft_targets.encoding import Encoding
from acoustic_kd.soft_targets.targets import in_memory
from acoustic_kd.train import Job, Trainer

INPUTS, CLASSES, FRAMES = 784, 10, 12_800
REPEATS = 3


def loop_speed(width: int, batch: int) -> float:
    """Frames per second of the training loop, the best of several epochs."""
    generator = torch.Generator().manual_seed(0)
    frames = Frames(
        torch.rand(FRAMES, INPUTS, generator=generator),
        torch.randint(CLASSES, (FRAMES,), generator=generator),
        ["all"],
        np.array([0, FRAMES]),
        Classes(CLASSES, "bench"),
    )
    table = torch.softmax(torch.randn(FRAMES, CLASSES, generator=generator), -1)
    soft = in_memory(table, Encoding("dense"), 4.0)
    model = ModelConfig(2, width, 0.0, 0.0, 0, 0)
    train = TrainConfig(epochs=1 + REPEATS, batch_frames=batch, schedule="cosine")
    with tempfile.TemporaryDirectory() as folder:
        job = Job(f"{width}", 1, model, train, 0.0, "bench", report=1000)
        history = Trainer(job, Path(folder), frames, None, soft, make_accelerator()).run()
    return max(epoch["frames_per_second"] for epoch in history[1:])


def bound(width: int, batch: int) -> float:
    """Frames per second of the matrix products alone."""
    kind = torch.bfloat16 if use_bfloat16(None, torch.device("cpu")) else torch.float32
    seconds = 0.0
    for number, (fan_in, fan_out) in enumerate(pairwise([INPUTS, width, width, CLASSES])):
        inputs, weights = (
            torch.rand(batch, fan_in, dtype=kind),
            torch.rand(fan_out, fan_in, dtype=kind),
        )
        outputs = torch.rand(batch, fan_out, dtype=kind)
        seconds += best_time(lambda x=inputs, w=weights: x @ w.T)
        seconds += best_time(lambda x=inputs, g=outputs: g.T @ x)
        if number:  # nothing asks for the gradient by the frames themselves
            seconds += best_time(lambda w=weights, g=outputs: g @ w)
    return batch / seconds


def best_time(action: Callable[[], object]) -> float:
    """Seconds of one call, the best of many."""
    calls = 20
    times = []
    for _ in range(5):
        begun = time.perf_counter()
        for _ in range(calls):
            action()
        times.append((time.perf_counter() - begun) / calls)
    return min(times)


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--widths", type=int, nargs="+", default=[30, 100, 300, 800, 1200])
    parser.add_argument("--batch", type=int, default=128)
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    print("| width | images/s | of the matrix products alone | share |")
    print("|---|---|---|---|")
    for width in options.widths:
        speed, limit = loop_speed(width, options.batch), bound(width, options.batch)
        print(f"| {width} | {speed:,.0f} | {limit:,.0f} | {speed / limit:.2f} |", flush=True)


if __name__ == "__main__":
    main()
