"""A recording of any kind and length → log-mel frames, a block at a time.

Unlike the files of a corpus, which must all have one sample rate (`features/audio.py`), a recording
may have another sample rate and several channels: it is resampled, and its channels are averaged.
Blocks are cut and joined so that the frames are those of the whole: only they are held, 16 kB a
second.
"""

import math
import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import soundfile
import torch

from acoustic_kd.features.audio import RAW_RATE, AudioError, cause_of, promised_bytes
from acoustic_kd.features.fbank import SHIFT_SECONDS, log_mel
from acoustic_kd.settings import WINDOW_SECONDS, FeatureConfig
from acoustic_kd.system.torchaudio_functions import Resample

BLOCK_SECONDS = 30
LARGEST_FILTER = 1 << 25  # numbers in the filters of a resampling: rates with no common divisor
# libsndfile estimates the length of these, so that fewer samples do not mean a truncated file.
ESTIMATED = ("MP3", "MPEG", "OGG")


def recording_features(path: Path, config: FeatureConfig) -> np.ndarray:
    """The log-mel frames of a recording, float32 [T, D]; not normalised.

    Raises:
        AudioError: the file is missing, damaged, truncated, shorter than one window of 25 ms, or
            holds no sound; its sample rate cannot be resampled.
    """
    frames = list(_frames(read_recording(path, config.sample_rate), config))
    if not frames:
        raise AudioError(f"{path}: shorter than one window of 25 ms")
    found = np.concatenate(frames)
    if (found == found[0]).all():  # nothing but zeros, or one value
        raise AudioError(f"{path}: no sound in it, all samples are alike")
    return found


def read_recording(path: Path, sample_rate: int) -> Iterator[np.ndarray]:
    """The samples of a recording, block after block: float32 [samples] in [-1, 1], mono.

    Args:
        path: of any format that libsndfile reads; `.raw` has no header, as in `features/audio.py`.
        sample_rate: hertz; a recording of another rate is resampled.

    Raises:
        AudioError: as for `recording_features`.
    """
    path = Path(path)
    with _opened(path) as file:
        blocks = _blocks(path, file)
        yield from (
            blocks
            if file.samplerate == sample_rate
            else _resampled(path, blocks, file.samplerate, sample_rate)
        )


@contextmanager
def _opened(path: Path) -> Iterator[soundfile.SoundFile]:
    if not path.is_file():
        raise AudioError(f"{path}: no such sound file")
    raw = {"samplerate": RAW_RATE, "channels": 1, "format": "RAW", "subtype": "PCM_16"}
    try:
        headerless = {**raw, "endian": "BIG"} if path.suffix == ".raw" else {}
        # As bytes: a name need not be UTF-8.
        with soundfile.SoundFile(os.fsencode(path), **headerless) as file:
            size, promised = path.stat().st_size, promised_bytes(path, file)
            if promised is not None and promised > size:
                raise AudioError(f"{path}: truncated, {size} of {promised} bytes are there")
            yield file
    except soundfile.LibsndfileError as error:
        raise AudioError(f"{path}: damaged or not a sound file ({cause_of(error)})") from None
    except OSError as error:
        raise AudioError(f"{path}: cannot be read ({error.strerror})") from None


def _blocks(path: Path, file: soundfile.SoundFile) -> Iterator[np.ndarray]:
    """Blocks of samples at the file's own rate."""
    found = 0
    while len(block := file.read(BLOCK_SECONDS * file.samplerate, "float32", always_2d=True)):
        if not np.isfinite(block).all():
            raise AudioError(f"{path}: holds samples that are not numbers")
        found += len(block)
        yield np.clip(block.mean(1), -1.0, 1.0)  # float files may overshoot
    if found < file.frames < np.iinfo(np.int64).max and file.format not in ESTIMATED:
        raise AudioError(f"{path}: truncated, {found} of {file.frames} samples are there")


def _resampled(
    path: Path, blocks: Iterable[np.ndarray], rate: int, wanted: int
) -> Iterator[np.ndarray]:
    """Blocks at another rate, as if all had been resampled at once.

    Each is resampled with enough of its neighbours beside it for the filter, and what comes of
    those is left out.
    """
    common = math.gcd(rate, wanted)
    period, new = rate // common, wanted // common  # `period` samples become `new`
    if period * new > LARGEST_FILTER:
        raise AudioError(
            f"{path}: {rate} Hz, which cannot be resampled to {wanted} Hz in little memory: "
            f"sox {path} -r {wanted} new.wav"
        )
    resample = Resample(rate, wanted)
    margin = period * math.ceil(resample.width / period + 1)
    held = np.zeros(margin, np.float32)  # a margin that is done, then what is to come
    total = made = 0
    for block in blocks:
        held, total = np.concatenate([held, block]), total + len(block)
        ready = (len(held) - 2 * margin) // period * period
        if ready > 0:
            found = resample(torch.from_numpy(held[: ready + 2 * margin])).numpy()
            yield found[margin // period * new :][: ready // period * new]
            made += ready // period * new
            held = held[ready:]
    left = math.ceil(total * new / period) - made
    if left > 0:
        ending = np.concatenate([held, np.zeros(2 * margin, np.float32)])
        yield resample(torch.from_numpy(ending)).numpy()[margin // period * new :][:left]


def _frames(blocks: Iterable[np.ndarray], config: FeatureConfig) -> Iterator[np.ndarray]:
    """The frames of block after block; windows reach over from one block to the next."""
    size, shift = (int(config.sample_rate * s) for s in (WINDOW_SECONDS, SHIFT_SECONDS))
    held = np.zeros(0, np.float32)
    for block in blocks:
        held = np.concatenate([held, block])
        if len(held) >= size:
            found = log_mel(held, config)
            yield found
            held = held[len(found) * shift :]
