#!/usr/bin/env python3
"""Time and memory of the loss: the fused form against autograd on the readable form.

For each number of classes: milliseconds of loss and gradient for one batch of float32 logits (the
best of several), and the peak memory of tensors as wide as the classes, relative to the logits.
"""

import time
from collections.abc import Callable, Iterator, Sequence

import torch
from torch import Tensor

import bench
from acoustic_kd.training.losses import distillation_loss, fused_loss

TEMPERATURE, HARD_WEIGHT, REPEATS = 2.0, 0.5, 7
COLUMNS = {
    "classes": "classes|,", "plain_ms": "autograd, ms|.2f", "fused_ms": "fused, ms|.2f",
    "ratio": "ratio|.1f", "plain_memory": "autograd, × logits|.1f",
    "fused_memory": "fused, × logits|.1f",
}  # fmt: skip


def measure(
    *, classes: Sequence[int] = (10, 700, 2000, 14000), batch: int = 512, kept: int = 20
) -> Iterator[bench.Row]:
    """Yield a row for each number of classes."""
    for count in classes:
        yield compare_forms(count, batch, kept)


def compare_forms(classes: int, batch: int, kept: int) -> bench.Row:
    """Time and memory of both forms on random logits and soft targets."""
    generator = torch.Generator().manual_seed(0)
    logits = 3 * torch.randn(batch, classes, generator=generator)
    p = torch.softmax(3 * torch.randn(batch, classes, generator=generator), -1)
    hard = torch.randint(classes, (batch,), generator=generator)
    kept_classes = None
    if kept < classes:
        p, kept_classes = p.topk(kept, -1)

    def plain(z: Tensor) -> Tensor:
        return distillation_loss(z, p, hard, TEMPERATURE, HARD_WEIGHT, kept_classes).sum()

    def fused(z: Tensor) -> Tensor:
        return fused_loss(z, p, hard, TEMPERATURE, HARD_WEIGHT, kept_classes)

    plain_ms, plain_memory = cost(plain, logits)
    fused_ms, fused_memory = cost(fused, logits)
    return {
        "classes": classes,
        "plain_ms": plain_ms,
        "fused_ms": fused_ms,
        "ratio": plain_ms / fused_ms,
        "plain_memory": plain_memory,
        "fused_memory": fused_memory,
    }


def cost(loss: Callable[[Tensor], Tensor], logits: Tensor) -> tuple[float, float]:
    """Milliseconds of loss and gradient, and peak memory relative to that of the logits."""
    leaf = logits.clone().requires_grad_()

    def gradient() -> object:
        return torch.autograd.grad(loss(leaf), leaf)

    seconds = bench.best_time(gradient, REPEATS, min_seconds=0.0, clock=time.process_time)
    with bench.TensorMemory(lambda tensor: tensor.numel() >= logits.shape[-1]) as memory:
        gradient()
    return 1e3 * seconds, memory.peak_bytes / logits.nbytes


if __name__ == "__main__":
    bench.main(measure, COLUMNS)
