"""The acoustic model: a deep network of ReLU layers over a window of frames (paper section 4),
and the precision in which its matrices are multiplied.
"""

import math
from collections.abc import Callable, Mapping
from itertools import pairwise
from pathlib import Path
from typing import Any, TypedDict

import numpy as np
import torch
from torch import Tensor, nn

from acoustic_kd.settings import ModelConfig
from acoustic_kd.system import environment
from acoustic_kd.system.errors import UserError
from acoustic_kd.system.files import read_json, write_json
from acoustic_kd.system.json_types import WrongType, reader
from acoustic_kd.system.records import verify_files
from acoustic_kd.system.tensors import load_tensors, save_tensors

FILES = WEIGHTS, DESCRIPTION = "model.safetensors", "model.json"  # of a model
EVALUATION_FRAMES = 8192  # at once, unless memory permits fewer


class Splicer(nn.Module):
    """Gathers the window around each frame, on the device the features are on.

    A frame's window holds `left` frames before it and `right` after it; beyond an utterance's ends
    its first and last frame are repeated. Features are stored once, windows never.
    """

    features: Tensor
    first: Tensor
    last: Tensor
    steps: Tensor

    def __init__(self, features: Tensor, offsets: Tensor, left: int, right: int) -> None:
        """
        Args:
            features: [T, D], the utterances' frames one after the other.
            offsets: int64 [U + 1], utterance u is frames offsets[u] … offsets[u + 1] - 1.
        """
        super().__init__()
        lengths = torch.diff(offsets)
        first = torch.repeat_interleave(offsets[:-1], lengths).int()
        last = torch.repeat_interleave(offsets[1:] - 1, lengths).int()
        self.register_buffer("features", features)
        self.register_buffer("first", first)
        self.register_buffer("last", last)
        self.register_buffer("steps", torch.arange(-left, right + 1, dtype=torch.int32))

    def forward(self, frames: Tensor) -> Tensor:
        """Windows [B, W·D] around the frames with numbers `frames`, int64 [B]."""
        index = frames.int()[:, None] + self.steps
        index = index.clamp(self.first[frames, None], self.last[frames, None])
        size = len(self.steps) * self.features.shape[1]  # -1 fails where B = 0
        return self.features[index.flatten()].view(len(frames), size)


def make_splicer(
    config: ModelConfig, features: Tensor, offsets: np.ndarray, bfloat16: bool
) -> Splicer:
    """A `Splicer` of some frames for a model, in the precision of its products."""
    features = features.to(torch.bfloat16 if bfloat16 else torch.float32)
    return Splicer(features, torch.as_tensor(offsets), config.left_frames, config.right_frames)


