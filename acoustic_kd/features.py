"""Waveform → log-mel filterbanks, and their normalisation.

The paper's front end (section 4): 40 log-mel filterbank coefficients over 25 ms windows, one
vector every 10 ms. Nothing is spliced here: windows are gathered on the device, in `model`.
"""

from collections.abc import Callable, Hashable, Iterable

import numpy as np
import torch
from torchaudio.compliance.kaldi import fbank

from acoustic_kd.config import FeatureConfig
from acoustic_kd.errors import UserError

WINDOW_SECONDS = 0.025
SHIFT_SECONDS = 0.010


COPY = "#warp"  # between an utterance's id and the warp of a copy


def copy_id(utterance: str, warp: float) -> str:
    """The id of an utterance's copy at another vocal tract length; at 1 it is the utterance."""
    return utterance if warp == 1 else f"{utterance}{COPY}{warp:g}"


def original_id(copy: str) -> str:
    """The utterance that a copy was made of; its alignment is the copy's too."""
    return copy.partition(COPY)[0]


def log_mel(waveform: np.ndarray, config: FeatureConfig, warp: float = 1.0) -> np.ndarray:
    """Log-mel filterbanks of a waveform, as Kaldi computes them, without dither.

    Args:
        waveform: float32 [samples] in [-1, 1] at `config.sample_rate`.
        warp: factor on the frequency axis, as if the vocal tract were that much longer or shorter
            (Jaitly and Hinton, *Vocal tract length perturbation*, 2013).

    Returns:
        float32 [T, D]; frame `t` covers the 25 ms from 10·t ms on. A waveform shorter than one
        window gives T = 0.
    """
    if len(waveform) < round(WINDOW_SECONDS * config.sample_rate):
        return np.zeros((0, config.mel_bins), np.float32)
    # Kaldi's features are those of 16-bit integers; its floor under the logarithm assumes it.
    samples = torch.from_numpy(np.asarray(waveform, np.float32))[None] * 32768
    return fbank(
        samples,
        num_mel_bins=config.mel_bins,
        sample_frequency=config.sample_rate,
        frame_length=1000 * WINDOW_SECONDS,
        frame_shift=1000 * SHIFT_SECONDS,
        low_freq=config.low_hz,
        high_freq=config.high_hz,
        dither=0.0,
        vtln_warp=warp,
    ).numpy()


class Moments:
    """Mean and standard deviation of frames, gathered in float64 in one pass."""

    def __init__(self, dimension: int) -> None:
        self.count = 0
        self.sum = np.zeros(dimension)
        self.squares = np.zeros(dimension)

    def add(self, frames: np.ndarray) -> None:
        """Take in `frames` [T, D]."""
        frames = frames.astype(np.float64)
        self.count += len(frames)
        self.sum += frames.sum(0)
        self.squares += np.square(frames).sum(0)

    def normalise(self, frames: np.ndarray) -> np.ndarray:
        """`frames` [T, D] to zero mean and unit variance by these moments; float32."""
        mean = self.sum / self.count
        variance = np.maximum(self.squares / self.count - np.square(mean), 1e-6)
        return ((frames - mean) / np.sqrt(variance)).astype(np.float32)


def grouping(method: str) -> Callable[[str, str], str]:
    """(utterance id, speaker) → the name of the group whose moments normalise the utterance."""
    groups: dict[str, Callable[[str, str], str]] = {
        "global": lambda utterance, speaker: "",
        "speaker": lambda utterance, speaker: speaker,
        "utterance": lambda utterance, speaker: utterance,
    }
    if method not in groups:
        raise UserError(f"features.normalise: '{method}' is none of {', '.join(groups)}")
    return groups[method]


def gather_moments(items: Iterable[tuple[Hashable, np.ndarray]]) -> dict[Hashable, Moments]:
    """Moments of each group from (group, frames [T, D]) pairs."""
    moments: dict[Hashable, Moments] = {}
    for group, frames in items:
        moments.setdefault(group, Moments(frames.shape[1])).add(frames)
    return moments
