"""Checkpoints: everything a killed run needs to go on, in one safetensors file."""

import json
from pathlib import Path
from typing import Any

from torch import Tensor
from torch.optim import Optimizer

from acoustic_kd.system.errors import UserError
from acoustic_kd.system.tensors import load_tensors, save_tensors

Parts = dict[str, dict[str, Tensor]]


def save_checkpoint(path: Path, state: dict[str, Any], digest: str, parts: Parts) -> None:
    """Write numbers (`state`) and tensors by part and name, whole or not at all.

    Args:
        digest: of everything that shapes the run; only a run of the same digest goes on from here.
    """
    tensors = {f"{part}.{name}": t for part, named in parts.items() for name, t in named.items()}
    save_tensors(path, tensors, {"state": json.dumps(state | {"digest": digest})})


def load_checkpoint(path: Path, digest: str) -> tuple[dict[str, Any], Parts] | None:
    """What `save_checkpoint` wrote, or None where there is no file."""
    if not path.exists():
        return None
    tensors, metadata = load_tensors(path)
    state = json.loads(metadata["state"])
    if state.pop("digest") != digest:
        raise UserError(f"{path}: belongs to other settings or data; delete it to start anew")
    parts: Parts = {}
    for key, tensor in tensors.items():
        part, _, name = key.partition(".")
        parts.setdefault(part, {})[name] = tensor
    return state, parts


def optimizer_tensors(optimizer: Optimizer) -> dict[str, Tensor]:
    """The optimizer's moments, as NUMBER.KEY → tensor."""
    return {
        f"{number}.{key}": value
        for number, values in optimizer.state_dict()["state"].items()
        for key, value in values.items()
    }


def restore_optimizer(optimizer: Optimizer, tensors: dict[str, Tensor]) -> None:
    """Put back what `optimizer_tensors` gave."""
    state = optimizer.state_dict()
    state["state"] = {}
    for name, tensor in tensors.items():
        number, _, key = name.partition(".")
        state["state"].setdefault(int(number), {})[key] = tensor
    optimizer.load_state_dict(state)
