"""C ∘ L ∘ G: the prefix trees of all states of G, joined at the words' ends, in triphones.

A state of this graph is a pair (a phone after its left neighbour, whose HMM comes next) and what
may follow it:

    a node of a tree, shared by several entries;
    a tail: the phones that a word still has, and the state of G that it leads to;
    a word's end: a tail without phones. Here silence may follow, or the next word, or nothing;
    a root: the same after silence or backing off, when it is settled that no silence follows.

The next phone determines the HMM of the pair. States with the same pair and the same future are one
state, found by sorting keys, so nothing is determinised or minimised afterwards. A word's label is
where the word diverges from all others.
"""

from dataclasses import dataclass

import numpy as np

from acoustic_kd.decoding.graph.contexts import Contexts
from acoustic_kd.decoding.graph.fst import ArcColumns, concatenated_ranges
from acoustic_kd.decoding.graph.grammar import Grammar
from acoustic_kd.decoding.graph.prefix_trees import Entries, Trees
from acoustic_kd.decoding.graph.pronunciations import Pronunciations

SIL = 0  # its phone number; a sentence's ends count as silence too


@dataclass
class TriphoneGraph:
    """N states; arcs go through one HMM each, links through none.

    Attributes:
        num_states: the last state is the end, where a path is complete.
        start: the start state, left by links only.
        empty_cost: the cost of no word and no silence at all; infinity where that is not allowed.
        arcs: source, HMM, label, cost, target, each [A].
        links: source, label, cost, target, each [B].
    """

    num_states: int
    start: int
    empty_cost: float
    arcs: tuple[np.ndarray, ...]
    links: tuple[np.ndarray, ...]


