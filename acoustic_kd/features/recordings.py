"""The log-mel frames of a recording of any format and length, a block at a time.

Unlike the files of a corpus, which must all have one sample rate (`features/audio.py`), a recording
may have another sample rate and several channels: it is resampled, and its channels are averaged.
The frames do not depend on the blocks. Only the frames stay in memory, 16 kB a second.
"""

import math
import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import soundfile
import torch

from acoustic_kd.features.audio import RAW_RATE, AudioError, cause_of, header_bytes
from acoustic_kd.features.fbank import SHIFT_SECONDS, log_mel
from acoustic_kd.settings import WINDOW_SECONDS, FeatureConfig
from acoustic_kd.system.torchaudio_functions import Resample

BLOCK_SECONDS = 30
MAX_FILTER_NUMBERS = 1 << 25  # of a resampling; rates with no common divisor need more
# libsndfile estimates the length of these, so fewer samples do not mean a truncated file.
ESTIMATED_LENGTH = ("MP3", "MPEG", "OGG")


def recording_features(path: Path, config: FeatureConfig) -> np.ndarray:
    """The log-mel frames of a recording, float32 [T, D]; not normalised.

    Raises:
        AudioError: the file is missing, damaged, truncated, shorter than one window of 25 ms, or
            silent; its sample rate cannot be resampled.
    """
    blocks = list(_frames(read_recording(path, config.sample_rate), config))
    if not blocks:
        raise AudioError(f"{path}: shorter than one window of 25 ms")
    frames = np.concatenate(blocks)
    if (frames == frames[0]).all():
        raise AudioError(f"{path}: no sound, because all samples are equal")
    return frames


def read_recording(path: Path, sample_rate: int) -> Iterator[np.ndarray]:
    """The samples of a recording, block after block: float32 [samples] in [-1, 1], mono.

    Args:
        path: of any format that libsndfile reads, or `.raw` (see `features/audio.py`).
        sample_rate: hertz; a recording of another rate is resampled.

    Raises:
        AudioError: the file is missing, damaged or truncated, or its sample rate cannot be
            resampled.
    """
    path = Path(path)
    with _open(path) as file:
        blocks = _blocks(path, file)
        yield from (
            blocks
            if file.samplerate == sample_rate
            else _resample(path, blocks, file.samplerate, sample_rate)
        )


@contextmanager
def _open(path: Path) -> Iterator[soundfile.SoundFile]:
    if not path.is_file():
        raise AudioError(f"{path}: no such sound file")
    raw = {"samplerate": RAW_RATE, "channels": 1, "format": "RAW", "subtype": "PCM_16"}
    try:
        headerless = {**raw, "endian": "BIG"} if path.suffix == ".raw" else {}
        # As bytes, because a name need not be UTF-8.
        with soundfile.SoundFile(os.fsencode(path), **headerless) as file:
            size, expected = path.stat().st_size, header_bytes(path, file)
            if expected is not None and expected > size:
                raise AudioError(f"{path}: truncated, has {size} of {expected} bytes")
            yield file
    except soundfile.LibsndfileError as error:
        raise AudioError(f"{path}: damaged or not a sound file ({cause_of(error)})") from None
    except OSError as error:
        raise AudioError(f"{path}: cannot be read ({error.strerror})") from None


def _blocks(path: Path, file: soundfile.SoundFile) -> Iterator[np.ndarray]:
    """Blocks of samples at the file's own rate."""
    count = 0
    while len(block := file.read(BLOCK_SECONDS * file.samplerate, "float32", always_2d=True)):
        if not np.isfinite(block).all():
            raise AudioError(f"{path}: has samples that are not numbers")
        count += len(block)
        yield np.clip(block.mean(1), -1.0, 1.0)  # float files may overshoot
    if count < file.frames < np.iinfo(np.int64).max and file.format not in ESTIMATED_LENGTH:
        raise AudioError(f"{path}: truncated, has {count} of {file.frames} samples")


def _resample(
    path: Path, blocks: Iterable[np.ndarray], rate: int, wanted: int
) -> Iterator[np.ndarray]:
    """Blocks at another rate, equal to the whole recording at that rate.

    Each block is resampled with a margin on either side that covers the filter, and the result is
    cut at the margins.
    """
    common = math.gcd(rate, wanted)
    period, new = rate // common, wanted // common  # `period` samples become `new`
    if period * new > MAX_FILTER_NUMBERS:
        raise AudioError(
            f"{path}: {rate} Hz, and resampling it to {wanted} Hz takes too much memory: "
            f"sox {path} -r {wanted} new.wav"
        )
    resample = Resample(rate, wanted)
    margin = period * math.ceil(resample.width / period + 1)
    pending = np.zeros(margin, np.float32)  # the margin before, then samples
    total = written = 0
    for block in blocks:
        pending, total = np.concatenate([pending, block]), total + len(block)
        ready = (len(pending) - 2 * margin) // period * period
        if ready > 0:
            resampled = resample(torch.from_numpy(pending[: ready + 2 * margin])).numpy()
            yield resampled[margin // period * new :][: ready // period * new]
            written += ready // period * new
            pending = pending[ready:]
    remaining = math.ceil(total * new / period) - written
    if remaining > 0:
        ending = np.concatenate([pending, np.zeros(2 * margin, np.float32)])
        yield resample(torch.from_numpy(ending)).numpy()[margin // period * new :][:remaining]


def _frames(blocks: Iterable[np.ndarray], config: FeatureConfig) -> Iterator[np.ndarray]:
    """The frames of block after block of samples; a window may lie in two blocks."""
    size, shift = (int(config.sample_rate * s) for s in (WINDOW_SECONDS, SHIFT_SECONDS))
    pending = np.zeros(0, np.float32)
    for block in blocks:
        pending = np.concatenate([pending, block])
        if len(pending) >= size:
            frames = log_mel(pending, config)
            yield frames
            pending = pending[len(frames) * shift :]
