"""Free memory of the device and of the machine, and block sizes that fit into a cache."""

import ctypes
import gc
import os
from pathlib import Path
from typing import TYPE_CHECKING

from acoustic_kd.system.environment import processes

if TYPE_CHECKING:
    import torch
    from torch import Tensor

GIGABYTE = 10**9
USABLE_SHARE = 0.85  # of the free memory
CPU_BLOCK_NUMBERS = 1 << 19  # a few arrays of this size fit into the cache of a core
GPU_BLOCK_NUMBERS = 1 << 24  # enough to keep a GPU busy
TRIM_THRESHOLD, MMAP_THRESHOLD = -1, -3  # glibc's names in malloc.h, with M_ before them
MAX_MALLOC_OPTION = 2**31 - 1
PROC, CGROUP = Path("/proc"), Path("/sys/fs/cgroup")


def free_memory(device: "torch.device") -> int | None:
    """Free bytes of a device, or None if they are unknown."""
    if device.type == "cpu":
        return free_host_memory()
    if device.type != "cuda":
        return None
    import torch

    free, _ = torch.cuda.mem_get_info(device)
    # PyTorch reuses memory that it has reserved and does not use.
    return free + torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)


def free_host_memory(proc: Path = PROC, cgroup: Path = CGROUP) -> int | None:
    """Free bytes of the machine for this process, or None if they are unknown.

    The processes of a launch share them equally. The memory limit of a container or batch system
    counts, too.
    """
    limits = [free for free in (_available(proc), _below_limit(proc, cgroup)) if free is not None]
    return min(limits) // processes().local_count if limits else None


def usable(free: int | None) -> int | None:
    """The part of free memory that may be used."""
    return None if free is None else int(USABLE_SHARE * free)


def memory_budget(
    device: "torch.device", gigabytes: float | None, later: int, sharers: int = 1
) -> int | None:
    """Bytes for data on a device; the data pass through the machine's memory.

    Args:
        gigabytes: a limit in 10⁹ bytes; None: the free memory.
        later: free bytes that will be used for something else.
        sharers: processes that share the free memory equally.

    Returns:
        None if the free memory is unknown.
    """
    if gigabytes is not None:
        return int(gigabytes * GIGABYTE)
    limits = [free for free in (free_memory(device), free_host_memory()) if free is not None]
    taken = usable(min(limits, default=None))
    return None if taken is None else max(0, taken // sharers - later)


def disable_malloc_trim() -> None:
    """Keep the memory of freed tensors in this process for the next training step.

    By default glibc returns large blocks to the system, which then fills each page with zeros when
    it is used again. Other C libraries are not changed.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(MMAP_THRESHOLD, MAX_MALLOC_OPTION)
        mallopt(TRIM_THRESHOLD, MAX_MALLOC_OPTION)


def release_memory() -> None:
    """Return the memory of freed objects to the system, as far as glibc can."""
    gc.collect()
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:
        trim(0)


def rows_per_block(matrix: "Tensor") -> int:
    """The number of rows of [B, K], at least 1, to process at a time.

    On a CPU the intermediate results of these rows stay in the cache, which is several times as
    fast as main memory; on a GPU the number limits their memory.
    """
    numbers = CPU_BLOCK_NUMBERS if matrix.device.type == "cpu" else GPU_BLOCK_NUMBERS
    return max(1, numbers // max(1, matrix.shape[-1]))


def _available(proc: Path) -> int | None:
    try:
        lines = (proc / "meminfo").read_text().splitlines()
        fields = dict(line.split(":") for line in lines)
        return 1024 * int(fields["MemAvailable"].split()[0])
    except (OSError, ValueError, KeyError):  # not Linux
        pass
    try:
        return os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (OSError, ValueError):
        return None


def _below_limit(proc: Path, cgroup: Path) -> int | None:
    """Free bytes below the memory limit of the process's control group (version 2)."""
    try:
        group = next(
            line.removeprefix("0::/")
            for line in (proc / "self" / "cgroup").read_text().splitlines()
            if line.startswith("0::/")
        )
        names = ("memory.max", "memory.current", "memory.stat")
        limit, used, stat = ((cgroup / group / name).read_text() for name in names)
        files = dict(line.split() for line in stat.splitlines())["inactive_file"]
        # The kernel drops cached files when memory is short.
        return max(0, int(limit) - int(used) + int(files))
    except (OSError, ValueError, KeyError, StopIteration):  # no control group, or no limit
        return None
