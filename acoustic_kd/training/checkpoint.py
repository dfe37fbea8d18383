"""Checkpoints: everything that a killed run needs to resume, in one safetensors file."""

import json
from dataclasses import asdict, dataclass
from pathlib import Path

from accelerate import Accelerator
from torch import Tensor, nn
from torch.optim import Optimizer

from acoustic_kd.system.errors import UserError
from acoustic_kd.system.json_types import WrongType, reader
from acoustic_kd.system.tensors import load_tensors, save_tensors
from acoustic_kd.training.processes import from_first, tensors_from_first
from acoustic_kd.training.schedule import State

CHECKPOINT = "checkpoint.safetensors"


def save_checkpoint(
    path: Path,
    digest: str,
    state: State,
    networks: dict[str, nn.Module],
    optimizer: Optimizer,
    best_weights: dict[str, Tensor],
) -> None:
    """Write a checkpoint, whole or not at all.

    Args:
        digest: of everything that shapes the run; only a run of the same digest can resume.
        networks: by name: the trained one, and the one of averaged weights if there is one.
    """
    moments = {
        f"{number}.{key}": value
        for number, values in optimizer.state_dict()["state"].items()
        for key, value in values.items()
    }
    weights = {name: network.state_dict() for name, network in networks.items()}
    parts = {**weights, "best": best_weights, "optimizer": moments}
    tensors = {f"{part}.{name}": t for part, named in parts.items() for name, t in named.items()}
    save_tensors(path, tensors, {"state": json.dumps(asdict(state) | {"digest": digest})})


@dataclass(frozen=True)
class Checkpoint:
    """A checkpoint that was read.

    Attributes:
        state: of the run.
        parts: of the networks by name, `best` and `optimizer`: name → tensor.
    """

    path: Path
    state: State
    parts: dict[str, dict[str, Tensor]]

    def restore(self, networks: dict[str, nn.Module], optimizer: Optimizer) -> dict[str, Tensor]:
        """Restore networks and optimizer; returns the best weights."""
        try:
            for name, network in networks.items():
                network.load_state_dict(self.parts[name])
            _restore_optimizer(optimizer, self.parts["optimizer"])
        except (RuntimeError, ValueError, LookupError):
            text = "does not fit the model; delete it to start anew"
            raise UserError(f"{self.path}: {text}") from None
        return self.parts["best"]


def read_checkpoint(accelerator: Accelerator, path: Path, digest: str) -> Checkpoint | None:
    """The checkpoint of a run, as the first process sees it; None where it sees no file.

    Args:
        digest: of everything that shapes the run.
    """
    tensors: dict[str, Tensor] = {}

    def read() -> str | None:
        if not path.exists():
            return None
        loaded, metadata = load_tensors(path)
        tensors.update(loaded)
        return metadata.get("state", "")

    text = from_first(accelerator, read)
    if text is None:
        return None
    try:
        values = json.loads(text)
        written_for, state = values.pop("digest"), reader(State)(values)
    except (KeyError, ValueError, AttributeError, RecursionError, WrongType):
        raise UserError(f"{path}: not a checkpoint; delete it to start anew") from None
    if written_for != digest:
        text = "checkpoint was written with other settings or data; delete it to start anew"
        raise UserError(f"{path}: {text}")
    parts: dict[str, dict[str, Tensor]] = {"best": {}, "optimizer": {}}
    for key, tensor in tensors_from_first(accelerator, tensors).items():
        part, _, name = key.partition(".")
        parts.setdefault(part, {})[name] = tensor
    return Checkpoint(path, state, parts)


def _restore_optimizer(optimizer: Optimizer, tensors: dict[str, Tensor]) -> None:
    """Put back the optimizer's moments: NUMBER.KEY → tensor."""
    parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    state = optimizer.state_dict()
    state["state"] = {}
    for name, tensor in tensors.items():
        number, _, key = name.partition(".")
        if key != "step" and tensor.shape != parameters[int(number)].shape:
            raise ValueError(f"{name} has another shape than its parameter")
        state["state"].setdefault(int(number), {})[key] = tensor
    optimizer.load_state_dict(state)
