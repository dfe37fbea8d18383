"""Decoding many utterances in many processes."""

from collections import deque
from collections.abc import Iterable
from pathlib import Path

import numpy as np

from acoustic_kd.decoding.lattice import Lattice
from acoustic_kd.decoding.search import DEFAULTS, Decoder, SearchSettings
from acoustic_kd.parallel import worker_pool


def decode_all(
    graph_dir: Path,
    items: Iterable[tuple[str, np.ndarray]],
    settings: SearchSettings = DEFAULTS,
    jobs: int = 1,
) -> dict[str, Lattice]:
    """Decode many utterances in `jobs` processes; the answer does not depend on their number.

    Args:
        graph_dir: folder that `build_graph` wrote.
        items: (utterance, [T, K] log-likelihoods not scaled); taken one by one as needed, so that
            they need not fit in memory together.
        settings: limits of the search.
        jobs: processes. They share the graph, which stays on disk; each takes nine bytes a state
            of it beside.

    Returns:
        utterance → lattice, in the order of `items`. Count those not `reached_final`.

    Raises:
        UserError: as `Decoder.lattice`; a process died.
    """
    decoder = Decoder(graph_dir, settings)  # here too: a damaged graph is reported at once
    if jobs <= 1:
        return {name: decoder.lattice(loglikes, name) for name, loglikes in items}
    words = decoder.words
    del decoder
    lattices: dict[str, Lattice] = {}
    with worker_pool(jobs, _start_worker, (graph_dir, settings)) as pool:
        waiting: deque = deque()
        for name, loglikes in items:
            waiting.append((name, pool.submit(_decode, name, loglikes)))
            if len(waiting) >= 2 * jobs:
                _take(waiting, lattices, words)
        while waiting:
            _take(waiting, lattices, words)
    return lattices


_worker: list[Decoder] = []  # the graph of this process, loaded once


def _start_worker(graph_dir: Path, settings: SearchSettings) -> None:
    _worker.append(Decoder(graph_dir, settings))


def _decode(name: str, loglikes: np.ndarray) -> Lattice:
    lattice = _worker[0].lattice(loglikes, name)
    lattice.words = []  # the same for all: not worth sending
    return lattice


def _take(waiting: deque, lattices: dict[str, Lattice], words: list[str]) -> None:
    name, future = waiting.popleft()
    lattices[name] = future.result()
    lattices[name].words = words
