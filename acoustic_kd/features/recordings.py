"""The log-mel frames of a recording of any format and length, a block at a time.

Unlike the files of a corpus, which must all have one sample rate (`features/audio.py`), a recording
may have another sample rate and several channels: it is resampled, and its channels are averaged.
The frames do not depend on the blocks. Only the frames stay in memory, 16 kB a second.
"""

import math
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

from acoustic_kd.features import fbank
from acoustic_kd.features.audio import (
    AudioError,
    Samples,
    Sound,
    check_rate,
    check_sound,
    open_sound,
)
from acoustic_kd.features.fbank import SHIFT_SECONDS, log_mel
from acoustic_kd.features.gaps import Gaps
from acoustic_kd.features.unreadable import converted
from acoustic_kd.settings import WINDOW_SECONDS, FeatureConfig

BLOCK_SECONDS = 30
# Of the low-pass filter of a resampling: its zero crossings on either side, and its cut-off as a
# share of the lower Nyquist frequency. They are torchaudio's.
ZERO_CROSSINGS, CUT_OFF = 6, 0.99
MAX_FILTER_NUMBERS = 1 << 25  # of a resampling; rates with no common divisor need more
# Share of the loudest channel's energy that the sum of the channels has at least. The sum of
# independent channels has more energy than one of them, that of inverted ones has next to none.
MIN_SUM_ENERGY = 0.1

Warn = Callable[[str], None]


def recording_features(
    path: Path | Samples, config: FeatureConfig, warn: Warn = lambda text: None
) -> tuple[np.ndarray, Gaps]:
    """The log-mel frames of a recording without its gaps, float32 [T, D], not normalised; the gaps.

    Args:
        warn: is called with a line about a recording that is read in an unusual way.

    Raises:
        AudioError: the file cannot be read or resampled, is shorter than one window of 25 ms, or
            silent.
    """
    gaps = Gaps()
    samples = read_recording(path, config.sample_rate, warn, gaps)
    none = np.zeros((0, config.mel_bins), np.float32)
    frames = np.concatenate([none, *map(Framer(config).push, samples)])
    if not len(frames):
        raise AudioError(f"{path}: shorter than one window of 25 ms")
    return frames, gaps


def highest_hz(path: Path | Samples, frames: np.ndarray, config: FeatureConfig) -> float:
    """The frequency above which a recording and its frames [T, D] hold no sound."""
    with open_sound(path) as sound:
        return min(sound.rate / 2, fbank.highest_hz(frames, config))


def read_recording(
    path: Path | Samples, sample_rate: int, warn: Warn = lambda text: None, gaps: Gaps | None = None
) -> Iterator[np.ndarray]:
    """The samples of a recording, block after block: float32 [samples] in [-1, 1], mono.

    Args:
        path: of any format that libsndfile reads, or `.raw` (see `features/audio.py`); or samples
            in memory.
        sample_rate: hertz; a recording of another rate is resampled.
        warn: as of `recording_features`.
        gaps: removes digital silence, if it is given.

    Raises:
        AudioError: the file cannot be read or resampled, or has no sound.
    """
    path = path if isinstance(path, Samples) else Path(path)
    channel = _channel_to_read(path)
    if channel is not None:
        warn(f"{path}: its channels cancel each other; only channel {channel + 1} is used")
    with open_sound(path) as sound:
        check_rate(path, sound.rate)
        blocks = _mono(sound, channel)
        if gaps is not None:
            blocks = gaps.join(blocks, sound.rate)
        if sound.rate == sample_rate:
            yield from blocks
            return
        resampler = Resampler(sound.path, sound.rate, sample_rate)
        yield from map(resampler.push, blocks)
        yield resampler.end()


def _channel_to_read(path: Path | Samples) -> int | None:
    """The loudest channel, if the channels cancel each other; None: take their mean."""
    with open_sound(path) as sound:
        if sound.channels == 1:
            return None
        sums, squares = np.zeros((2, sound.channels + 1))  # of each channel, then of their sum
        for block in _blocks(sound):
            samples = np.column_stack([block, block.sum(1)]).astype(np.float64)
            sums += samples.sum(0)
            squares += np.square(samples).sum(0)
    *energies, of_sum = squares - np.square(sums) / max(sound.frames, 1)  # a DC offset is no sound
    loudest = int(np.argmax(energies))
    return loudest if of_sum < MIN_SUM_ENERGY * energies[loudest] else None


