"""Log-mel filterbanks against Kaldi's definition in plain NumPy, and their normalisation."""

from pathlib import Path

import numpy as np
import pytest
from features import torchaudio_fbank
from hypothesis import given, settings
from hypothesis import strategies as st

from acoustic_kd.corpora.utterances import Utterance
from acoustic_kd.features.audio import read_audio
from acoustic_kd.features.fbank import CACHED_FRAMES, log_mel, log_mels
from acoustic_kd.features.normalise import (
    SILENCE_FLOOR,
    UNKNOWN_LEVEL,
    gather_moments,
    group_of,
    loudest_levels,
)
from acoustic_kd.settings import FeatureConfig

CONFIG = FeatureConfig()


def noise(samples, seed=0):
    return np.random.default_rng(seed).normal(0, 0.1, samples).astype(np.float32)


def mel(hertz):
    return 1127 * np.log(1 + hertz / 700)


def kaldi_log_mel(waveform, rate, bins, low, high):
    """Kaldi's fbank: each frame without its mean, preemphasised, under a povey window."""
    length, shift, size = rate // 40, rate // 100, 2 ** int(np.ceil(np.log2(rate // 40)))
    samples = waveform.astype(np.float64) * 32768
    count = 1 + (len(samples) - length) // shift
    frames = np.stack([samples[t * shift : t * shift + length] for t in range(count)])
    frames -= frames.mean(1, keepdims=True)
    before = np.concatenate([frames[:, :1], frames[:, :-1]], axis=1)
    frames = frames - 0.97 * before
    hann = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(length) / (length - 1))
    power = np.abs(np.fft.rfft(frames * hann**0.85, size)) ** 2
    edges = np.linspace(mel(low), mel(high), bins + 2)
    frequency = mel(np.arange(size // 2) * rate / size)
    filters = np.zeros((bins, size // 2 + 1))  # the Nyquist frequency is left out, as in Kaldi
    for number in range(bins):
        left, centre, right = edges[number : number + 3]
        rise, fall = (frequency - left) / (centre - left), (right - frequency) / (right - centre)
        filters[number, : size // 2] = np.maximum(0, np.minimum(rise, fall))
    return np.log(np.maximum(power @ filters.T, np.finfo(np.float32).eps))


@pytest.mark.parametrize(
    ("samples", "fbank"),
    [
        *((n, (16000, 40, 20.0, 7800.0)) for n in (400, 559, 560, 719, 720, 16000)),
        (4000, (8000, 23, 100, 3400)),
    ],
)
def test_it_is_kaldis_filterbank(samples, fbank):
    waveform = noise(samples) + 0.05  # the offset must not matter
    rate, bins, low, high = fbank
    config = FeatureConfig(sample_rate=rate, mel_bins=bins, low_hz=low, high_hz=high)
    frames, expected = log_mel(waveform, config), kaldi_log_mel(waveform, *fbank)
    assert frames.dtype == np.float32 and frames.shape == expected.shape
    np.testing.assert_allclose(frames, expected, rtol=1e-4, atol=2e-4)


@pytest.mark.parametrize("samples", [0, 1, 399])
def test_less_than_a_window_has_no_frames(samples):
    assert log_mel(noise(samples), CONFIG).shape == (0, 40)


def test_silence_is_finite():
    assert np.isfinite(log_mel(np.zeros(16000, np.float32), CONFIG)).all()


def test_the_same_samples_give_the_same_frames_wherever_they_lie():
    long = noise(16000)
    np.testing.assert_array_equal(log_mel(long[1600:], CONFIG), log_mel(long, CONFIG)[10:])


def assert_same_amplitudes(frames, expected, waveform):
    """Up to rounding: torchaudio's filters are float32, and so are samples and spectra of both."""
    amplitudes, expected = (np.exp(f.astype(np.float64) / 2) for f in (frames, expected))
    rounding = 1e-7 * 32768 * np.abs(waveform).max() * np.sqrt(CONFIG.sample_rate / 40)
    assert frames.shape == expected.shape
    assert (np.abs(amplitudes - expected) <= 2e-4 * expected + rounding).all()


WARPS = (0.5, 0.9, 1.0, 1.08, 2.0)
LONG = 160 * (2 * CACHED_FRAMES + 1) + 400  # samples of two blocks and two frames


@settings(max_examples=25)
@given(
    st.integers(400, 6000) | st.just(LONG), st.floats(-6, 0), st.floats(-1, 1), st.integers(0, 9)
)
def test_random_audio_has_torchaudios_values_at_every_warp(samples, loudness, offset, seed):
    """From the loud to the digitally silent."""
    waveform = np.clip(10**loudness * noise(samples, seed) + offset, -1, 1).astype(np.float32)
    actual = log_mels(waveform, CONFIG, WARPS)
    for warp, frames in zip(WARPS, actual, strict=True):
        assert_same_amplitudes(frames, torchaudio_fbank(waveform, warp), waveform)
        np.testing.assert_array_equal(frames, log_mel(waveform, CONFIG, warp))


def test_real_speech_has_torchaudios_values_at_every_warp(shared_data):
    paths = sorted((shared_data / "an4" / "wav").rglob("*.flac"))[::200]
    paths += sorted((shared_data / "LibriSpeech").rglob("*.flac"))[::200]
    assert len(paths) > 5
    for path in map(Path, paths):
        waveform = read_audio(Utterance("u", "s", str(path), None), CONFIG.sample_rate)
        for warp, actual in zip(WARPS, log_mels(waveform, CONFIG, WARPS), strict=True):
            assert_same_amplitudes(actual, torchaudio_fbank(waveform, warp), waveform)


@pytest.mark.parametrize("rate", [8000, 11025, 22050, 44100])
def test_other_rates_have_torchaudios_frames(rate, monkeypatch):
    config = FeatureConfig(sample_rate=rate)
    monkeypatch.setattr("features.CONFIG", config)
    waveform = noise(rate // 2)
    expected = torchaudio_fbank(waveform)
    assert_same_amplitudes(log_mel(waveform, config), expected, waveform)


def test_moments_give_each_group_mean_zero_and_variance_one():
    rng, groups = np.random.default_rng(0), {"low": (12, 3), "high": (100, 9)}
    parts = [
        (group, rng.normal(*groups[group], (n, 5)).astype(np.float32), UNKNOWN_LEVEL)
        for n in (3, 100, 41)
        for group in groups
    ]
    moments = gather_moments(parts)
    for group in groups:
        own = np.concatenate(
            [moments[name].normalise(p, level) for name, p, level in parts if name == group]
        )
        assert own.dtype == np.float32
        np.testing.assert_allclose(own.mean(0), 0, atol=1e-5)
        np.testing.assert_allclose(own.var(0), 1, atol=1e-4)


def test_a_constant_feature_becomes_zero_not_infinite():
    frames = np.full((10, 2), 7.5, np.float32)
    moments = gather_moments([("a", frames, 7.5)])["a"]
    np.testing.assert_array_equal(moments.normalise(frames, 7.5), 0)


@pytest.mark.parametrize("silence", [0.0, 0.03, "noise", "own file of noise"])
@pytest.mark.parametrize("seconds", [0.05, 0.25, 3.0])
@pytest.mark.parametrize("gain", [1.0, 0.001])
def test_silence_changes_nothing_in_the_speech(silence, seconds, gain):
    rate, rng = 16000, np.random.default_rng(0)
    speech = noise(rate) * np.repeat(rng.uniform(0.01, 1, 20), rate // 20).astype(np.float32)
    pause = np.full(int(seconds * rate), silence if isinstance(silence, float) else 0, np.float32)
    if isinstance(silence, str):
        pause += rng.integers(-1, 2, len(pause)) / 32768
    parts = [[speech, pause]] if silence != "own file of noise" else [[speech], [pause]]
    alone = log_mel(speech * gain, FeatureConfig())
    frames = [log_mel(np.concatenate(part) * gain, FeatureConfig()) for part in parts]
    expected, found = (
        gather_moments(("", f, loudest) for f in group)[""].normalise(group[0], loudest)
        for group, loudest in (
            (group, loudest_levels(("", f) for f in group)[""]) for group in ([alone], frames)
        )
    )
    np.testing.assert_allclose(found[: len(alone)], expected, atol=0.2)
    assert found[len(alone) + 3 :].min(initial=0) >= SILENCE_FLOOR


def test_normalisation_is_over_speakers_utterances_or_all():
    pairs = [("u1", "anna"), ("u2", "anna"), ("u3", "ben")]
    for method, count in (("global", 1), ("speaker", 2), ("utterance", 3)):
        assert len({group_of(method, *pair) for pair in pairs}) == count
