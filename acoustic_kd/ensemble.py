"""The ensemble: the mean of its members' tempered predictions (paper sections 2 and 4)."""

import torch
from torch import Tensor, nn

from acoustic_kd.losses import log_temper


@torch.inference_mode()
def mean_probabilities(
    members: list[nn.Module], windows: Tensor, temperature: float, bfloat16: bool = False
) -> Tensor:
    """Arithmetic mean of softmax(logits / temperature) over the members.

    Args:
        members: M models in evaluation mode, on the device of the windows.
        windows: [B, W·D].
        bfloat16: multiply matrices in bfloat16; the mean itself is always taken in float32.

    Returns:
        float32 [B, K]; rows sum to 1.
    """
    total: Tensor | None = None
    for member in members:
        with torch.autocast(windows.device.type, torch.bfloat16, enabled=bfloat16):
            logits = member(windows)
        probabilities = log_temper(logits.float(), temperature).exp_()
        total = probabilities if total is None else total.add_(probabilities)
    if total is None:
        raise ValueError("an ensemble needs at least one member")
    return total.div_(len(members))
