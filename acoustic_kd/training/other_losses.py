"""Losses of soft targets beside the paper's, for comparison (setting `distill.loss`).

With p the soft targets and q = softmax(z / T) the predictions at temperature T:

    reverse          T² · KL(q ‖ p)
    jensen-shannon   4 T² · JS(p, q) = 2 T² · (KL(p ‖ m) + KL(q ‖ m)), m = (p + q) / 2
    logits           Σ_i (z_i - v_i)² / 2K, with v = T · ln p, and z and v of zero mean

Where q is near p, the first two have the gradient of T² · CE(p, q); the third has the gradient that
T² · CE(p, q) tends to at high temperature (paper equation 4). Classes that were not kept form one
bucket, as in `losses`.

Shapes: B frames, K classes, k kept classes.
"""

import math

import torch
from torch import Tensor

from acoustic_kd.training.loader import DataLoader
from acoustic_kd.training.losses import fused_loss
from acoustic_kd.training.schedule import TrainingRun

SMALLEST = 2.0**-24  # the smallest probability that is stored; 0 has no logarithm


def other_loss(
    name: str,
    logits: Tensor,
    soft: Tensor,
    hard: Tensor | None,
    temperature: float,
    hard_weight: float,
    classes: Tensor | None = None,
) -> Tensor:
    """The loss `name` of the soft targets and α times that of the hard ones, summed over frames.

    Args:
        name: reverse, jensen-shannon or logits.
        logits: [B, K].
        soft: [B, K] dense soft targets, or [B, k] those of `classes`; only dense ones for logits.
        hard, hard_weight: as of `losses.distillation_loss`.
    """
    z = logits.to(torch.promote_types(logits.dtype, torch.float32))
    p = soft.to(z.dtype)
    if name == "logits":
        v = temperature * p.clamp(min=SMALLEST).log()
        difference = (z - z.mean(-1, keepdim=True)) - (v - v.mean(-1, keepdim=True))
        loss = difference.square().sum() / (2 * z.shape[-1])
    else:
        log_q = torch.log_softmax(z / temperature, -1)
        if classes is not None and classes.shape[-1] < z.shape[-1]:
            rest = log_q.scatter(-1, classes, -torch.inf).logsumexp(-1, keepdim=True)
            log_q = torch.cat([log_q.gather(-1, classes), rest], -1)
            p = torch.cat([p, 1 - p.sum(-1, keepdim=True)], -1)
        elif classes is not None:
            p = torch.zeros_like(z).scatter_add_(-1, classes, p)
        log_p = p.clamp(min=SMALLEST).log()
        if name == "reverse":
            loss = temperature**2 * (log_q.exp() * (log_q - log_p)).sum()
        else:
            log_m = torch.logaddexp(log_p, log_q) - math.log(2)
            divergences = p * (log_p - log_m) + log_q.exp() * (log_q - log_m)
            loss = 2 * temperature**2 * divergences.sum()
    if hard is not None and hard_weight:
        loss = loss + fused_loss(z, None, hard, hard_weight=hard_weight)
    return loss


def loss_of_run(run: TrainingRun, logits: Tensor, loader: DataLoader, frames: Tensor) -> Tensor:
    """The loss that a run has chosen, for frames with numbers `frames`, int64 [B]."""
    soft, hard = loader.soft, loader.hard
    if run.loss is None or soft is None:
        raise ValueError("the run learns by the paper's loss")
    classes, probabilities = soft.batch(frames)
    targets = probabilities, None if hard is None else hard[frames]
    return other_loss(run.loss, logits, *targets, soft.temperature, run.hard_weight, classes)
