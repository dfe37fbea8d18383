"""H ∘ C ∘ L ∘ G by general FST algorithms: the reference that the built graph is tested against.

The order of composing, determinising and minimising is that of Kaldi's `mkgraph.sh`; see Mohri,
Pereira and Riley, *Speech Recognition with Weighted Finite-State Transducers* (2008), section 4.
"""

import math
import tempfile
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path

import kaldifst
import kaldilm
import numpy as np

from acoustic_kd.decoding.graph.compile import NO_COSTS
from acoustic_kd.decoding.graph.contexts import STATES, Inventory
from acoustic_kd.decoding.graph.fst import ARC, STATE, FstArrays, map_fst, to_kaldifst
from acoustic_kd.decoding.graph.hmm_states import self_loop_probability
from acoustic_kd.language.arpa import BOS, EOS
from acoustic_kd.language.lexicon import SILENCE, Lexicon, Pronunciation

START, LOOP, SILENT, AFTER_SILENCE = range(4)


def make_lexicon_fst(
    lexicon: Lexicon,
    words: Sequence[str],
    phones: Sequence[str],
    silence_probability: float,
    costs: Mapping[Pronunciation, float],
) -> tuple[kaldifst.StdVectorFst, list[int]]:
    """Build L for sorted words: any sequence of them, with optional silence between and around.

    Labels are numbered as in Kaldi: 0 is epsilon; phone i of the inventory is i + 1, and the
    disambiguation symbols #0, #1, … follow the phones; words count from 1, then #0. The n-th
    entry with the same phones ends in #n.

    Returns:
        L, output labels sorted; the phone-side labels of #0, #1, ….
    """
    spelled = [(label, pron) for label, word in enumerate(words, 1) for pron in lexicon[word]]
    first_mark = len(phones) + 1
    phone_label = {phone: label for label, phone in enumerate(phones, start=1)}
    silence_mark = first_mark + max(Counter(pron for _, pron in spelled).values(), default=0) + 1

    no_silence, silence = -math.log(1 - silence_probability), -math.log(silence_probability)
    arcs = [
        (START, 0, 0, no_silence, LOOP),
        (START, 0, 0, silence, SILENT),
        (SILENT, phone_label[SILENCE], 0, 0.0, AFTER_SILENCE),
        (AFTER_SILENCE, silence_mark, 0, 0.0, LOOP),
    ]
    num_states, entries = AFTER_SILENCE + 1, Counter()
    for word, pron in spelled:
        entries[pron] += 1
        state, output, cost = LOOP, word, costs.get((words[word - 1], pron), 0.0)
        for phone in pron:
            arcs.append((state, phone_label[phone], output, cost, num_states))
            state, output, cost, num_states = num_states, 0, 0.0, num_states + 1
        arcs.append((state, first_mark + entries[pron], 0, no_silence, LOOP))
        arcs.append((state, first_mark + entries[pron], 0, silence, SILENT))
    final = np.full(num_states, np.inf, np.float32)
    final[LOOP] = 0.0
    fst = to_kaldifst(FstArrays(START, final, *make_arcs(arcs)))
    kaldifst.connect(fst)
    # #0 must pass through L to the language model's back-off arcs.
    kaldifst.add_self_loops(fst, [first_mark], [len(words) + 1])
    kaldifst.arcsort(fst, "olabel")
    return fst, list(range(first_mark, silence_mark + 1))


def composed_graph(
    lexicon: Lexicon,
    words: list[str],
    arpa_path: Path,
    inventory: Inventory,
    mean_duration: np.ndarray | None = None,
    silence_probability: float = 0.5,
    costs: Mapping[Pronunciation, float] = NO_COSTS,
) -> FstArrays:
    """The decoding graph of an ARPA file whose vocabulary is `words`."""
    loop = self_loop_probability(mean_duration, inventory.num_senones)
    words = sorted(words)
    lexicon_fst = make_lexicon_fst(lexicon, words, inventory.phones, silence_probability, costs)
    symbols = ["<eps>", *words, "#0", BOS, EOS]
    words_txt = "".join(f"{word} {label}\n" for label, word in enumerate(symbols))
    return compile_graph(*lexicon_fst, _grammar(arpa_path, words_txt), inventory, loop)


def composed_alignment(
    lexicon: Lexicon, words: list[str], inventory: Inventory, silence_probability: float
) -> FstArrays:
    """The graph of one transcript."""
    known = sorted(set(words))
    lexicon_fst = make_lexicon_fst(lexicon, known, inventory.phones, silence_probability, NO_COSTS)
    grammar = kaldifst.make_linear_acceptor([known.index(word) + 1 for word in words])
    loop = self_loop_probability(None, inventory.num_senones)
    return compile_graph(*lexicon_fst, grammar, inventory, loop)


def compile_graph(
    lexicon_fst: kaldifst.StdVectorFst,
    marks: list[int],
    grammar: kaldifst.StdVectorFst,
    inventory: Inventory,
    self_loop: np.ndarray,
) -> FstArrays:
    """Compose H ∘ C ∘ L ∘ G; input labels are senone + 1."""
    graph = kaldifst.compose(lexicon_fst, grammar)
    # In the log semiring, as Kaldi does: what is pushed forward then sums to one, good for beams.
    kaldifst.determinize_star(graph, use_log=True)
    kaldifst.minimize_encoded(graph)
    graph, contexts = kaldifst.compose_context(marks, 3, 1, graph)
    hmm, senones = _hmm_fst(contexts, inventory, self_loop)
    graph = kaldifst.compose(hmm, graph)
    kaldifst.determinize_star(graph, use_log=True)
    arrays = from_kaldifst(graph)
    arrays.arcs["ilabel"][arrays.arcs["ilabel"] >= len(senones)] = 0  # disambiguation symbols
    graph = to_kaldifst(arrays)
    kaldifst.rmepsilon(graph)
    kaldifst.minimize_encoded(graph)
    arrays = from_kaldifst(graph)
    arrays.arcs["ilabel"] = senones[arrays.arcs["ilabel"]] + 1
    return arrays