class Dropout(nn.Module):
    """Dropout whose masks are cheap on a CPU: a random byte a unit instead of a random float.

    On a CPU PyTorch's own dropout takes over a quarter of a training step of a small model. The
    price is that the rate is rounded to 1/256; the scale of the kept units fits the rounded rate.
    """

    def __init__(self, rate: float) -> None:
        super().__init__()
        self.rate = rate
        self.dropped = min(255, round(256 * rate))  # of 256

    def forward(self, units: Tensor) -> Tensor:
        """In training mode, set a share `rate` of the units to zero and scale up the others."""
        if not self.training:
            return units
        if units.device.type != "cpu":
            return nn.functional.dropout(units, self.rate)
        words = torch.empty((units.numel() + 7) // 8, dtype=torch.int64).random_(-(2**63), None)
        kept = words.view(torch.uint8)[: units.numel()] >= self.dropped
        return units * kept.view(units.shape).to(units.dtype).mul_(256 / (256 - self.dropped))


class AcousticModel(nn.Module):
    """`layers` hidden layers of `width` ReLU units with dropout, and a linear layer to the classes.

    The paper's model is 8 × 2560 over 26 × 40 inputs and 14,000 senones.
    """

    def __init__(
        self,
        inputs: int,
        classes: int,
        layers: int,
        width: int,
        dropout: float,
        input_dropout: float = 0.0,
    ) -> None:
        super().__init__()
        sizes = [inputs] + layers * [width]
        hidden: list[nn.Module] = [Dropout(input_dropout)] if input_dropout > 0 else []
        for fan_in, fan_out in pairwise(sizes):
            hidden += [nn.Linear(fan_in, fan_out), nn.ReLU(inplace=True)]
            # Without dropout no layer, which would draw and copy.
            hidden += [Dropout(dropout)] if dropout > 0 else []
        self.hidden = nn.Sequential(*hidden)
        self.output = nn.Linear(sizes[-1], classes)
        self.apply(_initialise)

    def forward(self, windows: Tensor) -> Tensor:
        """Logits [B, K] of windows [B, W·D]."""
        logits: Tensor = self.output(self.hidden(windows))
        return logits


def _initialise(module: nn.Module) -> None:
    """He initialisation: keeps the scale of activations through deep ReLU layers."""
    if isinstance(module, nn.Linear):
        nn.init.kaiming_normal_(module.weight, nonlinearity="relu")
        nn.init.zeros_(module.bias)


def build_model(config: ModelConfig, dimension: int, classes: int) -> AcousticModel:
    """A fresh model for frames of `dimension` features and `classes` classes."""
    window = config.left_frames + 1 + config.right_frames
    return AcousticModel(
        window * dimension,
        classes,
        config.layers,
        config.width,
        config.dropout,
        config.input_dropout,
    )


def training_bytes(config: ModelConfig, dimension: int, classes: int) -> int:
    """The memory that training a model needs: weights, their gradient, and two moments of Adam."""
    inputs = (config.left_frames + 1 + config.right_frames) * dimension
    sizes = [inputs, *config.layers * [config.width], classes]
    weights = sum((fan_in + 1) * fan_out for fan_in, fan_out in pairwise(sizes))
    return 4 * 4 * weights


@torch.no_grad()
def limit_norms(model: AcousticModel, limit: float) -> None:
    """Scale the weights into each hidden unit to the Euclidean norm `limit`, if they are longer.

    This constraint is used with dropout in the paper's experiments on MNIST (section 3).
    """
    for layer in model.hidden:
        if isinstance(layer, nn.Linear):
            norms = torch.linalg.vector_norm(layer.weight, dim=1, keepdim=True)
            layer.weight.mul_((limit / norms).clamp_(max=1))


def count_parameters(model: nn.Module) -> int:
    """The number of weights and biases."""
    return sum(p.numel() for p in model.parameters())


class _More(TypedDict, total=False):
    """The other entries of `model.json` that are read."""

    name: str
    inventory: str
    parameters: int
    bfloat16: bool
    best_dev_frame_accuracy: float | None
    digest: str


class _Entries(_More):
    """The entries of `model.json` that are needed to read the weights."""

    model: ModelConfig
    dimension: int
    classes: int


def save_model(directory: Path, model: AcousticModel, description: dict[str, Any]) -> None:
    """Write the weights to `model.safetensors`, and their description to `model.json`."""
    path = Path(directory) / WEIGHTS
    save_tensors(path, model.state_dict(), {"format": "pt"}, checked=False)
    write_json(Path(directory) / DESCRIPTION, description)


def read_description(directory: Path, *needed: str) -> tuple[ModelConfig, dict[str, Any]]:
    """The settings of a model that `save_model` wrote, and its description.

    Args:
        needed: entries that it must have, beside those that shape the weights.
    """
    path = Path(directory) / DESCRIPTION
    description = read_json(path)
    try:
        entries = reader(_Entries)(description)
        config = entries["model"]
        if min(config.layers, config.width, entries["dimension"], entries["classes"]) < 1:
            raise WrongType("a size is below 1")
        if min(config.left_frames, config.right_frames) < 0:
            raise WrongType("a number of frames is negative")
        for name in needed:
            if name not in description:
                raise WrongType("is missing", name)
    except WrongType as error:
        raise UserError(
            f"{path}: does not describe a model ({error}); train the model again"
        ) from None
    return config, description


def load_model(directory: Path) -> tuple[AcousticModel, dict[str, Any]]:
    """Read a model that `save_model` wrote, in evaluation mode, and its description.

    Its files are compared with the record of its training, if there is one.
    """
    verify_files(directory, FILES, how="the stage that trains it")
    config, description = read_description(directory)
    path = Path(directory) / WEIGHTS
    weights = load_tensors(path)[0]
    model = _without_weights(path, config, description, weights)
    model.to_empty(device="cpu").load_state_dict(weights)
    for name, tensor in weights.items():
        if not all(math.isfinite(end) for end in torch.aminmax(tensor)):
            raise UserError(
                f"{path}: damaged: '{name}' has numbers that are not finite; train the model again"
            )
    return model.eval(), description


def _without_weights(
    path: Path, config: ModelConfig, description: dict[str, Any], weights: Mapping[str, Tensor]
) -> AcousticModel:
    """A model on the meta device, if its weights have the sizes that its description says."""
    layers = sum(name.startswith("hidden.") and name.endswith(".weight") for name in weights)
    try:
        if config.layers != layers:  # before a million layers are made
            raise ValueError(f"{layers} hidden layers, not {config.layers}")
        with torch.device("meta"):
            model = build_model(config, description["dimension"], description["classes"])
        expected = model.state_dict()
        for name in sorted(expected.keys() | weights.keys()):
            found, wanted = (
                list(tensors[name].shape) if name in tensors else None
                for tensors in (weights, expected)
            )
            if found != wanted:
                raise ValueError(f"size of '{name}': {found}, not {wanted}")
    except (RuntimeError, TypeError, ValueError, OverflowError) as error:
        reason = " ".join(str(error).split())
        raise UserError(
            f"{path}: weights do not fit {DESCRIPTION} ({reason}); train the model again"
        ) from None
    return model


def use_bfloat16(setting: bool | None, device: torch.device) -> bool:
    """Whether to multiply in bfloat16: by the setting, else by the environment variable, else by
    what the device can do.

    Without instructions for it a CPU's bfloat16 products are tens of times slower than float32's.
    """
    if setting is not None:
        return setting
    if (wanted := environment.bfloat16()) is not None:
        return wanted
    if device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    capabilities = torch.cpu.get_capabilities()
    names = ("amx_bf16", "avx512_bf16", "bf16", "sve_bf16")  # x86, x86, Arm, Arm
    return device.type == "cpu" and any(capabilities.get(name, False) for name in names)


def forward(model: Callable[[Tensor], Tensor], windows: Tensor, bfloat16: bool) -> Tensor:
    """Logits [B, K] of windows [B, W·D], in the precision in which matrices are multiplied."""
    if not bfloat16:  # windows and weights are float32: entering autocast would only cost time
        return model(windows)
    with torch.autocast(windows.device.type, torch.bfloat16):
        return model(windows)


def logits_of(model: Callable[[Tensor], Tensor], windows: Tensor, bfloat16: bool) -> Tensor:
    """`forward`, with the logits in float32."""
    return forward(model, windows, bfloat16).float()


@torch.inference_mode()
def sum_errors(
    model: nn.Module,
    windows: Splicer,
    targets: Tensor,
    frames: Tensor,
    bfloat16: bool,
    max_batch: int,
) -> Tensor:
    """Cross-entropy and number of correct frames, both summed over frames: float64 [2].

    Args:
        targets: int64 [T].
        frames: int64, the numbers of the frames to measure.
        max_batch: frames at once.
    """
    sums = torch.zeros(2, dtype=torch.float64, device=targets.device)
    for batch in frames.split(min(EVALUATION_FRAMES, max_batch)):
        logits, correct = logits_of(model, windows(batch), bfloat16), targets[batch]
        sums[0] += nn.functional.cross_entropy(logits, correct, reduction="sum")
        sums[1] += (logits.argmax(-1) == correct).sum()
    return sums
