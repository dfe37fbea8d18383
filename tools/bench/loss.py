#!/usr/bin/env python3
"""What the loss costs: the fused one against autograd on the readable one, in time and memory.

For each number of classes, milliseconds of loss and gradient for one batch of float32 logits, the
best of several, both in turn, and the most K-wide memory each needs beyond the logits.

usage: tools/bench/loss.py [--classes 10 700 2000 14000] [--batch 512] [--kept 20] [--threads 1]
"""

import argparse
import time
from collections.abc import Callable
from typing import Any

import torch
from memory_watch import Memory
from torch import Tensor

from acoustic_kd.fused_loss import fused_loss
from acoustic_kd.losses import distillation_loss

TEMPERATURE, HARD_WEIGHT, REPEATS = 2.0, 0.5, 7


def best_of(action: Callable[[], Any]) -> float:
    """Seconds, the best of several."""
    times = []
    for _ in range(REPEATS):
        begun = time.process_time()
        action()
        times.append(time.process_time() - begun)
    return min(times)


def measure(classes: int, batch: int, kept: int) -> list[str]:
    """A row of the table."""
    generator = torch.Generator().manual_seed(0)
    logits = 3 * torch.randn(batch, classes, generator=generator)
    p = torch.softmax(3 * torch.randn(batch, classes, generator=generator), -1)
    hard = torch.randint(classes, (batch,), generator=generator)
    top = p.topk(min(kept, classes), -1) if kept < classes else None
    p, chosen = (p, None) if top is None else (top.values, top.indices)

    def plain(z: Tensor) -> Tensor:
        return distillation_loss(z, p, hard, TEMPERATURE, HARD_WEIGHT, chosen).sum()

    def fused(z: Tensor) -> Tensor:
        return fused_loss(z, hard, HARD_WEIGHT, p, TEMPERATURE, chosen)

    found = []
    for loss in (plain, fused):
        leaf = logits.clone().requires_grad_()
        seconds = best_of(lambda loss=loss, leaf=leaf: torch.autograd.grad(loss(leaf), leaf))
        with Memory(lambda found: found.numel() >= classes) as memory:
            torch.autograd.grad(loss(leaf), leaf)
        found.append((1e3 * seconds, memory.most / logits.nbytes))
    (slow, large), (fast, small) = found
    times = [f"{slow:.2f}", f"{fast:.2f}", f"{slow / fast:.1f}"]
    return [f"{classes:,}", *times, f"{large:.1f}", f"{small:.1f}"]


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--classes", type=int, nargs="+", default=[10, 700, 2000, 14000])
    parser.add_argument("--batch", type=int, default=512)
    parser.add_argument("--kept", type=int, default=20)
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    heading = ["classes", "autograd, ms", "fused, ms", "ratio"]
    heading += ["autograd, × logits", "fused, × logits"]
    rows = [measure(classes, options.batch, options.kept) for classes in options.classes]
    for row in [heading, ["---"] * len(heading), *rows]:
        print(f"| {' | '.join(row)} |")


if __name__ == "__main__":
    main()
