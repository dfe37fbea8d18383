"""The processes that one run is spread over, by Accelerate."""

import os
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from accelerate import Accelerator

from acoustic_kd.errors import UserError
from acoustic_kd.memory import keep_freed

# Words by which PyTorch says that another process cannot be reached any more.
LOST = ("Connection closed by peer", "Connection reset by peer", "Broken pipe", "NCCL", "Timed out")


def make_accelerator() -> Accelerator:
    """The processes of this run; called before large tensors are made.

    Raises:
        UserError: Accelerate sees another number of them than the launcher started.
    """
    # Precision is the loop's own affair, whatever the launcher's settings say.
    accelerator = Accelerator(mixed_precision="no", cpu=not torch.accelerator.is_available())
    started = int(os.environ.get("WORLD_SIZE", "1"))
    if accelerator.num_processes != started:
        raise UserError(
            f"{started} processes were started but Accelerate joins {accelerator.num_processes}; "
            "look at 'accelerate env' and at variables named ACCELERATE_…"
        )
    if accelerator.device.type == "cpu":
        keep_freed()
    return accelerator


@contextmanager
def together(accelerator: Accelerator, name: str) -> Iterator[None]:
    """Around work of several processes that talk to one another.

    Args:
        name: what is being made.

    Raises:
        UserError: another process is no more; PyTorch tells of how talking to it failed.
    """
    try:
        yield
    except RuntimeError as error:
        if accelerator.num_processes == 1 or not any(word in str(error) for word in LOST):
            raise
        raise UserError(
            f"{name}: another process of this run has ended; the same command goes on from the "
            "last checkpoint"
        ) from None


def wait(accelerator: Accelerator, name: str) -> None:
    """Wait until every process has come here; the error is as in `together`."""
    with together(accelerator, name):
        accelerator.wait_for_everyone()
