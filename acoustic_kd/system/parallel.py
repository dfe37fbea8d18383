"""Work over processes and threads with results in order, and progress bars."""

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
from functools import cache, partial
from typing import Any, TypeVar

from tqdm import tqdm

from acoustic_kd.system.errors import UserError

Item = TypeVar("Item")
Result = TypeVar("Result")


def progress(
    items: Iterable[Any] | None, description: str, total: int | None = None, **options: Any
) -> "tqdm[Any]":
    """A progress bar over `items` on standard error; silent where that is no terminal.

    Worker processes show none, because they would overwrite each other.
    """
    quiet = not sys.stderr.isatty() or multiprocessing.parent_process() is not None
    return tqdm(items, description, total, disable=quiet, dynamic_ncols=True, **options)


def cores() -> int:
    """Processor cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


@contextmanager
def torch_threads(count: int) -> Iterator[None]:
    """PyTorch uses `count` threads within the block."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def prefetch(items: Iterable[Item]) -> Generator[Item, None, None]:
    """The items; a thread makes the next item while the caller uses the current one.

    An error in making an item is raised when the caller asks for that item. If the caller stops
    early, the item that is being made is finished, and no more items are made.
    """
    iterator = iter(items)
    end: Any = object()
    with ThreadPoolExecutor(1) as thread:
        made = [thread.submit(next, iterator, end).result()]
        while made[0] is not end:
            next_item = thread.submit(next, iterator, end)
            yield made.pop()  # no reference stays here, so the caller can free a large item
            made.append(next_item.result())


def run_behind(function: Callable[[Item], object], items: Iterable[Item]) -> None:
    """Call `function` with each item, in order, in a thread, while the next item is made here.

    At most one item is in the thread, and one waits for it. An error of either side ends both.
    """
    with ThreadPoolExecutor(1) as thread:
        previous: Future[object] | None = None
        for item in items:
            if previous is not None:
                previous.result()
            previous = thread.submit(function, item)
            del item  # may be large: the thread frees it
        if previous is not None:
            previous.result()


def map_ordered(
    function: Callable[..., Result],
    items: Iterable[Any],
    description: str,
    total: int | None = None,
    jobs: int = 0,
    state: Callable[[], Any] | None = None,
) -> Generator[Result, None, None]:
    """`function` of each item, in order, over `jobs` processes (0: one a core); shows progress.

    Args:
        function: importable (defined at the top of a module), or a partial of such a function.
        items: taken as they are needed, so they need not fit in memory together.
        total: about how many items there are; default `len(items)`.
        state: makes the first argument of `function`, once in each process.
    """
    total = len(items) if total is None and isinstance(items, Sequence) else total or 0
    with worker_map(total, jobs, state) as over:
        yield from progress(over(function, items), description, total)


@contextmanager
def worker_map(
    most: int, jobs: int = 0, state: Callable[[], Any] | None = None, ahead: int = 16
) -> Iterator[Callable[[Callable[..., Result], Iterable[Any]], Iterator[Result]]]:
    """`map_ordered` for several calls in the same processes, because they take seconds to start.

    Yields a function that takes a function and its items and gives the results in order. One
    process is this one.

    Args:
        most: items of a call; no more processes are started.
        jobs, state: as for `map_ordered`.
        ahead: items a process that may be read before the first of their results is used.
    """
    jobs = min(jobs or cores(), most)
    if jobs <= 1:
        made = [] if state is None else [state()]
        yield lambda function, items: map(partial(function, *made), items)
        return
    with _worker_pool(jobs, state) as pool:
        yield lambda function, items: _ordered_results(pool, function, items, ahead * jobs)


def _ordered_results(
    pool: ProcessPoolExecutor, function: Callable[..., Result], items: Iterable[Any], most: int
) -> Iterator[Result]:
    waiting: deque[Future[Result]] = deque()
    for item in items:
        waiting.append(pool.submit(_call, function, item))
        if len(waiting) >= most:
            yield waiting.popleft().result()
    while waiting:
        yield waiting.popleft().result()


