"""Digital silence is removed from recordings, and times are those of the whole recording."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from acoustic_kd.features.gaps import SHORTEST_GAP_SECONDS, Gaps

RATE = 1000
SHORTEST = int(SHORTEST_GAP_SECONDS * RATE)


def _join(parts: list[np.ndarray], size: int) -> tuple[np.ndarray, Gaps]:
    samples, gaps = np.concatenate(parts).astype(np.float32), Gaps()
    blocks = [samples[i : i + size] for i in range(0, len(samples), size)]
    return np.concatenate([np.zeros(0, np.float32), *gaps.join(blocks, RATE)]), gaps


def _speech(length: int, first: int = 1) -> np.ndarray:
    return first + np.arange(length)  # no two neighbours are alike


@given(
    st.lists(st.tuples(st.integers(1, 90), st.integers(0, 200)), min_size=1, max_size=5),
    st.sampled_from([1, 7, 64, 10_000]),
    st.sampled_from([0.0, 0.03]),
)
def test_the_sound_is_what_it_is_without_the_gaps(parts, size, value):
    whole, expected, spans, first = [], [], [], 1
    for speech, silence in parts:
        whole += [_speech(speech, first), np.full(silence, value)]
        expected.append(_speech(speech, first))
        start = sum(map(len, whole[:-2]))
        spans.append((first - 1, start, start + speech))
        if silence < SHORTEST:
            expected.append(whole[-1])
        first += speech
    joined, gaps = _join(whole, size)
    np.testing.assert_array_equal(joined, np.concatenate(expected).astype(np.float32))
    for number, start, stop in spans:
        place = int(np.flatnonzero(joined == number + 1)[0])
        assert gaps.time(place / RATE) == pytest.approx(start / RATE)
        assert gaps.time((place + stop - start) / RATE, end=True) == pytest.approx(stop / RATE)


@pytest.mark.parametrize("size", [10, 1000])
def test_nothing_is_left_of_a_recording_of_one_value(size):
    joined, gaps = _join([np.full(500, 0.5)], size)
    assert not len(joined)
    assert gaps.time(0.0) == 0.5
