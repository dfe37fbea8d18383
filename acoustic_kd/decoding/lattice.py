"""State-level lattices, and their best paths under many weights at once.

As in Kaldi's `score.sh`, a path costs

    graph cost + acoustic cost / LM weight + word insertion penalty x words,

so one lattice serves a whole sweep. The lattice is not determinised, which is right for one pair
of weights only; instead all weights are searched side by side, one array column each.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np


@dataclass
class Lattice:
    """What a search kept of one utterance: N nodes, A arcs. Costs are negated natural logs.

    Nodes are numbered so that node 0 is the start; arcs are sorted by `level`, then `target`.
    Every arc leads from a lower level to a higher one, so levels can be processed whole.

    Attributes:
        words: the graph's words by label; label 0 is none.
        source, target, word, level: [A] int32.
        graph, acoustic: [A] float32; the acoustic cost is not scaled.
        final: [N] float32, graph cost of ending in each node; infinity where the path goes on.
        num_frames: frames of 10 ms in the utterance.
        reached_final: false if no path ended in a final state of the graph: the best partial
            path is then given, and the caller should count such utterances.
        seconds: time the search took.
    """

    words: list[str]
    source: np.ndarray
    target: np.ndarray
    word: np.ndarray
    level: np.ndarray
    graph: np.ndarray
    acoustic: np.ndarray
    final: np.ndarray
    num_frames: int
    reached_final: bool = True
    seconds: float = 0.0

    def best(self, lm_weight: float, penalty: float = 0.0) -> list[str]:
        """The words of the best path."""
        return self.best_of_all([(lm_weight, penalty)])[0]

    def best_of_all(self, settings: Sequence[tuple[float, float]]) -> list[list[str]]:
        """For each pair (LM weight, word insertion penalty) the words of the best path."""
        return [
            [self.words[label] for label in labels[labels > 0].tolist()]
            for labels in (self.word[path] for path in self.best_arcs(settings))
        ]

    def best_arcs(self, settings: Sequence[tuple[float, float]]) -> list[np.ndarray]:
        """For each pair (LM weight, word insertion penalty) the arcs of the best path, in order."""
        if not len(self.final) or not len(self.source):
            return [np.zeros(0, np.int64) for _ in settings]
        lm_weight, penalty = np.array(settings, dtype=np.float64).T
        entered_by = np.full((len(self.final), len(settings)), -1, np.int64)
        cost = np.full((len(self.final), len(settings)), np.inf)
        cost[0] = 0.0
        starts = np.flatnonzero(np.diff(self.target, prepend=-1))  # first arc into each node
        bounds = np.flatnonzero(np.diff(self.level[starts], prepend=-1))  # first node of each level
        ends = np.append(starts[bounds[1:]], len(self.source))
        for first, node, end in zip(bounds, np.append(bounds[1:], len(starts)), ends, strict=True):
            into = starts[first:node]
            arcs = slice(into[0], end)
            step = self.graph[arcs, None] + self.acoustic[arcs, None] / lm_weight
            step += (self.word[arcs, None] > 0) * penalty
            reach = cost[self.source[arcs]] + step
            best = np.minimum.reduceat(reach, into - into[0])
            nodes = self.target[into]
            cost[nodes] = best
            # The first of equally good arcs, so that the answer is always the same.
            number = np.arange(arcs.start, arcs.stop)[:, None]
            sizes = np.diff(np.append(into, end))
            number = np.where(reach == np.repeat(best, sizes, axis=0), number, len(self.source))
            entered_by[nodes] = np.minimum.reduceat(number, into - into[0])
        return self._trace_back(np.argmin(cost + self.final[:, None], axis=0), entered_by)

    def _trace_back(self, node: np.ndarray, entered_by: np.ndarray) -> list[np.ndarray]:
        columns = np.arange(len(node))
        steps = []
        while np.any(node > 0):
            arc = np.where(node > 0, entered_by[node, columns], -1)
            steps.append(arc)
            node = np.where(arc >= 0, self.source[arc], 0)
        paths = np.array(steps[::-1], dtype=np.int64).reshape(len(steps), len(columns))
        return [path[path >= 0] for path in paths.T]
