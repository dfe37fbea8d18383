"""Adaptation of a model to one speaker, without transcripts: the second of two decoding passes.

The senones of the first pass's best paths are the targets. Scales and shifts alone are learnt: of
each input feature, and those of batch normalisation, a pair for each unit or channel; without it,
the biases. They are few, so minutes of speech suffice, and errors of the first pass do little harm.
Scales of units are the "learning hidden unit contributions" of Swietojanski and Renals (2014).
"""

import copy

import torch
from torch import Tensor, nn

from acoustic_kd.features.frame_sequence import NO_TARGET
from acoustic_kd.training.losses import fused_loss
from acoustic_kd.training.model import AcousticModel
from acoustic_kd.training.precision import forward
from acoustic_kd.training.schedule import cosine
from acoustic_kd.training.windows import Splicer

BATCH_FRAMES = 256


class ScaledInput(nn.Module):
    """A network whose input features have a scale and a shift each."""

    def __init__(self, network: nn.Module, dimension: int) -> None:
        super().__init__()
        self.network = network
        self.scale = nn.Parameter(torch.ones(dimension))
        self.shift = nn.Parameter(torch.zeros(dimension))

    def forward(self, windows: Tensor) -> Tensor:
        """Logits [B, K] of windows [B, W, D]."""
        scaled = windows * self.scale + self.shift
        logits: Tensor = self.network(scaled.to(windows.dtype))
        return logits


def adapt(
    model: AcousticModel,
    splicer: Splicer,
    senones: Tensor,
    epochs: int,
    learning_rate: float,
    bfloat16: bool,
) -> AcousticModel:
    """A copy of a model that is adapted to the speaker of some frames.

    Args:
        splicer: of all frames of the speaker.
        senones: int64 [T], the targets; NO_TARGET for frames to leave out. Without any target the
            copy is equal to the model.
        epochs: passes over the frames; the learning rate falls to zero along a cosine.
        learning_rate: the first one, of Adam.
    """
    adapted = copy.deepcopy(model).eval()  # batch normalisation keeps its mean and variance
    adapted.network = ScaledInput(adapted.network, int(model.description["dimension"]))
    args, classes = model.config.args or {}, int(model.description["classes"])
    outputs = args["leaves"] if model.config.tree > 1 else classes  # of the network's own tree
    learnt = scales_and_shifts(adapted, outputs)
    adapted.requires_grad_(False)
    frames = torch.nonzero(senones != NO_TARGET).flatten()
    steps, step = epochs * -(-len(frames) // BATCH_FRAMES), 0
    if not steps:
        return adapted
    optimizer = torch.optim.Adam([p.requires_grad_(True) for p in learnt])
    generator = torch.Generator().manual_seed(0)
    for _ in range(epochs):
        order = frames[torch.randperm(len(frames), generator=generator)]
        for batch in order.split(BATCH_FRAMES):
            optimizer.param_groups[0]["lr"] = learning_rate * cosine(step, steps)
            logits = forward(adapted, splicer.around(batch, adapted.config), bfloat16)
            (fused_loss(logits, None, senones[batch]) / len(batch)).backward()
            optimizer.step()
            optimizer.zero_grad()
            step += 1
    return adapted.requires_grad_(False)


def scales_and_shifts(network: nn.Module, classes: int) -> list[nn.Parameter]:
    """The parameters that `adapt` learns: all vectors but frozen ones and the outputs' biases.

    The biases of the outputs are the last vector of so many numbers as there are classes.
    """
    vectors = [p for p in network.parameters() if p.dim() == 1]
    outputs = [p for p in vectors if len(p) == classes][-1:]
    return [p for p in vectors if p.requires_grad and all(p is not bias for bias in outputs)]
