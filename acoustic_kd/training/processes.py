"""The processes of a training run, by Accelerate."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from accelerate import Accelerator

from acoustic_kd.system import environment
from acoustic_kd.system.errors import UserError, first_line
from acoustic_kd.system.memory import disable_malloc_trim

# Words of PyTorch's errors when another process cannot be reached.
CONNECTION_ERRORS = ("Connection closed by peer", "Connection reset by peer", "Broken pipe", "NCCL",
                     "Timed out")  # fmt: skip


def make_accelerator() -> Accelerator:
    """The processes of this run; call it before large tensors are allocated."""
    started = environment.processes().count
    environment.prepare_for_accelerate()
    try:
        # The training loop chooses the precision, not the launcher's settings.
        accelerator = Accelerator(mixed_precision="no", cpu=not torch.accelerator.is_available())
        torch.zeros(1, device=accelerator.device).item()
    except Exception as error:  # Accelerate reports wrong variables by errors of many kinds
        raise UserError(
            f"Accelerate cannot start ({first_line(error)}); check 'accelerate env' and variables "
            "named ACCELERATE_… and MASTER_…"
        ) from None
    if accelerator.num_processes != started:
        raise UserError(
            f"{started} processes were started but Accelerate joins {accelerator.num_processes}; "
            "check 'accelerate env' and variables named ACCELERATE_…"
        )
    if accelerator.device.type == "cpu":
        disable_malloc_trim()
    return accelerator


@contextmanager
def report_lost_processes(accelerator: Accelerator, name: str) -> Iterator[None]:
    """Turn PyTorch's error of a lost connection into a UserError that names the work."""
    try:
        yield
    except RuntimeError as error:
        lost = any(word in str(error) for word in CONNECTION_ERRORS)
        if accelerator.num_processes == 1 or not lost:
            raise
        raise UserError(
            f"{name}: another process of this run has ended; run the same command again to resume "
            "from the last checkpoint"
        ) from None


def wait(accelerator: Accelerator, name: str) -> None:
    """Wait until every process has come here; a lost process is a UserError."""
    with report_lost_processes(accelerator, name):
        accelerator.wait_for_everyone()
