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
    numbers: dict[tuple[int, Waiting], int] = {}  # of copies of states where words wait
    pending: list[tuple[int, Waiting]] = []

    def number_of(state: int, waiting: Waiting) -> int:
        if not waiting[0]:
            return state
        if (state, waiting) not in numbers:
            numbers[state, waiting] = len(states) + len(numbers)
            pending.append((state, waiting))
        return numbers[state, waiting]

    has_word = arcs["olabel"] > 0
    for place in np.flatnonzero(has_word & (arcs["ilabel"] == 0)).tolist():
        arc = arcs[place]
        waiting = (int(arc["olabel"]),), 0
        arc["nextstate"], arc["olabel"] = number_of(int(arc["nextstate"]), waiting), 0
    arcs["ilabel"][has_word & (arcs["ilabel"] > 0)] += senones
    copy_source: list[int] = []
    copy_arcs: list[tuple[int, int, float, int]] = []
    for number, (state, (waiting_words, turn)) in enumerate(pending, len(states)):  # it grows
        record = fst.states_at(np.array([state]))[0]
        if np.isfinite(record["final"]):
            raise ValueError(f"state {state} is final, and a word waits there for a frame")
        first = int(record["first"])
        for row in fst.arcs_at(np.arange(first, first + int(record["arcs"]))):
            ilabel, olabel, weight, target = row.item()
            words = (*waiting_words, olabel) if olabel else waiting_words
            emitted, after = 0, (words, turn)
            if ilabel:
                ilabel += (1 + turn) * senones
                emitted, after = words[0], (words[1:], 1 - turn)
            copy_source.append(number)
            copy_arcs.append((ilabel, emitted, weight, number_of(target, after)))
    final = np.concatenate([states["final"], np.full(len(pending), np.inf, np.float32)])
    source = np.concatenate([source, np.array(copy_source, np.int64)])
    return FstArrays(fst.start, final, source, np.concatenate([arcs, np.array(copy_arcs, ARC)]))
