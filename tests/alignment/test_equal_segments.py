"""The first guess at an utterance's states."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from acoustic_kd.alignment.flat_start import equal_states, loud_frames


def sound(*parts):
    """Log-mels [T, 40] of (frames, loudness) parts, with a little noise."""
    level = np.repeat([loudness for _, loudness in parts], [frames for frames, _ in parts])
    noise = np.random.default_rng(0).normal(0, 0.1, (len(level), 40))
    return (level[:, None] + noise).astype(np.float32)


def test_what_is_loud_is_found_within_the_window():
    loud = loud_frames(sound((100, 0.0), (80, 2.0), (60, 0.0), (100, 2.0), (200, 0.0)))
    edges = np.flatnonzero(np.diff(loud.astype(int)))
    np.testing.assert_allclose(edges, [99, 179, 239, 339], atol=3)


def test_phones_share_what_is_loud_and_pauses_are_silence():
    states = equal_states(sound((100, 0.0), (120, 2.0), (100, 0.0)), np.array([4, 7]))
    assert (states[:95] < 3).all() and (states[225:] < 3).all()
    middle = states[105:215]
    assert (np.diff(middle) >= 0).all() and set(middle) == {12, 13, 14, 21, 22, 23}
    assert np.ptp(np.unique(states[states >= 3], return_counts=True)[1]) <= 1
    assert np.ptp(np.unique(states[states < 3], return_counts=True)[1]) <= 2


@settings(max_examples=60)
@given(
    st.lists(st.integers(1, 9), min_size=1, max_size=12),
    st.integers(0, 200),
    st.integers(0, 1000),
)
def test_every_state_has_a_frame_in_order_however_short_and_strange(phones, more, seed):
    frames = 3 * len(phones) + more
    features = np.random.default_rng(seed).normal(0, 1, (frames, 40)).astype(np.float32)
    states = equal_states(features, np.array(phones))
    assert states.shape == (frames,) and states.dtype == np.int32
    spoken = states[states >= 3]
    place = np.flatnonzero(np.diff(spoken, prepend=-1))
    found, wanted = spoken[place], np.array([3 * p + s for p in phones for s in range(3)])
    np.testing.assert_array_equal(found, wanted)


def test_a_sound_as_loud_throughout_is_all_speech_but_its_ends():
    states = equal_states(np.ones((50, 40), np.float32), np.array([1, 2]))
    assert (states[3:-3] >= 3).all() and (states[[0, 1, 2, -3, -2, -1]] < 3).all()
