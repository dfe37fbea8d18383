"""The ensemble: the mean of its members' tempered predictions (paper sections 2 and 4)."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from acoustic_kd.settings import choices
from acoustic_kd.system.errors import UserError
from acoustic_kd.system.memory import rows_per_block

NO_MEMBER = "an ensemble needs at least one member"


@dataclass(frozen=True)
class Mean:
    """The mean of the members' predictions at a temperature, summed member by member.

    Attributes:
        temperature: T.
        kind: arithmetic, Σ_m w_m softmax(z_m / T); or geometric, the softmax of the mean
            Σ_m w_m z_m of the logits over T.
        weights: non-negative, one for each member; w is weights / sum of weights. None: w = 1 / M.
    """

    temperature: float
    kind: str = "arithmetic"
    weights: Sequence[float] | None = None

    def __post_init__(self) -> None:
        if self.kind not in (kinds := choices("soft_targets.mean")):
            raise ValueError(f"mean is '{self.kind}', expected {' or '.join(kinds)}")

    def check(self, members: int) -> None:
        """Refuse a number of members that does not fit the weights, or 0."""
        if not members:
            raise ValueError(NO_MEMBER)
        if self.weights is not None and len(self.weights) != members:
            raise UserError(
                f"there are {len(self.weights)} weights for {members} members of the ensemble; "
                "give each member one weight"
            )

    def add(self, total: Tensor | None, logits: Tensor, member: int) -> Tensor:
        """Add a member's logits [B, K] to the sum over the members before it, in place.

        Args:
            total: the sum; None for the first member.

        Returns:
            The new sum.
        """
        total = torch.zeros_like(logits) if total is None else total
        rows = rows_per_block(logits)
        for sums, block in zip(total.split(rows), logits.split(rows), strict=True):
            term = block / self.temperature
            if self.kind == "arithmetic":
                term = term.softmax(-1)
            if self.weights is not None:
                term *= self.weights[member]
            sums += term
        return total

    def finish(self, total: Tensor | None, members: int) -> Tensor:
        """The mean [B, K] from the sum over all M members; it overwrites the sum."""
        if total is None:
            raise ValueError(NO_MEMBER)
        total.div_(members if self.weights is None else sum(self.weights))
        return total if self.kind == "arithmetic" else total.softmax(-1)


@torch.no_grad()
def mean_of(
    logits: Iterable[Tensor],
    temperature: float,
    mean: str = "arithmetic",
    weights: Sequence[float] | None = None,
) -> Tensor:
    """The members' predictions at a temperature, averaged.

    Args:
        logits: float [B, K] of each of M members; read one at a time.
        mean, weights: `kind` and `weights` of `Mean`.

    Returns:
        [B, K] in the precision of the logits, without a gradient; rows sum to 1.
    """
    averaging = Mean(temperature, mean, weights)
    total, members = None, 0
    for member_logits in logits:
        if weights is None or members < len(weights):  # else `check` refuses below
            total = averaging.add(total, member_logits, members)
        members += 1
    averaging.check(members)
    return averaging.finish(total, members)
