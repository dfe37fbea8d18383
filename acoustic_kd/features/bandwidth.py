"""Up to which frequency there is sound in log-mel frames.

Speech that was sampled at 8 kHz holds nothing above 4 kHz, also if it is stored at 16 kHz. Models
that learnt from wider speech make more errors on it.
"""

import numpy as np

from acoustic_kd.features.fbank import filter_edges
from acoustic_kd.settings import FeatureConfig

EMPTY_BELOW = 9.0  # natural logarithm of the energy, below the loudest filter; about 40 dB
LOUD_SHARE = 0.98  # quantile over frames: the level of a filter in loud speech
MIN_EMPTY = 2  # filters; a single one may be empty because of a codec
MAX_FRAMES = 10_000  # that the quantile is taken over


def highest_hz(frames: np.ndarray, config: FeatureConfig) -> float:
    """The frequency above which frames hold no sound, or the end of the filters' band.

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
