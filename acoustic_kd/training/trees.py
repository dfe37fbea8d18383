"""Members whose senones are those of another decision tree."""

from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from acoustic_kd.features.frame_sequence import Classes
from acoustic_kd.settings import ModelConfig
from acoustic_kd.system.tensors import load_tensors
from acoustic_kd.training.model import settings_of
from acoustic_kd.training.networks import build_network, window_frames

CONVERSION = "conversion"  # name of the matrix in its file, and of the buffer
SMALLEST = 1e-30  # probability whose logarithm is taken


class Converted(nn.Module):
    """A network whose predictions are converted to the senones of the first tree.

    p(a) = Σ_b p(b) P(a | b), for senones a of the first tree and b of the network's.
    """

    conversion: Tensor

    def __init__(
        self, frames: int, features: int, classes: int, leaves: int, model: Mapping[str, Any]
    ) -> None:
        """
        Args:
            frames, features, classes: as every network of `model.class` gets them.
            leaves: senones of the network's own tree.
            model: its `ModelConfig`.
        """
        super().__init__()
        self.network = build_network(ModelConfig(**model), features, leaves)
        self.register_buffer(CONVERSION, torch.zeros(leaves, classes))

    def forward(self, windows: Tensor) -> Tensor:
        """Logarithms of probabilities [B, K] of windows [B, W, D]."""
        own = self.network(windows).float().softmax(-1)
        with torch.autocast(own.device.type, enabled=False):
            probabilities: Tensor = own @ self.conversion
        return probabilities.clamp_min(SMALLEST).log()


def convert(
    model: ModelConfig,
    matrix: Path,
    classes: Classes,
    network: nn.Module,
    description: dict[str, Any],
) -> tuple[nn.Module, dict[str, Any]]:
    """A trained network with its conversion, and its description.

    Args:
        model: settings of the network.
        matrix: file of the conversion.
        classes: of the first tree.
    """
    own = asdict(model)
    leaves, dimension = description["classes"], description["dimension"]
    converted = Converted(window_frames(model), dimension, classes.count, leaves, own)
    converted.network.load_state_dict(network.state_dict())
    converted.conversion.copy_(load_tensors(matrix)[0][CONVERSION])
    path, args = f"{__name__}:{Converted.__name__}", {"leaves": leaves, "model": own}
    settings = settings_of(model) | {"class": path, "args": args}
    changed = {"model": settings, "classes": classes.count, "inventory": classes.inventory}
    changed["best_dev_frame_accuracy"] = None  # it was that of the network's own tree
    return converted, description | changed
