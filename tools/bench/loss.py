#!/usr/bin/env python3
"""What the loss costs: the fused one against autograd on the readable one, in time and memory.

For each number of classes, milliseconds of loss and gradient for one batch of float32 logits, the
best of several, both in turn, and the most K-wide memory each needs beyond the logits.

usage: tools/bench/loss.py [--classes 10 700 2000 14000] [--batch 512] [--kept 20] [--threads 1]
           [--json FILE]
"""

import time
from collections.abc import Callable
from typing import Any

import torch
from memory_watch import Memory
from tables import Table, parser_of
from torch import Tensor

from acoustic_kd.training.losses import distillation_loss, fused_loss

TEMPERATURE, HARD_WEIGHT, REPEATS = 2.0, 0.5, 7
COLUMNS = {
    "classes": "classes|,", "plain_ms": "autograd, ms|.2f", "fused_ms": "fused, ms|.2f",
    "ratio": "ratio|.1f", "plain_memory": "autograd, × logits|.1f",
    "fused_memory": "fused, × logits|.1f",
}  # fmt: skip


def best_of(action: Callable[[], Any]) -> float:
    """Seconds, the best of several."""
    times = []
    for _ in range(REPEATS):
        begun = time.process_time()
        action()
        times.append(time.process_time() - begun)
    return min(times)


def measure(classes: int, batch: int, kept: int) -> dict[str, float]:
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
    return {
        "classes": classes,
        "plain_ms": slow,
        "fused_ms": fast,
        "ratio": slow / fast,
        "plain_memory": large,
        "fused_memory": small,
    }


def main() -> None:
    """Print the table."""
    parser = parser_of(__doc__)
    parser.add_argument("--classes", type=int, nargs="+", default=[10, 700, 2000, 14000])
    parser.add_argument("--batch", type=int, default=512)
    parser.add_argument("--kept", type=int, default=20)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    with Table(COLUMNS, options.json) as table:
        for classes in options.classes:
            table.add(measure(classes, options.batch, options.kept))


if __name__ == "__main__":
    main()
