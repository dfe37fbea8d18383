"""H ∘ C ∘ L ∘ G by general FST algorithms: the reference that the built graph is tested against.

The order of composing, determinising and minimising is that of Kaldi's `mkgraph.sh`; see Mohri,
Pereira and Riley, *Speech Recognition with Weighted Finite-State Transducers* (2008), section 4.
"""

import math
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import kaldifst
import numpy as np

from acoustic_kd.decoding.graph.contexts import STATES, Inventory
from acoustic_kd.decoding.graph.fst import ARC, STATE, FstArrays, map_fst, to_kaldifst
from acoustic_kd.decoding.graph.hmm_states import self_loop_probability
from acoustic_kd.language.arpa import BOS, EOS
from acoustic_kd.language.lexicon import SILENCE, Lexicon

START, LOOP, SILENT, AFTER_SILENCE = range(4)


@dataclass(frozen=True)
class LexiconFst:
    """L with its disambiguation symbols.

    Attributes:
        fst: phones (and disambiguation symbols) → words, output labels sorted.
        words: the words in the order of their labels, from label 1.
        disambiguation: the phone-side labels of #0, #1, ….
    """

    fst: kaldifst.StdVectorFst
    words: list[str]
    disambiguation: list[int]


def make_lexicon_fst(
    lexicon: Lexicon, words: Sequence[str], phones: Sequence[str], silence_probability: float
) -> LexiconFst:
    """Build L for `words`: any sequence of words, with optional silence between and around them.

    Labels are numbered as in Kaldi: 0 is epsilon; phone i of the inventory is i + 1, and the
    disambiguation symbols #0, #1, … follow the phones; words count from 1, then #0.
    """
    words = sorted(set(words))
    spelled = [(label, pron) for label, word in enumerate(words, 1) for pron in lexicon[word]]
    marks = _disambiguation(pron for _, pron in spelled)
    first_mark = len(phones) + 1
    silence_mark = first_mark + max(marks, default=0) + 1
    phone_label = {phone: label for label, phone in enumerate(phones, start=1)}

    no_silence, silence = -math.log(1 - silence_probability), -math.log(silence_probability)
    arcs = [
        (START, 0, 0, no_silence, LOOP),
        (START, 0, 0, silence, SILENT),
        (SILENT, phone_label[SILENCE], 0, 0.0, AFTER_SILENCE),
        (AFTER_SILENCE, silence_mark, 0, 0.0, LOOP),
    ]
    num_states = AFTER_SILENCE + 1
    for (word, pronunciation), mark in zip(spelled, marks, strict=True):
        labels = [phone_label[phone] for phone in pronunciation]
        labels += [first_mark + mark] if mark else []
        state = LOOP
        for position, label in enumerate(labels[:-1]):
            arcs.append((state, label, word if position == 0 else 0, 0.0, num_states))
            state, num_states = num_states, num_states + 1
        output = word if len(labels) == 1 else 0
        arcs.append((state, labels[-1], output, no_silence, LOOP))
        arcs.append((state, labels[-1], output, silence, SILENT))
    final = np.full(num_states, np.inf, np.float32)
    final[LOOP] = 0.0
    fst = to_kaldifst(FstArrays(START, final, *make_arcs(arcs)))
    kaldifst.connect(fst)
    # #0 must pass through L to the language model's back-off arcs.
    kaldifst.add_self_loops(fst, [first_mark], [len(words) + 1])
    kaldifst.arcsort(fst, "olabel")
    return LexiconFst(fst, words, list(range(first_mark, silence_mark + 1)))


def _disambiguation(pronunciations) -> list[int]:
    """For each pronunciation the number of its disambiguation symbol #1, #2, …; 0 for none.

    One is needed where the same phones are another entry's too, or the beginning of another.
    """
    pronunciations = list(pronunciations)
    count = Counter(pronunciations)
    prefixes = {pron[:end] for pron in count for end in range(1, len(pron))}
    used: Counter = Counter()
    marks = []
    for pron in pronunciations:
        if count[pron] > 1 or pron in prefixes:
            used[pron] += 1
            marks.append(used[pron])
        else:
            marks.append(0)
    return marks


