"""The processes of a run, by Accelerate.

Processes may see different files, on machines without a common file system or through the cache of
a network's. So the first process decides what is to be done, and the others do the same.
"""

import atexit
import secrets
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import timedelta
from itertools import takewhile
from pathlib import Path
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from accelerate import Accelerator, InitProcessGroupKwargs
from accelerate.utils import broadcast_object_list
from torch import Tensor, nn
from torch.distributed.rendezvous import rendezvous

from acoustic_kd.system import environment
from acoustic_kd.system.errors import UserError, first_line
from acoustic_kd.system.memory import disable_malloc_trim

# The longest wait for another process. Shares of work differ, and a disk may be slow; a process
# that has ended is noticed at once, by the launcher or the closed connection.
TIMEOUT = timedelta(hours=12)
CACHE_SECONDS = 60  # after which a network file system shows new files
T = TypeVar("T")


def make_accelerator() -> Accelerator:
    """The processes of this run; call it before large tensors are allocated."""
    started = environment.processes().count
    environment.check_accelerate()
    environment.prepare_for_accelerate()
    try:
        # `precision.forward` multiplies in bfloat16, in training and decoding alike.
        accelerator = Accelerator(
            mixed_precision="no",
            cpu=not torch.accelerator.is_available(),
            kwargs_handlers=[InitProcessGroupKwargs(timeout=TIMEOUT)],
        )
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


@atexit.register
def _leave() -> None:
    """Leave the group of processes: NCCL warns if a process ends in it."""
    if dist.is_available() and dist.is_initialized():
        dist.destroy_process_group()


def from_first(accelerator: Accelerator, decide: Callable[[], T]) -> T:
    """What a function returns on the first process, on every process; likewise its UserError."""
    if accelerator.num_processes == 1:
        return decide()
    outcome: list[Any] = [None, None]
    if accelerator.is_main_process:
        try:
            outcome[0] = decide()
        except UserError as error:
            outcome[1] = str(error)
    broadcast_object_list(outcome)
    if outcome[1] is not None:
        raise UserError(outcome[1])
    decided: T = outcome[0]
    return decided


def done_and_due(
    accelerator: Accelerator, items: Sequence[T], is_done: Callable[[T], bool]
) -> tuple[list[T], list[T]]:
    """The items that are done, and the others, as the first process sees them."""
    done = from_first(accelerator, lambda: [is_done(item) for item in items])
    due = [item for item, finished in zip(items, done, strict=True) if not finished]
    return [item for item, finished in zip(items, done, strict=True) if finished], due


def tensors_from_first(accelerator: Accelerator, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """The tensors of the first process, on the CPU of every process."""
    if accelerator.num_processes == 1:
        return tensors
    shapes = from_first(accelerator, lambda: {n: (t.shape, t.dtype) for n, t in tensors.items()})
    received = {}
    for name, (shape, dtype) in shapes.items():
        own = tensors[name] if accelerator.is_main_process else torch.empty(shape, dtype=dtype)
        tensor = own.to(accelerator.device)
        dist.broadcast(tensor, 0)
        received[name] = tensor.cpu()
    return received


def check_common_directory(accelerator: Accelerator, directory: Path) -> None:
    """Refuse processes that do not see the same directory, such as of machines with own disks."""
    mark = Path(directory) / from_first(accelerator, lambda: f".{secrets.token_hex(8)}.tmp")
    try:
        if accelerator.is_main_process:
            mark.parent.mkdir(parents=True, exist_ok=True)
            mark.touch()
        accelerator.wait_for_everyone()
        until = time.monotonic() + CACHE_SECONDS
        while not mark.exists() and time.monotonic() < until:
            time.sleep(0.1)
        sees = torch.tensor([mark.exists()], device=accelerator.device)
        blind = torch.nonzero(~accelerator.gather(sees)).flatten().tolist()
    finally:
        if accelerator.is_main_process:
            mark.unlink(missing_ok=True)
    if blind:
        raise UserError(
            f"{directory}: process {blind[0] + 1} of {accelerator.num_processes} does not see the "
            "files of process 1; give an --exp-dir on a file system that all machines share"
        )


def settle_buckets(model: nn.Module, forward: Callable[[nn.Module], Tensor]) -> None:
    """Let the processes choose the order of their gradients before the first step of a run.

    PyTorch orders them anew after the first backward pass. Sums of more than two numbers would
    then be rounded in another way in the step after a checkpoint than in the same step of a run
    that was not interrupted.

    Args:
        model: prepared for these processes; its gradients become zeros.
        forward: gives the model's outputs for any inputs.
    """
    model.eval()  # batch normalisation keeps its mean and variance
    (forward(model).sum() * 0).backward()


def shared_numbers(accelerator: Accelerator, count: int) -> Iterator[int]:
    """The numbers below `count`, each for one process: whichever is free takes the next one."""
    if accelerator.num_processes == 1:
        return iter(range(count))
    store, *_ = next(rendezvous("env://"))
    counter = from_first(accelerator, lambda: secrets.token_hex(8))
    numbers = iter(lambda: store.add(counter, 1) - 1, None)
    return takewhile(lambda number: number < count, numbers)


@contextmanager
def report_lost_processes(accelerator: Accelerator, name: str) -> Iterator[None]:
    """Turn PyTorch's error of a lost connection into a UserError that names the work."""
    try:
        yield
    except RuntimeError as error:
        if accelerator.num_processes == 1 or not _is_lost(error):
            raise
        raise UserError(
            f"{name}: another process of this run has ended ({first_line(error)}); run the same "
            "command again to resume from the last checkpoint"
        ) from None


def _is_lost(error: RuntimeError) -> bool:
    """Whether an error is that of a connection. The group's own errors may be the user's, too."""
    if isinstance(error, dist.DistNetworkError | dist.DistStoreError):
        return True
    return any(origin in str(error) for origin in ("ncclRemoteError", "gloo/"))


def wait(accelerator: Accelerator, name: str) -> None:
    """Wait until every process has come here; a lost process is a UserError."""
    with report_lost_processes(accelerator, name):
        accelerator.wait_for_everyone()
