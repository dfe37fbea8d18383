"""The ensemble: the mean of its members' tempered predictions (paper sections 2 and 4)."""

from collections.abc import Iterable, Sequence

import torch
from torch import Tensor, nn

from acoustic_kd.errors import UserError
from acoustic_kd.losses import log_temper
from acoustic_kd.precision import logits_of

MEANS = ("arithmetic", "geometric")


def mean_of(
    logits: Iterable[Tensor],
    temperature: float,
    mean: str = "arithmetic",
    weights: Sequence[float] | None = None,
) -> Tensor:
    """The members' predictions at a temperature, averaged.

    Args:
        logits: float [B, K] of each of M members; taken one at a time.
        mean: arithmetic, Σ_m w_m softmax(z_m / T); or geometric, which is the softmax of the mean
            Σ_m w_m z_m of the logits over T.
        weights: non-negative, one a member, divided by their sum to give w; None: 1 / M each.

    Returns:
        [B, K] in the precision of the logits; rows sum to 1.

    Raises:
        UserError: there are not as many weights as members.
    """
    if mean not in MEANS:
        raise ValueError(f"mean is '{mean}', expected {' or '.join(MEANS)}")
    total, members = None, 0
    for one in logits:
        part = log_temper(one, temperature).exp_() if mean == "arithmetic" else one / temperature
        if weights is not None and members < len(weights):
            part *= weights[members]
        total = part if total is None else total.add_(part)
        members += 1
    if total is None:
        raise ValueError("an ensemble needs at least one member")
    if weights is not None and len(weights) != members:
        raise UserError(f"there are {len(weights)} weights for {members} members of the ensemble")
    total.div_(members if weights is None else sum(weights))
    return total if mean == "arithmetic" else total.softmax(-1)


@torch.inference_mode()
def mean_probabilities(
    members: list[nn.Module],
    windows: Tensor,
    temperature: float,
    bfloat16: bool = False,
    mean: str = "arithmetic",
    weights: Sequence[float] | None = None,
) -> Tensor:
    """`mean_of` the members' predictions for some windows.

    Args:
        members: M models in evaluation mode, on the device of the windows.
        windows: [B, W·D].
        bfloat16: multiply matrices in bfloat16; the mean itself is always taken in float32.

    Returns:
        float32 [B, K]; rows sum to 1.
    """
    return mean_of((logits_of(m, windows, bfloat16) for m in members), temperature, mean, weights)
