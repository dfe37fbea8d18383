"""The tokens of a search, frame by frame, and their pruning backwards in time.

Povey et al., *Generating Exact Lattices in the WFST Framework* (2012), section 3: an arc stays if
the best path through it is within the lattice beam of the best path of all.
"""

from dataclasses import dataclass, field

import numpy as np

from acoustic_kd.decoding.lattice import Lattice
from acoustic_kd.decoding.search_graph import SearchGraph

# Arcs between tokens: of one frame, or of one frame and the next; an arc of the graph, and what it
# adds to the cost. One record, so that choosing some is one step.
LINK = np.dtype([("source", "<i4"), ("target", "<i4"), ("arc", "<i4"), ("step", "<f4")])


def make_links(
    source: np.ndarray, target: np.ndarray, arc: np.ndarray, step: np.ndarray
) -> np.ndarray:
    """Records of type `LINK` from their columns."""
    links = np.empty(len(arc), LINK)
    links["source"], links["target"], links["arc"], links["step"] = source, target, arc, step
    return links


@dataclass
class Frame:
    """Tokens after a frame, one a state of the graph, and the arcs that lead out of them.

    Attributes:
        state: [n] int32.
        cost: [n] float32, of the best path to each; less the cost of the best token of the frame
            before, so that sums over long utterances lose no digits.
        silent: records `LINK`, epsilon arcs between tokens of this frame, in the order of their
            sources' ranks.
        emitting: records `LINK`, arcs to tokens of the next frame.
    """

    state: np.ndarray
    cost: np.ndarray
    silent: np.ndarray
    emitting: np.ndarray = field(default_factory=lambda: np.zeros(0, LINK))

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
        rank: [S] the order of the graph's epsilon arcs (`SearchGraph.rank`).

    Returns:
        The tokens kept of the last frame.
    """
    last, last_kept = frames[-1], np.zeros(0, np.int64)
    number, after = np.zeros(0, np.int32), np.zeros(0, np.float32)  # of the frame after
    for frame in reversed(frames[since:]):
        if frame is not last:
            links = _renumber_targets(frame.emitting, number)
            source = links["source"].astype(np.int64)
            worse = frame.cost.take(source) + links["step"] - after.take(links["target"])
            extra = np.full(len(frame.state), np.inf, np.float32)
            np.minimum.at(extra, source, worse)
            frame.emitting = _where(links, worse <= beam)
        _prune_silent(frame, extra, beam, rank)
        kept = (extra <= beam).nonzero()[0]
        last_kept = kept if frame is last else last_kept
        number = np.full(len(extra), -1, np.int32)
        number[kept] = np.arange(len(kept), dtype=np.int32)
        frame.state, frame.cost = frame.state.take(kept), frame.cost.take(kept)
        after = frame.cost - extra.take(kept)
        frame.silent = _renumber_targets(frame.silent, number)
        for links in (frame.silent, frame.emitting):
            links["source"] = number.take(links["source"])
    if since > 0:
        frames[since - 1].emitting = _renumber_targets(frames[since - 1].emitting, number)
    return last_kept


def _prune_silent(frame: Frame, extra: np.ndarray, beam: float, rank: np.ndarray) -> None:
    """Prune the epsilon arcs of a frame and update `extra`."""
    links = frame.silent
    if not len(links):
        return
    source, target = links["source"].astype(np.int64), links["target"]
    order = rank.take(frame.state.take(source))
    saved = frame.cost.take(source) + links["step"] - frame.cost.take(target)
    worse = np.empty(len(links), np.float32)
    rises = (order[1:] != order[:-1]).nonzero()[0] + 1
    bounds = [0, *rises.tolist(), len(links)]
    for first, end in zip(bounds[-2::-1], bounds[:0:-1], strict=True):
        now = slice(first, end)
        worse[now] = saved[now] + extra.take(target[now])
        np.minimum.at(extra, source[now], worse[now])
    frame.silent = _where(links, worse <= beam)


def _where(links: np.ndarray, kept: np.ndarray) -> np.ndarray:
    return links.take(kept.nonzero()[0])


def _renumber_targets(links: np.ndarray, number: np.ndarray) -> np.ndarray:
    """Give arcs their targets' new numbers; those whose target is gone (-1) are dropped."""
    target = number.take(links["target"])
    place = (target >= 0).nonzero()[0]
    links = links.take(place)
    links["target"] = target.take(place)
    return links


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
    """
    ranks = int(graph.rank.max(initial=0)) + 1
    first = np.cumsum([0, *(len(frame.state) for frame in frames)])
    final = np.full(first[-1], np.inf, np.float32)
    final[first[-2] :] = end
    searched = frames if len(loglikes) else []
    groups = [group for frame in searched for group in (frame.silent, frame.emitting)]
    size = [len(group) for group in groups]
    links = np.concatenate([np.zeros(0, LINK), *groups])
    before = np.repeat(np.arange(len(groups)) // 2, size)  # the frame whose tokens they leave
    emits = np.repeat(np.arange(len(groups)) % 2, size)
    source, target = first[before] + links["source"], first[before + emits] + links["target"]
    arc = links["arc"]
    record = graph.fst.arcs_at(arc)
    level = (before + emits) * ranks + graph.rank.take(record["nextstate"])
    senone = np.where(emits, record["ilabel"].astype(np.int32) - 1, -1)
    acoustic, takes = np.zeros(len(arc), np.float32), np.flatnonzero(emits)
    acoustic[takes] = -loglikes[before[takes], senone[takes]]
    order = np.lexsort((arc, source, target, level))
    record = record[order]
    return Lattice(
        words=graph.words,
        source=source[order].astype(np.int32),
        target=target[order].astype(np.int32),
        word=record["olabel"].copy(),
        level=level[order].astype(np.int32),
        senone=senone[order],
        graph=record["weight"].copy(),
        acoustic=acoustic[order],
        final=final,
        num_frames=len(loglikes),
    )
