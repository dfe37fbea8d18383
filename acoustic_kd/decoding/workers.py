"""Decoding of many utterances in several processes, each with many weights.

A lattice takes some kilobytes a frame. It stays in the process that made it, which returns words.
"""

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Protocol

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
        senones: int32 [frames that it takes], of the search's own best path.
    """

    words: list[list[str]]
    num_frames: int
    reached_final: bool
    seconds: float
    senones: np.ndarray


Weights = Sequence[tuple[float, float]]  # (LM weight, word insertion penalty) …


class DecodeFunction(Protocol):
    """Decodes many utterances."""

    def __call__(
        self, items: Iterable[tuple[str, np.ndarray]], weights: Weights, beam: float | None = None
    ) -> dict[str, DecodingResult]:
        """Utterance → result, in the order of the items.

        Args:
            items: utterances with their log-likelihoods [T, K], not scaled; they are taken as they
                are needed, so they need not fit in memory together.
            beam: instead of that of the settings.
        """


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
        yield lambda items, weights, beam=None: dict(
            over(_recognise, ((name, loglikes, weights, beam) for name, loglikes in items))
        )


def _recognise(
    decoder: Decoder, item: tuple[str, np.ndarray, Weights, float | None]
) -> tuple[str, DecodingResult]:
    name, loglikes, weights, beam = item
    decoder = decoder if beam is None else decoder.with_beam(beam)
    lattice = decoder.lattice(loglikes, name)
    words = lattice.best_of_all(weights)
    senones = lattice.senones(1 / decoder.settings.acoustic_scale)
    outcome = lattice.num_frames, lattice.reached_final, lattice.seconds
    return name, DecodingResult(words, *outcome, senones)
