"""Alignment without a trained model: equal segments, then iterations of Viterbi training.

The model of each iteration is written to a file that appears whole, with all that the next one
needs. So training that was interrupted resumes with the same bits.
"""

import itertools
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np

from acoustic_kd.alignment.gmm import accumulate, estimate, responsibilities, split
from acoustic_kd.alignment.gmm_aligner import FlatAligner, Iteration, find_outliers, read_iteration
from acoustic_kd.alignment.senones import SenoneInventory
from acoustic_kd.alignment.viterbi import Transcripts
from acoustic_kd.decoding.graph.contexts import STATES
from acoustic_kd.features.frames import read_utterances
from acoustic_kd.language.lexicon import SILENCE, Lexicon
from acoustic_kd.system.parallel import progress, worker_map

LOUDNESS_WINDOW_FRAMES = 21  # longer than the closure of a plosive, which is not a pause
FAINT_PERCENTILE, LOUD_PERCENTILE = 10, 90  # of the loudness of an utterance's frames
LOUD_THRESHOLD_SHARE = 0.4  # of the way from the faint percentile to the loud one
SILENT_END_FRAMES = STATES  # at each end of an utterance, whatever they sound like


def loud_frames(features: np.ndarray) -> np.ndarray:
    """Which frames of an utterance's log-mels [T, D] are loud and so probably speech, bool [T]."""
    energy = features.mean(axis=1)
    sums = np.concatenate([[0.0], np.cumsum(energy, dtype=np.float64)])
    place = np.arange(len(energy))
    first = np.maximum(place - LOUDNESS_WINDOW_FRAMES // 2, 0)
    last = np.minimum(place + LOUDNESS_WINDOW_FRAMES // 2 + 1, len(energy))
    smooth = (sums[last] - sums[first]) / (last - first)
    faint, loud = np.percentile(smooth, [FAINT_PERCENTILE, LOUD_PERCENTILE])
    return smooth >= faint + LOUD_THRESHOLD_SHARE * (loud - faint)


def equal_segments(features: np.ndarray, phones: np.ndarray) -> np.ndarray:
    """The HMM state of every frame if all states of all phones last equally long.

    Faint frames are silence, whose states (of phone 0) alternate. If fewer frames are left than the
    phones have states, all frames but the utterance's ends belong to the phones.

    Args:
        features: [T, D] log-mels, at least as many frames as the phones have states.
        phones: int [N], each the number of a phone; state s of phone p is 3·p + s.

    Returns:
        int32 [T].
    """
    frames, needed = len(features), STATES * len(phones)
    spoken = loud_frames(features)
    spoken[:SILENT_END_FRAMES] = spoken[frames - SILENT_END_FRAMES :] = False
    if np.count_nonzero(spoken) < needed:
        ends = min(SILENT_END_FRAMES, (frames - needed) // 2)
        spoken = np.ones(frames, bool)
        spoken[:ends] = spoken[frames - ends :] = False
    states = (phones[:, None] * STATES + np.arange(STATES)).ravel()
    path = (np.arange(frames) % STATES).astype(np.int32)
    loud = np.count_nonzero(spoken)
    path[spoken] = states[np.arange(loud) * needed // loud]
    return path


INITIAL_STATE_FRAMES, INITIAL_SILENCE_FRAMES = 3.0, 10.0  # durations before the first iteration
MAX_STATE_FRAMES = 60  # in a state of a phone; a longer one is trained on as silence
SPLIT_GAIN_NATS = 0.2  # a frame: Gaussians are split when an iteration gains less
STOP_GAIN_NATS = 0.05  # a frame: training ends when an iteration with all Gaussians gains less


# --- what an iteration does with a shard of utterances --------------------------------------------


@dataclass(frozen=True)
class ShardStatistics:
    """Sums over the utterances of a shard.

    Attributes:
        moments: from `accumulate`, of the frames that are trained on; S states.
        frames, visits: [S] frames in each state, and visits to it, of the same utterances.
        scores: of every utterance, as `score_path`.
        total, count: log-likelihood of the paths of all utterances, and their frames.
    """

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
        texts: utterance → its words.
    """

    def __init__(
        self, model: Path, lexicon: Lexicon, inventory: SenoneInventory, texts: dict[str, list[str]]
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

    def align(self, item: tuple[Path, frozenset[str]]) -> ShardStatistics:
        """Align the utterances of a shard and sum them up.

        Args:
            item: the shard, and the ids of utterances that are not trained on.
        """
        shard, left_out = item
        aligner, count = self.aligner(), self._inventory.num_senones
        gaussians, dimension = aligner.mixtures.means.shape[1:]
        none = np.zeros((0, dimension), np.float32), np.zeros(0, int), np.zeros((0, gaussians))
        trained_on = [none]  # features, states, responsibilities
        visits, scores, total, frames = np.zeros(count), [], 0.0, 0
        for utterance in read_utterances(shard):
            words = self._texts[utterance.id]
            path, components, loglikes = aligner.align(words, utterance.features)
            scores.append(aligner.score(path, loglikes))
            total += float(loglikes[np.arange(len(path)), path].sum(dtype=np.float64))
            frames += len(path)
            if utterance.id not in left_out:
                states = states_to_train(path, aligner.silent)
                share = responsibilities(components, states)
                trained_on.append((utterance.features, states, share))
                begins = np.flatnonzero(np.diff(path, prepend=-1))
                kept = begins[states[begins] == path[begins]]  # a visit taken for silence has none
                visits += np.bincount(path[kept], minlength=count)
        features, states, share = map(np.concatenate, zip(*trained_on, strict=True))
        moments = accumulate(features, states, share, count)
        occupied = np.bincount(states, minlength=count)
        return ShardStatistics(moments, occupied, visits, scores, total, frames)


def states_to_train(path: np.ndarray, silent: np.ndarray) -> np.ndarray:
    """The states that the frames of a path are trained as: those of the path, or of silence.

    A phone that covers a long pause, because silence sounded different so far, would cover it again
    if it were trained on the pause.

    Args:
        path: int [T] states.
        silent: bool [K], which states are silence's; the first STATES are.
    """
    begins = np.flatnonzero(np.diff(path, prepend=-1))
    lengths = np.diff(begins, append=len(path))
    too_long = np.repeat((lengths > MAX_STATE_FRAMES) & ~silent[path[begins]], lengths)
    return np.where(too_long, np.arange(len(path)) % STATES, path)


# --- the iterations -----------------------------------------------------------------------------


def initial_model(shards: list[Path], inventory: SenoneInventory) -> Iteration:
    """The model estimated from the targets of the shards, which are equal segments."""
    moments: np.ndarray = np.zeros(())  # of `accumulate` from the first utterance on
    utterances = 0
    for shard in shards:
        for utterance in read_utterances(shard):
            share = np.ones((len(utterance.features), 1))
            states, count = utterance.labels, inventory.num_senones
            moments = moments + accumulate(utterance.features, states, share, count)
            utterances += 1
    pauses = [leaf.phone == SILENCE for leaf in inventory.leaves]
    durations = np.where(pauses, INITIAL_SILENCE_FRAMES, INITIAL_STATE_FRAMES)
    return Iteration(estimate(moments), durations, np.full(utterances, np.nan))


def _sum(arrays: Iterable[np.ndarray]) -> np.ndarray:
    return sum(arrays, start=np.zeros(()))


def _mean(frames: np.ndarray, visits: np.ndarray) -> np.ndarray:
    """Mean frames a visit [K]; 2 for a state without a visit."""
    return np.where(visits > 0, frames / np.maximum(visits, 1), 2.0)


def train_iterations(
    shards: list[Path],
    model: Path,
    lexicon: Lexicon,
    inventory: SenoneInventory,
    texts: dict[str, list[str]],
    max_iterations: int,
    gaussians: int,
    outlier_threshold: float | None,
) -> Iterator[Iteration]:
    """Train until the gain stops or for `max_iterations`; yields each iteration when it is done.

    Args:
        shards: utterances whose features are cepstra.
        model: the file of the last iteration, which exists; each iteration writes it again.
        texts: utterance → its words.
        max_iterations: at most so many, those of an earlier run included.
        gaussians: of a state at most.
        outlier_threshold: as of `find_outliers`; None: train on all utterances.
    """
    trained = read_iteration(model)
    names = [utterance.id for shard in shards for utterance in read_utterances(shard)]
    texts = {name: texts[name] for name in names}  # each process gets a copy
    state = partial(ShardAligner, model, lexicon, inventory, texts)
    with worker_map(len(shards), state=state) as over:
        while not trained.finished:
            left_out: frozenset[str] = frozenset()
            if outlier_threshold is not None:
                outliers = find_outliers(trained.scores, outlier_threshold)
                left_out = frozenset(itertools.compress(names, outliers))
            items = [(shard, left_out) for shard in shards]
            aligned = over(ShardAligner.align, items)
            results = list(progress(aligned, f"iteration {len(trained.history) + 1}", len(shards)))
            trained = _next_iteration(trained, results, max_iterations, gaussians, len(left_out))
            trained.write(model)
            yield trained


def _next_iteration(
    previous: Iteration,
    results: list[ShardStatistics],
    max_iterations: int,
    gaussians: int,
    left_out: int,
) -> Iteration:
    """The iteration after the previous one, from its alignments of all shards."""
    moments = _sum(result.moments for result in results)
    mixtures = estimate(moments, previous.mixtures)
    number = previous.mixtures.means.shape[1]
    value = sum(r.total for r in results) / max(1, sum(r.count for r in results))
    gain = value - previous.history[-1]["log_likelihood"] if previous.history else np.inf
    # The first iteration after a split always gains; only later ones tell when to go further.
    is_first = not previous.history or previous.history[-1]["gaussians"] < number
    enough = not is_first and gain < (SPLIT_GAIN_NATS if number < gaussians else STOP_GAIN_NATS)
    finished = (enough and number >= gaussians) or len(previous.history) + 1 >= max_iterations
    durations = previous.durations
    if enough or finished:
        durations = _mean(_sum(r.frames for r in results), _sum(r.visits for r in results))
    if enough and not finished:
        mixtures = split(mixtures, moments)
    row = {
        "round": len(previous.history) + 1,
        "gaussians": number,
        "log_likelihood": round(value, 4),
        "left_out": left_out,
    }
    return Iteration(
        mixtures,
        durations,
        np.array([score for r in results for score in r.scores]),
        [*previous.history, row],
        finished,
    )
