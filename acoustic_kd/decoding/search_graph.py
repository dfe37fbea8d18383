"""HCLG mapped from disk for the search, with the order of its epsilon arcs."""

from pathlib import Path
from typing import TypedDict

import numpy as np

from acoustic_kd.decoding.graph.fst import STATE, FstRecords, concatenated_ranges, map_fst
from acoustic_kd.system.errors import UserError
from acoustic_kd.system.files import AGAIN, read_json
from acoustic_kd.system.text import read_lines


class _Sizes(TypedDict):
    """The entry of `graph.json` that the search needs."""

    senones: int


def read_words(path: Path) -> list[str]:
    """The words of `words.txt`, whose labels are 0, 1, 2, …."""
    words = []
    for number, (where, line) in enumerate(read_lines(path)):
        word, _, label = line.rpartition(" ")
        if label != str(number) or not word or "\0" in word:
            raise UserError(f"{where}: must be a word and the label {number}; {AGAIN}")
        words.append(word)
    return words


class SearchGraph:
    """A graph on disk, with one byte a state computed from it.

    Attributes:
        num_senones: K.
        words: by label; label 0 is none.
        fst: states and arcs; arcs are sorted by state and input label, so that each state's
            epsilon arcs come first. Input labels are senone + 1.
        rank: [S] the longest chain of epsilon arcs into each state; arcs are followed in the order
            of the ranks of their sources.
    """

    def __init__(self, folder: Path) -> None:
        folder = Path(folder)
        self.num_senones = read_json(folder / "graph.json", _Sizes)["senones"]
        self.words = read_words(folder / "words.txt")
        self.fst = map_fst(folder / "HCLG.fst", self.num_senones, len(self.words))
        self.rank = epsilon_ranks(self.fst)


def epsilon_ranks(fst: FstRecords) -> np.ndarray:
    """[S] the longest chain of epsilon arcs into each state."""
    state = fst.states.view(STATE)[:, 0]
    source = np.flatnonzero(state["ieps"])
    size = state["ieps"][source]
    arc = concatenated_ranges(state["first"][source].astype(np.int64), size.astype(np.int64))
    source = np.repeat(source, size)
    target = fst.arcs_at(arc)["nextstate"]
    rank, level = np.zeros(len(state), np.int32), 0
    while len(source):
        level += 1
        rank[target] = level
        is_target = np.zeros(len(state), bool)
        is_target[target] = True
        stays = is_target[source]
        if stays.all():
            raise UserError("graph: has a cycle of epsilon arcs; build it again")
        source, target = source[stays], target[stays]
    return rank.astype(np.min_scalar_type(level))
