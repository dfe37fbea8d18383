"""The tokens of a search, frame by frame, and what is dropped of them: pruning backwards in time.

Povey et al., *Generating Exact Lattices in the WFST Framework* (2012), section 3: an arc stays if
the best path through it is within the lattice beam of the best path of all.
"""

from dataclasses import dataclass, field

import numpy as np

from acoustic_kd.decoding.lattice import Lattice
from acoustic_kd.decoding.search_graph import SearchGraph


@dataclass
class Links:
    """Arcs between tokens.

    Attributes:
        source, target: [n] int32, tokens of one frame, or of one frame and the next.
        arc: [n] int32, the graph's arcs.
        step: [n] float32, what each adds to the costs of tokens.
    """

    source: np.ndarray
    target: np.ndarray
    arc: np.ndarray
    step: np.ndarray

    @classmethod
    def none(cls) -> "Links":
        """No arcs."""
        return cls(*np.zeros((3, 0), np.int32), np.zeros(0, np.float32))

    def __len__(self) -> int:
        return len(self.arc)

    @property
    def nbytes(self) -> int:
        """Bytes held."""
        return 16 * len(self.arc)

    def where(self, kept: np.ndarray) -> "Links":
        """Those where `kept`, bool [n], holds."""
        place = np.flatnonzero(kept)
        columns = self.source, self.target, self.arc, self.step
        return Links(*(column.take(place) for column in columns))

    def renumber_targets(self, number: np.ndarray) -> "Links":
        """The same with the targets' new numbers; those whose target is gone (-1) are dropped."""
        links = self.where(number.take(self.target) >= 0)
        links.target = number.take(links.target)
        return links


@dataclass
class Frame:
    """Tokens after a frame, one a state of the graph, and the arcs that lead out of them.

    Attributes:
        state: [n] int32.
        cost: [n] float32, of the best path to each; less the cost of the best token of the frame
            before, so that sums over long utterances lose no digits.
        silent: epsilon arcs, between tokens of this frame.
        emitting: arcs to tokens of the next frame.
    """

    state: np.ndarray
    cost: np.ndarray
    silent: Links
    emitting: Links = field(default_factory=Links.none)

    @property
    def nbytes(self) -> int:
        """Bytes held."""
        return 8 * len(self.state) + self.silent.nbytes + self.emitting.nbytes


def prune(
    frames: list[Frame], since: int, extra: np.ndarray, beam: float, rank: np.ndarray
) -> np.ndarray:
    """Drop tokens and arcs on no path within the lattice beam of the best, from the end back.

    Args:
        frames: tokens after 0, 1, … frames; those from `since` on are changed.
        since: the first frame to prune.
        extra: for each token of the last frame, what its best ending costs beyond the best.
        beam: the lattice beam.
        rank: [S] the order of the graph's epsilon arcs (`SearchGraph.rank`).

    Returns:
        The tokens kept of the last frame.
    """
    last_kept = after = number = None
    for frame in reversed(frames[since:]):
        if number is not None:
            links = frame.emitting.renumber_targets(number)
            worse = frame.cost.take(links.source) + links.step - after.take(links.target)
            extra = np.full(len(frame.state), np.inf, np.float32)
            np.minimum.at(extra, links.source, worse)
            frame.emitting = links.where(worse <= beam)
        _prune_silent(frame, extra, beam, rank)
        kept = np.flatnonzero(extra <= beam)
        last_kept = kept if last_kept is None else last_kept
        number = np.full(len(extra), -1, np.int32)
        number[kept] = np.arange(len(kept), dtype=np.int32)
        frame.state, frame.cost = frame.state.take(kept), frame.cost.take(kept)
        after = frame.cost - extra.take(kept)
        frame.silent = frame.silent.renumber_targets(number)
        for links in (frame.silent, frame.emitting):
            links.source = number.take(links.source)
    if since > 0:
        frames[since - 1].emitting = frames[since - 1].emitting.renumber_targets(number)
    return last_kept


def _prune_silent(frame: Frame, extra: np.ndarray, beam: float, rank: np.ndarray) -> None:
    """The same for a frame's epsilon arcs; `extra` is brought up to date."""
    links = frame.silent
    if not len(links):
        return
    order = rank.take(frame.state.take(links.source))
    worse = np.empty(len(links), np.float32)
    for level in range(int(order.max()), -1, -1):
        now = np.flatnonzero(order == level)
        source, target = links.source.take(now), links.target.take(now)
        cost = frame.cost.take(source) + links.step.take(now)
        worse[now] = cost - frame.cost.take(target) + extra.take(target)
        np.minimum.at(extra, source, worse[now])
    frame.silent = links.where(worse <= beam)


def prune_whole(
    frames: list[Frame],
    end: np.ndarray,
    extra: np.ndarray,
    beam: float,
    limit: int,
    rank: np.ndarray,
) -> np.ndarray:
    """Prune all frames, by ever narrower beams until no more than `limit` arcs are left.

    Args:
        frames, extra, beam, rank: as for `prune`; `beam` is the first.
        end: the end costs of the last frame's tokens.
        limit: arcs, where a beam of 0.1 leaves so few.

    Returns:
        The end costs of the tokens left.
    """
    while True:
        kept = prune(frames, 0, extra, beam, rank)
        end, extra = end[kept], extra[kept]
        arcs = sum(len(frame.silent) + len(frame.emitting) for frame in frames)
        if arcs <= limit or beam < 0.1:
            return end
        beam *= 0.8


def collect(
    frames: list[Frame], end: np.ndarray, loglikes: np.ndarray, graph: SearchGraph
) -> Lattice:
    """The lattice of pruned tokens: those of all frames numbered in a row, their arcs gathered.

    Args:
        frames: tokens after 0, 1, … frames.
        end: the end costs of the last frame's tokens.
        loglikes: [T, K], not scaled.
        graph: the graph.
    """
    ranks = int(graph.rank.max(initial=0)) + 1
    first = np.cumsum([0, *(len(frame.state) for frame in frames)])
    final = np.full(first[-1], np.inf, np.float32)
    final[first[-2] :] = end
    said = frames if len(loglikes) else []
    links = [links for frame in said for links in (frame.silent, frame.emitting)]
    links.append(Links.none())  # so that there is something to concatenate
    arc = np.concatenate([link.arc for link in links])
    size = [len(link) for link in links]
    before = np.repeat(np.arange(len(links)) // 2, size)  # the frame whose tokens they leave
    emits = np.repeat(np.arange(len(links)) % 2, size)
    source = first[before] + np.concatenate([link.source for link in links])
    target = first[before + emits] + np.concatenate([link.target for link in links])
    record = graph.fst.arcs_at(arc)
    level = (before + emits) * ranks + graph.rank.take(record["nextstate"])
    acoustic = np.zeros(len(arc), np.float32)
    heard = np.flatnonzero(emits)
    acoustic[heard] = -loglikes[before[heard], record["ilabel"][heard] - 1]
    order = np.lexsort((arc, source, target, level))
    record = record[order]
    return Lattice(
        words=graph.words,
        source=source[order].astype(np.int32),
        target=target[order].astype(np.int32),
        word=record["olabel"].copy(),
        level=level[order].astype(np.int32),
        graph=record["weight"].copy(),
        acoustic=acoustic[order],
        final=final,
        num_frames=len(loglikes),
    )
