"""The phonetic decision tree: triphone states with like acoustics share a senone.

Every triphone state seen in training is summarised by one diagonal Gaussian. Each state of each
phone starts as one leaf; the leaf whose best question about the left or right phone raises the
likelihood most is split, until there are enough leaves (Young, Odell and Woodland,
*Tree-based state tying*, 1994). The questions come from the data: clusters of phones that sound
alike.

Further trees, for members that err differently, choose at random among the best questions (Siohan,
Ramabhadran and Kingsbury, *Constructing ensembles of ASR systems using randomized decision trees*,
2005).
"""

import heapq
from dataclasses import dataclass, field

import numpy as np
import torch

from acoustic_kd.alignment.segmentation import Segmentation
from acoustic_kd.alignment.senones import Leaf, SenoneInventory
from acoustic_kd.decoding.graph.contexts import STATES
from acoustic_kd.system.errors import UserError
from acoustic_kd.system.torchaudio_functions import compute_deltas, create_dct

CEPSTRA = 13
VARIANCE_FLOOR = 0.01
GOOD_QUESTIONS = 5  # among which a further tree chooses
MAX_HELD_SEGMENTS = 200_000  # before they are summed by triphone state


def cepstra(features: np.ndarray) -> np.ndarray:
    """Cepstra with first and second differences of log-mel frames, float64 [T, 39].

    A diagonal Gaussian fits the decorrelated cepstra far better than the filterbanks [T, D].
    """
    dct = create_dct(CEPSTRA, features.shape[1], norm="ortho")
    base = (torch.from_numpy(features) @ dct).T
    first = compute_deltas(base)
    return torch.cat([base, first, compute_deltas(first)]).T.double().numpy()


class Statistics:
    """Count, sum and sum of squares of the frames of every triphone state seen.

    Attributes:
        keys: int64 [N], triphone states as ((left · P + centre) · P + right) · 3 + state.
        moments: float64 [N, 1 + 2·D], the count, the sums, the sums of squares.
    """

    def __init__(self, phones: tuple[str, ...]) -> None:
        self.phones = phones
        self.keys = np.zeros(0, np.int64)
        self.moments = np.zeros((0, 1 + 2 * 3 * CEPSTRA))
        self._inventory = SenoneInventory(phones, ())  # for its contexts
        self._held: list[tuple[np.ndarray, np.ndarray]] = []
        self._segments = 0

    def add(self, segmentation: Segmentation, features: np.ndarray) -> None:
        """Add one utterance: its segmentation and log-mel frames [T, D]."""
        left, centre, right = self._inventory.contexts(segmentation.phones).T
        count = len(self.phones)
        triphones = (left * count + centre) * count + right
        keys = (triphones[:, None] * STATES + np.arange(STATES)).ravel()
        durations = segmentation.durations.ravel()
        starts = np.cumsum(durations) - durations
        keys, starts, durations = (a[durations > 0] for a in (keys, starts, durations))
        frames = cepstra(features)
        moments = np.concatenate([frames, np.square(frames)], axis=1)
        sums = np.add.reduceat(moments, starts)
        self._held.append((keys, np.concatenate([durations[:, None], sums], axis=1)))
        self._segments += len(keys)
        if self._segments >= MAX_HELD_SEGMENTS:
            self.merge()

    def merge(self) -> None:
        """Sum the added segments by triphone state."""
        keys = np.concatenate([self.keys, *(k for k, _ in self._held)])
        moments = np.concatenate([self.moments, *(m for _, m in self._held)])
        order = np.argsort(keys, kind="stable")
        self.keys, starts = np.unique(keys[order], return_index=True)
        self.moments = np.add.reduceat(moments[order], starts) if len(keys) else moments
        self._held, self._segments = [], 0


def log_likelihood(moments: np.ndarray) -> np.ndarray:
    """Log-likelihood of frames under the Gaussian fitted to them, but for a constant a frame.

    Args:
        moments: float64 [..., 1 + 2·D].

    Returns:
        float64 [...]: −½ · count · Σ log variance; 0 where the count is 0.
    """
    dimension = moments.shape[-1] // 2
    count = np.maximum(moments[..., :1], 1e-10)
    mean = moments[..., 1 : 1 + dimension] / count
    variance = moments[..., 1 + dimension :] / count - np.square(mean)
    return -0.5 * moments[..., 0] * np.log(np.maximum(variance, VARIANCE_FLOOR)).sum(-1)


def phone_clusters(moments: np.ndarray) -> list[np.ndarray]:
    """Sets of phones that sound alike, by merging the closest two until one is left.

    Args:
        moments: float64 [P, 1 + 2·D], one Gaussian a phone.

    Returns:
        Boolean masks [P], each phone alone first, then every merged cluster but the whole.
    """
    active = [
        (row, mask) for row, mask in zip(moments, np.eye(len(moments), dtype=bool), strict=True)
    ]
    clusters = [mask for _, mask in active]
    while len(active) > 2:
        rows = np.array([row for row, _ in active])
        alone = log_likelihood(rows)
        together = log_likelihood(rows[:, None] + rows[None])
        loss = alone[:, None] + alone[None] - together
        loss[np.tril_indices(len(rows))] = np.inf
        i, j = np.unravel_index(np.argmin(loss), loss.shape)
        merged = (active[i][0] + active[j][0], active[i][1] | active[j][1])
        active = [item for n, item in enumerate(active) if n not in (i, j)] + [merged]
        clusters.append(merged[1])
    return clusters


