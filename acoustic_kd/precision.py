"""In which precision matrices are multiplied."""

import os
from collections.abc import Callable

import torch
from torch import Tensor

from acoustic_kd.errors import UserError

VARIABLE = "ACOUSTIC_KD_BFLOAT16"  # what a setting that is null means: 0 or 1


def use_bfloat16(setting: bool | None, device: torch.device) -> bool:
    """Whether to multiply in bfloat16: as set; where the setting is None, as the environment
    variable says; where that is not set either, if the device can.

    Without instructions for it a CPU's bfloat16 products are tens of times slower than float32's.

    Raises:
        UserError: the environment variable is neither 0 nor 1.
    """
    if setting is not None:
        return setting
    value = os.environ.get(VARIABLE)
    if value:
        return _bool(value)
    if device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    able = torch.cpu.get_capabilities()
    names = ("amx_bf16", "avx512_bf16", "bf16", "sve_bf16")  # x86, x86, Arm, Arm
    return device.type == "cpu" and any(able.get(name, False) for name in names)


def _bool(value: str) -> bool:
    if value not in ("0", "1"):
        raise UserError(f"the environment variable {VARIABLE} is '{value}'; it must be 0 or 1")
    return value == "1"


def forward(model: Callable[[Tensor], Tensor], windows: Tensor, bfloat16: bool) -> Tensor:
    """Logits [B, K] of windows [B, W·D], in the precision in which matrices are multiplied."""
    if not bfloat16:  # windows and weights are float32: entering autocast would only cost time
        return model(windows)
    with torch.autocast(windows.device.type, torch.bfloat16):
        return model(windows)


def logits_of(model: Callable[[Tensor], Tensor], windows: Tensor, bfloat16: bool) -> Tensor:
    """Likewise, in float32."""
    return forward(model, windows, bfloat16).float()
