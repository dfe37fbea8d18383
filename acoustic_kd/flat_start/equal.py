"""The first guess: a transcript's phones in equal parts over what is loud of an utterance."""

import numpy as np

from acoustic_kd.alignment.segmentation import STATES

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
