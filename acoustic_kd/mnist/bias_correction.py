"""Correct the biases of a net whose transfer set lacks some classes (paper section 3).

Where a class is missing from the transfer set, or only a few are there, the distilled net still
knows from the soft targets what the others look like; but its biases follow how often classes occur
in the transfer set. One number, added to the logits of the classes concerned, corrects that.

Shapes: N images, K classes.
"""

import torch
from torch import Tensor

MAX_SHIFT = 100.0  # either way


def shifted(logits: Tensor, classes: tuple[int, ...], shift: float) -> Tensor:
    """`logits` [N, K] with `shift` added to those of `classes`."""
    moved = logits.clone()
    moved[:, list(classes)] += shift
    return moved


def prior_shift(
    logits: Tensor, classes: tuple[int, ...], prior: float, temperature: float
) -> float:
    """The shift that makes a net's mean probability of some classes equal to their known prior.

    It needs no labels and no image of the classes: it is found on the transfer set, at the
    temperature of the soft targets, where each class has a share in every image.

    Args:
        logits: [N, K], of the transfer set.
        prior: of the classes together, in the task the net is made for; between 0 and 1.
    """
    low, high = -MAX_SHIFT, MAX_SHIFT
    while high - low > 1e-4:  # the mean probability grows with the shift
        middle = (low + high) / 2
        moved = shifted(logits, classes, middle)
        mass = (moved / temperature).softmax(-1)[:, list(classes)].sum(-1).mean()
        low, high = (middle, high) if mass < prior else (low, middle)
    return (low + high) / 2


def best_shift(logits: Tensor, labels: Tensor, classes: tuple[int, ...]) -> float:
    """The shift with the fewest errors on labelled images, as the paper took it on its test set.

    Args:
        logits: [N, K].
        labels: int64 [N].

    Returns:
        The middle of the best interval; the narrowest shift where there are several.
    """
    inside = torch.zeros(logits.shape[1], dtype=torch.bool)
    inside[list(classes)] = True
    best_in = logits.masked_fill(~inside, -torch.inf).max(-1)
    best_out = logits.masked_fill(inside, -torch.inf).max(-1)
    # An image is given to one of the classes as soon as the shift exceeds its margin.
    margins, order = (best_out.values - best_in.values).sort()
    change = (best_in.indices != labels).long() - (best_out.indices != labels).long()
    errors = torch.cat([torch.zeros(1, dtype=torch.long), change[order].cumsum(0)])
    ends = margins.new_tensor([-MAX_SHIFT, MAX_SHIFT])
    edges = torch.cat([ends[:1], margins.clamp(-MAX_SHIFT, MAX_SHIFT), ends[1:]])
    middles = (edges[:-1] + edges[1:]) / 2
    # No shift lies between equal margins.
    possible = edges[1:] > edges[:-1]
    fewest = errors[possible].min()
    candidates = middles[possible & (errors == fewest)]
    return float(candidates[candidates.abs().argmin()])