class TriphoneBuilder:
    """Builds the graph; each method does one kind of state."""

    def __init__(
        self,
        grammar: Grammar,
        prons: Pronunciations,
        entries: Entries,
        trees: Trees,
        contexts: Contexts,
        silence_probability: float,
    ) -> None:
        self.grammar, self.prons, self.entries, self.trees = grammar, prons, entries, trees
        self.contexts = contexts
        self.pairs = len(contexts.centre)
        self.silence = float(-np.log(silence_probability))
        self.no_silence = float(-np.log(1 - silence_probability))
        self.arcs = ArcColumns(np.int32, np.int32, np.int32, np.float32, np.int32)
        self.links = ArcColumns(np.int32, np.int32, np.float32, np.int32)

    def build(self) -> TriphoneGraph:
        """The whole graph."""
        self._find_lefts()
        self._find_beginnings()
        self._find_tails()
        self._find_roots()
        self._leave_nodes()
        self._leave_tails()
        self._leave_roots(self.tails[0], self.tail_base[0], words_end=True)
        self._leave_roots(self.roots, self.root_base, words_end=False)
        return self._begin()

    # --- the states ------------------------------------------------------------------

    def _find_lefts(self) -> None:
        """(state of G, phone before it): what may come before the words that follow a state."""
        grammar, entries, phones = self.grammar, self.entries, len(self.contexts.pair)
        last = self.prons.phones[entries.pron, self.prons.length[entries.pron] - 1]
        reached = np.append(entries.target, grammar.start).astype(np.int64)
        keys = _union(entries.target.astype(np.int64) * phones + last, reached * phones)
        self.lefts = self._with_backoffs(keys, keys, phones)

    def _with_backoffs(self, keys: np.ndarray, fresh: np.ndarray, width: int) -> np.ndarray:
        """`keys`, and those of `fresh` at all states of G that theirs back off to, sorted.

        Args:
            keys, fresh: state of G · `width` + phone or pair.
        """
        while len(fresh):
            after = self.grammar.backoff[fresh // width].astype(np.int64)
            fresh = _union((after * width + fresh % width)[after >= 0])
            keys = _union(keys, fresh)
        return keys

    def _find_beginnings(self) -> None:
        """The first phones after each state of G, and the states they lead to from each left.

        Beginnings are [state's first phones]; `step`s are beginnings × the lefts of their state.
        """
        entries, trees, contexts = self.entries, self.trees, self.contexts
        prons, phones = self.prons, len(self.contexts.pair)
        begin = np.flatnonzero(entries.shared_with_previous == 0)
        shared = entries.shared_with_any[begin] > 0
        self.begin_phone = prons.phones[entries.pron[begin], 0].astype(np.int32)
        self.begin_label = np.where(shared, 0, entries.word[begin]).astype(np.int32)
        self.begin_cost = entries.cost[begin].copy()
        self.near = trees.depth_sizes[0] if trees.depth_sizes else 0  # nodes of depth 1
        self.begin_cost[shared] = trees.cost[: self.near]
        first = np.searchsorted(entries.state[begin], np.arange(len(self.grammar.final) + 1))
        state = self.lefts // phones
        self.left_size = np.diff(first)[state]
        self.left_first = np.cumsum(self.left_size) - self.left_size
        self.step_begin = concatenated_ranges(first[state], self.left_size).astype(np.int32)
        left = np.repeat((self.lefts % phones).astype(np.int32), self.left_size)
        pair = contexts.pair[left, self.begin_phone[self.step_begin]]
        self.step_shared = shared[self.step_begin]
        # Nodes of depth 1 are a state for each pair; deeper ones have one pair.
        node = (np.cumsum(shared) - 1)[self.step_begin[self.step_shared]]
        keys = node * self.pairs + pair[self.step_shared]
        self.near_keys, which = np.unique(keys, return_inverse=True)
        self.deep = len(trees.entry) - self.near
        self.near_base = self.deep
        self.step_target = np.zeros(len(self.step_begin), np.int32)
        self.step_target[self.step_shared] = self.near_base + which
        alone = ~self.step_shared
        entry = begin[self.step_begin[alone]]
        self.step_tail = self._tail_key(
            entries.target[entry], prons.tail[entries.pron[entry], 1], pair[alone]
        )

    def _tail_key(self, target: np.ndarray, tail: np.ndarray, pair: np.ndarray) -> np.ndarray:
        key = target.astype(np.int64) * len(self.prons.tail_length) + tail
        return key * self.pairs + pair

    def _split(self, keys: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Target, tail, pair of tails' keys."""
        rest, pair = np.divmod(keys, self.pairs)
        return *np.divmod(rest, len(self.prons.tail_length)), pair

    def _find_tails(self) -> None:
        """All tails, by their number of phones; those of none are the words' ends."""
        entries, prons, trees, contexts = self.entries, self.prons, self.trees, self.contexts
        entry = trees.leave_entry
        pron, depth = entries.pron[entry], entries.shared_with_any[entry].astype(np.int64)
        ends = prons.length[pron] == depth
        has_tail = ~ends
        before = prons.phones[pron[has_tail], depth[has_tail] - 1]
        phone = prons.phones[pron[has_tail], depth[has_tail]]
        self.leave_tail = self._tail_key(
            entries.target[entry[has_tail]],
            prons.tail[pron[has_tail], depth[has_tail] + 1],
            contexts.pair[before, phone],
        )
        self.leave_has_tail, self.leave_phone = has_tail, phone
        # Words that end at a node: at depth 1 once for each pair of the node.
        node = trees.leave_node[ends]
        self.end_source, pair, which = self._states_of_nodes(node)
        self.end_entry = entry[ends][which]
        none = np.zeros(len(pair), np.int64)
        self.end_tail = self._tail_key(entries.target[self.end_entry], none, pair)
        seeds = _union(self.step_tail, self.leave_tail, self.end_tail)
        length = prons.tail_length[self._split(seeds)[1]]
        order = np.argsort(length.astype(np.int16), kind="stable")
        bounds = np.searchsorted(length[order], np.arange(int(length.max(initial=0)) + 2))
        self.tails = [np.zeros(0, np.int64)] * (len(bounds) - 1)
        longer = np.zeros(0, np.int64)
        for size in range(len(bounds) - 2, -1, -1):
            of_size = seeds[order[bounds[size] : bounds[size + 1]]]
            longer = _union(of_size, self._next_tail(longer)[0])
            self.tails[size] = longer
        bases = np.cumsum([self.near_base + len(self.near_keys), *map(len, self.tails)])
        self.tail_base, self.root_base = bases[:-1], bases[-1]

    def _next_tail(self, keys: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """The keys one phone later, and the HMM on the way."""
        prons, contexts = self.prons, self.contexts
        target, tail, pair = self._split(keys)
        phone = prons.tail_phone[tail]
        after = contexts.pair[contexts.centre[pair], phone]
        return self._tail_key(target, prons.tail_next[tail], after), contexts.hmm[pair, phone]

    def _tail_states(self, keys: np.ndarray) -> np.ndarray:
        """The state of each tail."""
        length = self.prons.tail_length[self._split(keys)[1]]
        state = np.zeros(len(keys), np.int32)
        for size, (keys_of_size, base) in enumerate(zip(self.tails, self.tail_base, strict=True)):
            now = np.flatnonzero(length == size)
            state[now] = base + np.searchsorted(keys_of_size, keys[now])
        return state

    def _states_of_nodes(self, node: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """All states of the given nodes: state, pair, and the place of its node in `node`."""
        deep = np.flatnonzero(node >= self.near)
        entry = self.trees.entry[node[deep]]
        # The depth of a node, from its number.
        depth = 1 + np.searchsorted(np.cumsum(self.trees.depth_sizes), node[deep], side="right")
        pron = self.entries.pron[entry]
        phones = self.prons.phones
        pair = self.contexts.pair[phones[pron, depth - 2], phones[pron, depth - 1]]
        near = np.flatnonzero(node < self.near)
        bounds = np.searchsorted(self.near_keys // self.pairs, np.arange(self.near + 1))
        first, size = bounds[node[near]], np.diff(bounds)[node[near]]
        place = concatenated_ranges(first, size)
        return (
            np.concatenate([node[deep] - self.near, self.near_base + place]),
            np.concatenate([pair, self.near_keys[place] % self.pairs]),
            np.concatenate([deep, np.repeat(near, size)]),
        )

    def _find_roots(self) -> None:
        """(state of G, pair) after silence or backing off."""
        contexts, pairs = self.contexts, self.pairs
        target, _, pair = self._split(self.tails[0])
        after_silence = target * pairs + contexts.pair[contexts.centre[pair], SIL]
        first = self.grammar.start * pairs + contexts.pair[SIL, SIL]
        keys = np.append(after_silence, first)
        fresh = np.append(keys, target * pairs + pair)
        self.roots = self._with_backoffs(_union(keys), fresh, pairs)
        self.begin_base = self.root_base + len(self.roots)  # the start, and then the end

    def _root_states(self, state: np.ndarray, pair: np.ndarray) -> np.ndarray:
        keys = state.astype(np.int64) * self.pairs + pair
        return self.root_base + np.searchsorted(self.roots, keys)

    # --- the arcs out of them ----------------------------------------------------------------

    def _leave_nodes(self) -> None:
        """To deeper nodes, to tails, and to words' ends."""
        entries, trees, prons, hmm = self.entries, self.trees, self.prons, self.contexts.hmm
        self.step_target[~self.step_shared] = self._tail_states(self.step_tail)
        del self.step_tail
        node = np.arange(self.near, len(trees.entry))
        source, pair, which = self._states_of_nodes(trees.parent[node])
        child = node[which]
        depth = 1 + np.searchsorted(np.cumsum(trees.depth_sizes), child, side="right")
        phone = prons.phones[entries.pron[trees.entry[child]], depth - 1]
        cost = trees.cost[child] - trees.cost[trees.parent[child]]
        self.arcs.add(source, hmm[pair, phone], 0, cost, child - self.near)
        node, entry = trees.leave_node[self.leave_has_tail], trees.leave_entry[self.leave_has_tail]
        source, pair, which = self._states_of_nodes(node)
        cost = entries.cost[entry] - trees.cost[node]
        target = self._tail_states(self.leave_tail)
        self.arcs.add(
            source,
            hmm[pair, self.leave_phone[which]],
            entries.word[entry[which]],
            cost[which],
            target[which],
        )
        node = trees.leave_node[~self.leave_has_tail]
        cost = entries.cost[trees.leave_entry[~self.leave_has_tail]] - trees.cost[node]
        which = self._states_of_nodes(node)[2]
        word = entries.word[self.end_entry]
        self.links.add(self.end_source, word, cost[which], self._tail_states(self.end_tail))

    def _leave_tails(self) -> None:
        """Along the phones that a word still has."""
        for size in range(1, len(self.tails)):
            following, hmm = self._next_tail(self.tails[size])
            source = self.tail_base[size] + np.arange(len(hmm))
            target = self.tail_base[size - 1] + np.searchsorted(self.tails[size - 1], following)
            self.arcs.add(source, hmm, 0, 0.0, target)

    def _leave_roots(self, keys: np.ndarray, base: int, words_end: bool) -> None:
        """From words' ends, or from roots: to words, the sentence's end, and where G backs off."""
        grammar, contexts, phones = self.grammar, self.contexts, len(self.contexts.pair)
        if words_end:
            state, _, pair = self._split(keys)
        else:
            state, pair = np.divmod(keys, self.pairs)
        extra = self.no_silence if words_end else 0.0
        source = base + np.arange(len(keys), dtype=np.int32)
        left = np.searchsorted(self.lefts, state * phones + contexts.centre[pair])
        step = concatenated_ranges(self.left_first[left], self.left_size[left])
        which = np.repeat(np.arange(len(keys), dtype=np.int32), self.left_size[left])
        begin = self.step_begin[step]
        hmm = contexts.hmm[pair[which], self.begin_phone[begin]]
        cost = self.begin_cost[begin] + np.float32(extra)
        target = self.step_target[step]
        self.arcs.add(source[which], hmm, self.begin_label[begin], cost, target)
        # A sentence's end is a silence to the right of it.
        ends = np.flatnonzero(np.isfinite(grammar.final[state]))
        cost = grammar.final[state[ends]] + np.float32(extra)
        end = self.begin_base + 1
        self.arcs.add(source[ends], contexts.hmm[pair[ends], SIL], 0, cost, end)
        if words_end:
            silent = self._root_states(state, contexts.pair[contexts.centre[pair], SIL])
            self.arcs.add(source, contexts.hmm[pair, SIL], 0, self.silence, silent)
        after = grammar.backoff[state]
        backs = np.flatnonzero(after >= 0)
        cost = grammar.backoff_cost[state[backs]] + np.float32(extra)
        self.links.add(source[backs], 0, cost, self._root_states(after[backs], pair[backs]))

    def _begin(self) -> TriphoneGraph:
        """From the start, where no phone waits: to silence, and to words."""
        grammar, phones = self.grammar, len(self.contexts.pair)
        state, cost, empty = grammar.start, self.no_silence, np.inf
        silent = self._root_states(np.array([state]), self.contexts.pair[SIL, SIL])
        self.links.add(self.begin_base, 0, self.silence, silent)
        while state >= 0:
            left = int(np.searchsorted(self.lefts, state * phones + SIL))
            step = slice(self.left_first[left], self.left_first[left] + self.left_size[left])
            begin = self.step_begin[step]
            words = self.begin_cost[begin] + np.float32(cost)
            self.links.add(self.begin_base, self.begin_label[begin], words, self.step_target[step])
            empty = min(empty, cost + float(grammar.final[state]))
            cost += float(grammar.backoff_cost[state])
            state = int(grammar.backoff[state])
        states = self.begin_base + 2
        return TriphoneGraph(states, self.begin_base, empty, self.arcs.join(), self.links.join())


def _union(*keys: np.ndarray) -> np.ndarray:
    """The different keys, sorted. `np.unique` hashes since NumPy 2.3, which is far slower here."""
    together = np.sort(np.concatenate(keys))
    return together[np.diff(together, prepend=-1) > 0]
