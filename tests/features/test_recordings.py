"""Recordings of any kind: blocks give what the whole gives, and what is unreadable is named."""

import os

import numpy as np
import pytest
import soundfile
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torchaudio.transforms import Resample

from acoustic_kd.features import recordings as recordings
from acoustic_kd.features.audio import AudioError
from acoustic_kd.features.fbank import log_mel
from acoustic_kd.features.recordings import (
    Framer,
    highest_hz,
    read_recording,
    recording_features,
)
from acoustic_kd.settings import FeatureConfig

CONFIG = FeatureConfig()


def noise(samples, seed=0):
    return (0.2 * np.random.default_rng(seed).standard_normal(samples)).astype(np.float32)


def write(path, samples=None, rate=16000, subtype=None):
    soundfile.write(path, noise(16000) if samples is None else samples, rate, subtype)
    return path


@pytest.mark.parametrize("rate", [8000, 11025, 16000, 22050, 44100, 48000])
@pytest.mark.parametrize("seconds", [0.01, 0.99, 2.5])
def test_blocks_are_resampled_like_the_whole(tmp_path, monkeypatch, rate, seconds):
    monkeypatch.setattr(recordings, "BLOCK_SECONDS", 1)
    samples = noise(int(rate * seconds) + 3)
    blocks = list(read_recording(write(tmp_path / "a.wav", samples, rate, "FLOAT"), 16000))
    resample = Resample(rate, 16000, dtype=torch.float64)  # its float32 filters are off by 1e-5
    expected = resample(torch.from_numpy(np.clip(samples, -1, 1)).double())
    np.testing.assert_allclose(np.concatenate(blocks), expected.numpy(), atol=2e-6)


@pytest.mark.parametrize("suffix", ["wav", "flac", "ogg", "mp3", "aiff"])
def test_every_format_and_any_number_of_channels(tmp_path, suffix):
    seconds = np.arange(32000) / 16000
    tone = (0.4 * np.sin(2 * np.pi * 440 * seconds)).astype(np.float32)
    path = write(tmp_path / f"a.{suffix}", np.stack([1.5 * tone, 0.5 * tone], axis=1))
    actual = np.concatenate(list(read_recording(path, 16000)))
    if suffix in ("ogg", "mp3"):
        middle = slice(4000, 28000)  # a codec fades in
        assert np.corrcoef(actual[middle], tone[middle])[0, 1] > 0.99
    else:
        np.testing.assert_allclose(actual, tone, atol=1e-3)


def test_a_name_need_not_be_utf_8(tmp_path):
    path = write(tmp_path / "a.wav").rename(tmp_path / os.fsdecode(b"caf\xe9.wav"))
    assert len(recording_features(path, CONFIG)[0]) == 98


def test_headerless_files_are_those_of_the_corpora(tmp_path):
    samples = (noise(1000) * 32768).astype(">i2")
    (tmp_path / "a.raw").write_bytes(samples.tobytes())
    (actual,) = read_recording(tmp_path / "a.raw", 16000)
    np.testing.assert_allclose(actual, samples.astype(np.float32) / 32768, atol=1e-7)


@settings(max_examples=20)
@given(st.lists(st.integers(0, 1500), min_size=1, max_size=8))
def test_frames_of_blocks_are_those_of_the_whole(sizes):
    samples = noise(sum(sizes))
    blocks = np.split(samples, np.cumsum(sizes)[:-1])
    actual = [*map(Framer(CONFIG).push, blocks)]
    expected = log_mel(samples, CONFIG)
    assert sum(map(len, actual)) == len(expected)
    if actual:
        np.testing.assert_allclose(np.concatenate(actual), expected, atol=1e-3)


def truncate(path):
    path.write_bytes(write(path).read_bytes()[:-8000])


def writer(*arguments, **options):
    return lambda path: write(path, *arguments, **options)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda path: None, "no such sound file"),
        (truncate, "truncated"),
        (writer(np.array([0.1, np.nan] * 9000), subtype="FLOAT"), "not numbers"),
        (writer(rate=44101), "44101 Hz, and resampling it to 16000 Hz takes too much mem"),
        (writer(rate=999), "999 Hz; the sample rate must be a whole number from 1000 to"),
        (writer(np.zeros(0)), "shorter than one window"),
        (writer(noise(399)), "shorter than one window"),
        (writer(np.zeros(9000)), "no sound, because all samples are equal"),
        (writer(np.sign(noise(9000)) / 32768), "no sound, because all samples are within ±1"),
    ],
)
def test_refusals(tmp_path, make, message):
    """Those of `open_sound` in full: `test_audio.py`, `test_containers.py`."""
    path = tmp_path / "a.wav"
    make(path)
    with pytest.raises(AudioError, match=message) as caught:
        recording_features(path, CONFIG)
    assert str(caught.value).startswith(f"{path}: ") and "\n" not in str(caught.value)


def inverted(samples, difference):
    return np.stack([samples, difference * noise(len(samples), 1) - samples], axis=1)


@pytest.mark.parametrize(
    ("samples", "used"),
    [
        (inverted(noise(16000), 0.0), 0),
        (inverted(noise(16000), 1e-3) * [1, 0.9], 0),
        (inverted(noise(16000), 1e-3) * [0.8, 1], 1),
        (np.add(inverted(noise(16000) / 4, 0.0), [0.5, 0.4]), 0),  # with a DC offset
        (np.stack([noise(16000) / 4 + 0.5, np.full(16000, -0.5)], axis=1), None),
        (np.stack([noise(16000), 0 * noise(16000)], axis=1), None),
        (np.stack([noise(16000), noise(16000, 1)], axis=1), None),
        (np.stack([noise(16000)] * 3, axis=1), None),
    ],
)
def test_channels_that_cancel_each_other(tmp_path, samples, used):
    path, warnings = write(tmp_path / "a.wav", samples, subtype="FLOAT"), []
    actual = np.concatenate(list(read_recording(path, 16000, warnings.append)))
    expected = samples.mean(1) if used is None else samples[:, used]
    np.testing.assert_allclose(actual, np.clip(expected, -1, 1), atol=1e-6)
    assert [f"only channel {(used or 0) + 1} is used" in line for line in warnings] == (
        [] if used is None else [True]
    )


@pytest.mark.parametrize(
    ("rate", "stored", "highest"),
    [(16000, 16000, 7800), (8000, 8000, 4000), (8000, 16000, 4000), (11025, 11025, 5512)],
)
def test_up_to_which_frequency_there_is_sound(tmp_path, rate, stored, highest):
    spectrum = np.fft.rfft(noise(stored))
    spectrum[int(len(spectrum) * rate / stored) :] = 0  # as a good resampler leaves it
    path = write(tmp_path / "a.wav", np.fft.irfft(spectrum, stored), stored)
    frames, _ = recording_features(path, CONFIG)
    assert highest_hz(path, frames, CONFIG) == pytest.approx(highest, rel=0.1)
