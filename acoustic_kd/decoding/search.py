"""Viterbi beam search through HCLG that keeps a lattice; NumPy, one frame at a time.

kaldi-decoder's only lattice decoder has no limit on active states: on a graph of 20,000 words it
takes 3 to 20 times real time at beam 13. This search has the limit, and handles all active states
of a frame together. The algorithm, token passing with lattice pruning backwards in time, is that
of Povey et al., *Generating Exact Lattices in the WFST Framework* (2012), section 3, without the
determinising.
"""

import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from acoustic_kd.decoding.fst_arrays import FstArrays, read_fst
from acoustic_kd.decoding.lattice import Lattice
from acoustic_kd.errors import UserError
from acoustic_kd.files import read_json

PRUNE_INTERVAL = 50  # frames between two prunings of the lattice under construction
BEAM_DELTA = 0.5  # how far a beam narrowed by max_active opens again (Kaldi beam-delta)


@dataclass(frozen=True)
class SearchSettings:
    """Limits of the search; costs are in units of graph cost (natural logs).

    Attributes:
        beam: paths this much worse than the frame's best are dropped.
        max_active: at most so many states go on to the next frame.
        lattice_beam: the lattice keeps paths up to this much worse than the best.
        acoustic_scale: weight of the acoustic log-likelihoods during the search, 1 / LM weight.
        max_lattice_arcs: at most so many arcs a frame stay in the lattice: where a weak model
            leaves more, the lattice beam is narrowed until they are so few.
    """

    beam: float = 13.0
    max_active: int = 7000
    lattice_beam: float = 8.0
    acoustic_scale: float = 0.1
    max_lattice_arcs: int = 100


DEFAULTS = SearchSettings()


@dataclass
class _Frame:
    """Tokens after a frame, and the arcs that lead out of them.

    `source` and `target` number tokens: of this frame in `silent`, the frame's epsilon arcs; of
    this frame and the next in `emitting`. `arc` numbers the graph's arcs.
    """

    state: np.ndarray
    cost: np.ndarray
    silent: np.ndarray  # [3, n] source, target, arc
    emitting: np.ndarray  # [3, m]


