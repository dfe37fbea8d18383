"""Work spread over processes and threads, its results in order, and progress shown."""

import multiprocessing
import os
import signal
import sys
import threading
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from concurrent.futures import (
    FIRST_COMPLETED,
    Future,
    ProcessPoolExecutor,
    ThreadPoolExecutor,
    wait,
)
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, TypeVar

from tqdm import tqdm

from acoustic_kd.system.errors import UserError

Item = TypeVar("Item")
Result = TypeVar("Result")


def progress(
    items: Iterable[Any] | None, description: str, total: int | None = None, **options: Any
) -> "tqdm[Any]":
    """A progress bar over `items` on standard error; silent where that is no terminal.

    Worker processes show none: they would write over one another.
    """
    quiet = not sys.stderr.isatty() or multiprocessing.parent_process() is not None
    return tqdm(items, description, total, disable=quiet, dynamic_ncols=True, **options)


def cores() -> int:
    """Processor cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


@contextmanager
def torch_threads(count: int) -> Iterator[None]:
    """Within it PyTorch uses `count` threads."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def prefetch(items: Iterable[Item]) -> Generator[Item, None, None]:
    """The items, each of which is made in a thread while the one before it is being used.

    What making one raises comes when its turn has come. At the end, or where the user of the items
    stops before it, the one that is being made is waited for, and no more are.
    """
    coming = iter(items)
    end: Any = object()
    with ThreadPoolExecutor(1) as thread:
        item = thread.submit(next, coming, end).result()
        while item is not end:
            following = thread.submit(next, coming, end)
            yield item
            item = following.result()


def run_behind(function: Callable[[Item], object], items: Iterable[Item]) -> None:
    """Call `function` with each item, in order, in a thread, while the next item is made here.

    Of finished items there is one at a time in the thread and one that waits for it. What either
    side raises ends both.
    """
    with ThreadPoolExecutor(1) as thread:
        before: Future[object] | None = None
        for item in items:
            if before is not None:
                before.result()
            before = thread.submit(function, item)
            del item  # may be large: it goes with the thread's work
        if before is not None:
            before.result()


def map_ordered(
    function: Callable[[Item], Result],
    items: Sequence[Item],
    description: str,
    jobs: int = 0,
    initializer: Callable[..., None] | None = None,
    arguments: tuple[Any, ...] = (),
) -> Generator[Result, None, None]:
    """`function` of each item, in order, over `jobs` processes (0: one a core).

    `function` and `initializer` must be importable (defined at the top of a module).

    Raises:
        UserError: a process died.
    """
    with mapping(len(items), jobs, initializer, arguments) as over:
        yield from over(function, items, description)