def _hmm_fst(
    contexts: list[list[int]], inventory: Inventory, self_loop: np.ndarray
) -> tuple[kaldifst.StdVectorFst, np.ndarray]:
    """H, from HMM states to context labels, with self-loops.

    Its input labels stand for (centre phone, HMM state, senone), not for bare senones: phones
    that share senones must stay apart until determinising is over. The labels of disambiguation
    symbols follow.

    Returns:
        H, output labels sorted; the senone of each input label, -1 for epsilon.
    """
    label_of: dict[tuple[int, int, int], int] = {}
    special = [label for label, window in enumerate(contexts) if label and len(window) == 1]
    arcs, num_states = [], 1
    for output, window in enumerate(contexts):
        if len(window) != STATES:
            continue
        # Label 0 in a window is the start or the end of the utterance, which counts as silence.
        left, centre, right = (max(phone - 1, 0) for phone in window)
        state = 0
        for position, senone in enumerate(inventory.table[left, centre, right].tolist()):
            label = label_of.setdefault((centre, position, senone), len(label_of) + 1)
            loop, enter = -math.log(self_loop[senone]), -math.log1p(-self_loop[senone])
            arcs.append((state, label, 0 if position else output, enter, num_states))
            arcs.append((num_states, label, 0, loop, num_states))
            state, num_states = num_states, num_states + 1
        arcs.append((state, 0, 0, 0.0, 0))
    arcs += [(0, len(label_of) + n, label, 0.0, 0) for n, label in enumerate(special, start=1)]
    final = np.full(num_states, np.inf, np.float32)
    final[0] = 0.0
    fst = to_kaldifst(FstArrays(0, final, *make_arcs(arcs)))
    kaldifst.arcsort(fst, "olabel")
    return fst, np.array([-1, *(senone for _, _, senone in label_of)], dtype=np.int32)


def _grammar(arpa_path: Path, words_txt: str) -> kaldifst.StdVectorFst:
    """G, by kaldilm."""
    with tempfile.TemporaryDirectory() as folder:
        words, fst = Path(folder, "words.txt"), str(Path(folder, "G"))
        words.write_text(words_txt, encoding="utf-8")
        options = {"disambig_symbol": "#0", "read_symbol_table": str(words)}
        kaldilm.arpa2fst(str(arpa_path), fst, max_arpa_warnings=0, **options)
        grammar = kaldifst.StdVectorFst.read(fst)
    kaldifst.connect(grammar)
    kaldifst.arcsort(grammar, "ilabel")
    return grammar


def make_arcs(rows: list[tuple[int, int, int, float, int]]) -> tuple[np.ndarray, np.ndarray]:
    """(source, ilabel, olabel, cost, nextstate) a row → the `source` and `arcs` arrays."""
    source = np.array([row[0] for row in rows], dtype=np.int64)
    return source, np.array([row[1:] for row in rows], dtype=ARC)


def read_fst(path: Path) -> FstArrays:
    """Read a `ConstFst` file into arrays of one's own."""
    fst = map_fst(path)
    state = fst.states.view(STATE)[:, 0]
    source = np.repeat(np.arange(len(state)), state["arcs"])
    return FstArrays(fst.start, state["final"].copy(), source, fst.arcs.view(ARC)[:, 0].copy())


def from_kaldifst(fst: kaldifst.StdVectorFst) -> FstArrays:
    """The arrays of a kaldifst transducer."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "fst")
        assert kaldifst.StdConstFst(fst).write(str(path))
        return read_fst(path)


def word_hash(labels: np.ndarray) -> np.ndarray:
    """A number for each label; a path has the sum of its labels.

    So the order of words does not count: paths that back off between two words cost the same.
    """
    return labels.astype(np.uint64) ** np.uint64(3) * np.uint64(1000003**3)


def best_path(fst: FstArrays, loglikes: np.ndarray) -> tuple[float, int] | None:
    """Cost and `word_hash` of the best path by dynamic programming; None without a path."""
    silent, emits = (np.flatnonzero(fst.arcs["ilabel"] == 0), np.flatnonzero(fst.arcs["ilabel"]))
    cost = np.full(len(fst.final), np.inf)
    words_into = np.zeros(len(fst.final), np.uint64)
    cost[fst.start] = 0.0

    def step(arc, more, into):
        source, target = fst.source[arc], fst.arcs["nextstate"][arc]
        reach = cost[source] + fst.arcs["weight"][arc] + more
        order = np.lexsort((reach, target))
        first = order[np.flatnonzero(np.diff(target[order], prepend=-1))]
        first = first[reach[first] < into[target[first]]]
        label = fst.arcs["olabel"][arc[first]]
        words = words_into[source[first]]
        return target[first], reach[first], words + word_hash(label)

    def follow():
        while True:
            target, reach, words = step(silent, 0.0, cost)
            if not len(target):
                return
            cost[target], words_into[target] = reach, words

    follow()
    for row in loglikes:
        unreached = np.full(len(fst.final), np.inf)
        target, reach, words = step(emits, -row[fst.arcs["ilabel"][emits] - 1], unreached)
        cost[:] = np.inf
        cost[target], words_into[target] = reach, words
        follow()
    total = cost + fst.final
    end = int(np.argmin(total))
    return (total[end], int(words_into[end])) if np.isfinite(total[end]) else None