def derive_questions(statistics: Statistics) -> np.ndarray:
    """Questions about a neighbouring phone, boolean [Q, P]: is it in this set of phones?

    Phones are clustered by each of their states: a right neighbour follows the last state, and a
    left neighbour precedes the first.
    """
    count = len(statistics.phones)
    centre = statistics.keys // (STATES * count) % count
    state = statistics.keys % STATES
    masks: dict[bytes, np.ndarray] = {}
    for number in range(STATES):
        moments = np.zeros((count, statistics.moments.shape[1]))
        chosen = state == number
        np.add.at(moments, centre[chosen], statistics.moments[chosen])
        for mask in phone_clusters(moments):
            masks.setdefault(mask.tobytes(), mask)
    return np.array(list(masks.values()))


@dataclass(order=True)
class _Node:
    """A leaf that may be split; ordered by its best gain, then by age."""

    priority: tuple[float, int]
    phone: int = field(compare=False)
    state: int = field(compare=False)
    contexts: np.ndarray = field(compare=False)  # [2, P]: the left and the right phones
    rows: np.ndarray = field(compare=False)  # its statistics
    split: tuple[int, int] | None = field(compare=False)  # side and question; None: it stays a leaf


class _Grower:
    def __init__(
        self, statistics: Statistics, questions: np.ndarray, min_frames: int, tree: int
    ) -> None:
        count = len(statistics.phones)
        triphones = statistics.keys // STATES
        self.sides = np.stack([triphones // (count * count), triphones % count])  # [2, N]
        self.centres = triphones // count % count
        self.states = statistics.keys % STATES
        self.moments = statistics.moments
        self.questions = questions
        self.min_frames = min_frames
        self.choices = GOOD_QUESTIONS if tree > 1 else 1
        self.random = np.random.default_rng(tree)
        self.made = 0

    def node(self, phone: int, state: int, contexts: np.ndarray, rows: np.ndarray) -> _Node:
        gain, split = self._best_split(rows) if phone else (0.0, None)
        self.made += 1
        return _Node((-gain, self.made), phone, state, contexts, rows, split)

    def _best_split(self, rows: np.ndarray) -> tuple[float, tuple[int, int] | None]:
        moments = self.moments[rows]
        whole = moments.sum(0)
        answers = np.concatenate([self.questions[:, self.sides[side, rows]] for side in (0, 1)])
        yes = answers.astype(np.float64) @ moments
        no = whole - yes
        gains = log_likelihood(yes) + log_likelihood(no) - log_likelihood(whole)
        gains[np.minimum(yes[:, 0], no[:, 0]) < self.min_frames] = -np.inf
        order = np.argsort(-gains, kind="stable")[: self.choices]
        good = order[gains[order] > 0]
        if not len(good):
            return 0.0, None
        best = int(good[self.random.integers(len(good))])
        return float(gains[best]), divmod(best, len(self.questions))

    def children(self, node: _Node, side: int, question: int) -> list[_Node]:
        children = []
        for mask in (self.questions[question], ~self.questions[question]):
            contexts = node.contexts.copy()
            contexts[side] &= mask
            rows = node.rows[mask[self.sides[side, node.rows]]]
            children.append(self.node(node.phone, node.state, contexts, rows))
        return children


def build_tree(
    statistics: Statistics, leaves: int, min_frames: int, tree: int = 1
) -> SenoneInventory:
    """Grow the tree to `leaves` senones, or as many as leaves of `min_frames` frames allow.

    Args:
        tree: its number; from 2 on the questions are chosen at random among the best.
    """
    statistics.merge()
    phones = statistics.phones
    if leaves < STATES * len(phones):
        raise UserError(
            f"senones.leaves is {leaves}, but {len(phones)} phones of {STATES} states need at "
            f"least {STATES * len(phones)}"
        )
    grower = _Grower(statistics, derive_questions(statistics), min_frames, tree)
    everything = np.ones((2, len(phones)), bool)
    heap = []
    for phone in range(len(phones)):
        for state in range(STATES):
            rows = np.flatnonzero((grower.centres == phone) & (grower.states == state))
            heap.append(grower.node(phone, state, everything, rows))
    heapq.heapify(heap)
    while len(heap) < leaves and (split := heap[0].split) is not None:
        for child in grower.children(heapq.heappop(heap), *split):
            heapq.heappush(heap, child)
    nodes = sorted(heap, key=lambda node: (node.phone, node.state, node.priority[1]))
    return SenoneInventory(phones, tuple(_leaf(node, phones) for node in nodes))


def _leaf(node: _Node, phones: tuple[str, ...]) -> Leaf:
    left, right = (tuple(phones[n] for n in np.flatnonzero(mask)) for mask in node.contexts)
    return Leaf(phones[node.phone], node.state, left, right)
