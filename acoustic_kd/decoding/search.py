"""Viterbi beam search through HCLG that keeps a lattice; NumPy, one frame at a time.

kaldi-decoder's only lattice decoder has no limit on active states: on a graph of 20,000 words it
takes 3 to 20 times real time at beam 13. This search has the limit, and handles all active states
of a frame together. The algorithm, token passing with lattice pruning backwards in time, is that
of Povey et al., *Generating Exact Lattices in the WFST Framework* (2012), section 3, without the
determinising.
"""

import copy
import time
from dataclasses import dataclass, replace
from pathlib import Path
from threading import RLock

import numpy as np

from acoustic_kd.decoding.graph.fst import concatenated_ranges
from acoustic_kd.decoding.lattice import Lattice
from acoustic_kd.decoding.search_graph import SearchGraph
from acoustic_kd.decoding.tokens import LINK, Frame, collect, make_links, prune, prune_whole
from acoustic_kd.settings import DecodeConfig
from acoustic_kd.system.errors import UserError
from acoustic_kd.system.memory import free_host_memory, usable

MIN_PROBABILITY = 1e-10  # added to a probability before its logarithm
PRUNE_INTERVAL = 50  # frames between two prunings of the lattice under construction
BEAM_DELTA = 0.5  # how far a beam narrowed by max_active opens again (Kaldi beam-delta)


@dataclass(frozen=True)
class SearchSettings:
    """Limits of the search; costs are in units of graph cost (natural logs).

    Attributes:
        beam: paths this much worse than the frame's best are dropped.
        max_active: if more states than this are in the beam of a frame, the beam is narrowed to the
            one that leaves so many, plus `BEAM_DELTA`.
        lattice_beam: the lattice keeps paths up to this much worse than the best.
        acoustic_scale: weight of the acoustic log-likelihoods during the search, 1 / LM weight.
        max_lattice_arcs: arcs a frame in the lattice; if a weak model leaves more, the lattice beam
            is narrowed.
    """

    beam: float = 13.0
    max_active: int = 7000
    lattice_beam: float = 8.0
    acoustic_scale: float = 0.1
    max_lattice_arcs: int = 100

    @classmethod
    def of(cls, config: DecodeConfig) -> "SearchSettings":
        """The limits in the settings."""
        return cls(config.beam, config.max_active, config.lattice_beam, config.acoustic_scale)


DEFAULTS = SearchSettings()


def log_likelihoods(probabilities: np.ndarray, log_prior: np.ndarray) -> np.ndarray:
    """Log-likelihoods [T, K] of the senones, up to a constant per frame: log posterior − log prior.

    Args:
        probabilities: [T, K] posteriors.
        log_prior: [K].
    """
    scores: np.ndarray = np.log(probabilities + MIN_PROBABILITY) - log_prior
    return scores