def composed_graph(
    lexicon: Lexicon,
    words: list[str],
    arpa_path: Path,
    inventory: Inventory,
    mean_duration: np.ndarray | None = None,
    silence_probability: float = 0.5,
) -> FstArrays:
    """The decoding graph of an ARPA file whose vocabulary is `words`."""
    loop = self_loop_probability(mean_duration, inventory.num_senones)
    lexicon_fst = make_lexicon_fst(lexicon, words, inventory.phones, silence_probability)
    symbols = ["<eps>", *lexicon_fst.words, "#0", BOS, EOS]
    words_txt = "".join(f"{word} {label}\n" for label, word in enumerate(symbols))
    return compile_graph(lexicon_fst, _grammar(arpa_path, words_txt), inventory, loop)


def composed_alignment(
    lexicon: Lexicon, words: list[str], inventory: Inventory, silence_probability: float
) -> FstArrays:
    """The graph of one transcript."""
    lexicon_fst = make_lexicon_fst(lexicon, words, inventory.phones, silence_probability)
    label = {word: number for number, word in enumerate(lexicon_fst.words, start=1)}
    grammar = kaldifst.make_linear_acceptor([label[word] for word in words])
    loop = self_loop_probability(None, inventory.num_senones)
    return compile_graph(lexicon_fst, grammar, inventory, loop)


def compile_graph(
    lexicon_fst: LexiconFst,
    grammar: kaldifst.StdVectorFst,
    inventory: Inventory,
    self_loop: np.ndarray,
) -> FstArrays:
    """Compose H ∘ C ∘ L ∘ G and add the self-loops; input labels are senone + 1."""
    graph = kaldifst.compose(lexicon_fst.fst, grammar)
    _determinise(graph)
    kaldifst.minimize_encoded(graph)
    graph, contexts = kaldifst.compose_context(lexicon_fst.disambiguation, 3, 1, graph)
    canonical, hmm, disambiguation, senones = _hmm_fst(contexts, inventory)
    arrays = from_kaldifst(graph)
    arrays.arcs["ilabel"] = canonical[arrays.arcs["ilabel"]]
    graph = to_kaldifst(arrays)
    graph = kaldifst.compose(hmm, graph)
    _determinise(graph)
    arrays = from_kaldifst(graph)
    arrays.arcs["ilabel"][arrays.arcs["ilabel"] >= disambiguation] = 0
    graph = to_kaldifst(_bypass_epsilons(arrays))
    kaldifst.connect(graph)
    kaldifst.minimize_encoded(graph)
    return _add_self_loops(from_kaldifst(graph), senones, self_loop)


def _determinise(fst: kaldifst.StdVectorFst) -> None:
    # In the log semiring, as Kaldi does: what is pushed forward then sums to one, good for beams.
    kaldifst.determinize_star(fst, use_log=True)


def _hmm_fst(
    contexts: list[list[int]], inventory: Inventory
) -> tuple[np.ndarray, kaldifst.StdVectorFst, int, np.ndarray]:
    """H, from HMM states to context labels.

    Its input labels stand for (centre phone, HMM state, senone), not for bare senones: phones
    that share senones must stay apart until determinising is over.

    Returns:
        canonical: [labels of C] the first label with the same HMM (they are joined).
        hmm: H, output labels sorted.
        disambiguation: from this input label on they are disambiguation symbols.
        senones: [input labels] the senone of each, -1 for epsilon.
    """
    canonical = np.arange(len(contexts), dtype=np.int32)
    of_hmm: dict[tuple[int, ...], int] = {}
    of_state: dict[tuple[int, int, int], int] = {}
    special = [label for label, window in enumerate(contexts) if label and len(window) == 1]
    table = inventory.table
    arcs, num_states = [], 1
    for label, window in enumerate(contexts):
        if len(window) != STATES:
            continue
        # Label 0 in a window is the start or the end of the utterance, which counts as silence.
        left, centre, right = (max(phone - 1, 0) for phone in window)
        hmm = tuple(int(senone) for senone in table[left, centre, right])
        canonical[label] = of_hmm.setdefault((centre, *hmm), label)
        if canonical[label] != label:
            continue
        states = [0, num_states, num_states + 1, 0]
        num_states += 2
        for position, senone in enumerate(hmm):
            key = (centre, position, senone)
            state = of_state.setdefault(key, len(of_state) + 1)
            output = label if position == 0 else 0
            arcs.append((states[position], state, output, 0.0, states[position + 1]))
    disambiguation = len(of_state) + 1
    arcs += [(0, disambiguation + number, label, 0.0, 0) for number, label in enumerate(special)]
    final = np.full(num_states, np.inf, np.float32)
    final[0] = 0.0
    hmm_fst = to_kaldifst(FstArrays(0, final, *make_arcs(arcs)))
    kaldifst.arcsort(hmm_fst, "olabel")
    senones = np.array([-1, *(senone for _, _, senone in of_state)], dtype=np.int32)
    return canonical, hmm_fst, disambiguation, senones