@contextmanager
def mapping(
    most: int,
    jobs: int = 0,
    initializer: Callable[..., None] | None = None,
    arguments: tuple[Any, ...] = (),
) -> Iterator[Callable[[Callable[[Item], Result], Sequence[Item], str], Iterator[Result]]]:
    """`map_ordered` for several rounds of work in the same processes: they take seconds to start.

    Yields a function of a function, its items and their description.

    Args:
        most: items in a round.

    Raises:
        UserError: a process died.
    """
    jobs = min(jobs or cores(), most)
    if jobs <= 1:
        if initializer is not None:
            initializer(*arguments)
        yield lambda function, items, description: iter(
            progress(map(function, items), description, len(items))
        )
        return
    with worker_pool(jobs, initializer, arguments) as pool:

        def over(
            function: Callable[[Item], Result], items: Sequence[Item], description: str
        ) -> Iterator[Result]:
            chunk = max(1, min(16, len(items) // (4 * jobs)))
            results = pool.map(function, items, chunksize=chunk)
            yield from progress(results, description, len(items))

        yield over


def map_stream(
    function: Callable[[Item], Result],
    items: Iterable[Item],
    description: str,
    total: int,
    jobs: int = 0,
    initializer: Callable[..., None] | None = None,
    arguments: tuple[Any, ...] = (),
) -> Iterator[Result]:
    """Like `map_ordered`, for items that need not fit in memory together: they are taken as needed.

    Args:
        total: about how many there are.

    Raises:
        UserError: a process died.
    """
    jobs = min(jobs or cores(), total)
    if jobs <= 1:
        if initializer is not None:
            initializer(*arguments)
        yield from progress(map(function, items), description, total)
        return
    with worker_pool(jobs, initializer, arguments) as pool:
        yield from progress(ordered_results(pool, function, items, 4 * jobs), description, total)


def ordered_results(
    pool: ProcessPoolExecutor, function: Callable[[Item], Result], items: Iterable[Item], most: int
) -> Iterator[Result]:
    """Results in order; at most so many items wait for their turn."""
    waiting: deque[Future[Result]] = deque()
    for item in items:
        waiting.append(pool.submit(function, item))
        if len(waiting) >= most:
            yield waiting.popleft().result()
    while waiting:
        yield waiting.popleft().result()


@contextmanager
def worker_pool(
    jobs: int, initializer: Callable[..., None] | None = None, arguments: tuple[Any, ...] = ()
) -> Iterator[ProcessPoolExecutor]:
    """Processes to work in; they end with the block, whatever they are at.

    They are started afresh rather than forked, because a forked copy of a program that holds
    threads or a GPU can hang. Ctrl-C is left to this process, and they end when it does.

    Raises:
        UserError: one of them died.
    """
    others = set(multiprocessing.active_children())
    context = multiprocessing.get_context("spawn")
    pool = ProcessPoolExecutor(jobs, context, _start, (initializer, arguments))
    try:
        with defer_ctrl_c():
            for _ in range(jobs):
                pool.submit(cores)  # each piece of work starts one process
        yield pool
    except BrokenProcessPool:
        raise UserError(
            "a worker process died, perhaps for lack of memory; give the machine more of it or "
            "the program fewer cores (taskset), and run the same command again"
        ) from None
    finally:
        for process in set(multiprocessing.active_children()) - others:
            process.terminate()
        pool.shutdown(cancel_futures=True)


@contextmanager
def defer_ctrl_c() -> Iterator[None]:
    """Ctrl-C waits for the end of the block; processes that start in it never get it.

    They inherit the mask. Here it is not enough: another thread may take the signal, and Python
    then raises KeyboardInterrupt in the midst of starting a process.
    """
    came: list[int] = []
    handler = signal.getsignal(signal.SIGINT)
    handles = callable(handler) and threading.current_thread() is threading.main_thread()
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    if handles:
        signal.signal(signal.SIGINT, lambda number, frame: came.append(number))
    try:
        yield
    finally:
        if handles:
            signal.signal(signal.SIGINT, handler)
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)
    if came:
        signal.raise_signal(signal.SIGINT)


def _start(initializer: Callable[..., None] | None, arguments: tuple[Any, ...]) -> None:
    import torch

    threading.Thread(target=_end_with_parent, daemon=True).start()
    torch.set_num_threads(1)  # the processes share the cores among themselves
    # Else tqdm makes a lock between processes, which one that is ended leaves behind.
    tqdm.set_lock(threading.RLock())
    if initializer is not None:
        initializer(*arguments)


def _end_with_parent() -> None:
    if parent := multiprocessing.parent_process():
        parent.join()
        os._exit(1)


@dataclass(frozen=True)
class Task:
    """A piece of work that waits for others.

    Attributes:
        name: what others call it.
        function: importable; called with `arguments` in a worker process.
        needs: names of tasks that must be done before.
        cost: about how long it takes, in any unit.
    """

    name: str
    function: Callable[..., Any]
    arguments: tuple[Any, ...]
    needs: tuple[str, ...] = ()
    cost: float = 0.0


def run_tasks(
    tasks: Sequence[Task],
    jobs: int = 0,
    initializer: Callable[..., None] | None = None,
    arguments: tuple[Any, ...] = (),
) -> Iterator[tuple[Task, Any]]:
    """Each task with its result, as they are done, over `jobs` processes (0: one a core).

    Of the tasks that can start, the one with the longest way to the end behind it goes first, so
    that the processes end together.

    Args:
        tasks: a task comes after those it needs.

    Raises:
        UserError: a process died, or a task raised it.
    """
    ways: dict[str, float] = {}
    for task in reversed(tasks):
        ways[task.name] = way = ways.get(task.name, 0.0) + task.cost
        for name in task.needs:
            ways[name] = max(ways.get(name, 0.0), way)
    waiting = sorted(tasks, key=lambda task: -ways[task.name])
    done: set[str] = set()
    jobs = min(jobs or cores(), len(tasks))
    if not jobs:
        return
    with worker_pool(jobs, initializer, arguments) as pool:
        running: dict[Future[Any], Task] = {}
        while waiting or running:
            ready = [task for task in waiting if done.issuperset(task.needs)]
            for task in ready[: jobs - len(running)]:
                waiting.remove(task)
                running[pool.submit(task.function, *task.arguments)] = task
            finished, _ = wait(running, return_when=FIRST_COMPLETED)
            for future in finished:
                task = running.pop(future)
                result = future.result()
                done.add(task.name)
                yield task, result
