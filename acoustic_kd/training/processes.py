"""The processes of a training run, and its metrics, by Accelerate."""

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
from accelerate import Accelerator

from acoustic_kd.system.errors import UserError, installation
from acoustic_kd.system.memory import disable_malloc_trim

# Words by which PyTorch says that another process cannot be reached any more.
CONNECTION_ERRORS = (
    "Connection closed by peer",
    "Connection reset by peer",
    "Broken pipe",
    "NCCL",
    "Timed out",
)


def make_accelerator() -> Accelerator:
    """The processes of this run; called before large tensors are made."""
    # Precision is the loop's own affair, whatever the launcher's settings say.
    accelerator = Accelerator(mixed_precision="no", cpu=not torch.accelerator.is_available())
    started = int(os.environ.get("WORLD_SIZE", "1"))
    if accelerator.num_processes != started:
        raise UserError(
            f"{started} processes were started but Accelerate joins {accelerator.num_processes}; "
            "look at 'accelerate env' and at variables named ACCELERATE_…"
        )
    if accelerator.device.type == "cpu":
        disable_malloc_trim()
    return accelerator


@contextmanager
def report_lost_processes(accelerator: Accelerator, name: str) -> Iterator[None]:
    """Around work of several processes that talk to one another.

    Args:
        name: what is being made.
    """
    try:
        yield
    except RuntimeError as error:
        if accelerator.num_processes == 1 or not any(
            word in str(error) for word in CONNECTION_ERRORS
        ):
            raise
        raise UserError(
            f"{name}: another process of this run has ended; run the same command again to resume "
            "from the last checkpoint"
        ) from None


def wait(accelerator: Accelerator, name: str) -> None:
    """Wait until every process has come here; the error is as in `together`."""
    with report_lost_processes(accelerator, name):
        accelerator.wait_for_everyone()


Track = Callable[[dict[str, float], int], None]  # values by name, and the epoch


@contextmanager
def tracking(kind: str | None, name: str, folder: Path) -> Iterator[Track]:
    """A function that tells a tracker of an epoch; it does nothing where there is no tracker.

    Of several processes the first alone is heard.

    Args:
        kind: of `config.TRACKERS`, or None.
        name: what the run is called there.
        folder: where trackers that write files do so, in a folder of that name.
    """
    if kind is None:
        yield lambda values, epoch: None
        return
    # Here: the trackers take a second to import.
    from accelerate.tracking import LOGGER_TYPE_TO_CLASS

    tracker = LOGGER_TYPE_TO_CLASS[kind](name, logging_dir=folder)
    try:
        tracker.start()
    except ImportError:
        raise UserError(
            f"setting 'train.tracker' is {kind}, which is not installed: {installation(kind)}"
        ) from None
    try:
        yield lambda values, epoch: tracker.log(values, step=epoch)
    finally:
        tracker.finish()
