"""Checkpoints: everything that a killed run needs to resume, in one safetensors file."""

import json
from dataclasses import asdict
from pathlib import Path

from torch import Tensor, nn
from torch.optim import Optimizer

from acoustic_kd.system.errors import UserError
from acoustic_kd.system.json_types import WrongType, reader
from acoustic_kd.system.tensors import load_tensors, save_tensors
from acoustic_kd.training.schedule import State


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


def load_checkpoint(
    path: Path, digest: str, networks: dict[str, nn.Module], optimizer: Optimizer
) -> tuple[State, dict[str, Tensor]] | None:
    """Restore networks and optimizer from a checkpoint; None where there is no file.

    Returns:
        The state of the run, and the best weights.
    """
    if not path.exists():
        return None
    tensors, metadata = load_tensors(path)
    try:
        values = json.loads(metadata["state"])
        written_for, state = values.pop("digest"), reader(State)(values)
    except (KeyError, ValueError, AttributeError, RecursionError, WrongType):
        raise UserError(f"{path}: not a checkpoint; delete it to start anew") from None
    if written_for != digest:
        text = "checkpoint was written with other settings or data; delete it to start anew"
        raise UserError(f"{path}: {text}")
    parts: dict[str, dict[str, Tensor]] = {"best": {}, "optimizer": {}}
    for key, tensor in tensors.items():
        part, _, name = key.partition(".")
        parts.setdefault(part, {})[name] = tensor
    try:
        for name, network in networks.items():
            network.load_state_dict(parts[name])
        _restore_optimizer(optimizer, parts["optimizer"])
    except (RuntimeError, ValueError, LookupError):
        raise UserError(f"{path}: does not fit the model; delete it to start anew") from None
    return state, parts["best"]


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