def _mono(sound: Sound, channel: int | None) -> Iterator[np.ndarray]:
    """Blocks of one channel, or of the mean of all of them, at the file's own rate."""
    low, high = math.inf, -math.inf
    for block in _blocks(sound):
        samples = block.mean(1) if channel is None else block[:, channel]
        low, high = min(low, float(samples.min())), max(high, float(samples.max()))
        yield np.clip(samples, -1.0, 1.0)  # float files may overshoot
    check_sound(sound.path, high - low)


def _blocks(sound: Sound) -> Iterator[np.ndarray]:
    return sound.blocks(0, sound.frames, BLOCK_SECONDS * sound.rate)


class Resampler:
    """Converts samples to another rate, block after block, as if they came in one.

    Args:
        path: of the recording, for messages.
    """

    def __init__(self, path: Path, rate: int, wanted: int) -> None:
        common = math.gcd(rate, wanted)
        self._period, self._new = rate // common, wanted // common  # `period` samples become `new`
        if self._period * self._new > MAX_FILTER_NUMBERS:
            raise AudioError(
                f"{path}: {rate} Hz, and resampling it to {wanted} Hz takes too much memory: "
                f"{converted(path, '-ar', str(wanted))}"
            )
        self._filters, before = _filters(self._period, self._new)
        self._pending = np.zeros(before, np.float32)
        self._read = self._written = 0

    def push(self, block: np.ndarray) -> np.ndarray:
        """The samples at the other rate that are complete."""
        self._pending = np.concatenate([self._pending, block])
        self._read += len(block)
        if len(self._pending) < len(self._filters):
            return np.zeros(0, np.float32)
        resampled = _filtered(self._pending, self._filters, self._period)
        self._written += len(resampled)
        self._pending = self._pending[len(resampled) // self._new * self._period :]
        return resampled

    def end(self) -> np.ndarray:
        """The remaining samples."""
        remaining = math.ceil(self._read * self._new / self._period) - self._written
        zeros = np.zeros(len(self._filters) + self._period, np.float32)
        return self.push(zeros)[: max(0, remaining)]


def _filters(period: int, new: int) -> tuple[np.ndarray, int]:
    """The filters [samples, new] from a window of samples to `new` samples at the other rate: a
    sinc under a Hann window; and the number of samples of the window before the first new one.
    """
    cut_off = CUT_OFF * min(period, new)
    before = math.ceil(ZERO_CROSSINGS * period / cut_off)
    times = np.arange(-before, before + period)[:, None] / period - np.arange(new) / new
    crossings = np.clip(times * cut_off, -ZERO_CROSSINGS, ZERO_CROSSINGS)
    filters = np.sinc(crossings) * np.cos(np.pi / 2 * crossings / ZERO_CROSSINGS) ** 2
    return (filters * cut_off / period).astype(np.float32), before


def _filtered(samples: np.ndarray, filters: np.ndarray, period: int) -> np.ndarray:
    windows = sliding_window_view(samples, len(filters))[::period]
    # One product a window: those of a whole block round by its length.
    filtered: np.ndarray = np.matmul(windows[:, None], filters)
    return filtered.reshape(-1)


class Framer:
    """The log-mel frames [T, D] of samples, block after block; a window may lie in two blocks."""

    def __init__(self, config: FeatureConfig) -> None:
        self._config = config
        self._size = int(config.sample_rate * WINDOW_SECONDS)
        self._shift = int(config.sample_rate * SHIFT_SECONDS)
        self._pending = np.zeros(0, np.float32)

    def push(self, block: np.ndarray) -> np.ndarray:
        """The frames that are complete."""
        self._pending = np.concatenate([self._pending, block])
        frames = log_mel(self._pending, self._config)
        self._pending = self._pending[len(frames) * self._shift :]
        return frames
