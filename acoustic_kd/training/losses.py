"""The distillation loss (paper section 2).

A network with logits z gives class i the probability q_i = exp(z_i / T) / Σ_j exp(z_j / T) at the
temperature T (paper equation 1). The distilled model learns two things at once: the soft targets
p, an ensemble's probabilities, at their temperature; and the hard targets, at temperature 1:

    L = T² · CE(p, q(T)) + α · CE(hard, q(1))

T² makes up for the 1/T² by which tempering on both sides shrinks the gradient (equation 2 and the
remark after it), so α need not change with the temperature. At high temperature and with zero-mean
logits v and z, T · (q_i - p_i) tends to (z_i - v_i) / K (equation 4): the model matches logits.

`soft_cross_entropy` and `distillation_loss` follow the equations. `fused_loss` computes the same
sum with its gradient in one pass: autograd would keep several K-wide copies of the logits in
float32, where here one buffer, in the logits' own precision, becomes the gradient. Everything else
is computed on a few rows at a time, in float32 (float64 for float64 logits), in the CPU's cache.
Per frame:

    T² · CE(p, q(T))    gradient T · (q_i - p_i)    for a kept class i
                                 T · q_i · (1 - tail / Σ q of the others)    for the others
    α · CE(hard, q(1))  gradient α · (q_i - [i = hard])

Shapes: B frames, K classes, k kept classes.
"""

import math
from functools import cache
from importlib.util import find_spec
from typing import Any

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from acoustic_kd.features.frame_sequence import NO_TARGET
from acoustic_kd.soft_targets.encoding import SparseTargets
from acoustic_kd.system.errors import first_line, warn
from acoustic_kd.system.memory import rows_per_block

MAX_KEPT_IN_KERNEL = 256  # classes of a frame; each class is compared with all of them
SQUARINGS = {1.0: 0, 2.0: 1, 4.0: 2}  # temperature T → squarings that give exp(z) from exp(z / T)


def soft_cross_entropy(logits: Tensor, probabilities: Tensor, temperature: float) -> Tensor:
    """T² · CE(p, q(T)) of each frame [B] in natural-log units, from dense soft targets [B, K]."""
    log_q = F.log_softmax(logits / temperature, dim=-1)
    return -(temperature**2) * (probabilities * log_q).sum(-1)


def sparse_soft_cross_entropy(
    logits: Tensor, classes: Tensor, probabilities: Tensor, temperature: float
) -> Tensor:
    """T² · CE(p, q(T)) of each frame, from the k most probable classes and the mass of the rest.

    The classes that were not kept form one bucket: its soft target is 1 - Σ p over the kept ones
    (0 where that is not above the sum's rounding), its prediction 1 - Σ q. The loss does not depend
    on how the prediction divides the bucket's mass. With k = K this is the dense loss.

    Args:
        classes: int64 [B, k], kept classes; a repetition of a class must have probability 0.
        probabilities: [B, k], their soft targets; the sum is at most 1.
    """
    scaled = logits / temperature
    normaliser = scaled.logsumexp(-1)
    kept = scaled.gather(-1, classes) - normaliser[:, None]
    loss = -(probabilities * kept).sum(-1)
    if classes.shape[-1] < logits.shape[-1]:
        tail = 1 - probabilities.sum(-1)
        rounding = classes.shape[-1] * torch.finfo(tail.dtype).eps
        tail = tail.masked_fill(tail <= rounding, 0)
        # From the other logits: 1 - Σ q loses all digits where q is nearly 1.
        rest = scaled.scatter(-1, classes, -torch.inf).logsumexp(-1) - normaliser
        loss = loss - tail * rest
    return temperature**2 * loss


def distillation_loss(
    logits: Tensor,
    soft: Tensor,
    hard: Tensor | None,
    temperature: float,
    hard_weight: float,
    classes: Tensor | None = None,
) -> Tensor:
    """The paper's loss of each frame: T² · CE(soft, q(T)) + hard_weight · CE(hard, q(1)).

    Args:
        logits: [B, K].
        soft: [B, K] dense soft targets, or [B, k] those of `classes`.
        hard: int64 [B], NO_TARGET for a frame without a transcript: its hard term is 0, in value
            and gradient; None where no frame has a transcript.
        temperature: T > 0.
        hard_weight: α ≥ 0, relative to the soft term; not used where `hard` is None.
        classes: int64 [B, k], the kept classes of sparse soft targets.

    Returns:
        [B], natural-log units.
    """
    if classes is None:
        loss = soft_cross_entropy(logits, soft, temperature)
    else:
        loss = sparse_soft_cross_entropy(logits, classes, soft, temperature)
    if hard is not None and hard_weight:
        loss = loss + hard_weight * F.cross_entropy(
            logits, hard, ignore_index=NO_TARGET, reduction="none"
        )
    return loss


