"""H ∘ C ∘ L ∘ G: each arc of a graph in triphones becomes the three HMM states of its triphone.

Arcs that leave one state share the HMM states that they begin with. The HMM states that remain
where an arc diverges from the others are shared by all arcs to the same target, whatever their
source. Where an arc diverges it has its label, and the part of its cost that the others lack.

Each arc into an HMM state carries the cost of leaving it, -ln(1 - p), and the state it leads to has
a self-loop with cost -ln p ("reordered" in Kaldi's words): d frames in one HMM state cost
-(d - 1) ln p - ln(1 - p), the geometric duration whose mean is 1 / (1 - p). So a state of the graph
in triphones becomes one state for each senone that it is entered with.
"""

from collections.abc import Iterator

import numpy as np

from acoustic_kd.decoding.graph.contexts import STATES
from acoustic_kd.decoding.graph.fst import ARC, FstArrays, concatenated_ranges
from acoustic_kd.decoding.graph.triphones import TriphoneGraph
from acoustic_kd.system.errors import UserError

BLOCK_STATES = 1 << 20  # states of a block of arcs
MAX_REPEATED_ARCS = 2  # a state with more arcs is reached by an epsilon arc; fewer are repeated


def self_loop_probability(mean_duration: np.ndarray | None, num_senones: int) -> np.ndarray:
    """[K] self-loop probabilities 1 - 1/duration, within 0.01 … 0.99 so that no path is lost."""
    if mean_duration is None:
        return np.full(num_senones, 0.5)
    mean_duration = np.asarray(mean_duration, dtype=np.float64)
    if mean_duration.shape != (num_senones,) or not np.all(mean_duration >= 1):
        raise UserError(
            f"mean_duration: shape {mean_duration.shape}, must be ({num_senones},) with durations "
            "of at least 1 frame; count them again from the alignment"
        )
    return np.clip(1 - 1 / mean_duration, 0.01, 0.99)


