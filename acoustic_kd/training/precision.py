"""The precision in which matrices are multiplied: float32 or bfloat16."""

from collections.abc import Callable

import torch
from torch import Tensor

from acoustic_kd.system import environment


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


def dtype_of(bfloat16: bool) -> torch.dtype:
    """The type of windows whose products are in bfloat16, or not."""
    return torch.bfloat16 if bfloat16 else torch.float32


def sum_dtype(device: torch.device) -> torch.dtype:
    """The type of sums over many frames: float64, which Apple's GPUs do not have."""
    return torch.float32 if device.type == "mps" else torch.float64


def forward(model: Callable[[Tensor], Tensor], windows: Tensor, bfloat16: bool) -> Tensor:
    """Logits [B, K] of windows [B, W, D], in the precision in which matrices are multiplied."""
    if not bfloat16:  # windows and weights are float32: entering autocast would only cost time
        return model(windows)
    with torch.autocast(windows.device.type, torch.bfloat16):
        return model(windows)


def logits_of(model: Callable[[Tensor], Tensor], windows: Tensor, bfloat16: bool) -> Tensor:
    """`forward`, with the logits in float32."""
    return forward(model, windows, bfloat16).float()
