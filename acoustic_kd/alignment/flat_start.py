"""Alignment without a trained model: equal segments, then iterations of Viterbi training.

The model of each iteration is written to a file that appears whole, with all that the next one
needs. So training that was interrupted resumes with the same bits.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np

from acoustic_kd.alignment.gmm import fit, gather, shares, split
from acoustic_kd.alignment.gmm_aligner import FlatAligner, Iteration, find_outliers, read_iteration
from acoustic_kd.alignment.senones import SenoneInventory
from acoustic_kd.alignment.viterbi import Transcripts
from acoustic_kd.decoding.graph.contexts import STATES
from acoustic_kd.features.frames import read_utterances
from acoustic_kd.language.lexicon import SILENCE, Lexicon
from acoustic_kd.system.parallel import progress, worker_map

WINDOW = 21  # frames over which loudness is averaged: a plosive's closure is no pause
THRESHOLD = 0.4  # of the way from the faint frames' loudness to the loud ones'
FAINT, LOUD = 10, 90  # percentiles that those are
ENDS = STATES  # frames at each end that are silence whatever they sound like


def loud_frames(features: np.ndarray) -> np.ndarray:
    """Which frames of an utterance's log-mels [T, D] are loud, bool [T]: speech, at a guess."""
    energy = features.mean(axis=1)
    sums = np.concatenate([[0.0], np.cumsum(energy, dtype=np.float64)])
    place = np.arange(len(energy))
    first = np.maximum(place - WINDOW // 2, 0)
    last = np.minimum(place + WINDOW // 2 + 1, len(energy))
    smooth = (sums[last] - sums[first]) / (last - first)
    faint, loud = np.percentile(smooth, [FAINT, LOUD])
    return smooth >= faint + THRESHOLD * (loud - faint)


def equal_states(features: np.ndarray, phones: np.ndarray) -> np.ndarray:
    """The HMM state of every frame, were all states of all phones equally long.

    Faint frames are silence, whose states (phone 0) take turns. Where that leaves fewer frames
    than the phones have states, the phones have all but the utterance's ends.

    Args:
        features: [T, D] log-mels, at least as many frames as the phones have states.
        phones: int [N], each the number of a phone; state s of phone p is 3·p + s.

    Returns:
        int32 [T].
    """
    frames, wanted = len(features), STATES * len(phones)
    spoken = loud_frames(features)
    spoken[:ENDS] = spoken[frames - ENDS :] = False
    if np.count_nonzero(spoken) < wanted:
        ends = min(ENDS, (frames - wanted) // 2)
        spoken = np.ones(frames, bool)
        spoken[:ends] = spoken[frames - ends :] = False
    states = (phones[:, None] * STATES + np.arange(STATES)).ravel()
    found = (np.arange(frames) % STATES).astype(np.int32)
    loud = np.count_nonzero(spoken)
    found[spoken] = states[np.arange(loud) * wanted // loud]
    return found


FIRST_DURATION, FIRST_PAUSE = 3.0, 10.0  # frames a state of a phone or of silence, at a guess
LONGEST = 60  # frames in a state of a phone; more is no speech, and learnt as silence
GROW_BELOW = 0.2  # nats a frame: a round that gains less has learnt what so few Gaussians can
STOP_BELOW = 0.05  # likewise, once there are as many Gaussians as there will be


# --- what a round does with a shard of utterances -------------------------------------------------


@dataclass(frozen=True)
class _Aligned:
    """A shard's utterances: sums over the frames of those that are learnt from, scores of all."""

    moments: np.ndarray
    frames: np.ndarray
    visits: np.ndarray
    scores: list[float]
    total: float
    count: int


class ShardAligner:
    """Aligns shards of utterances with the model of the last iteration.

    Args:
        model: the file of the model, written again by each iteration.
        lexicon: pronunciations.
        inventory: the senones.
        texts: utterance → its words.
    """

    def __init__(
        self,
        model: Path,
        lexicon: Lexicon,
        inventory: SenoneInventory,
        texts: dict[str, list[str]],
    ) -> None:
        self._model, self._lexicon, self._inventory = model, lexicon, inventory
        self._texts = texts
        self._transcripts: Transcripts | None = None  # with graphs, for as long as durations stay

    def aligner(self) -> FlatAligner:
        """The aligner with the model of the last iteration."""
        trained, kept = read_iteration(self._model), self._transcripts
        if kept is None or not np.array_equal(kept.durations, trained.durations):
            kept = Transcripts(self._lexicon, self._inventory, trained.durations, keep=True)
        self._transcripts = kept
        return FlatAligner(trained.mixtures, kept)

    def align(self, item: tuple[Path, frozenset[str]]) -> _Aligned:
        """Align the utterances of a shard; those of the set are not learnt from."""
        shard, left_out = item
        aligner, count = self.aligner(), self._inventory.num_senones
        learnt: list[tuple[np.ndarray, np.ndarray, np.ndarray]] = []
        visits, scores, total, frames = np.zeros(count), [], 0.0, 0
        for utterance in read_utterances(shard):
            words = self._texts[utterance.id]
            path, components, loglikes = aligner.align(words, utterance.features)
            scores.append(aligner.score(path, loglikes))
            total += float(loglikes[np.arange(len(path)), path].sum(dtype=np.float64))
            frames += len(path)
            if utterance.id not in left_out:
                states = learnt_states(path, aligner.silent)
                learnt.append((utterance.features, states, shares(components, states)))
                begins = np.flatnonzero(np.diff(path, prepend=-1))
                kept = begins[states[begins] == path[begins]]  # one that is lost has no frames
                visits += np.bincount(path[kept], minlength=count)
        number_of, dimension = aligner.mixtures.means.shape[1:]
        moments = np.zeros((count, number_of, 1 + 2 * dimension))
        occupied = np.zeros(count)
        if learnt:
            features, states, share = (np.concatenate(parts) for parts in zip(*learnt, strict=True))
            moments = gather(features, states, share, count)
            occupied += np.bincount(states, minlength=count)
        return _Aligned(moments, occupied, visits, scores, total, frames)


def learnt_states(path: np.ndarray, silent: np.ndarray) -> np.ndarray:
    """What the frames of a path are taken for when the model is fitted: mostly what they are there.

    But a phone that takes in a long pause, because silence sounded otherwise so far, would be held
    in that by what it learns from it.

    Args:
        path: int [T] states.
        silent: bool [K], which are silence's, the first STATES among them.
    """
    begins = np.flatnonzero(np.diff(path, prepend=-1))
    lengths = np.diff(begins, append=len(path))
    lost = np.repeat((lengths > LONGEST) & ~silent[path[begins]], lengths)
    return np.where(lost, np.arange(len(path)) % STATES, path)


# --- the rounds ---------------------------------------------------------------------------------


def first_round(shards: list[Path], inventory: SenoneInventory) -> Iteration:
    """The model of the first guess, which is the targets of the shards."""
    moments: np.ndarray = np.zeros(())  # as gathered, once there is something
    utterances = 0
    for shard in shards:
        for utterance in read_utterances(shard):
            share = np.ones((len(utterance.features), 1))
            states, count = utterance.labels, inventory.num_senones
            moments = moments + gather(utterance.features, states, share, count)
            utterances += 1
    pauses = [leaf.phone == SILENCE for leaf in inventory.leaves]
    durations = np.where(pauses, FIRST_PAUSE, FIRST_DURATION)
    return Iteration(fit(moments), durations, np.full(utterances, np.nan))


def _sum(arrays: Iterable[np.ndarray]) -> np.ndarray:
    return sum(arrays, start=np.zeros(()))


def _mean(frames: np.ndarray, visits: np.ndarray) -> np.ndarray:
    """Mean frames a visit [K]; 2 where there was none."""
    return np.where(visits > 0, frames / np.maximum(visits, 1), 2.0)


def train_rounds(
    shards: list[Path],
    model: Path,
    lexicon: Lexicon,
    inventory: SenoneInventory,
    texts: dict[str, list[str]],
    rounds: int,
    gaussians: int,
    spreads: float | None,
) -> Iterator[Iteration]:
    """Train until the gain stops, or for `rounds` rounds; each round when it is done.

    Args:
        shards: utterances whose features are cepstra.
        model: the file of the last round, which is there; it is written again after each.
        texts: utterance → its words.
        gaussians: the most of a state.
        spreads: as `find_outliers`; None: learn from all.
    """
    found = read_iteration(model)
    names = [utterance.id for shard in shards for utterance in read_utterances(shard)]
    learnt = {name: texts[name] for name in names}  # each process has them: not all of train's
    state = partial(ShardAligner, model, lexicon, inventory, learnt)
    with worker_map(len(shards), state=state) as over:
        while not found.finished:
            number = len(found.history) + 1
            outliers = _outliers(found.scores, spreads)
            left_out = frozenset(n for n, bad in zip(names, outliers, strict=True) if bad)
            items = [(shard, left_out) for shard in shards]
            aligned = over(ShardAligner.align, items)
            results = list(progress(aligned, f"round {number}", len(shards)))
            found = _next(found, results, rounds, gaussians, len(left_out))
            found.write(model)
            yield found


def _outliers(scores: np.ndarray, spreads: float | None) -> np.ndarray:
    return np.zeros(len(scores), bool) if spreads is None else find_outliers(scores, spreads)


def _next(
    before: Iteration, results: list[_Aligned], rounds: int, gaussians: int, left_out: int
) -> Iteration:
    """The round that the alignments of all shards make."""
    moments = _sum(result.moments for result in results)
    mixtures = fit(moments, before.mixtures)
    number = before.mixtures.means.shape[1]
    value = sum(r.total for r in results) / max(1, sum(r.count for r in results))
    gain = value - before.history[-1]["log_likelihood"] if before.history else np.inf
    # A round after a split gains by that; only those that follow say whether it was enough.
    new = not before.history or before.history[-1]["gaussians"] < number
    enough = not new and gain < (GROW_BELOW if number < gaussians else STOP_BELOW)
    finished = (enough and number >= gaussians) or len(before.history) + 1 >= rounds
    durations = before.durations
    if enough or finished:
        durations = _mean(_sum(r.frames for r in results), _sum(r.visits for r in results))
    if enough and not finished:
        mixtures = split(mixtures, moments)
    row = {
        "round": len(before.history) + 1,
        "gaussians": number,
        "log_likelihood": round(value, 4),
        "left_out": left_out,
    }
    return Iteration(
        mixtures,
        durations,
        np.array([score for r in results for score in r.scores]),
        [*before.history, row],
        finished,
    )
