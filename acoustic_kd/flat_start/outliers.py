"""Utterances that their alignment says are not what their transcript says."""

import numpy as np

MOST = 10.0  # nats that a frame counts for; docs/alignment.md
NARROWEST = 0.25  # nats a frame: the spread of few or uniform utterances says little


def score_path(loglikes: np.ndarray, path: np.ndarray, silent: np.ndarray) -> float:
    """How well an utterance fits its alignment: nats a frame below the states that fit best.

    No frame counts for more than `MOST`: a few of digital silence within words, where a recording
    was gated, or a click, would otherwise outweigh seconds that fit.

    A frame of which the alignment and the best fitting state both say that it is silence counts
    for nothing, so that pauses neither hide a bad transcript nor make a good one look bad; but what
    the transcript takes for silence and sounds like speech counts. Against the best state, and not
    in itself, because speakers, noise and channels make likelihoods of right alignments differ.

    Args:
        loglikes: [T, K] log-likelihoods.
        path: int [T], the state of every frame.
        silent: bool [K], which states are silence's.

    Returns:
        0 or less.
    """
    best = loglikes.argmax(axis=1)
    counted = np.flatnonzero(~(silent[path] & silent[best]))
    if not len(counted):
        return 0.0
    worse = loglikes[counted, best[counted]] - loglikes[counted, path[counted]]
    return -float(np.minimum(worse, MOST).mean())


def lowest_score(scores: np.ndarray, spreads: float) -> float:
    """Below which score an utterance is an outlier among some.

    median - spreads · (median - lower quartile) / 0.6745: the second factor, which is NARROWEST at
    least, is the standard deviation where scores are normally distributed, and up to a quarter of
    them may be anything without moving it much. Of the lower side alone, since scores are skewed.

    Args:
        scores: [U]; not a number where there is none, which is passed over.
        spreads: standard deviations.
    """
    known = scores[np.isfinite(scores)]
    if not len(known):
        return -np.inf
    quarter, middle = np.percentile(known, [25, 50])
    return float(middle - spreads * max((middle - quarter) / 0.6745, NARROWEST))


def find_outliers(scores: np.ndarray, spreads: float) -> np.ndarray:
    """Which of some scores lie too far below the others, bool [U]: see `lowest_score`."""
    return scores < lowest_score(scores, spreads)