def fused_loss(
    logits: Tensor,
    soft: Tensor | None,
    hard: Tensor | None,
    temperature: float = 1.0,
    hard_weight: float = 1.0,
    classes: Tensor | None = None,
) -> Tensor:
    """`distillation_loss` summed over frames; without soft targets, α times the hard term.

    It can be differentiated once. Dense soft targets sum to 1. Of the kept classes of a frame only
    the first may be repeated, with probability 0. Logits have any floating type; soft targets and
    the loss are float32 (float64).
    """
    form = (_kernels() if _fits_kernels(logits, classes) else None) or _Fused
    loss: Tensor = form.apply(logits, hard, hard_weight, soft, temperature, classes)
    return loss


def _fits_kernels(logits: Tensor, classes: Tensor | None) -> bool:
    """Whether `loss_kernel` computes the loss."""
    few = classes is None or classes.shape[-1] <= MAX_KEPT_IN_KERNEL
    return logits.is_cuda and logits.dtype != torch.float64 and few


@cache
def _kernels() -> type[torch.autograd.Function] | None:
    """The kernels, if this machine can compile them."""
    if find_spec("triton") is None:
        return None
    try:
        from acoustic_kd.training.loss_kernel import KernelLoss  # slow to import

        KernelLoss.apply(torch.zeros(1, 2, device="cuda"), None, 0.0, None, 1.0, None)
    except Exception as error:  # Triton calls a C compiler, which may fail in many ways
        warn(
            f"Triton cannot compile the loss ({first_line(error)}); training is slower. Install a "
            "C compiler and Python's header files"
        )
        return None
    return KernelLoss


class DistillationLoss(nn.Module):
    """The paper's loss as a module: T² · CE(soft, q(T)) + hard_weight · CE(hard, q(1)).

    Args:
        temperature: T > 0, that of the soft targets: `WithSoftTargets.temperature`.
        hard_weight: α ≥ 0, relative to the soft term.
        reduction: "mean" over frames, "sum", or "none" for the loss of each frame.
    """

    def __init__(
        self, temperature: float, hard_weight: float = 0.5, reduction: str = "mean"
    ) -> None:
        super().__init__()
        if not (0 < temperature < math.inf and 0 <= hard_weight < math.inf):
            given = f"temperature is {temperature} and hard_weight {hard_weight}"
            raise ValueError(f"{given}, expected temperature > 0 and hard_weight ≥ 0")
        if reduction not in ("mean", "sum", "none"):
            raise ValueError(f"reduction is {reduction!r}, expected 'mean', 'sum' or 'none'")
        self.temperature, self.hard_weight, self.reduction = temperature, hard_weight, reduction

    def forward(
        self, logits: Tensor, soft: Tensor | SparseTargets, hard: Tensor | None = None
    ) -> Tensor:
        """
        Args:
            logits: [B, K], of any floating type.
            soft: dense [B, K], or sparse; at the temperature of this module.
            hard: int64 [B], negative (such as PyTorch's -100) for a frame without a hard target;
                None where no frame has one.

        Returns:
            A scalar, for "none" [B]; in float32 (float64), natural-log units.

        Raises:
            ValueError: a shape or type is wrong.
        """
        classes, soft = soft if isinstance(soft, tuple) else (None, soft)
        whole = list(logits.shape) if logits.ndim == 2 else "[frames, classes]"
        _check("logits", logits, "floating", whole)
        rows = [len(logits), (logits if classes is None else soft).shape[-1]]
        _check("soft targets", soft, "floating", rows)
        _check("classes of soft targets", classes, "int64", rows)
        _check("hard targets", hard, "int64", rows[:1])
        hard = None if hard is None else hard.clamp(min=NO_TARGET)
        settings = (soft, hard, self.temperature, self.hard_weight, classes)
        if self.reduction == "none":
            precise = torch.promote_types(logits.dtype, torch.float32)
            return distillation_loss(logits.to(precise), *settings)
        loss = fused_loss(logits, *settings)
        return loss / len(logits) if self.reduction == "mean" else loss


def _check(name: str, tensor: Tensor | None, kind: str, shape: list[int] | str) -> None:
    """Refuse a tensor of another type or shape."""
    if tensor is None:
        return
    right = tensor.is_floating_point() if kind == "floating" else tensor.dtype == torch.int64
    if not right or list(tensor.shape) != shape:
        found = f"{tensor.dtype} {list(tensor.shape)}"
        raise ValueError(f"{name}: {found}, expected {kind} {shape}")


class _Fused(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        logits: Tensor,
        hard: Tensor | None,
        hard_weight: float,
        soft: Tensor | None,
        temperature: float,
        classes: Tensor | None,
    ) -> Tensor:
        gradient = torch.empty_like(logits)
        precise = torch.promote_types(logits.dtype, torch.float32)
        total = torch.zeros((), dtype=precise, device=logits.device)
        rows = rows_per_block(logits)
        for first in range(0, len(logits), rows):
            block = slice(first, first + rows)
            z, slope = logits[block].to(precise), None
            targets = None if hard is None or not hard_weight else hard[block]
            if soft is not None:
                p, kept = soft[block].to(precise), None if classes is None else classes[block]
                if kept is not None and kept.shape[-1] >= z.shape[-1]:
                    p, kept = torch.zeros_like(z).scatter_add_(-1, kept, p), None
                if kept is None:
                    losses, slope = _dense(z, p, temperature)
                elif temperature in SQUARINGS:
                    losses, slope = _sparse(z, kept, p, temperature, targets, hard_weight)
                    targets = None
                else:
                    losses, slope = _sparse(z, kept, p, temperature)
                total += losses.sum()
            if targets is not None:
                losses, slope = _hard(z, targets, hard_weight, slope)
                total += losses.sum()
            gradient[block] = 0 if slope is None else slope
        ctx.save_for_backward(gradient)
        return total

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, upstream: Tensor) -> tuple[Tensor | None, ...]:
        (gradient,) = ctx.saved_tensors
        # In place: autograd frees the buffer afterwards, and refuses a second backward pass.
        return gradient.mul_(upstream), None, None, None, None, None