@contextmanager
def _worker_pool(jobs: int, state: Callable[[], Any] | None) -> Iterator[ProcessPoolExecutor]:
    """Processes for `_call`; they end with the block, whatever they are doing.

    They are started afresh rather than forked, because a forked copy of a program that holds
    threads or a GPU can hang. Ctrl-C is left to this process, and they end when it does.
    """
    earlier = set(multiprocessing.active_children())
    context = multiprocessing.get_context("spawn")
    pool = ProcessPoolExecutor(jobs, context, _start, (state,))
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
        for process in set(multiprocessing.active_children()) - earlier:
            process.terminate()
        pool.shutdown(cancel_futures=True)


# In a worker process: the first arguments of what `_call` calls, made by the first call, so that an
# error in making them is raised like any other.
_state: Callable[[], list[Any]] = list


def _call(function: Callable[..., Result], *arguments: Any) -> Result:
    return function(*_state(), *arguments)


def _start(state: Callable[[], Any] | None) -> None:
    import torch

    global _state
    if state is not None:
        _state = cache(lambda: [state()])
    threading.Thread(target=_end_with_parent, daemon=True).start()
    torch.set_num_threads(1)  # the processes share the cores among themselves
    # Else tqdm makes a lock between processes, which a process that is killed leaves behind.
    tqdm.set_lock(threading.RLock())


def _end_with_parent() -> None:
    if parent := multiprocessing.parent_process():
        parent.join()
        os._exit(1)


@contextmanager
def defer_ctrl_c() -> Iterator[None]:
    """Defer Ctrl-C to the end of the block; processes that start in the block never get it.

    They inherit the mask of signals. In this process the mask is not enough: another thread may
    take the signal, and Python then raises KeyboardInterrupt while a process is starting.
    """
    received: list[int] = []
    handler = signal.getsignal(signal.SIGINT)
    handles = callable(handler) and threading.current_thread() is threading.main_thread()
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    if handles:
        signal.signal(signal.SIGINT, lambda number, frame: received.append(number))
    try:
        yield
    finally:
        if handles:
            signal.signal(signal.SIGINT, handler)
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)
    if received:
        signal.raise_signal(signal.SIGINT)


@dataclass(frozen=True)
class Task:
    """A call of a function that needs other tasks.

    Attributes:
        name: the name that other tasks need.
        function: importable; called with `arguments` in a worker process.
        needs: names of tasks that must be done before.
        cost: approximate duration, in any unit.
    """

    name: str
    function: Callable[..., Any]
    arguments: tuple[Any, ...]
    needs: tuple[str, ...] = ()
    cost: float = 0.0


def run_tasks(
    tasks: Sequence[Task], jobs: int = 0, state: Callable[[], Any] | None = None
) -> Iterator[tuple[Task, Any]]:
    """Each task with its result, as they are done, over `jobs` processes (0: one a core).

    The task with the costliest chain of tasks after it starts first, so that the processes end
    together.

    Args:
        tasks: in an order in which each comes after those it needs.
        state: makes the first argument of every task's function, once in each process.
    """
    chain_cost: dict[str, float] = {}  # of a task and the costliest chain of those that need it
    for task in reversed(tasks):
        chain_cost[task.name] = cost = chain_cost.get(task.name, 0.0) + task.cost
        for name in task.needs:
            chain_cost[name] = max(chain_cost.get(name, 0.0), cost)
    waiting = sorted(tasks, key=lambda task: -chain_cost[task.name])
    done: set[str] = set()
    jobs = min(jobs or cores(), len(tasks))
    if not jobs:
        return
    with _worker_pool(jobs, state) as pool:
        running: dict[Future[Any], Task] = {}
        while waiting or running:
            ready = [task for task in waiting if done.issuperset(task.needs)]
            for task in ready[: jobs - len(running)]:
                waiting.remove(task)
                running[pool.submit(_call, task.function, *task.arguments)] = task
            finished, _ = wait(running, return_when=FIRST_COMPLETED)
            for future in finished:
                task = running.pop(future)
                result = future.result()
                done.add(task.name)
                yield task, result
