"""Decoding many utterances in many processes."""

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Executor
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from acoustic_kd.decoding.lattice import Lattice
from acoustic_kd.decoding.search import DEFAULTS, Decoder, SearchSettings
from acoustic_kd.parallel import worker_pool

# (utterance, [T, K] log-likelihoods not scaled) …, taken one by one as needed, so that they need
# not fit in memory together → utterance → lattice, in their order. Count those not
# `reached_final`. Raises what `Decoder.lattice` does, and UserError where a process died.
Decode = Callable[[Iterable[tuple[str, np.ndarray]]], dict[str, Lattice]]


@contextmanager
def decoding(
    graph_dir: Path, settings: SearchSettings = DEFAULTS, jobs: int = 1
) -> Iterator[Decode]:
    """A function that decodes in `jobs` processes; its answer does not depend on their number.

    Args:
        graph_dir: folder that `build_graph` wrote.
        settings: limits of the search.
        jobs: processes, which end with the block. They share the graph, which stays on disk; each
            takes nine bytes a state of it beside.

    Raises:
        UserError: the graph's folder is incomplete or damaged.
    """
    if jobs <= 1:
        decoder = Decoder(graph_dir, settings)
        yield lambda items: {name: decoder.lattice(found, name) for name, found in items}
        return
    words = Decoder(graph_dir, settings).words  # a damaged graph is reported at once
    with worker_pool(jobs, _start_worker, (graph_dir, settings)) as pool:
        yield lambda items: dict(_in_turn(pool, items, 2 * jobs, words))


def _in_turn(
    pool: Executor, items: Iterable[tuple[str, np.ndarray]], most: int, words: list[str]
) -> Iterator[tuple[str, Lattice]]:
    """The lattices in order; at most so many utterances wait for their turn."""
    waiting: deque = deque()
    for name, loglikes in items:
        waiting.append((name, pool.submit(_decode, name, loglikes)))
        if len(waiting) >= most:
            yield _next(waiting, words)
    while waiting:
        yield _next(waiting, words)


def _next(waiting: deque, words: list[str]) -> tuple[str, Lattice]:
    name, future = waiting.popleft()
    lattice = future.result()
    lattice.words = words
    return name, lattice


_worker: list[Decoder] = []  # the graph of this process, loaded once


def _start_worker(graph_dir: Path, settings: SearchSettings) -> None:
    _worker.append(Decoder(graph_dir, settings))


def _decode(name: str, loglikes: np.ndarray) -> Lattice:
    lattice = _worker[0].lattice(loglikes, name)
    lattice.words = []  # the same for all: not worth sending
    return lattice