def _dense(z: Tensor, p: Tensor, temperature: float) -> tuple[Tensor, Tensor]:
    """Losses [b] and gradient [b, K] of the soft term, for dense soft targets."""
    log_q = torch.log_softmax(z / temperature, -1)
    losses = -(temperature**2) * (p * log_q).sum(-1)
    return losses, log_q.exp_().sub_(p).mul_(temperature)


def _sparse(
    z: Tensor,
    classes: Tensor,
    p: Tensor,
    temperature: float,
    hard: Tensor | None = None,
    weight: float = 0.0,
) -> tuple[Tensor, Tensor]:
    """Losses [b] and gradient [b, K] of the soft term, for fewer than K kept classes; and of the
    hard term, if there are hard targets and the temperature is one of SQUARINGS.
    """
    scaled = z / temperature
    kept = scaled.gather(-1, classes)
    padding = classes == classes[:, :1]  # repetitions of the first class, which counts once
    padding[:, 0] = False
    # Separate sums of the kept and the other classes: neither is lost in the other's rounding.
    scaled.scatter_(-1, classes, -torch.inf)
    top = scaled.amax(-1, keepdim=True).clamp_(min=torch.finfo(z.dtype).min)  # finite
    others = scaled.sub_(top).exp_()
    mass = others.sum(-1, keepdim=True)
    log_others = top + mass.log()
    log_kept = kept.masked_fill(padding, -torch.inf).logsumexp(-1, keepdim=True)
    normaliser = torch.logaddexp(log_others, log_kept)
    tail = 1 - p.sum(-1, keepdim=True)
    rounding = classes.shape[-1] * torch.finfo(p.dtype).eps
    tail.masked_fill_((tail <= rounding) | (mass == 0), 0)
    losses = -(p * (kept - normaliser)).sum(-1)
    losses -= torch.where(tail > 0, tail * (log_others - normaliser), 0)[:, 0]
    losses.mul_(temperature**2)
    share = (top - normaliser).exp_() - tail / mass.clamp(min=torch.finfo(z.dtype).tiny)
    share.mul_(temperature)
    at_kept = ((kept - normaliser).exp_() - p).mul_(temperature)
    if hard is None:
        gradient = others.mul_(share)
    else:
        # exp(z) is a power of exp(z / T).
        top, kept, powers = top * temperature, kept * temperature, others
        for _ in range(SQUARINGS[temperature]):
            powers = powers.square()
        log_others = top + powers.sum(-1, keepdim=True).log()
        log_kept = kept.masked_fill(padding, -torch.inf).logsumexp(-1, keepdim=True)
        normaliser = torch.logaddexp(log_others, log_kept)
        weights, target = _weights_and_targets(hard, weight, z)
        losses += (weights * (normaliser - z.gather(-1, target)))[:, 0]
        hard_share = weights * (top - normaliser).exp_()
        at_kept += weights * (kept - normaliser).exp_()
        if powers is others:
            gradient = others.mul_(share + hard_share)
        else:
            gradient = powers.mul_(hard_share).addcmul_(others, share)
    at_kept = torch.where(padding, at_kept[:, :1], at_kept)  # scatter must not write the padding's
    gradient.scatter_(-1, classes, at_kept)
    if hard is not None:
        gradient.scatter_add_(-1, target, -weights)
    return losses, gradient


def _hard(z: Tensor, hard: Tensor, weight: float, gradient: Tensor | None) -> tuple[Tensor, Tensor]:
    """Losses [b] of the hard term, and its gradient [b, K] added to the soft term's."""
    log_q = torch.log_softmax(z, -1)
    weights, target = _weights_and_targets(hard, weight, z)
    losses = -(weights * log_q.gather(-1, target))[:, 0]
    slope = log_q.exp_().mul_(weights).scatter_add_(-1, target, -weights)
    return losses, slope if gradient is None else gradient.add_(slope)


def _weights_and_targets(hard: Tensor, weight: float, z: Tensor) -> tuple[Tensor, Tensor]:
    """Weights [b, 1] of the hard terms, 0 for unknown targets, and targets [b, 1]."""
    weights = torch.where(hard == NO_TARGET, 0.0, weight).to(z.dtype)[:, None]
    return weights, hard.clamp(min=0)[:, None]
