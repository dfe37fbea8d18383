"""Copies of utterances: their ids, their frames and their targets."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from acoustic_kd.features.copies import (
    Copy,
    copies_of,
    copy_mark,
    original_id,
    targets_of_copy,
    through_mp3,
    train_copies,
    transfer_copies,
)
from acoustic_kd.features.fbank import log_mel, log_mels
from acoustic_kd.settings import MP3_KBITS, FeatureConfig

CONFIG = FeatureConfig()
FACTORS = (0.9, 1.0, 1.1, 1.111)
TEMPOS = st.sampled_from([0.5, 0.9, 1.0, 1.1, 2.0]) | st.floats(0.5, 2)


def noise(samples, seed=0):
    return (0.1 * np.random.default_rng(seed).standard_normal(samples)).astype(np.float32)


def test_copies_are_named_after_their_utterance():
    kinds = [Copy(w, t, mp3) for w in FACTORS for t in FACTORS for mp3 in (False, True)]
    names = [copy.id_of("a-b_1") for copy in kinds]
    assert len(set(names)) == 32 and "a-b_1" in names
    assert {original_id(name) for name in names} == {"a-b_1"}
    assert Copy().id_of("a") == "a" and Copy(1.08).id_of("a") == "a#warp1.08"
    assert Copy(tempo=0.9, mp3=True).id_of("a") == "a#warp1tempo0.9mp3"
    assert copy_mark("a#warp1mp3") == "#warp1mp3" and copy_mark("a") == ""


def frame_at(waveform, start, config, warp=1.0):
    """The frame of the 25 ms from a sample on."""
    return log_mel(waveform[start : start + int(0.025 * config.sample_rate)], config, warp)[0]


@settings(max_examples=25)
@given(st.integers(400, 6000), TEMPOS, st.sampled_from([0.9, 1.0]), st.integers(0, 9))
def test_frames_of_a_copy_lie_a_tempo_apart(samples, tempo, warp, seed):
    """As many as fit; all of them are within half a sample of their place."""
    waveform = noise(samples, seed)
    (frames,) = log_mels(waveform, CONFIG, (warp,), tempo)
    step = 160 * tempo
    assert (len(frames) - 1) * step <= samples - 400 + 1e-6 < len(frames) * step + 1e-3
    for number, frame in enumerate(frames):
        expected = frame_at(waveform, round(number * step), CONFIG, warp)
        np.testing.assert_allclose(frame, expected, rtol=0, atol=1e-4)


@pytest.mark.parametrize(
    ("rate", "minutes", "tempo"),
    [(16000, 1, 0.9), (16000, 1, 1.1), (16000, 1, 1.037), (44100, 7, 1.0), (44100, 7, 1.037)],
)
def test_frames_do_not_drift(rate, minutes, tempo):
    """Not by a sample, also where a 32-bit number cannot tell two samples apart."""
    config = FeatureConfig(sample_rate=rate, high_hz=7800)
    waveform = np.resize(noise(99_991), 60 * minutes * rate)
    (frames,) = log_mels(waveform, config, (1.0,), tempo)
    last = len(frames) - 1
    assert last == int((len(waveform) - int(0.025 * rate)) / (rate // 100 * tempo))
    for number in (last, last - 1, last // 2):
        expected = frame_at(waveform, round(number * (rate // 100) * tempo), config)
        np.testing.assert_allclose(frames[number], expected, rtol=0, atol=1e-4)


WARPED = FeatureConfig(vtlp_warps=(1.0, 0.9), tempos=(1.0, 1.25), transfer_vtlp_warps=(1.1,))
CODED = FeatureConfig(vtlp_warps=(1.0, 0.9), mp3_kbits=24)


@pytest.mark.parametrize(
    ("config", "train", "transfer"),
    [
        (CONFIG, [], []),
        (WARPED, [(0.9,), (1, 1.25), (0.9, 1.25)], [(1.1,), (1.1, 1.25)]),
        (CODED, [(0.9,), (1, 1, True), (0.9, 1, True)], []),
    ],
)
def test_there_is_a_copy_at_each_warp_and_tempo_and_through_the_coder(config, train, transfer):
    assert train_copies(config) == [Copy(*values) for values in train]
    assert transfer_copies(config) == [Copy(*values) for values in transfer]
    assert config.has_copies == bool(train or transfer)


def test_frames_of_copies_are_those_of_their_warp_tempo_and_sound():
    waveform = noise(4000)
    copies = [Copy(0.9, 1.25), Copy(1.1), Copy(1.0, 0.9, True), Copy(0.9, 1.0, True)]
    made = copies_of(waveform, CODED, copies)
    coded = through_mp3(waveform, 16000, 24)
    for copy, frames in zip(copies, made, strict=True):
        samples = coded if copy.mp3 else waveform
        expected = log_mels(samples, CODED, (copy.warp,), copy.tempo)[0]
        np.testing.assert_array_equal(frames, expected)


@pytest.mark.parametrize("rate", MP3_KBITS)
@pytest.mark.parametrize("place", [0, 0.25, 1])
def test_a_coder_neither_delays_nor_lengthens_speech(rate, place):
    """A click stays where it is, and nothing is added."""
    places = np.arange(2 * rate)
    waveform = (0.5 * np.sinc((places - rate) / 30) * np.hanning(2 * rate)).astype(np.float32)
    low, high = MP3_KBITS[rate]
    coded = through_mp3(waveform, rate, low + place * (high - low))
    assert len(coded) == len(waveform) and coded.dtype == np.float32
    near = slice(rate - 500, rate + 500)
    lags = [np.dot(waveform[near], np.roll(coded, -lag)[near]) for lag in range(-1200, 1201)]
    assert abs(int(np.argmax(lags)) - 1200) <= 1
    assert not np.array_equal(coded, waveform)


@given(st.integers(400, 2_000_000), TEMPOS)
def test_targets_of_a_copy_are_those_of_the_nearest_frame(samples, tempo):
    """Frame n of the copy begins at frame n · tempo; beyond the last frame there is the last."""
    count, length = 1 + (samples - 400) // 160, 1 + int((samples - 400) / (160 * tempo))
    targets = targets_of_copy(Copy(0.9, tempo).id_of("u"), np.arange(count), length)
    assert len(targets) == length
    place = np.minimum(np.arange(length) * tempo, count - 1)
    assert np.abs(targets - place).max() <= 0.5 + 1e-5 * count


def test_a_copy_at_the_same_tempo_has_the_targets_of_its_original():
    targets = np.arange(5)
    assert targets_of_copy(Copy(0.9).id_of("u"), targets, 5) is targets
    assert targets_of_copy("u", targets, 5) is targets
    assert targets_of_copy(Copy(1.0, 0.9).id_of("u"), None, 5) is None
