"""The built graph against one composed and determinised by kaldifst: equal best paths."""

import tempfile
from pathlib import Path

import numpy as np
import spelled_graphs as spelling
from composition import composed_alignment, composed_graph
from hypothesis import given, settings
from hypothesis import strategies as st

from acoustic_kd.alignment.viterbi import alignment_graph
from acoustic_kd.decoding.graph.compile import build_graph
from acoustic_kd.decoding.graph.fst import from_kaldifst, read_fst
from acoustic_kd.language.lexicon import Lexicon

SEEDS = st.integers(0, 2**32 - 1)


def random_lexicon(rng):
    """Few phones, so that words begin alike, sound alike, or are the beginning of others."""
    phones = [f"P{n}" for n in range(rng.integers(1, 5))]
    entries = {}
    for number in range(rng.integers(1, 9)):
        prons = {
            tuple(rng.choice(phones, size=min(rng.integers(1, 6), rng.integers(1, 6))).tolist())
            for _ in range(rng.integers(1, 3))
        }
        entries[f"w{number}"] = tuple(sorted(prons))
    return Lexicon(entries), ("SIL", *phones)


def random_inventory(rng, phones):
    """Senones by chance, some phones sharing all of theirs; silence in context, or not."""
    count, senones = len(phones), int(rng.integers(3, 40))
    left, right = (rng.integers(rng.integers(1, 4), size=count) for _ in range(2))
    by_class = rng.integers(senones, size=(3, count, 3, 3))
    table = by_class[left[:, None, None], np.arange(count)[:, None], right]
    if rng.random() < 0.5:
        table[:, 0] = [0, 1, 2]
    return spelling.FakeInventory(phones, table.astype(np.int32), senones)


def random_arpa(rng, words, path):
    """A back-off model of order 1 to 4 whose numbers are anything, with histories that lead on."""
    order = int(rng.integers(1, 5))
    levels = [[("<s>",), ("</s>",), *((word,) for word in words)]]
    while len(levels) < order:
        longer = [
            (*ngram, *last)
            for ngram in levels[-1]
            for last in levels[0]
            if ngram[-1] != "</s>" and last != ("<s>",) and rng.random() < 0.25
        ]
        levels.append(longer[:60])
    lines = ["\\data\\", *(f"ngram {n}={len(level)}" for n, level in enumerate(levels, start=1))]
    for n, level in enumerate(levels, start=1):
        lines += ["", f"\\{n}-grams:"]
        for ngram in level:
            backoff = f"\t{-rng.random():.6f}" if n < order and rng.random() < 0.9 else ""
            lines.append(f"{-2 * rng.random():.6f}\t{' '.join(ngram)}{backoff}")
    path.write_text("\n".join([*lines, "", "\\end\\", ""]))


def best(fst, loglikes):
    """Cost and a hash of the words of the best path, by dynamic programming, if there is one."""
    silent, emits = (np.flatnonzero(fst.arcs["ilabel"] == 0), np.flatnonzero(fst.arcs["ilabel"]))
    cost = np.full(fst.num_states, np.inf)
    said = np.zeros(fst.num_states, np.uint64)
    cost[fst.start] = 0.0

    def step(arc, more, into):
        source, target = fst.source[arc], fst.arcs["nextstate"][arc]
        reach = cost[source] + fst.arcs["weight"][arc] + more
        order = np.lexsort((reach, target))
        first = order[np.flatnonzero(np.diff(target[order], prepend=-1))]
        first = first[reach[first] < into[target[first]]]
        label = fst.arcs["olabel"][arc[first]].astype(np.uint64)
        words = said[source[first]]
        # The words' order does not count: where G backs off between two, either costs the same.
        return target[first], reach[first], words + label * label * label * np.uint64(1000003**3)

    def follow():
        while True:
            target, reach, words = step(silent, 0.0, cost)
            if not len(target):
                return
            cost[target], said[target] = reach, words

    follow()
    for row in loglikes:
        nothing = np.full(fst.num_states, np.inf)
        target, reach, words = step(emits, -row[fst.arcs["ilabel"][emits] - 1], nothing)
        cost[:] = np.inf
        cost[target], said[target] = reach, words
        follow()
    total = cost + fst.final
    end = int(np.argmin(total))
    return (total[end], int(said[end])) if np.isfinite(total[end]) else None


def agree(rng, one, other, num_senones, utterances=4):
    """Both graphs have the same best paths of random utterances of every length."""
    for _ in range(utterances):
        frames = int(rng.integers(1, 50))
        loglikes = rng.standard_normal((frames, num_senones)).astype(np.float32) * rng.choice(
            [1, 8]
        )
        first, second = best(one, loglikes), best(other, loglikes)
        assert (first is None) == (second is None)
        if first is not None:
            np.testing.assert_allclose(first[0], second[0], rtol=1e-5, atol=0.02)
            assert first[1] == second[1]


@settings(max_examples=16, derandomize=True)
@given(SEEDS)
def test_random_models_have_equal_best_paths(seed):
    rng = np.random.default_rng(seed)
    lexicon, phones = random_lexicon(rng)
    senones = random_inventory(rng, phones)
    durations = rng.uniform(1, 20, senones.num_senones)
    silence = float(rng.choice([0.1, 0.5, 0.8]))
    with tempfile.TemporaryDirectory() as folder:
        arpa = Path(folder, "lm.arpa")
        random_arpa(rng, list(lexicon.entries), arpa)
        build_graph(lexicon, arpa, senones, Path(folder, "g"), durations, silence)
        built = read_fst(Path(folder, "g", "HCLG.fst"))
        composed = composed_graph(lexicon, list(lexicon.entries), arpa, senones, durations, silence)
    agree(rng, built, composed, senones.num_senones)
    assert built.num_states <= 3 * composed.num_states + 20


@settings(max_examples=10, derandomize=True)
@given(SEEDS)
def test_random_transcripts_have_equal_best_paths(seed):
    rng = np.random.default_rng(seed)
    lexicon, phones = random_lexicon(rng)
    senones = random_inventory(rng, phones)
    words = rng.choice(list(lexicon.entries), size=rng.integers(0, 6)).tolist()
    built = from_kaldifst(alignment_graph(lexicon, words, senones, silence_probability=0.3))
    agree(rng, built, composed_alignment(lexicon, words, senones, 0.3), senones.num_senones)
