"""Confidences of the words of a lattice's best path: posteriors by forward-backward.

A path has the probability exp(-cost) / Σ exp(-cost of every path), with the costs of `Lattice` at
the tuned weights: acoustic scores are divided by the LM weight, and so are on the scale
of the language model's probabilities (Wessel et al., *Confidence Measures for Large Vocabulary
Continuous Speech Recognition*, 2001). The lattice lacks the paths outside of the beam, so
posteriors are a little too high.
"""

from itertools import pairwise

import numpy as np

from acoustic_kd.decoding.lattice import Lattice


def arc_posteriors(lattice: Lattice, lm_weight: float, penalty: float = 0.0) -> np.ndarray:
    """The posterior [A] of every arc: the share of the paths, by probability, that it is on."""
    step = -(lattice.graph.astype(np.float64) + lattice.acoustic / lm_weight)
    step -= (lattice.word > 0) * penalty
    nodes = len(lattice.final)
    level = np.zeros(nodes, np.int64)
    level[lattice.target] = lattice.level
    forward, backward = np.full(nodes, -np.inf), -lattice.final.astype(np.float64)
    if nodes:
        forward[0] = 0.0
    with np.errstate(invalid="ignore"):  # infinity less infinity: no path either way
        _sum_along(lattice.source, lattice.target, level, step, forward)
        _sum_along(lattice.target, lattice.source, -level, step, backward)
        total = backward[0] if nodes else -np.inf
        arcs = np.exp(forward[lattice.source] + step + backward[lattice.target] - total)
    return np.nan_to_num(arcs, nan=0.0)


def _sum_along(
    source: np.ndarray, target: np.ndarray, level: np.ndarray, step: np.ndarray, sums: np.ndarray
) -> None:
    """Add up, in the log domain, over all paths into each node; `sums` begins with its own.

    Args:
        level: [N] of the nodes; arcs lead from lower ones to higher ones.
    """
    if not len(source):
        return
    order = np.lexsort((target, level[target]))
    source, target, step = source[order], target[order], step[order]
    starts = np.flatnonzero(np.diff(target, prepend=-1))  # first arc into each node
    bounds = np.flatnonzero(np.diff(level[target[starts]], prepend=level.min() - 1))
    ends = np.append(starts, len(target))
    for first, after in zip(bounds, np.append(bounds[1:], len(starts)), strict=True):
        arcs = slice(ends[first], ends[after])
        reach = np.logaddexp.reduceat(
            sums[source[arcs]] + step[arcs], starts[first:after] - ends[first]
        )
        into = target[starts[first:after]]
        sums[into] = np.logaddexp(sums[into], reach)


def frames_of(lattice: Lattice) -> np.ndarray:
    """The frame [A] before which each arc ends."""
    frame = np.zeros(len(lattice.final), np.int64)
    starts = np.flatnonzero(np.diff(lattice.level, prepend=-1))
    ends = np.append(starts, len(lattice.level))
    has_frame = (lattice.senone >= 0).astype(np.int64)
    for first, end in pairwise(ends):
        frame[lattice.target[first:end]] = frame[lattice.source[first:end]] + has_frame[first:end]
    return frame[lattice.target]


def best_words(
    lattice: Lattice, lm_weight: float, penalty: float = 0.0
) -> tuple[list[str], np.ndarray, np.ndarray]:
    """The words of the best path and their confidences.

    A word's label is where the word diverges from all others, a few frames earlier or later on
    different paths. So the confidence is the probability of that label anywhere from the middle
    between it and the previous label to the middle between it and the next.

    Returns:
        N words, their confidences [N] in [0, 1], and the frames [N] at which their labels are.
    """
    (path,) = lattice.best_arcs([(lm_weight, penalty)])
    if not len(path):
        return [], np.zeros(0), np.zeros(0, np.int64)
    frame = frames_of(lattice)
    path = path[lattice.word[path] > 0]
    at = frame[path]
    middles = (at[1:] + at[:-1]) / 2
    first, last = np.append(-np.inf, middles), np.append(middles, np.inf)
    posterior = arc_posteriors(lattice, lm_weight, penalty)
    labels = np.flatnonzero(lattice.word > 0)
    order = labels[np.lexsort((frame[labels], lattice.word[labels]))]
    sums = np.append(0, np.cumsum(posterior[order]))
    # Sorted by word, then frame: the arcs of a word between two frames are neighbours.
    longest = float(lattice.num_frames + 2)
    key = lattice.word[order] * longest + frame[order]
    word = lattice.word[path] * longest
    low = np.searchsorted(key, word + np.maximum(first, -1.0), "right")
    high = np.searchsorted(key, word + np.minimum(last, longest - 1), "right")
    confidences = np.clip(sums[high] - sums[low], 0.0, 1.0)
    return [lattice.words[label] for label in lattice.word[path]], confidences, at
