"""Work spread over processes, with results in the order of the work, and progress shown."""

import multiprocessing
import os
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, TypeVar

from tqdm import tqdm

Item = TypeVar("Item")
Result = TypeVar("Result")


def progress(
    items: Iterable[Item], description: str, total: int | None = None, **options: Any
) -> tqdm:
    """A progress bar over `items` on standard error; silent where that is no terminal."""
    quiet = not sys.stderr.isatty()
    return tqdm(items, description, total, disable=quiet, dynamic_ncols=True, **options)


def cores() -> int:
    """Processor cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def map_ordered(
    function: Callable[[Item], Result],
    items: Sequence[Item],
    description: str,
    jobs: int = 0,
    initializer: Callable[..., None] | None = None,
    arguments: tuple[Any, ...] = (),
) -> Iterator[Result]:
    """`function` of each item, in order, over `jobs` processes (0: one a core).

    `function` and `initializer` must be importable (defined at the top of a module). The workers
    are started afresh rather than forked, because a forked copy of a threaded program can hang.
    """
    jobs = min(jobs or cores(), len(items))
    if jobs <= 1:
        if initializer is not None:
            initializer(*arguments)
        yield from progress(map(function, items), description, len(items))
        return
    context = multiprocessing.get_context("spawn")
    with context.Pool(jobs, _start, (initializer, arguments)) as pool:
        chunk = max(1, min(16, len(items) // (4 * jobs)))
        yield from progress(pool.imap(function, items, chunk), description, len(items))


def _start(initializer: Callable[..., None] | None, arguments: tuple[Any, ...]) -> None:
    import torch

    torch.set_num_threads(1)  # the processes share the cores among themselves
    if initializer is not None:
        initializer(*arguments)