class HmmBuilder:
    """Builds the graph from one in triphones.

    Kinds of states, in the order of their numbers: `plain`, states of the graph in triphones that
    are entered by epsilon; `entered`, the same states entered by a senone; `after_second` and
    `after_first`, HMM states of an arc that has diverged; `split`, HMM states that several arcs
    share, after one, two or three of which they diverge.
    """

    def __init__(self, graph: TriphoneGraph, senones: np.ndarray, self_loop: np.ndarray) -> None:
        self.graph, self.senones = graph, senones.astype(np.int64)
        self.loop = -np.log(self_loop).astype(np.float32)
        self.enter = -np.log1p(-self_loop).astype(np.float32)
        self.count = len(self_loop)

        self._sort()
        self._find_divergence()
        self._find_plain()
        self._number()
        self.start = int(self.plain[self.graph.start])

    def build(self) -> FstArrays:
        """The whole graph in memory."""
        source, arcs = zip(*self.blocks(), strict=True)
        return FstArrays(self.start, self.final(), np.concatenate(source), np.concatenate(arcs))

    def _sort(self) -> None:
        """Arcs by source and HMM; links by source."""
        source, hmm, *rest = self.graph.arcs
        order = np.argsort(source * np.int64(len(self.senones)) + hmm, kind="stable")
        self.source, self.hmm = source[order], hmm[order]
        self.label, self.cost, self.target = (column[order] for column in rest)
        links = self.graph.links
        order = np.argsort(links[0], kind="stable")
        self.link_source, self.link_label, self.link_cost, self.link_target = (
            column[order] for column in links
        )
        self.graph.arcs = self.graph.links = ()

    def _find_divergence(self) -> None:
        """After how many HMM states each arc diverges from the others of its source (3: never)."""
        first, second, third = self.senones.T
        rest = np.unique(second * self.count + third, return_inverse=True)
        self.rest_keys, self.rest = rest  # (second, third senone) of each HMM
        begins = np.ones((3, len(self.source)), bool)
        begins[:, 1:] = self.source[1:] != self.source[:-1]
        for level, senone in enumerate((first, second, third)):
            begins[level, 1:] |= senone[self.hmm[1:]] != senone[self.hmm[:-1]]
            if level:
                begins[level] |= begins[level - 1]
        alone = begins.copy()
        alone[:, :-1] &= begins[:, 1:]
        self.begins = begins
        self.diverge_at = np.where(alone.any(axis=0), alone.argmax(axis=0), 3).astype(np.int8)

    def _find_plain(self) -> None:
        """Find the states of the graph in triphones that an epsilon arc or several arcs enter."""
        states = self.graph.num_states
        arcs = np.bincount(self.source[self.begins[0]], minlength=states)
        links = np.bincount(self.link_source, minlength=states)
        self.out = arcs + links
        emits = self.diverge_at < 3
        third = self.senones[self.hmm[emits], 2]
        self.entered, self.entered_of = np.unique(
            self.target[emits] * np.int64(self.count) + third, return_inverse=True
        )
        entries = np.bincount(self.entered // self.count, minlength=states)
        # An epsilon arc into a state with a single arc, without a label, bypasses the state.
        first = np.flatnonzero(self.begins[0])
        silent = np.zeros(states, bool)
        silent[self.source[first]] = (self.label[first] == 0) | (self.diverge_at[first] > 0)
        self.bypassed = (arcs == 1) & (links == 0) & silent
        plain = (entries > 1) & (self.out > MAX_REPEATED_ARCS)
        linked = np.concatenate([self.link_target, self.target[self.diverge_at == 3]])
        plain[linked[~self.bypassed[linked]]] = True
        plain[self.graph.start] = True
        self.is_plain = plain

    def _number(self) -> None:
        """Give every state its number."""
        diverge_at, hmm, target = self.diverge_at, self.hmm, self.target
        plain = np.cumsum(self.is_plain) - 1
        self.plain = np.where(self.is_plain, plain, -1)
        total = int(np.count_nonzero(self.is_plain))
        self.entered_base = total
        total += len(self.entered)
        rest = diverge_at < 2
        keys = target[rest] * np.int64(len(self.rest_keys)) + self.rest[hmm[rest]]
        self.after_second, self.after_second_of = np.unique(keys, return_inverse=True)
        self.after_second_base = total
        total += len(self.after_second)
        whole = diverge_at == 0
        keys = target[whole] * np.int64(len(self.senones)) + hmm[whole]
        self.after_first, self.after_first_of = np.unique(keys, return_inverse=True)
        self.after_first_base = total
        total += len(self.after_first)
        # Places in the list of arcs where a shared HMM state begins.
        self.split = [
            np.flatnonzero(self.begins[level] & (diverge_at > level)) for level in range(STATES)
        ]
        self.split_base = []
        for split in self.split:
            self.split_base.append(total)
            total += len(split)
        self.num_states = total

    # --- the arcs, block by block of states -----------------------------------------------------

    def final(self) -> np.ndarray:
        """float32 [S] costs of ending: at the start without any word, and in the end's states."""
        final = np.full(self.num_states, np.inf, np.float32)
        final[self.start] = self.graph.empty_cost
        end = self.graph.num_states - 1
        if self.is_plain[end]:
            final[self.plain[end]] = 0.0
        ends = self.entered // self.count == end
        final[self.entered_base + np.flatnonzero(ends)] = 0.0
        return final

    def blocks(self) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """(source, arcs) of all states, state by state, in the order of `write_fst`."""
        self._find_shared_costs()
        yield from self._triphone_state_blocks()
        yield from self._chain_blocks()
        for level in range(STATES):
            yield self._split_block(level)

    def _find_shared_costs(self) -> None:
        """Find the costs that arcs with common HMM states share, which are paid on the way in."""
        self.common = []
        for level in range(STATES):
            shared = np.flatnonzero(self.diverge_at > level)
            first = np.flatnonzero(self.begins[level][shared])
            likely = np.exp(-self.cost[shared].astype(np.float64))
            total = np.add.reduceat(likely, first) if len(first) else likely
            self.common.append(-np.log(np.maximum(total, 1e-300)).astype(np.float32))

    def _arcs_into(self, place: np.ndarray, level: int, paid: np.ndarray | float) -> np.ndarray:
        """Arcs into the HMM states `level` of the arcs at `place` (the first that share each)."""
        arcs = np.zeros(len(place), ARC)
        diverges = self.diverge_at[place] == level
        senone = self.senones[self.hmm[place], level]
        arcs["ilabel"] = senone + 1
        arcs["olabel"] = np.where(diverges, self.label[place], 0)
        arcs["weight"][diverges] = self.cost[place[diverges]]
        arcs["weight"][~diverges] = self.common[level]
        arcs["weight"] += self.enter[senone] - paid
        base, numbers = (
            (self.after_first_base, self.after_first_of),
            (self.after_second_base, self.after_second_of),
            (self.entered_base, self.entered_of),
        )[level]
        alone = self.diverge_at <= level
        place_of_alone = np.cumsum(alone)[place[diverges]] - 1
        arcs["nextstate"][diverges] = base + numbers[place_of_alone]
        arcs["nextstate"][~diverges] = self.split_base[level] + np.arange(np.sum(~diverges))
        return arcs

    def _links(self, target: np.ndarray, label: np.ndarray, cost: np.ndarray) -> np.ndarray:
        """Epsilon arcs to states of the graph in triphones, or the only arcs out of those."""
        arcs = np.zeros(len(target), ARC)
        arcs["olabel"], arcs["weight"] = label, cost
        bypassed = self.bypassed[target]
        arcs["nextstate"] = self.plain[target]
        onward = self.first_out[np.searchsorted(self.first_source, target[bypassed])]
        onward["olabel"] = label[bypassed]
        onward["weight"] += cost[bypassed]
        arcs[bypassed] = onward
        return arcs

    def _triphone_state_blocks(self) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """The states of the graph in triphones: their arcs, each time they are entered."""
        first = np.flatnonzero(self.begins[0])
        self.first_source, self.first_out = self.source[first], self._arcs_into(first, 0, 0.0)
        links = self._links(self.link_target, self.link_label, self.link_cost)
        states = self.graph.num_states
        source = np.concatenate([self.link_source, self.first_source])
        order = np.argsort(source, kind="stable")
        out = np.concatenate([links, self.first_out])[order]
        bounds = np.searchsorted(source[order], np.arange(states + 1))
        del source, order, links
        plain = np.flatnonzero(self.is_plain)
        for begin in range(0, len(plain), BLOCK_STATES):
            state = plain[begin : begin + BLOCK_STATES]
            size = bounds[state + 1] - bounds[state]
            number = np.arange(begin, begin + len(state))
            yield _sorted(np.repeat(number, size), out[concatenated_ranges(bounds[state], size)])
        for begin in range(0, len(self.entered), BLOCK_STATES):
            state, senone = np.divmod(self.entered[begin : begin + BLOCK_STATES], self.count)
            number = self.entered_base + np.arange(begin, begin + len(state))
            linked = self.is_plain[state] & (self.out[state] > MAX_REPEATED_ARCS)
            size = np.where(linked, 0, bounds[state + 1] - bounds[state])
            link = np.zeros(np.count_nonzero(linked), ARC)
            link["nextstate"] = self.plain[state[linked]]
            yield _sorted(
                np.concatenate([number, number[linked], np.repeat(number, size)]),
                np.concatenate(
                    [
                        self._loops(number, senone),
                        link,
                        out[concatenated_ranges(bounds[state], size)],
                    ]
                ),
            )

    def _loops(self, state: np.ndarray, senone: np.ndarray) -> np.ndarray:
        arcs = np.zeros(len(state), ARC)
        arcs["ilabel"], arcs["weight"], arcs["nextstate"] = senone + 1, self.loop[senone], state
        return arcs

    def _chain_blocks(self) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """Arcs of HMM states that a single arc leaves, beside the self-loop."""
        senone = self.senones.T
        rests, hmms = len(self.rest_keys), len(self.senones)
        for begin in range(0, len(self.after_second), BLOCK_STATES):
            target, rest = np.divmod(self.after_second[begin : begin + BLOCK_STATES], rests)
            second, third = np.divmod(self.rest_keys[rest], self.count)
            after = np.searchsorted(self.entered, target * self.count + third)
            yield self._chain(
                self.after_second_base + begin, second, third, self.entered_base + after
            )
        for begin in range(0, len(self.after_first), BLOCK_STATES):
            target, hmm = np.divmod(self.after_first[begin : begin + BLOCK_STATES], hmms)
            after = np.searchsorted(self.after_second, target * rests + self.rest[hmm])
            after += self.after_second_base
            yield self._chain(self.after_first_base + begin, senone[0][hmm], senone[1][hmm], after)

    def _chain(
        self, begin: int, senone: np.ndarray, next_senone: np.ndarray, after: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray]:
        state = np.arange(begin, begin + len(senone))
        arcs = np.zeros(len(senone), ARC)
        arcs["ilabel"], arcs["weight"] = next_senone + 1, self.enter[next_senone]
        arcs["nextstate"] = after
        loops = self._loops(state, senone)
        return _sorted(np.concatenate([state, state]), np.concatenate([loops, arcs]))

    def _split_block(self, level: int) -> tuple[np.ndarray, np.ndarray]:
        """Arcs of HMM states that several arcs share."""
        split = self.split[level]
        state = self.split_base[level] + np.arange(len(split))
        loops = self._loops(state, self.senones[self.hmm[split], level])
        within = np.flatnonzero(self.diverge_at > level)
        group = np.cumsum(self.begins[level][within]) - 1
        if level < STATES - 1:
            begins = self.begins[level + 1][within]
            place, group = within[begins], group[begins]
            arcs = self._arcs_into(place, level + 1, self.common[level][group])
        else:
            cost = self.cost[within] - self.common[level][group]
            arcs = self._links(self.target[within], self.label[within], cost)
        return _sorted(np.concatenate([state, state[group]]), np.concatenate([loops, arcs]))


def _sorted(source: np.ndarray, arcs: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    order = np.lexsort((arcs["olabel"], arcs["ilabel"], source))
    return source[order], arcs[order]
