"""How much memory is free, on the device and on the machine, and how much a cache holds."""

import ctypes
import os
from pathlib import Path

import torch
from torch import Tensor

GIGABYTE = 10**9
MARGIN = 0.85  # of what is free is taken at most
CPU_BLOCK_NUMBERS = 1 << 19  # numbers, a few times over, that a CPU core has near
GPU_BLOCK_NUMBERS = 1 << 24  # numbers that keep a GPU busy
TRIM_THRESHOLD, MMAP_THRESHOLD = -1, -3  # glibc's names in malloc.h, with M_ before them
MAX_MALLOC_OPTION = 2**31 - 1
PROC, CGROUP = Path("/proc"), Path("/sys/fs/cgroup")


def free_memory(device: torch.device) -> int | None:
    """Bytes that this process may still take on a device, or None where nothing says so."""
    if device.type == "cpu":
        return free_host_memory()
    if device.type != "cuda":
        return None
    free, _ = torch.cuda.mem_get_info(device)
    # What PyTorch has taken and does not use is there to be used again.
    return free + torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)


def free_host_memory(proc: Path = PROC, cgroup: Path = CGROUP) -> int | None:
    """Bytes of the machine that this process may still take, or None where nothing says so.

    The processes of a launch share alike; a limit that the process runs under (a container's, a
    batch system's) counts as well as what the machine has.
    """
    found = [free for free in (_available(proc), _below_limit(proc, cgroup)) if free is not None]
    return min(found) // int(os.environ.get("LOCAL_WORLD_SIZE", "1")) if found else None


def usable(free: int | None) -> int | None:
    """What is taken, at most, of so much that is free."""
    return None if free is None else int(MARGIN * free)


def memory_budget(
    device: torch.device, gigabytes: float | None, later: int, sharers: int = 1
) -> int | None:
    """Bytes that data on a device, which goes there by way of the machine's memory, may take.

    Args:
        gigabytes: 10⁹ bytes that are permitted; None: what is free.
        later: bytes that are free and will be taken otherwise.
        sharers: processes that share the free memory equally.

    Returns:
        None where nothing says how many there are.
    """
    if gigabytes is not None:
        return int(gigabytes * GIGABYTE)
    found = [free for free in (free_memory(device), free_host_memory()) if free is not None]
    taken = usable(min(found, default=None))
    return None if taken is None else max(0, taken // sharers - later)


def disable_malloc_trim() -> None:
    """From here on keep what large tensors free, rather than fetch it anew in every training step.

    glibc gives large blocks back to the system, which hands them out again page by page, filled
    with zeros. Other C libraries are left as they are.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(MMAP_THRESHOLD, MAX_MALLOC_OPTION)
        mallopt(TRIM_THRESHOLD, MAX_MALLOC_OPTION)


def rows_per_block(matrix: Tensor) -> int:
    """Rows of [B, K], at least 1, to work on at a time.

    On a CPU what is made of so many stays in the cache, which is several times as fast as going
    through memory at each step; elsewhere they bound what is made on the way.
    """
    numbers = CPU_BLOCK_NUMBERS if matrix.device.type == "cpu" else GPU_BLOCK_NUMBERS
    return max(1, numbers // max(1, matrix.shape[-1]))


def _available(proc: Path) -> int | None:
    try:
        lines = (proc / "meminfo").read_text().splitlines()
        found = dict(line.split(":") for line in lines)
        return 1024 * int(found["MemAvailable"].split()[0])
    except (OSError, ValueError, KeyError):  # not Linux
        pass
    try:
        return os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (OSError, ValueError):
        return None


def _below_limit(proc: Path, cgroup: Path) -> int | None:
    """What is left below the memory limit of the process's control group (version 2)."""
    try:
        own = next(
            line.removeprefix("0::/")
            for line in (proc / "self" / "cgroup").read_text().splitlines()
            if line.startswith("0::/")
        )
        names = ("memory.max", "memory.current", "memory.stat")
        limit, used, stat = ((cgroup / own / name).read_text() for name in names)
        files = dict(line.split() for line in stat.splitlines())["inactive_file"]
        return max(0, int(limit) - int(used) + int(files))  # what is kept of files is given up
    except (OSError, ValueError, KeyError, StopIteration):  # no such group, or the limit is "max"
        return None
