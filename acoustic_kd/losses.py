"""The distillation loss (paper section 2).

A network with logits z gives class i the probability q_i = exp(z_i / T) / Σ_j exp(z_j / T) at the
temperature T (paper equation 1). The distilled model learns two things at once: the soft targets
p, which are an ensemble's probabilities at a temperature, at that same temperature; and the hard
targets, at temperature 1:

    L = T² · CE(p, q(T)) + α · CE(hard, q(1))

Per frame, the gradient of the soft term by z_i is T · (q_i - p_i): T² makes up for the 1/T² by
which tempering on both sides shrinks it (paper equation 2 and the remark after it), so α need not
change with the temperature. At high temperature, zero-mean logits v and z on either side make
T² · 1/T · (q_i - p_i) tend to (z_i - v_i) / K (equation 4): the distilled model matches logits.

A frame that nobody transcribed has no hard target: of it, the soft term alone is learnt.

Shapes: B frames, K classes, k kept classes.
"""

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor

from acoustic_kd.frames import UNKNOWN


def soft_cross_entropy(logits: Tensor, probabilities: Tensor, temperature: float) -> Tensor:
    """T² · CE(p, q(T)) of each frame, from dense soft targets.

    Args:
        logits: [B, K].
        probabilities: [B, K], soft targets at this temperature; rows sum to 1.
        temperature: T > 0.

    Returns:
        [B], natural-log units.
    """
    log_q = F.log_softmax(logits / temperature, dim=-1)
    return -(temperature**2) * (probabilities * log_q).sum(-1)


def sparse_soft_cross_entropy(
    logits: Tensor, classes: Tensor, probabilities: Tensor, temperature: float
) -> Tensor:
    """T² · CE(p, q(T)) of each frame, from the k most probable classes and the mass of the rest.

    The classes that were not kept form one bucket: its soft target is 1 - Σ p over the kept ones
    (nothing where that is no more than the sum's rounding), its prediction 1 - Σ q. Nothing is said
    about how the bucket's mass is shared, so within it the distilled model keeps its own opinion.
    With k = K this is the dense loss.

    Args:
        logits: [B, K].
        classes: int64 [B, k], kept classes; one that is repeated must have probability 0 there.
        probabilities: [B, k], their soft targets at this temperature; the sum is at most 1.
        temperature: T > 0.

    Returns:
        [B], natural-log units.
    """
    scaled = logits / temperature
    normaliser = scaled.logsumexp(-1)
    kept = scaled.gather(-1, classes) - normaliser[:, None]
    loss = -(probabilities * kept).sum(-1)
    if classes.shape[-1] < logits.shape[-1]:
        tail = 1 - probabilities.sum(-1)
        rounding = classes.shape[-1] * torch.finfo(tail.dtype).eps
        tail = tail.masked_fill(tail <= rounding, 0)
        # From the other logits themselves: 1 - Σ q loses all digits where q is nearly 1.
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
        hard: int64 [B], UNKNOWN for a frame that is not transcribed: its hard term is 0, in value
            and gradient; None where no frame is.
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
            logits, hard, ignore_index=UNKNOWN, reduction="none"
        )
    return loss


def log_temper(logits: Tensor, temperature: float) -> Tensor:
    """log q(T) of logits [..., K]: natural-log probabilities at a temperature."""
    return torch.log_softmax(logits / temperature, dim=-1)
