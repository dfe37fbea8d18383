"""A trained acoustic model, its files and its errors."""

import math
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any, TypedDict

import torch
from torch import Tensor, nn

from acoustic_kd.settings import ModelConfig
from acoustic_kd.system.errors import UserError
from acoustic_kd.system.files import read_json, write_json
from acoustic_kd.system.hub import local_or_hub
from acoustic_kd.system.json_types import WrongType, reader
from acoustic_kd.system.records import verify_files
from acoustic_kd.system.tensors import load_tensors, save_tensors
from acoustic_kd.training.networks import build_network
from acoustic_kd.training.precision import logits_of, sum_dtype
from acoustic_kd.training.windows import Splicer

FILES = WEIGHTS, DESCRIPTION = "model.safetensors", "model.json"  # of a model
EVALUATION_FRAMES = 8192  # at once, unless memory permits fewer


class AcousticModel(nn.Module):
    """A network that classifies frames by the windows around them, with its description.

    Attributes:
        network: windows [B, W, D] → logits [B, K]; any module.
        config: the settings of the network and its window.
        description: the contents of `model.json`: `dimension` (D), `classes` (K), `parameters`, …
    """

    def __init__(
        self, network: nn.Module, config: ModelConfig, description: dict[str, Any]
    ) -> None:
        super().__init__()
        self.network, self.config, self.description = network, config, description

    def forward(self, windows: Tensor) -> Tensor:
        """Logits [B, K] of windows [B, W, D]."""
        logits: Tensor = self.network(windows)
        return logits

    @classmethod
    def from_pretrained(cls, name: str | Path, network: nn.Module | None = None) -> "AcousticModel":
        """Read a model, in evaluation mode, that `save_pretrained` or a recipe wrote.

        Args:
            name: a directory such as `exp/an4/distilled/01`, or a repository of the Hugging Face
                hub, such as `user/model`.
            network: gets the weights; needed if the model was trained from an object whose class
                and arguments are not recorded (`Trainer(model=…)`).

        Raises:
            UserError: there is no such model, or it is damaged.
        """
        directory = local_or_hub(name, FILES)
        return load_model(directory, network)

    def save_pretrained(self, directory: str | Path) -> None:
        """Write the model to a directory: `model.safetensors` and `model.json`."""
        Path(directory).mkdir(parents=True, exist_ok=True)
        save_model(Path(directory), self.network, self.description)

    def in_bfloat16(self) -> "AcousticModel":
        """Round the weights of its products, so that not every forward pass does it again."""
        for module in self.modules():
            if isinstance(module, nn.Linear | nn.Conv1d | nn.Conv2d):
                module.to(torch.bfloat16)
        return self


class _More(TypedDict, total=False):
    """The other entries of `model.json` that are read."""

    inventory: str
    parameters: int
    bfloat16: bool
    object: bool
    digest: str


class _Entries(_More):
    """The entries of `model.json` that are needed to read the weights."""

    model: ModelConfig
    dimension: int
    classes: int


def save_model(directory: Path, network: nn.Module, description: dict[str, Any]) -> None:
    """Write the weights to `model.safetensors`, and their description to `model.json`."""
    path = Path(directory) / WEIGHTS
    weights = {
        name: tensor.float() if tensor.dtype == torch.bfloat16 else tensor  # NumPy has no bfloat16
        for name, tensor in network.state_dict().items()
    }
    save_tensors(path, weights, {"format": "pt"}, checked=False)
    write_json(Path(directory) / DESCRIPTION, description)


def settings_of(config: ModelConfig) -> dict[str, Any]:
    """The entry `model` of `model.json`: key → value."""
    return {name.rstrip("_"): value for name, value in asdict(config).items()}


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
        text = f"{path}: does not describe a model ({error}); train the model again"
        raise UserError(text) from None
    return config, description


def load_model(directory: Path, network: nn.Module | None = None) -> AcousticModel:
    """Read a model that `save_model` wrote, in evaluation mode.

    Its files are compared with the record of its training, if there is one.

    Args:
        network: as in `AcousticModel.from_pretrained`.
    """
    verify_files(directory, FILES, how="the stage that trains it")
    config, description = read_description(directory)
    path = Path(directory) / WEIGHTS
    weights = load_tensors(path)[0]
    if network is None:
        if description.get("object"):
            raise UserError(
                f"{path}: the network was given to the trainer as an object; give one to read it: "
                "AcousticModel.from_pretrained(directory, network=…)"
            )
        network = _without_weights(path, config, description, weights)
    _check_sizes(path, network, weights)
    if any(tensor.is_meta for tensor in network.state_dict().values()):
        network.to_empty(device="cpu")
    network.load_state_dict(weights)
    learnt = {name for name, _ in network.named_parameters(remove_duplicate=False)}
    for name, tensor in weights.items():
        ends = torch.aminmax(tensor) if tensor.numel() else ()
        # A buffer may be a mask with -inf in it.
        if any(map(math.isnan, ends)) or (name in learnt and any(map(math.isinf, ends))):
            text = f"damaged: '{name}' has numbers that are not finite; train the model again"
            raise UserError(f"{path}: {text}")
    return AcousticModel(network, config, description).eval()


def _without_weights(
    path: Path, config: ModelConfig, description: dict[str, Any], weights: Mapping[str, Tensor]
) -> nn.Module:
    """The network of a description; one of the package on the meta device."""
    sizes = description["dimension"], description["classes"]
    if config.class_ is not None:  # it may compute buffers that are not stored
        return build_network(config, *sizes)
    layers = {
        name.split(".")[1]
        for name, weight in weights.items()
        if name.startswith("hidden.") and name.endswith(".weight") and weight.dim() == 2
    }
    if config.layers != len(layers):  # before a million layers are made
        raise _misfit(path, f"{len(layers)} hidden layers, not {config.layers}")
    try:
        with torch.device("meta"):
            return build_network(config, *sizes)
    except (RuntimeError, TypeError, ValueError, OverflowError) as error:
        raise _misfit(path, " ".join(str(error).split())) from None


def _check_sizes(path: Path, network: nn.Module, weights: Mapping[str, Tensor]) -> None:
    """Raise a UserError unless the weights have the names and the sizes of the network's."""
    found, wanted = (
        {name: list(tensor.shape) for name, tensor in tensors.items()}
        for tensors in (weights, network.state_dict())
    )
    for name in sorted(found.keys() | wanted.keys()):
        if found.get(name) != wanted.get(name):
            raise _misfit(path, f"size of '{name}': {found.get(name)}, not {wanted.get(name)}")


def _misfit(path: Path, reason: str) -> UserError:
    return UserError(f"{path}: weights do not fit {DESCRIPTION} ({reason}); train the model again")


@torch.inference_mode()
def sum_errors(
    model: nn.Module,
    windows: Splicer,
    targets: Tensor,
    frames: Tensor,
    bfloat16: bool,
    max_batch: int,
) -> Tensor:
    """Cross-entropy and number of correct frames, both summed over frames: [2], of `sum_dtype`.

    Args:
        targets: int64 [T].
        frames: int64, the numbers of the frames to measure.
        max_batch: frames at once.
    """
    sums = torch.zeros(2, dtype=sum_dtype(targets.device), device=targets.device)
    for batch in frames.split(min(EVALUATION_FRAMES, max_batch)):
        logits, correct = logits_of(model, windows(batch), bfloat16), targets[batch]
        sums[0] += nn.functional.cross_entropy(logits, correct, reduction="sum")
        sums[1] += (logits.argmax(-1) == correct).sum()
    return sums
