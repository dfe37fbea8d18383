"""Decoding of many utterances in several processes, each with many weights.

A lattice takes some kilobytes a frame. It stays in the process that made it, which returns words.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np

from acoustic_kd.decoding.search import DEFAULTS, Decoder, SearchSettings
from acoustic_kd.system.parallel import worker_map


@dataclass(frozen=True)
class DecodingResult:
    """The words recognised in one utterance.

    Attributes:
        words: for each pair of weights; equal results are the same list.
        num_frames: of 10 ms.
        reached_final: false if no path ended in a final state of the graph: the words are those of
            the best partial path, and the caller should count such utterances.
        seconds: time of the search, without the choice of words.
    """

    words: list[list[str]]
    num_frames: int
    reached_final: bool
    seconds: float


Weights = Sequence[tuple[float, float]]  # (LM weight, word insertion penalty) …
# From (utterance, [T, K] log-likelihoods not scaled) … and weights: utterance → result, in the same
# order. Utterances are taken as they are needed, so they need not fit in memory together.
DecodeFunction = Callable[[Iterable[tuple[str, np.ndarray]], Weights], dict[str, DecodingResult]]


@contextmanager
def decoder_pool(
    graph_dir: Path, settings: SearchSettings = DEFAULTS, jobs: int = 1
) -> Iterator[DecodeFunction]:
    """A function that decodes in `jobs` processes, whose number does not change the result.

    Args:
        graph_dir: folder that `build_graph` wrote.
        jobs: processes, which end with the block. They share the graph, which is mapped from disk;
            each needs nine bytes a state more.
    """
    # A matrix of log-likelihoods may take tens of megabytes: few wait for their turn.
    with worker_map(jobs, jobs, partial(Decoder, graph_dir, settings), ahead=2) as over:
        yield lambda items, weights: dict(
            over(_recognise, ((name, loglikes, weights) for name, loglikes in items))
        )


def _recognise(
    decoder: Decoder, item: tuple[str, np.ndarray, Weights]
) -> tuple[str, DecodingResult]:
    name, loglikes, weights = item
    lattice = decoder.lattice(loglikes, name)
    words = lattice.best_of_all(weights)
    return name, DecodingResult(words, lattice.num_frames, lattice.reached_final, lattice.seconds)
