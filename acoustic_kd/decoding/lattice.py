"""State-level lattices, and their best paths under many weights at once.

As in Kaldi's `score.sh`, a path costs

    graph cost + acoustic cost / LM weight + word insertion penalty x words,

so one lattice serves a whole sweep. The lattice is not determinised, which is right for one pair
of weights only; instead all weights are searched side by side, one array column each.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from acoustic_kd.decoding.graph.fst import concatenated_ranges

ARCS_AT_ONCE = 1024  # arcs whose costs with all weights are computed together


@dataclass
class Lattice:
    """What a search kept of one utterance: N nodes, A arcs. Costs are negated natural logs.

    Nodes are numbered so that node 0 is the start; arcs are sorted by `level`, then `target`.
    Every arc leads from a lower level to a higher one, so levels can be processed whole.

    Attributes:
        words: the graph's words by label; label 0 is none.
        source, target, word, level: [A] int32.
        senone: [A] int32, the senone of an arc that takes a frame; -1 for an arc that takes none.
        graph, acoustic: [A] float32; the acoustic cost is not scaled.
        final: [N] float32, graph cost of ending in each node; infinity where the path goes on.
        num_frames: frames of 10 ms in the utterance.
        reached_final: false if no path ended in a final state of the graph: the best path is then
            partial, and the caller should count such utterances.
        seconds: time of the search.
    """

    words: list[str]
    source: np.ndarray
    target: np.ndarray
    word: np.ndarray
    level: np.ndarray
    senone: np.ndarray
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
        """For each pair (LM weight, word insertion penalty) the words of the best path.

        Pairs that give the same words share one list of them.
        """
        known: dict[bytes, list[str]] = {}
        words = []
        for path in self.best_arcs(settings):
            labels = self.word[path]
            labels = labels[labels > 0]
            if (key := labels.tobytes()) not in known:
                known[key] = [self.words[label] for label in labels.tolist()]
            words.append(known[key])
        return words

    def senones(self, lm_weight: float, penalty: float = 0.0) -> np.ndarray:
        """The senones of the best path, int32 [frames that the path takes]."""
        senone = self.senone[self.best_arcs([(lm_weight, penalty)])[0]]
        return senone[senone >= 0]

    def best_arcs(self, settings: Sequence[tuple[float, float]]) -> list[np.ndarray]:
        """For each pair (LM weight, word insertion penalty) the arcs of the best path, in order."""
        if not len(self.final) or not len(self.source):
            return [np.zeros(0, np.int64) for _ in settings]
        lm_weight, penalty = np.array(settings, dtype=np.float64).T
        cost = np.full((len(self.final), len(settings)), np.inf)  # of the best path into a node
        cost[0] = 0.0
        starts = np.flatnonzero(np.diff(self.target, prepend=-1))  # first arc into each node
        bounds = np.flatnonzero(np.diff(self.level[starts], prepend=-1))  # first node of each level
        ends = np.append(starts[bounds[1:]], len(self.source))
        since = held = 0  # `step` has the costs of the arcs from the one to the other
        for first, node, end in zip(bounds, np.append(bounds[1:], len(starts)), ends, strict=True):
            into = starts[first:node]
            begin = into[0]
            if end > held:  # levels are small: the arcs of many are weighed at once
                since, held = begin, max(end, begin + ARCS_AT_ONCE)
                arcs = slice(since, held)
                step = self.graph[arcs, None] + self.acoustic[arcs, None] / lm_weight
                step += (self.word[arcs, None] > 0) * penalty
            reach = cost[self.source[begin:end]] + step[begin - since : end - since]
            cost[self.target[into]] = np.minimum.reduceat(reach, into - begin)
        return self._trace_back(cost, starts, lm_weight, penalty)

    def _trace_back(
        self, cost: np.ndarray, starts: np.ndarray, lm_weight: np.ndarray, penalty: np.ndarray
    ) -> list[np.ndarray]:
        """The arcs of the best paths: for each node, an arc that gives it its cost."""
        first = np.zeros(len(self.final), np.int64)
        first[self.target[starts]] = starts
        into = np.zeros(len(self.final), np.int64)  # arcs
        into[self.target[starts]] = np.diff(starts, append=len(self.source))
        node, steps = np.argmin(cost + self.final[:, None], axis=0), []
        while len(going := np.flatnonzero(node)):  # settings whose path has not reached the start
            sizes = into[node[going]]
            arcs, column = concatenated_ranges(first[node[going]], sizes), np.repeat(going, sizes)
            step = self.graph[arcs] + self.acoustic[arcs] / lm_weight[column]
            step += (self.word[arcs] > 0) * penalty[column]
            reach = cost[self.source[arcs], column] + step
            begin = np.cumsum(sizes) - sizes
            least = np.repeat(np.minimum.reduceat(reach, begin), sizes)
            # The first of equally good arcs, so that the answer is always the same.
            best = np.minimum.reduceat(np.where(reach == least, arcs, len(self.source)), begin)
            taken = np.full(len(node), -1)
            taken[going] = best
            node[going] = self.source[best]
            steps.append(taken)
        paths = np.array(steps[::-1], dtype=np.int64).reshape(len(steps), len(node))
        return [path[path >= 0] for path in paths.T]
