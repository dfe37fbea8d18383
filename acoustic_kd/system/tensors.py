"""Tensors in safetensors files, from and to NumPy and PyTorch; PyTorch is not imported here."""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

from acoustic_kd.system.errors import UserError
from acoustic_kd.system.files import atomic_path

if TYPE_CHECKING:
    from torch import Tensor


def save_tensors(
    path: Path, tensors: "Mapping[str, np.ndarray | Tensor]", metadata: dict[str, str]
) -> None:
    """Write tensors as safetensors, whole or not at all; the same ones give the same bytes.

    Args:
        metadata: at most one entry, because safetensors writes several in any order.
    """
    arrays = {
        name: tensor if isinstance(tensor, np.ndarray) else tensor.detach().cpu().numpy()
        for name, tensor in tensors.items()
    }
    contiguous = {name: np.asarray(array, order="C") for name, array in arrays.items()}
    try:
        with atomic_path(path) as temporary:
            save_file(contiguous, temporary, metadata)
    except SafetensorError as error:  # a full disk, for one
        raise UserError(f"{path}: cannot be written ({error})") from None


def load_tensors(
    path: Path, framework: Literal["pt", "np"] = "pt"
) -> tuple[dict[str, Any], dict[str, str]]:
    """Read a safetensors file: its tensors, as PyTorch's or NumPy's, and its metadata."""
    try:
        with safe_open(path, framework) as file:
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
            return tensors, file.metadata() or {}
    except FileNotFoundError:
        raise UserError(f"{path}: no such file; run the stage that writes it") from None
    except (SafetensorError, OSError) as error:
        raise UserError(f"{path}: damaged ({error}); delete it and run the stage again") from None