class Decoder:
    """Decodes utterances with one graph."""

    def __init__(self, graph_dir: Path, settings: SearchSettings = DEFAULTS) -> None:
        self.graph, self.settings = SearchGraph(graph_dir), settings
        self._lock = RLock()  # of the scratch, which searches in several threads share
        # Scratch, by state: the cost of its token, infinity between two frames; its number.
        self.best = np.full(len(self.graph.rank), np.inf, np.float32)
        self.index = np.zeros(len(self.graph.rank), np.int32)

    def with_beam(self, beam: float) -> "Decoder":
        """This decoder with another beam; the two share their memory."""
        other = copy.copy(self)
        other.settings = replace(self.settings, beam=beam)
        return other

    @property
    def words(self) -> list[str]:
        """The graph's words by label; label 0 is none."""
        return self.graph.words

    def lattice(self, loglikes: np.ndarray, name: str = "utterance") -> Lattice:
        """Decode one utterance.

        Args:
            loglikes: [T, K] log-likelihoods of the senones (log posterior minus log prior), not
                scaled.
        """
        search = Search(self, name, len(loglikes))
        search.advance(loglikes)
        return search.lattice()

    def check(self, loglikes: np.ndarray, name: str) -> None:
        """Raise a UserError for log-likelihoods that do not fit the graph."""
        senones = self.graph.num_senones
        if loglikes.ndim != 2 or loglikes.shape[1] != senones:
            raise UserError(
                f"{name}: log-likelihoods of shape {loglikes.shape}, but the graph has "
                f"{senones} senones; build the graph from the model's senones"
            )
        if not np.isfinite(loglikes).all():
            raise UserError(f"{name}: some log-likelihoods are not finite; check the model")

    def first_frame(self) -> Frame:
        """The tokens before the first frame of an utterance."""
        states = np.array([self.graph.fst.start])
        with self._lock:
            self.best[states] = 0.0
            frame = self._follow_silent(states, self.settings.beam)
            self.best[frame.state] = np.inf
        return frame

    def advance(self, frame: Frame, acoustic: np.ndarray) -> Frame | None:
        """Emit one frame from every token in the beam; `frame` gets the arcs into the next.

        Args:
            acoustic: [K + 1] scaled acoustic costs by input label.

        Returns:
            The next frame's tokens, or None at a dead end: all tokens are where the graph ends.
        """
        fst, settings = self.graph.fst, self.settings
        token, beam = self._choose(frame.cost)
        record = fst.states_at(frame.state.take(token))
        size = (record["arcs"] - record["ieps"]).astype(np.int64)
        arc = concatenated_ranges(record["first"].astype(np.int64) + record["ieps"], size)
        if not len(arc):
            return None
        record = fst.arcs_at(arc)
        step = record["weight"] + acoustic.take(record["ilabel"])
        step -= frame.cost.min()
        cost = np.repeat(frame.cost.take(token), size) + step
        cutoff = cost.min() + beam
        place = np.flatnonzero(cost <= cutoff)
        cost, target = cost.take(place), record["nextstate"].take(place).astype(np.int64)
        with self._lock:
            np.minimum.at(self.best, target, cost)
            following = self._follow_silent(_distinct(target, self.index), cutoff)
            near = np.flatnonzero(cost <= self.best.take(target) + settings.lattice_beam)
            place = place.take(near)
            source, ends = np.repeat(token, size).take(place), self.index.take(target.take(near))
            frame.emitting = make_links(source, ends, arc.take(place), step.take(place))
            self.best[following.state] = np.inf
        return following

    def _choose(self, cost: np.ndarray) -> tuple[np.ndarray, float]:
        """The tokens to advance, and the beam of the next frame."""
        best, beam, limit = cost.min(), self.settings.beam, self.settings.max_active
        if len(cost) <= limit:
            return np.flatnonzero(cost <= best + beam), beam
        worst = np.partition(cost, limit)[limit]
        beam = min(beam, worst - best + BEAM_DELTA)
        return np.flatnonzero(cost <= best + beam), beam

    def _follow_silent(self, states: np.ndarray, cutoff: float) -> Frame:
        """Make a frame of `states`, whose costs are in `best`, and all that epsilon arcs reach.

        Costs stay in `best`, and the tokens' numbers in `index`, for the caller to clear.
        """
        fst, rank = self.graph.fst, self.graph.rank
        reached, links_found = [states], []
        pending = states[fst.states_at(states)["ieps"] > 0]
        while len(pending):
            # In the order of rank each state's cost is settled before its arcs are followed.
            order = rank.take(pending)
            is_now = order == order.min()
            now, pending = pending[is_now], pending[~is_now]
            record = fst.states_at(now)
            arc = concatenated_ranges(
                record["first"].astype(np.int64), record["ieps"].astype(np.int64)
            )
            source = np.repeat(now, record["ieps"])
            record = fst.arcs_at(arc)
            cost = self.best.take(source) + record["weight"]
            place = np.flatnonzero(cost <= cutoff)
            record, cost = record.take(place), cost.take(place)
            target = record["nextstate"].astype(np.int64)
            fresh = _distinct(target[np.isinf(self.best.take(target))], self.index)
            np.minimum.at(self.best, target, cost)
            pending = np.concatenate([pending, fresh[fst.states_at(fresh)["ieps"] > 0]])
            reached.append(fresh)
            links_found.append(
                (source.take(place), target, arc.take(place), record["weight"], cost)
            )
        state = np.concatenate(reached)
        self.index[state] = np.arange(len(state), dtype=np.int32)
        links = np.zeros(0, LINK)
        if links_found:
            source, target, arc, step, cost = map(np.concatenate, zip(*links_found, strict=True))
            near = cost <= self.best.take(target) + self.settings.lattice_beam
            links = make_links(self.index.take(source), self.index.take(target), arc, step)[near]
        return Frame(state.astype(np.int32), self.best.take(state), links)


