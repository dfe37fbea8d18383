"""Log-mel filterbanks of a waveform, at one or several vocal tract lengths.

The paper's front end (section 4): 40 log-mel filterbank coefficients over 25 ms windows, one
vector every 10 ms. Frames are not spliced here: `training.windows.Splicer` does.
"""

from collections.abc import Iterator, Sequence
from functools import lru_cache

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

from acoustic_kd.settings import WINDOW_SECONDS, FeatureConfig

SHIFT_SECONDS = 0.010
PREEMPHASIS = 0.97
MIN_ENERGY = np.finfo(np.float32).eps  # of a filter, before the logarithm
CACHED_FRAMES = 512  # processed together, so that they stay in the cache of a core
EMPTY_BELOW = 9.0  # natural logarithm of the energy, below the loudest filter; about 40 dB
LOUD_SHARE = 0.98  # quantile over frames: the level of a filter in loud speech
MIN_EMPTY = 2  # filters; a single one may be empty because of a codec
MAX_FRAMES = 10_000  # that the quantile is taken over


def log_mel(waveform: np.ndarray, config: FeatureConfig, warp: float = 1.0) -> np.ndarray:
    """Log-mel filterbanks [T, D] of a waveform at one warp: see `log_mels`."""
    return log_mels(waveform, config, (warp,))[0]


def log_mels(
    waveform: np.ndarray, config: FeatureConfig, warps: Sequence[float], tempo: float = 1.0
) -> list[np.ndarray]:
    """Log-mel filterbanks of a waveform at each warp, as Kaldi computes them, without dither.

    The values are those of `torchaudio.compliance.kaldi.fbank` up to rounding. A warp moves only
    the filters, so all warps share one spectrum. `tools/bench/features.py` compares the two.

    Args:
        waveform: float32 [samples] in [-1, 1] at `config.sample_rate`.
        warps: factors on the frequency axis, as if the vocal tract were that much longer or
            shorter (Jaitly and Hinton, *Vocal tract length perturbation*, 2013).
        tempo: 1.1 gives the frames of speech that is 1.1 times as fast, at the same pitch.

    Returns:
        float32 [T, D] for each warp; frame `t` covers the 25 ms from 10·t·tempo ms on. A waveform
        shorter than one window gives T = 0.
    """
    size = int(config.sample_rate * WINDOW_SECONDS)
    shift = int(config.sample_rate * SHIFT_SECONDS) * tempo
    if len(waveform) < size:
        return [np.zeros((0, config.mel_bins), np.float32) for _ in warps]
    # Kaldi's samples are 16-bit integers, and its minimum energy assumes them.
    samples = np.asarray(waveform, np.float32) * np.float32(32768)
    filters = [_filters(config, warp) for warp in warps]
    blocks: list[list[np.ndarray]] = [[] for _ in warps]
    for frames in _windows(samples, size, shift):
        power = _power(frames, config.transform_size)
        for log_energies, banks in zip(blocks, filters, strict=True):
            # One product a frame: those of a whole block round by its number of frames.
            energies = np.matmul(power[:, None], banks)[:, 0]
            log_energies.append(np.log(np.maximum(energies, MIN_ENERGY)))
    return [np.concatenate(log_energies) for log_energies in blocks]


def _windows(samples: np.ndarray, size: int, shift: float) -> Iterator[np.ndarray]:
    """Windows [≤ CACHED_FRAMES, size] that begin `shift` samples apart, to the nearest sample."""
    numbers = np.arange(1 + int((len(samples) - size) / shift))
    every_window = sliding_window_view(samples, size)
    for first in range(0, len(numbers), CACHED_FRAMES):
        yield every_window[np.rint(numbers[first : first + CACHED_FRAMES] * shift).astype(int)]


def _power(frames: np.ndarray, transform_size: int) -> np.ndarray:
    """The power spectrum of frames [T, samples], without the Nyquist frequency: [T, N/2].

    Each frame has its mean removed, is preemphasised, and multiplied by Kaldi's window.
    """
    frames = frames - frames.mean(1, keepdims=True)
    emphasised = np.empty_like(frames)
    np.subtract(frames[:, 1:], PREEMPHASIS * frames[:, :-1], out=emphasised[:, 1:])
    np.multiply(frames[:, 0], 1 - PREEMPHASIS, out=emphasised[:, 0])
    emphasised *= _window(frames.shape[1])
    spectrum = np.fft.rfft(emphasised, transform_size)[:, : transform_size // 2]
    return np.square(spectrum.real) + np.square(spectrum.imag)


@lru_cache
def _window(size: int) -> np.ndarray:
    return (np.hanning(size) ** 0.85).astype(np.float32)


@lru_cache
def _filters(config: FeatureConfig, warp: float) -> np.ndarray:
    """Kaldi's triangular filters at a warp: float32 [N/2, D].

    A warp multiplies the frequencies between two cut-offs; below and above them the map is linear
    to the ends of the band, which stay where they are.
    """
    edges = filter_edges(config)
    low, high = config.warped_hz
    low, high = low * max(1.0, warp), high * min(1.0, warp)
    first, last = edges[0], edges[-1]
    edges = np.interp(edges, [first, low, high, last], [first, low / warp, high / warp, last])
    left, centre, right = (_mel(edges)[n:][: config.mel_bins] for n in range(3))
    bins = np.arange(config.transform_size // 2) * config.sample_rate / config.transform_size
    mel = _mel(bins)[:, None]
    rise, fall = (mel - left) / (centre - left), (right - mel) / (right - centre)
    filters: np.ndarray = np.maximum(0, np.minimum(rise, fall)).astype(np.float32)
    return filters


def filter_edges(config: FeatureConfig) -> np.ndarray:
    """The ends of the filters in hertz, [D + 2]: filter `n` is from edge `n` to edge `n + 2`."""
    low, high = _mel(np.array([config.low_hz, config.upper_hz])).tolist()
    hertz: np.ndarray = 700 * np.expm1(np.linspace(low, high, config.mel_bins + 2) / 1127)
    return hertz


def _mel(hertz: np.ndarray) -> np.ndarray:
    mel: np.ndarray = 1127 * np.log1p(hertz / 700)
    return mel


def highest_hz(frames: np.ndarray, config: FeatureConfig) -> float:
    """The frequency above which frames hold no sound, or the end of the filters' band.

    Speech that was sampled at 8 kHz holds nothing above 4 kHz, also if it is stored at 16 kHz.
    Models that learnt from wider speech make more errors on it.

    Args:
        frames: log-mel [T, D], not normalised.
    """
    edges = filter_edges(config)
    if not len(frames):
        return float(edges[-1])
    levels = np.quantile(frames[:: 1 + len(frames) // MAX_FRAMES], LOUD_SHARE, axis=0)
    sounding = np.flatnonzero(levels > levels.max() - EMPTY_BELOW)[-1] + 1
    if config.mel_bins - sounding < MIN_EMPTY:
        return float(edges[-1])
    return float(edges[sounding])
