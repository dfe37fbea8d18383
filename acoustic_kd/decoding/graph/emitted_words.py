"""Words on arcs that take frames and that differ from the arc before, for CTC decoders.

sherpa-onnx reads the words of a best path from arcs with an input label alone, and passes over an
arc whose label is that of the arc before: that is the rule of CTC. So a word on an epsilon arc
waits for the next arc with a label, and the arcs that have words get labels of their own.
"""

import numpy as np

from acoustic_kd.decoding.graph.fst import ARC, STATE, FstArrays, FstRecords

COPIES = 3  # labels of a senone: on an arc without a word, and by turns on arcs with one

# Words that wait for an arc with a label, and which of the labels for words is next.
Waiting = tuple[tuple[int, ...], int]


def emitted_words(fst: FstRecords, senones: int) -> FstArrays:
    """A transducer with the same paths, whose words are on arcs with an input label.

    Copy c of senone s has the input label s + 1 + c · `senones`.

    Raises:
        ValueError: a path ends while words wait.
    """
    states, arcs = fst.states.view(STATE)[:, 0], fst.arcs.view(ARC)[:, 0].copy()
    source = np.repeat(np.arange(len(states)), states["arcs"])
    copies = _Copies(fst, senones)
    has_word = arcs["olabel"] > 0
    for place in np.flatnonzero(has_word & (arcs["ilabel"] == 0)).tolist():
        arc = arcs[place]
        waiting = (int(arc["olabel"]),), 0
        arc["nextstate"], arc["olabel"] = copies.number_of(int(arc["nextstate"]), waiting), 0
    arcs["ilabel"][has_word & (arcs["ilabel"] > 0)] += senones
    copies.complete()
    final = np.concatenate([states["final"], np.full(len(copies.numbers), np.inf, np.float32)])
    source = np.concatenate([source, np.array(copies.source, np.int64)])
    return FstArrays(fst.start, final, source, np.concatenate([arcs, np.array(copies.arcs, ARC)]))


class _Copies:
    """Copies of states, which are reached while words wait.

    Attributes:
        numbers: (state, what waits) → number of the copy.
        source, arcs: of the copies.
    """

    def __init__(self, fst: FstRecords, senones: int) -> None:
        self._fst, self._senones = fst, senones
        self.numbers: dict[tuple[int, Waiting], int] = {}
        self.source: list[int] = []
        self.arcs: list[tuple[int, int, float, int]] = []

    def number_of(self, state: int, waiting: Waiting) -> int:
        """The state itself where no word waits, else its copy."""
        if not waiting[0]:
            return state
        return self.numbers.setdefault((state, waiting), len(self._fst.states) + len(self.numbers))

    def complete(self) -> None:
        """Give all copies their arcs, and those that they lead to."""
        done = 0
        while done < len(self.numbers):
            pending = list(self.numbers.items())[done:]
            done += len(pending)
            for (state, waiting), number in pending:
                self._copy(state, waiting, number)

    def _copy(self, state: int, waiting: Waiting, number: int) -> None:
        record = self._fst.states_at(np.array([state]))[0]
        if np.isfinite(record["final"]):
            raise ValueError(f"state {state} is final, and a word waits there for a frame")
        first, (waiting_words, turn) = int(record["first"]), waiting
        for arc in self._fst.arcs_at(np.arange(first, first + int(record["arcs"]))):
            ilabel, olabel, weight, target = arc.item()
            words = (*waiting_words, olabel) if olabel else waiting_words
            emitted, after = 0, (words, turn)
            if ilabel:
                ilabel += (1 + turn) * self._senones
                emitted, after = words[0], (words[1:], 1 - turn)
            self.source.append(number)
            self.arcs.append((ilabel, emitted, weight, self.number_of(target, after)))