class Search:
    """The search of one utterance, as its frames come.

    Args:
        name: of the utterance, for messages.
        expected: its number of frames, if it is known, to foresee the memory of the lattice.
    """

    def __init__(self, decoder: Decoder, name: str = "utterance", expected: int = 0) -> None:
        self._decoder, self._name, self._expected = decoder, name, expected
        self._seconds = 0.0
        self._frames = [decoder.first_frame()]  # all but the latest are pruned
        self._loglikes = [np.zeros((0, decoder.graph.num_senones), np.float32)]
        self._settled = self._held = 0  # frames that only the last pruning changes; their bytes
        self._is_dead = False  # all tokens are where the graph ends

    @property
    def num_frames(self) -> int:
        """The frames so far."""
        return sum(map(len, self._loglikes))

    @property
    def loglikes(self) -> np.ndarray:
        """The log-likelihoods [T, K] of the frames so far."""
        return np.concatenate(self._loglikes)

    def advance(self, loglikes: np.ndarray) -> None:
        """Search further frames.

        Args:
            loglikes: [T, K] as for `Decoder.lattice`.
        """
        began, decoder = time.perf_counter(), self._decoder
        decoder.check(loglikes, self._name)
        self._loglikes.append(loglikes)
        scaled = np.zeros(loglikes.shape[1] + 1, np.float32)  # by input label
        for row in loglikes if not self._is_dead else ():
            scale = -decoder.settings.acoustic_scale
            np.multiply(row, scale, out=scaled[1:], casting="same_kind")
            following = decoder.advance(self._frames[-1], scaled)
            if following is None:
                self._is_dead = True
                break
            self._frames.append(following)
            if (len(self._frames) - 1) % PRUNE_INTERVAL == 0:
                self._prune()
        self._seconds += time.perf_counter() - began

    def _prune(self) -> None:
        # Older frames hardly change any more; the last pruning covers them.
        frames, beam = self._frames, self._decoder.settings.lattice_beam
        since = max(0, len(frames) - 1 - 2 * PRUNE_INTERVAL)
        undecided = np.zeros(len(frames[-1].state), np.float32)
        prune(frames, since, undecided, beam, self._decoder.graph.rank)
        self._held += sum(frame.nbytes for frame in frames[self._settled : since])
        self._settled = since
        _check_memory(self._held, since, max(self._expected, len(frames)), self._name)

    def partial(self) -> list[str]:
        """The words of the best path so far; they may still change."""
        frames, arcs = self._frames, list[int]()
        token = int(frames[-1].cost.argmin())
        for number in reversed(range(len(frames))):
            frame = frames[number]
            while (link := _best_into(token, frame.silent, frame.cost)) is not None:
                if frame.cost[link["source"]] + link["step"] > frame.cost[token]:
                    break  # the best path comes from the frame before
                arcs.append(int(link["arc"]))
                token = int(link["source"])
            before = frames[max(0, number - 1)]
            if number and (link := _best_into(token, before.emitting, before.cost)) is not None:
                arcs.append(int(link["arc"]))
                token = int(link["source"])
        graph = self._decoder.graph
        labels = graph.fst.arcs_at(np.array(arcs[::-1], np.int64))["olabel"]
        return [graph.words[label] for label in labels if label]

    def lattice(self) -> Lattice:
        """The lattice of the utterance, which ends here."""
        began, frames, graph = time.perf_counter(), self._frames, self._decoder.graph
        loglikes = self.loglikes
        end = graph.fst.states_at(frames[-1].state)["final"]
        reached = bool(np.isfinite(end).any())
        end = end if reached else np.zeros_like(end)
        total = frames[-1].cost + end
        settings = self._decoder.settings
        limit = settings.max_lattice_arcs * len(frames)
        end = prune_whole(
            frames, end, total - total.min(), settings.lattice_beam, limit, graph.rank
        )
        lattice = collect(frames, end, loglikes, graph)
        lattice.reached_final = reached and len(frames) - 1 == len(loglikes) > 0
        lattice.seconds = self._seconds + time.perf_counter() - began
        return lattice


def _best_into(token: int, links: np.ndarray, cost: np.ndarray) -> np.ndarray | None:
    """The best of the arcs into a token, a record `LINK`; None if there are none."""
    into = links[links["target"] == token]
    if not len(into):
        return None
    best: np.ndarray = into[(cost[into["source"]] + into["step"]).argmin()]
    return best


def _distinct(values: np.ndarray, scratch: np.ndarray) -> np.ndarray:
    """Each value once, in time that does not need sorting; `scratch` is overwritten at them."""
    number = np.arange(len(values), dtype=scratch.dtype)
    scratch[values] = number
    return values[scratch.take(values) == number]


def _check_memory(held: int, frames: int, in_all: int, name: str) -> None:
    """Raise a UserError if the lattice of an utterance would not fit in memory.

    Args:
        held: bytes of the lattice's first frames.
        frames: the number of these frames.
        in_all: all frames of the utterance.
    """
    free = usable(free_host_memory())
    if not frames or free is None:
        return
    # The tokens and arcs of the frames to come, and all of them once more in the end.
    needed = held * (in_all - frames) / frames
    if needed > free:
        raise UserError(
            f"{name}: the lattice of {in_all / 100:.0f} s of speech would take "
            f"{(held + needed) / 1e9:.1f} GB, more than is free; narrow decode.lattice_beam or "
            "decode.beam, run fewer processes (decode.jobs), or cut the recording"
        )
