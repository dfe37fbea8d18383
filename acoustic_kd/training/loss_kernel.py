"""The loss of `losses.fused_loss` on a GPU, in two kernels (Triton).

A GPU waits for memory here: the logits of a batch are many times larger than its caches. The
forward kernel reads them once and keeps a few sums per frame; the backward kernel reads them once
more and writes the gradient, already multiplied by the gradient of the loss. A program of a kernel
computes one frame, block by block of its classes, in float32.

Shapes: B frames, K classes, k kept classes.
"""

from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor
from torch.autograd.function import once_differentiable

BLOCK = 4096  # classes at once
SUMS = 4  # per frame; see `_forward`
NO_SOFT, DENSE, SPARSE = (tl.constexpr(kind) for kind in range(3))


@triton.jit
def _add(top, total, values):
    """Add exp(values) to total · exp(top), where top is the largest exponent."""
    new = tl.maximum(top, tl.max(values))
    finite = tl.where(new == float("-inf"), 0.0, new)
    return new, total * tl.exp(top - finite) + tl.sum(tl.exp(values - finite))


@triton.jit
def _add_logs(a, b):
    """log(exp(a) + exp(b)), of which one may be -inf."""
    top = tl.maximum(a, b)
    return top + tl.log(tl.exp(a - top) + tl.exp(b - top))


@triton.jit
def _kept_of(columns, classes, soft, kept_count):
    """Whether columns are kept classes of a frame, and their soft targets.

    The first class comes last, because padding repeats it with probability 0.
    """
    kept = columns < 0
    p = tl.zeros(columns.shape, tl.float32)
    for place in range(kept_count):
        here = columns == tl.load(classes + kept_count - 1 - place)
        kept = kept | here
        p = tl.where(here, tl.load(soft + kept_count - 1 - place).to(tl.float32), p)
    return kept, p


@triton.jit
def _logits_of(logits, columns, count):
    return tl.load(logits + columns, mask=columns < count, other=float("-inf")).to(tl.float32)


@triton.jit
def _forward(
    logits, soft, classes, hard, losses, sums, count, kept_count, temperature, weight, rounding,
    soft_kind: tl.constexpr, has_hard: tl.constexpr, block: tl.constexpr, kept_block: tl.constexpr,
    sums_size: tl.constexpr,
):  # fmt: skip
    """The loss of a frame, and its sums:

    0. log Σ exp(z / T); 1. log Σ exp z; and of the classes that are not kept, 2. the largest z / T,
    and 3. the factor of exp(z / T - sum 2) in the gradient.

    The loss is NaN if a target or a kept class is not a class.
    """
    frame = tl.program_id(0).to(tl.int64)
    logits, soft, classes = (
        logits + frame * count,
        soft + frame * kept_count,
        classes + frame * kept_count,
    )
    sums = sums + frame * sums_size
    loss = 0.0
    hard_top, hard_total, top, total = float("-inf"), 0.0, float("-inf"), 0.0
    for first in range(0, count, block):
        columns = first + tl.arange(0, block)
        z = _logits_of(logits, columns, count)
        if has_hard:
            hard_top, hard_total = _add(hard_top, hard_total, z)
        if soft_kind == SPARSE:
            # Separate sums of the kept and the other classes: see `losses._sparse`.
            kept, _ = _kept_of(columns, classes, soft, kept_count)
            z = tl.where(kept, float("-inf"), z)
        if soft_kind != NO_SOFT:
            top, total = _add(top, total, z / temperature)
    if soft_kind == DENSE:
        normaliser = top + tl.log(total)
        for first in range(0, count, block):
            columns = first + tl.arange(0, block)
            p = tl.load(soft + columns, mask=columns < count, other=0.0).to(tl.float32)
            log_q = _logits_of(logits, columns, count) / temperature - normaliser
            loss -= tl.sum(tl.where(columns < count, p * log_q, 0.0))
        tl.store(sums, normaliser)
    if soft_kind == SPARSE:
        places = tl.arange(0, kept_block)
        numbers = tl.load(classes + places, mask=places < kept_count, other=0)
        p = tl.load(soft + places, mask=places < kept_count, other=0.0).to(tl.float32)
        known = (numbers >= 0) & (numbers < count)
        z = tl.load(logits + numbers, mask=known, other=float("nan")).to(tl.float32) / temperature
        counted = (places < kept_count) & ((places == 0) | (numbers != tl.load(classes)))
        kept_top, kept_total = _add(float("-inf"), 0.0, tl.where(counted, z, float("-inf")))
        others = top + tl.log(total)
        normaliser = _add_logs(others, kept_top + tl.log(kept_total))
        tail = 1 - tl.sum(p)
        tail = tl.where((tail <= rounding) | (total == 0), 0.0, tail)
        loss -= tl.sum(tl.where(counted, p * (z - normaliser), 0.0))
        loss -= tl.where(tail > 0, tail * (others - normaliser), 0.0)
        finite = tl.where(total == 0, 0.0, top)  # no class but the kept ones has a probability
        tl.store(sums, normaliser)
        tl.store(sums + 2, finite)
        share = tl.exp(finite - normaliser) - tail / tl.where(total == 0, 1.0, total)
        tl.store(sums + 3, share)
    loss *= temperature * temperature
    if has_hard:
        target = tl.load(hard + frame)
        normaliser = hard_top + tl.log(hard_total)
        known = (target >= 0) & (target < count)
        z = tl.load(logits + target, mask=known, other=float("nan")).to(tl.float32)
        loss += tl.where(target >= 0, weight * (normaliser - z), 0.0)
        tl.store(sums + 1, normaliser)
    tl.store(losses + frame, loss)


