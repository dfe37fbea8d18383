"""Posteriors of a lattice against the sum over every path, one by one."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from acoustic_kd.decoding.confidence import arc_posteriors, best_words, frames_of
from acoustic_kd.decoding.lattice import Lattice

WORDS = ["<eps>", "a", "b", "c"]


def lattice_of(source, target, word, level, senone, graph, acoustic, final, num_frames):
    whole = (np.array(column, np.int32) for column in (source, target, word, level, senone))
    costs = (np.array(column, np.float32) for column in (graph, acoustic, final))
    return Lattice(WORDS, *whole, *costs, num_frames)


def random_lattice(seed, frames, width, ranks=2):
    """Nodes by frame and rank; arcs within a frame are silent, those to the next hear it."""
    rng = np.random.default_rng(seed)
    levels = [0]
    for frame in range(frames + 1):
        for rank in range(ranks):
            if (frame, rank) != (0, 0):
                levels += [frame * ranks + rank] * int(rng.integers(1, width + 1))
    levels = np.array(levels)
    rows = []
    for target in range(1, len(levels)):
        frame = levels[target] // ranks
        same = (levels // ranks == frame) & (levels < levels[target])
        before = levels // ranks == frame - 1
        sources = np.flatnonzero(same | before)
        kept = rng.random(len(sources)) < 0.7
        kept[rng.integers(len(sources))] = True  # every node can be reached
        for source in sources[kept]:
            rows.append((levels[target], target, source, bool(before[source])))
    rows.sort()
    level, target, source, hears = (np.array(column) for column in zip(*rows, strict=True))
    count = len(rows)
    word = np.where(rng.random(count) < 0.4, rng.integers(1, 4, count), 0)
    acoustic = np.where(hears, rng.standard_normal(count) * 9, 0)
    final = np.where(levels // ranks == frames, rng.random(len(levels)), np.inf)
    graph = rng.random(count) * 2
    senone = np.where(hears, rng.integers(0, 9, count), -1)
    acoustic[rng.random(count) < 0.1] = 0  # a log-likelihood may be 0
    return lattice_of(source, target, word, level, senone, graph, acoustic, final, frames), hears


def paths(lattice, node=0):
    """Every path from a node to an end, as lists of arcs."""
    if np.isfinite(lattice.final[node]):
        yield []
    for arc in np.flatnonzero(lattice.source == node):
        for rest in paths(lattice, lattice.target[arc]):
            yield [int(arc), *rest]


def weight(lattice, path, lm_weight, penalty):
    end = lattice.target[path[-1]] if path else 0
    cost = float(lattice.final[end])
    for arc in path:
        cost += lattice.graph[arc] + lattice.acoustic[arc] / lm_weight
        cost += penalty * (lattice.word[arc] > 0)
    return math.exp(-cost)


@settings(max_examples=40)
@given(st.integers(0, 10**6), st.integers(1, 3), st.integers(1, 2), st.sampled_from([1.0, 7.0]))
def test_posteriors_are_shares_of_all_paths(seed, frames, width, lm_weight):
    lattice, hears = random_lattice(seed, frames, width)
    every = list(paths(lattice))
    if not any(every):
        return
    weights = np.array([weight(lattice, path, lm_weight, 0.5) for path in every])
    expected = np.zeros(len(lattice.source))
    for path, share in zip(every, weights / weights.sum(), strict=True):
        expected[path] += share
    found = arc_posteriors(lattice, lm_weight, 0.5)
    np.testing.assert_allclose(found, expected, atol=1e-6)
    # Every path through an arc hears as many frames before its end.
    times = frames_of(lattice)
    for path in every:
        assert times[path].tolist() == np.cumsum(hears[path]).tolist()


def sausage(*arcs):
    """The lattice of (source, target, word, probability) arcs between the ends of frames."""
    source, target, word, share = (np.array(column) for column in zip(*arcs, strict=True))
    acoustic, final = -5 * np.log(share), np.append(np.full(target.max(), np.inf), 0)
    none = 0 * source
    return lattice_of(source, target, word, target, none, none, acoustic, final, target.max())


@pytest.mark.parametrize(
    ("arcs", "words", "confidences", "at"),
    [
        (
            [(0, 1, 1, 0.7), (0, 1, 2, 0.3), (1, 2, 0, 1.0), (2, 3, 2, 0.6), (2, 3, 3, 0.4)],
            "ab", [0.7, 0.6], [1, 3],
        ),
        (
            [(0, 1, 1, 0.8), (0, 1, 0, 0.2), (1, 2, 0, 1.0), (2, 3, 1, 0.6), (2, 3, 0, 0.4)],
            "aa", [0.8, 0.6], [1, 3],
        ),
    ],
    ids=["two words", "a repeated word"],
)  # fmt: skip
def test_confidences_of_words_are_their_shares(arcs, words, confidences, at):
    best, shares, frames = best_words(sausage(*arcs), lm_weight=5.0)
    assert best == [*words] and frames.tolist() == at
    np.testing.assert_allclose(shares, confidences, atol=1e-5)


def test_a_label_may_be_earlier_or_later():
    """`a` at frame 1 on half of the paths, at frame 2 on the others: its confidence is 1."""
    source, target, word = [0, 0, 1, 2, 3], [1, 2, 3, 3, 4], [1, 0, 0, 1, 2]
    level, acoustic = [1, 1, 2, 2, 3], [5 * math.log(2), 5 * math.log(2), 0, 0, 0]
    final = [np.inf] * 4 + [0]
    lattice = lattice_of(source, target, word, level, 5 * [0], 5 * [0], acoustic, final, 3)
    words, confidences, _ = best_words(lattice, lm_weight=5.0)
    assert words == ["a", "b"]
    np.testing.assert_allclose(confidences, [1.0, 1.0], atol=1e-6)


def test_an_empty_lattice_has_no_words():
    none = np.zeros(0, np.int32)
    empty = Lattice(WORDS, none, none, none, none, none, none, none, np.zeros(0, np.float32), 0)
    assert best_words(empty, 5.0)[0] == []
    assert arc_posteriors(empty, 5.0).tolist() == []
