"""Tensors in safetensors files, from and to NumPy and PyTorch; PyTorch is not imported here."""

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

from acoustic_kd.system.errors import UserError
from acoustic_kd.system.files import AGAIN, atomic_path

if TYPE_CHECKING:
    from torch import Tensor


CHECK = "sha256"  # name of the tensor with the check sum of the others


def save_tensors(
    path: Path,
    tensors: "Mapping[str, np.ndarray | Tensor]",
    metadata: dict[str, str],
    checked: bool = True,
) -> None:
    """Write tensors as safetensors, whole or not at all; the same ones give the same bytes.

    Args:
        metadata: at most one entry, because safetensors writes several in any order.
        checked: whether the file has a check sum, as one more tensor.
    """
    arrays = {
        name: tensor if isinstance(tensor, np.ndarray) else tensor.detach().cpu().numpy()
        for name, tensor in tensors.items()
    }
    contiguous = {name: np.asarray(array, order="C") for name, array in arrays.items()}
    if checked:
        contiguous[CHECK] = _check_sum(contiguous, metadata)
    try:
        with atomic_path(path) as temporary:
            save_file(contiguous, temporary, metadata)
    except SafetensorError as error:  # a full disk, for one
        raise UserError(f"{path}: cannot be written ({error})") from None


def load_tensors(
    path: Path, framework: Literal["pt", "np"] = "pt"
) -> tuple[dict[str, Any], dict[str, str]]:
    """Read a safetensors file: its tensors, as PyTorch's or NumPy's, and its metadata.

    The check sum is compared if the file has one.
    """
    try:
        with safe_open(path, framework) as file:
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
            metadata = file.metadata() or {}
    except FileNotFoundError:
        raise UserError(f"{path}: no such file; run the stage that writes it") from None
    except (SafetensorError, OSError) as error:
        raise UserError(f"{path}: damaged ({error}); delete it and run the stage again") from None
    if (check := tensors.pop(CHECK, None)) is not None:
        arrays = {name: np.asarray(tensor) for name, tensor in tensors.items()}
        if bytes(np.asarray(check)) != bytes(_check_sum(arrays, metadata)):
            raise UserError(f"{path}: damaged (its check sum differs); {AGAIN}")
    return tensors, metadata


def _check_sum(arrays: Mapping[str, np.ndarray], metadata: dict[str, str]) -> np.ndarray:
    """SHA-256 of tensors with their names, types and shapes, and of metadata: uint8 [32]."""
    digest = hashlib.sha256(json.dumps(metadata, sort_keys=True).encode())
    for name, array in sorted(arrays.items()):
        digest.update(json.dumps([name, str(array.dtype), array.shape]).encode())
        digest.update(np.ascontiguousarray(array).data)
    return np.frombuffer(digest.digest(), np.uint8)