@triton.jit
def _backward(
    logits, soft, classes, hard, upstream, sums, gradient, count, kept_count, temperature, weight,
    soft_kind: tl.constexpr, has_hard: tl.constexpr, block: tl.constexpr, sums_size: tl.constexpr,
):  # fmt: skip
    """The gradient of a frame's logits: the equations at the head of `losses`."""
    frame = tl.program_id(0).to(tl.int64)
    logits, soft, classes = (
        logits + frame * count,
        soft + frame * kept_count,
        classes + frame * kept_count,
    )
    sums, gradient = sums + frame * sums_size, gradient + frame * count
    scale = tl.load(upstream).to(tl.float32)
    for first in range(0, count, block):
        columns = first + tl.arange(0, block)
        z = _logits_of(logits, columns, count)
        slope = tl.zeros(columns.shape, tl.float32)
        if soft_kind == DENSE:
            p = tl.load(soft + columns, mask=columns < count, other=0.0).to(tl.float32)
            slope = temperature * (tl.exp(z / temperature - tl.load(sums)) - p)
        if soft_kind == SPARSE:
            kept, p = _kept_of(columns, classes, soft, kept_count)
            at_kept = tl.exp(z / temperature - tl.load(sums)) - p
            other = tl.exp(tl.where(kept, float("-inf"), z / temperature - tl.load(sums + 2)))
            slope = temperature * tl.where(kept, at_kept, other * tl.load(sums + 3))
        if has_hard:
            target = tl.load(hard + frame)
            q = tl.exp(z - tl.load(sums + 1))
            factor = tl.where(target >= 0, weight, 0.0)
            slope += factor * (q - tl.where(columns == target, 1.0, 0.0))
        tl.store(gradient + columns, (slope * scale).to(gradient.dtype.element_ty), columns < count)


class KernelLoss(torch.autograd.Function):
    """`losses.fused_loss` for logits that are not float64."""

    @staticmethod
    def forward(
        ctx: Any,
        logits: Tensor,
        hard: Tensor | None,
        weight: float,
        soft: Tensor | None,
        temperature: float,
        classes: Tensor | None,
    ) -> Tensor:
        """The loss summed over frames, float32."""
        temperature, weight = float(temperature), float(weight)  # Triton knows no NumPy scalars
        logits, count = logits.contiguous(), logits.shape[1]
        hard = hard if weight else None
        kind = NO_SOFT if soft is None else DENSE if classes is None else SPARSE
        k = 0 if soft is None else soft.shape[1]
        # What is not given is not read, but it must be a tensor.
        tensors = [
            logits if tensor is None else tensor.contiguous() for tensor in (soft, classes, hard)
        ]
        losses = torch.empty(len(logits), dtype=torch.float32, device=logits.device)
        sums = torch.empty(len(logits), SUMS, dtype=torch.float32, device=logits.device)
        settings = {"soft_kind": kind, "has_hard": hard is not None, "sums_size": SUMS}
        settings["block"] = min(BLOCK, triton.next_power_of_2(count))
        rounding = k * torch.finfo(torch.float32).eps
        kept_block = triton.next_power_of_2(max(k, 1)) if classes is not None else 1
        with torch.cuda.device_of(logits):  # Triton launches on the current device
            _forward[(len(logits),)](
                logits, *tensors, losses, sums, count, k, temperature, weight, rounding,
                kept_block=kept_block, **settings,
            )  # fmt: skip
        ctx.save_for_backward(logits, *tensors, sums)
        ctx.call = (count, k, temperature, weight), settings
        return losses.sum()

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, upstream: Tensor) -> tuple[Tensor | None, ...]:
        """The gradient of the logits, in their precision."""
        logits, *tensors, sums = ctx.saved_tensors
        gradient = torch.empty_like(logits)
        numbers, settings = ctx.call
        with torch.cuda.device_of(logits):
            _backward[(len(logits),)](
                logits, *tensors, upstream.contiguous(), sums, gradient, *numbers, **settings
            )
        return gradient, None, None, None, None, None