def _bypass_epsilons(fst: FstArrays) -> FstArrays:
    """Cut out states whose only way on is one epsilon:epsilon arc; the weights are kept."""
    source, arcs = fst.source, fst.arcs.copy()
    leaving = np.bincount(source, minlength=fst.num_states)
    only = (leaving[source] == 1) & np.isinf(fst.final[source])
    only &= (arcs["ilabel"] == 0) & (arcs["olabel"] == 0)
    target = np.arange(fst.num_states)
    cost = np.zeros(fst.num_states, np.float32)
    target[source[only]] = arcs["nextstate"][only]
    cost[source[only]] = arcs["weight"][only]
    while np.any(target[target] != target):
        cost, target = cost + cost[target], target[target]
    arcs["weight"] += cost[arcs["nextstate"]]
    arcs["nextstate"] = target[arcs["nextstate"]]
    return FstArrays(fst.start, fst.final, source, arcs)


def _add_self_loops(fst: FstArrays, senones: np.ndarray, self_loop: np.ndarray) -> FstArrays:
    """Add the self-loops and turn input labels into senone + 1 as in `hmm_states`.

    A state entered by more than one HMM state, or also without one, gets a copy for each: the
    copy has the self-loop and an epsilon arc to the original, as in Kaldi's `AddSelfLoops`.
    """
    arcs, source = fst.arcs.copy(), fst.source
    emitting = arcs["ilabel"] > 0
    into = arcs["nextstate"][emitting].astype(np.int64)
    pairs = into * len(senones) + arcs["ilabel"][emitting]
    unique, which = np.unique(pairs, return_inverse=True)
    state, label = unique // len(senones), unique % len(senones)
    silent = np.zeros(fst.num_states, bool)  # entered without emitting
    silent[arcs["nextstate"][~emitting]] = True
    silent[fst.start] = True
    copied = (np.bincount(state, minlength=fst.num_states)[state] > 1) | silent[state]
    looped = state.copy()
    looped[copied] = fst.num_states + np.arange(np.count_nonzero(copied))

    senone = senones[label]
    arcs["nextstate"][emitting] = looped[which]
    arcs["weight"][emitting] -= np.log1p(-self_loop)[senone[which]].astype(np.float32)
    arcs["ilabel"][emitting] = senone[which] + 1
    loops = np.zeros(len(unique), ARC)
    loops["ilabel"], loops["nextstate"] = senone + 1, looped
    loops["weight"] = -np.log(self_loop)[senone]
    links = np.zeros(np.count_nonzero(copied), ARC)
    links["nextstate"] = state[copied]
    final = np.concatenate([fst.final, np.full(len(links), np.inf, np.float32)])
    all_sources = np.concatenate([source, looped, looped[copied]])
    return FstArrays(fst.start, final, all_sources, np.concatenate([arcs, loops, links]))


def _grammar(arpa_path: Path, words_txt: str) -> kaldifst.StdVectorFst:
    """G, by kaldilm in a process of its own: it is talkative."""
    with tempfile.TemporaryDirectory() as folder:
        words, fst = Path(folder, "words.txt"), Path(folder, "G")
        words.write_text(words_txt, encoding="utf-8")
        code = (
            "import sys, kaldilm; kaldilm.arpa2fst(sys.argv[1], sys.argv[2], disambig_symbol='#0',"
            "read_symbol_table=sys.argv[3], max_arpa_warnings=0)"
        )
        command = [sys.executable, "-c", code, str(arpa_path), str(fst), str(words)]
        subprocess.run(command, capture_output=True, check=True)
        grammar = kaldifst.StdVectorFst.read(str(fst))
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
    cost = np.full(fst.num_states, np.inf)
    words_into = np.zeros(fst.num_states, np.uint64)
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
        unreached = np.full(fst.num_states, np.inf)
        target, reach, words = step(emits, -row[fst.arcs["ilabel"][emits] - 1], unreached)
        cost[:] = np.inf
        cost[target], words_into[target] = reach, words
        follow()
    total = cost + fst.final
    end = int(np.argmin(total))
    return (total[end], int(words_into[end])) if np.isfinite(total[end]) else None
