"""L ∘ G: for each state of G the prefix tree of the pronunciations of the words that follow.

Only the part of a tree that several entries share has nodes, which are numbered depth by depth.
Where an entry (an n-gram with one of its word's pronunciations) diverges from all others of its
state, its word and cost are known, and the rest of it is a tail, which many trees share.

The part of the cost that all entries below a node share is paid on the way to it: a node is reached
at the cost -ln sum exp(-cost) over its entries (look-ahead in the log semiring, as Kaldi's
determinising gives), and an entry pays the rest where it diverges.
"""

from dataclasses import dataclass

import numpy as np

from acoustic_kd.decoding.graph.fst import concatenated_ranges
from acoustic_kd.decoding.graph.grammar import Grammar
from acoustic_kd.decoding.graph.pronunciations import Pronunciations


@dataclass
class Entries:
    """N-grams with pronunciations, sorted by (state, pronunciation); E of them.

    Attributes:
        state, target: int32 [E] states of G.
        pron: int32 [E].
        word: int32 [E] label.
        cost: float32 [E].
        shared_with_previous, shared_with_any: int16 [E] phones in common with the previous entry of
            the same state, and with any other.
    """

    state: np.ndarray
    target: np.ndarray
    pron: np.ndarray
    word: np.ndarray
    cost: np.ndarray
    shared_with_previous: np.ndarray
    shared_with_any: np.ndarray


@dataclass
class Trees:
    """Shared nodes, and the steps out of them. A node's `entry` is its first entry.

    Attributes:
        depth_sizes: nodes of depth 1, 2, …, numbered in this order.
        entry: int32 [N].
        cost: float32 [N] cost of the node seen from its state's root.
        parent: int32 [N] the node before; of depth 1, -1.
        leave_node, leave_entry: nodes where entries diverge, by one more phone or by their end.
    """

    depth_sizes: list[int]
    entry: np.ndarray
    cost: np.ndarray
    parent: np.ndarray
    leave_node: np.ndarray
    leave_entry: np.ndarray


def entries_of(grammar: Grammar, prons: Pronunciations) -> Entries:
    """All n-grams of G, once for each pronunciation of their word."""
    first = prons.first_of_word[grammar.word]
    count = prons.first_of_word[grammar.word + 1] - first
    arc = np.repeat(np.arange(len(count), dtype=np.int32), count)
    variant = concatenated_ranges(first, count)
    pron, cost = prons.of_words[variant], grammar.cost[arc] + prons.cost[variant]
    del first, count, variant
    order = np.argsort(grammar.source[arc] * np.int64(len(prons.length)) + pron, kind="stable")
    arc, pron, cost = arc[order], pron[order], cost[order]
    state = grammar.source[arc]
    previous = np.zeros(len(arc), np.int16)
    same = 1 + np.flatnonzero(state[1:] == state[:-1])
    previous[same] = prons.common(pron[same - 1], pron[same])
    shared = np.maximum(previous, np.append(previous[1:], np.int16(0)))
    return Entries(state, grammar.target[arc], pron, grammar.word[arc], cost, previous, shared)


def build_trees(entries: Entries, prons: Pronunciations) -> Trees:
    """Find the shared nodes, one depth after the other."""
    sizes, first, costs, parents, leave_node, leave_entry = [], [], [], [], [], []
    active = np.flatnonzero(entries.shared_with_any >= 1)
    likely = np.exp(-entries.cost[active].astype(np.float64))
    above = np.full(len(active), -1)
    depth, total = 1, 0
    while len(active):
        begins = np.flatnonzero(entries.shared_with_previous[active] < depth)
        node = np.repeat(
            np.arange(total, total + len(begins)), np.diff(np.append(begins, len(active)))
        )
        sizes.append(len(begins))
        first.append(active[begins])
        costs.append(-np.log(np.maximum(np.add.reduceat(likely, begins), 1e-300)))
        parents.append(above[begins])
        leaves = entries.shared_with_any[active] == depth
        leave_node.append(node[leaves])
        leave_entry.append(active[leaves])
        active, likely, above = active[~leaves], likely[~leaves], node[~leaves]
        total += len(begins)
        depth += 1
    none = [np.zeros(0, np.int32)]
    return Trees(
        sizes,
        np.concatenate(none + first).astype(np.int32),
        np.concatenate(none + costs).astype(np.float32),
        np.concatenate(none + parents).astype(np.int32),
        np.concatenate(none + leave_node).astype(np.int32),
        np.concatenate(none + leave_entry).astype(np.int32),
    )
