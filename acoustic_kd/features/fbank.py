"""Log-mel filterbanks of a waveform, at one or several vocal tract lengths.

The paper's front end (section 4): 40 log-mel filterbank coefficients over 25 ms windows, one
vector every 10 ms. Frames are not spliced here: `model.Splicer` does it on the device.
"""

from collections.abc import Iterator, Sequence
from functools import lru_cache

import numpy as np
import torch
from torch import Tensor

from acoustic_kd.settings import WINDOW_SECONDS, FeatureConfig
from acoustic_kd.system.torchaudio_functions import get_mel_banks

SHIFT_SECONDS = 0.010
PREEMPHASIS = 0.97
MIN_ENERGY = torch.finfo(torch.float32).eps  # of a filter, before the logarithm
CACHED_FRAMES = 512  # processed together, so that they stay in the cache of a core


def log_mel(waveform: np.ndarray, config: FeatureConfig, warp: float = 1.0) -> np.ndarray:
    """Log-mel filterbanks [T, D] of a waveform at one warp: see `log_mels`."""
    return log_mels(waveform, config, (warp,))[0]


def log_mels(
    waveform: np.ndarray, config: FeatureConfig, warps: Sequence[float], tempo: float = 1.0
) -> list[np.ndarray]:
    """Log-mel filterbanks of a waveform at each warp, as Kaldi computes them, without dither.

    The values are those of `torchaudio.compliance.kaldi.fbank`, which constructs its filters in
    each call and reads memory twice as often. A warp moves only the filters, so all warps share
    one spectrum. `tools/bench/features.py` compares the two.

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
    samples = torch.from_numpy(np.asarray(waveform, np.float32)) * 32768
    filters = [_filters(config, warp) for warp in warps]
    blocks: list[list[Tensor]] = [[] for _ in warps]
    for frames in _windows(samples, size, shift):
        power = _power(frames, config.transform_size)
        for log_energies, banks in zip(blocks, filters, strict=True):
            log_energies.append((power @ banks).clamp_(min=MIN_ENERGY).log_())
    return [torch.cat(log_energies).numpy() for log_energies in blocks]


def _windows(samples: Tensor, size: int, shift: float) -> Iterator[Tensor]:
    """Windows [≤ CACHED_FRAMES, size] that begin `shift` samples apart, to the nearest sample."""
    if shift == int(shift):
        yield from samples.unfold(0, size, int(shift)).split(CACHED_FRAMES)
        return
    numbers = torch.arange(1 + int((len(samples) - size) / shift), dtype=torch.float64)
    every_window = samples.unfold(0, size, 1)
    for starts in (numbers * shift).round().long().split(CACHED_FRAMES):
        yield every_window[starts]


def _power(frames: Tensor, transform_size: int) -> Tensor:
    """The power spectrum of frames [T, samples], without the Nyquist frequency: [T, N/2].

    Each frame has its mean removed, is preemphasised, and multiplied by Kaldi's window.
    """
    size = frames.shape[1]
    frames = frames - frames.mean(1, keepdim=True)
    frames[:, 1:] -= PREEMPHASIS * frames[:, :-1]  # the right side is a copy
    frames[:, 0] -= PREEMPHASIS * frames[:, 0]
    window = torch.hann_window(size, periodic=False) ** 0.85
    spectrum = torch.fft.rfft(frames * window, n=transform_size)[:, : transform_size // 2]
    power: Tensor = spectrum.real.square() + spectrum.imag.square()
    return power


@lru_cache
def _filters(config: FeatureConfig, warp: float) -> Tensor:
    """Kaldi's triangular filters at a warp: [N/2, D]."""
    size, band = config.transform_size, (config.low_hz, config.high_hz)
    filters: Tensor = get_mel_banks(
        config.mel_bins, size, config.sample_rate, *band, *config.warped_hz, warp
    )[0]
    return filters.T.contiguous()