class Decoder:
    """Decodes utterances with one graph.

    Raises:
        UserError: the graph's folder is incomplete or damaged.
    """

    def __init__(self, graph_dir: Path, settings: SearchSettings = DEFAULTS) -> None:
        graph_dir = Path(graph_dir)
        self.num_senones = int(read_json(graph_dir / "graph.json")["senones"])
        try:
            lines = (graph_dir / "words.txt").read_text(encoding="utf-8").splitlines()
        except OSError as error:
            raise UserError(f"{graph_dir}/words.txt: cannot be read ({error.strerror})") from None
        self.words = [line.split()[0] for line in lines]
        self._load(read_fst(graph_dir / "HCLG.fst"), settings)

    @classmethod
    def from_fst(
        cls, fst: FstArrays, words: list[str], num_senones: int, settings: SearchSettings
    ) -> "Decoder":
        """A decoder of a graph in memory; `words` by label, label 0 for none."""
        self = cls.__new__(cls)
        self.num_senones, self.words = num_senones, words
        self._load(fst, settings)
        return self

    def _load(self, fst: FstArrays, settings: SearchSettings) -> None:
        self.settings = settings
        self.start, self.final = fst.start, fst.final.astype(np.float64)
        self.arc_source = fst.source.astype(np.int64)
        self.next = fst.arcs["nextstate"].astype(np.int64)
        self.weight = fst.arcs["weight"].astype(np.float64)
        self.column = fst.arcs["ilabel"].astype(np.int64) - 1
        self.olabel = fst.arcs["olabel"].astype(np.int32)
        # Arcs are sorted by state and input label, so each state's epsilon arcs come first.
        is_silent = self.column < 0
        self.num_silent = np.bincount(fst.source[is_silent], minlength=fst.num_states)
        self.num_emitting = np.bincount(fst.source[~is_silent], minlength=fst.num_states)
        self.first_silent = np.cumsum(self.num_silent + self.num_emitting)
        self.first_silent -= self.num_silent + self.num_emitting
        self.first_emitting = self.first_silent + self.num_silent
        self.rank = self._epsilon_ranks(np.flatnonzero(is_silent))
        self.best = np.full(fst.num_states, np.inf)  # scratch: cost of each state's token
        self.index = np.zeros(fst.num_states, np.int64)  # scratch: number of each state's token

    def _epsilon_ranks(self, silent: np.ndarray) -> np.ndarray:
        """[S] the longest run of epsilon arcs into each state: the order to follow them in."""
        source, target = self.arc_source[silent], self.next[silent]
        rank = np.zeros(len(self.final), np.int64)
        for _ in range(len(self.final) + 1):
            higher = rank[source] + 1
            late = higher > rank[target]
            if not late.any():
                return rank
            np.maximum.at(rank, target[late], higher[late])
        raise UserError("graph: has a cycle of epsilon arcs; build it again")

    def lattice(self, loglikes: np.ndarray, name: str = "utterance") -> Lattice:
        """Decode one utterance.

        Args:
            loglikes: [T, K] log-likelihoods of the senones (log posterior minus log prior), not
                scaled.
            name: for error messages.

        Raises:
            UserError: K is not the graph's, or a value is not finite.
        """
        began = time.perf_counter()
        self._check(loglikes, name)
        frames = [self._first_frame()]
        for number, row in enumerate(loglikes, start=1):
            following = self._advance(frames[-1], row * -self.settings.acoustic_scale)
            if following is None:
                break
            frames.append(following)
            if number % PRUNE_INTERVAL == 0:
                # Older frames hardly change any more; the last pruning sees to them.
                since = max(0, number - 2 * PRUNE_INTERVAL)
                undecided = np.zeros(len(frames[-1].state))
                self._prune(frames, since, undecided, loglikes, self.settings.lattice_beam)
        end = self.final[frames[-1].state]
        reached = bool(np.isfinite(end).any())
        end = end if reached else np.zeros(len(end))
        total = frames[-1].cost + end
        end = self._prune_whole(frames, end, total - total.min(), loglikes)
        lattice = self._collect(frames, end, loglikes)
        lattice.reached_final = reached and len(frames) - 1 == len(loglikes) > 0
        lattice.seconds = time.perf_counter() - began
        return lattice

    def _check(self, loglikes: np.ndarray, name: str) -> None:
        if loglikes.ndim != 2 or loglikes.shape[1] != self.num_senones:
            raise UserError(
                f"{name}: log-likelihoods of shape {loglikes.shape}, but the graph has "
                f"{self.num_senones} senones; build the graph from the model's senones"
            )
        if not np.isfinite(loglikes).all():
            raise UserError(f"{name}: log-likelihoods that are not finite; check the model")

    def _first_frame(self) -> _Frame:
        states = np.array([self.start])
        self.best[states] = 0.0
        frame, _ = self._follow_silent(states)
        self.best[frame.state] = np.inf
        return frame

    def _advance(self, frame: _Frame, acoustic: np.ndarray) -> _Frame | None:
        """Emit one frame from every token in the beam; `frame` gets the arcs into the next.

        Args:
            frame: the tokens.
            acoustic: [K] scaled acoustic costs.

        Returns:
            The next frame's tokens, or None at a dead end: all tokens are where the graph ends.
        """
        settings = self.settings
        best, beam = frame.cost.min(), settings.beam
        if len(frame.cost) > settings.max_active:
            worst = np.partition(frame.cost, settings.max_active)[settings.max_active]
            beam = min(beam, worst - best + BEAM_DELTA)
        token = np.flatnonzero(frame.cost <= best + beam)
        state = frame.state[token]
        arc, repeats = _ranges(self.first_emitting[state], self.num_emitting[state])
        if not len(arc):
            return None
        source = np.repeat(token, repeats)
        cost = frame.cost[source] + self.weight[arc] + acoustic[self.column[arc]]
        keep = cost <= cost.min() + beam
        source, arc, cost = source[keep], arc[keep], cost[keep]
        target = self.next[arc]
        np.minimum.at(self.best, target, cost)
        following, index = self._follow_silent(_distinct(target, self.index))
        near = cost <= self.best[target] + settings.lattice_beam
        frame.emitting = np.stack([source[near], index[target[near]], arc[near]])
        self.best[following.state] = np.inf
        return following

    def _follow_silent(self, states: np.ndarray) -> tuple[_Frame, np.ndarray]:
        """Make a frame of `states`, whose costs are in `best`, and all that epsilon arcs reach.

        Returns:
            The frame, and [S] the number of each state's token (of those with a token).
        """
        cutoff = self.best[states].min() + self.settings.beam
        reached, arcs, costs = [states], [np.zeros(0, np.int64)], [np.zeros(0)]
        pending = states[self.num_silent[states] > 0]
        while len(pending):
            # In the order of rank each state's cost is settled before its arcs are followed.
            rank = self.rank[pending]
            now, pending = pending[rank == rank.min()], pending[rank > rank.min()]
            arc, repeats = _ranges(self.first_silent[now], self.num_silent[now])
            cost = np.repeat(self.best[now], repeats) + self.weight[arc]
            arc, cost = arc[cost <= cutoff], cost[cost <= cutoff]
            target = self.next[arc]
            fresh = _distinct(target[np.isinf(self.best[target])], self.index)
            np.minimum.at(self.best, target, cost)
            pending = np.concatenate([pending, fresh[self.num_silent[fresh] > 0]])
            reached.append(fresh)
            arcs.append(arc)
            costs.append(cost)
        state, arc, cost = (np.concatenate(pieces) for pieces in (reached, arcs, costs))
        self.index[state] = np.arange(len(state))
        arc = arc[cost <= self.best[self.next[arc]] + self.settings.lattice_beam]
        silent = np.stack([self.index[self.arc_source[arc]], self.index[self.next[arc]], arc])
        return _Frame(state, self.best[state], silent, np.zeros((3, 0), np.int64)), self.index

    def _prune_whole(
        self, frames: list[_Frame], end: np.ndarray, extra: np.ndarray, loglikes: np.ndarray
    ) -> np.ndarray:
        """Prune all frames until the arcs are few enough; the end costs of the tokens left."""
        beam = self.settings.lattice_beam
        limit = self.settings.max_lattice_arcs * len(frames)
        while True:
            kept = self._prune(frames, 0, extra, loglikes, beam)
            end, extra = end[kept], extra[kept]
            arcs = sum(frame.silent.shape[1] + frame.emitting.shape[1] for frame in frames)
            if arcs <= limit or beam < 0.1:
                return end
            beam *= 0.8

    def _prune(
        self,
        frames: list[_Frame],
        since: int,
        extra: np.ndarray,
        loglikes: np.ndarray,
        beam: float,
    ) -> np.ndarray:
        """Drop tokens and arcs on no path within the lattice beam of the best, from the end back.

        Args:
            frames: tokens after 0, 1, … frames.
            since: the first frame to prune.
            extra: for each token of the last frame, what its best ending costs beyond the best.
            loglikes: [T, K], not scaled.
            beam: the lattice beam.

        Returns:
            The tokens kept of the last frame.
        """
        kept = last_kept = number = None
        for t in range(len(frames) - 1, since - 1, -1):
            frame = frames[t]
            if number is not None:
                frame.emitting = _renumber_targets(frame.emitting, number)
                source, target, arc = frame.emitting
                after = frames[t + 1].cost[target] - extra[target]
                acoustic = self.settings.acoustic_scale * loglikes[t, self.column[arc]]
                worse = frame.cost[source] + self.weight[arc] - acoustic - after
                frame.emitting = frame.emitting[:, worse <= beam]
                extra = np.full(len(frame.state), np.inf)
                np.minimum.at(extra, source, worse)
            self._prune_silent(frame, extra, beam)
            kept = np.flatnonzero(extra <= beam)
            last_kept = kept if last_kept is None else last_kept
            number = np.full(len(extra), -1)
            number[kept] = np.arange(len(kept))
            frame.state, frame.cost, extra = frame.state[kept], frame.cost[kept], extra[kept]
            frame.silent = _renumber_targets(frame.silent, number)
            for arcs in (frame.silent, frame.emitting):
                arcs[0] = number[arcs[0]]
        if since > 0:
            frames[since - 1].emitting = _renumber_targets(frames[since - 1].emitting, number)
        return last_kept

    def _prune_silent(self, frame: _Frame, extra: np.ndarray, beam: float) -> None:
        """The same for a frame's epsilon arcs; `extra` is brought up to date."""
        source, target, arc = frame.silent
        rank = self.rank[frame.state[source]]
        worse = np.empty(len(arc))
        for level in np.unique(rank)[::-1]:
            now = np.flatnonzero(rank == level)
            s, t = source[now], target[now]
            worse[now] = frame.cost[s] + self.weight[arc[now]] - frame.cost[t] + extra[t]
            np.minimum.at(extra, s, worse[now])
        frame.silent = frame.silent[:, worse <= beam]

    def _collect(self, frames: list[_Frame], end: np.ndarray, loglikes: np.ndarray) -> Lattice:
        """Number the tokens of all frames in a row and gather their arcs."""
        ranks = int(self.rank.max(initial=0)) + 1
        first = np.cumsum([0, *(len(frame.state) for frame in frames)])
        pieces = [np.zeros((4, 0), np.int64)]
        heard = [np.zeros(0)]
        for t, frame in enumerate(frames if len(loglikes) else []):
            for (source, target, arc), after in ((frame.silent, t), (frame.emitting, t + 1)):
                level = after * ranks + self.rank[self.next[arc]]
                pieces.append(
                    np.stack(
                        [source + first[t], target + first[min(after, len(frames) - 1)], arc, level]
                    )
                )
                # Only arcs between two frames emit; the last frame has none.
                emits = after > t and len(arc) > 0
                heard.append(-loglikes[t, self.column[arc]] if emits else np.zeros(len(arc)))
        source, target, arc, level = np.concatenate(pieces, axis=1)
        acoustic = np.concatenate(heard)
        order = np.lexsort((arc, source, target, level))
        final = np.full(first[-1], np.inf, np.float32)
        final[first[-2] :] = end
        return Lattice(
            words=self.words,
            source=source[order].astype(np.int32),
            target=target[order].astype(np.int32),
            word=self.olabel[arc[order]],
            level=level[order].astype(np.int32),
            graph=self.weight[arc[order]].astype(np.float32),
            acoustic=acoustic[order].astype(np.float32),
            final=final,
            num_frames=len(loglikes),
        )


def _ranges(first: np.ndarray, size: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """first[0], first[0] + 1, …, then those of first[1], …; `size` numbers of each."""
    ends = np.cumsum(size)
    total = int(ends[-1]) if len(ends) else 0
    return np.arange(total) + np.repeat(first - ends + size, size), size


def _distinct(values: np.ndarray, scratch: np.ndarray) -> np.ndarray:
    """Each value once, in time that does not need sorting; `scratch` is overwritten at them."""
    number = np.arange(len(values))
    scratch[values] = number
    return values[scratch[values] == number]


def _renumber_targets(arcs: np.ndarray, number: np.ndarray) -> np.ndarray:
    """Give arcs their targets' new numbers; those whose target is gone (-1) are dropped."""
    arcs = arcs[:, number[arcs[1]] >= 0]
    arcs[1] = number[arcs[1]]
    return arcs
