"""The samples of sound files: the one reader of a corpus' files and of other recordings.

A file is opened only if all of its sound can be read: `features/containers.py` looks at its
lengths first. Every failure is an `AudioError` of one file, so a caller may leave that file out
and go on; its `kind` serves to sum up many of them.
"""

import io
import os
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache
from mmap import ACCESS_READ, mmap
from pathlib import Path

import numpy as np
import soundfile

from acoustic_kd.corpora.utterances import Utterance
from acoustic_kd.features.containers import has_header, look
from acoustic_kd.features.streams import BadLengthError, Contents
from acoustic_kd.features.unreadable import FETCH, converted, describe
from acoustic_kd.system.errors import UserError

RAW_RATE = 16000  # headerless files are AN4's: big-endian 16-bit samples at 16 kHz
SEGMENT_SLACK_SECONDS = 0.5  # from the end of a recording to that of a segment, as in Kaldi
MIN_RATE, MAX_RATE = 1000, 1_000_000  # hertz; others are a wrong header
MAX_OVERSHOOT = 4.0  # largest sample of a float file that counts as too loud, not as another scale
SILENT_DIFFERENCE = 2 / 32768  # of samples that are dither: ±1 in 16 bits
DESCRIBED_BYTES = 1024
SKIPPED_FRAMES = 1 << 20  # read at once where a codec cannot seek
WITHOUT_LENGTH = ("IRCAM", "PAF", "PVF", "XI")
CANNOT_SEEK = ("DWVW_12", "DWVW_16", "DWVW_24")  # libsndfile says that it can


class AudioError(UserError):
    """One sound file cannot be used; others may be usable.

    Attributes:
        kind: in a few words, the same for all files with the same fault.
    """

    def __init__(self, message: str, kind: str = "unreadable") -> None:
        super().__init__(message)
        self.kind = kind


class AudioFormatError(AudioError):
    """A good sound file of another sample rate or number of channels than the corpus has."""


class _SoundFile(soundfile.SoundFile):  # type: ignore[misc]
    """A sound file that is read from its beginning to its end.

    After each read the base class seeks to where it is already, which some codecs cannot do.
    """

    def seekable(self) -> bool:
        return False


class Sound:
    """An open sound file.

    Attributes:
        rate: hertz.
        channels: how many.
        frames: samples of each channel.
    """

    def __init__(self, path: Path, file: _SoundFile, contents: "_Contents") -> None:
        self.path, self._file, self._contents = path, file, contents
        self.rate: int = file.samplerate
        self.channels: int = file.channels
        self.frames: int = file.frames

    def blocks(self, first: int, stop: int, size: int) -> Iterator[np.ndarray]:
        """The samples from `first` to before `stop`, at most `size` at once.

        Yields:
            float32 [samples, channels]; those of float files may be beyond [-1, 1].
        """
        scale = _Scale()
        for block in self._read(first, stop, size):
            if not np.isfinite(block).all():
                raise AudioError(
                    f"{self.path}: has samples that are infinite or not numbers; {FETCH}",
                    "not numbers",
                )
            scale.add(block)
            yield block
        scale.check(self.path)

    def _read(self, first: int, stop: int, size: int) -> Iterator[np.ndarray]:
        try:
            if first and self._can_seek():
                self._file.seek(first)
            elif first:
                for _ in self._read(0, first, SKIPPED_FRAMES):
                    pass
            while first < stop:
                block = self._file.read(min(size, stop - first), "float32", always_2d=True)
                if not len(block) or self._is_cut(first + len(block)):
                    raise AudioError(
                        f"{self.path}: truncated or damaged, has {first} of {self.frames} "
                        f"samples; {FETCH}",
                        "truncated",
                    )
                first += len(block)
                yield block
        except soundfile.LibsndfileError as error:
            raise AudioError(
                f"{self.path}: damaged ({_cause(error)}); {FETCH}", "damaged"
            ) from None

    def _is_cut(self, read: int) -> bool:
        """Whether a file of which only the end shows it was cut short."""
        if self._file.format == "SDS":
            return self._contents.ended_early
        ended = read == self.frames and self._file.format in WITHOUT_LENGTH
        return ended and self._contents.left > 0  # half a sample

    def _can_seek(self) -> bool:
        seekable: bool = soundfile.SoundFile.seekable(self._file)
        return seekable and self._file.subtype not in CANNOT_SEEK


class Samples(Sound):
    """Samples in memory, which are read like a sound file.

    Args:
        samples: floats in [-1, 1] or 16-bit integers, [T] or [T, channels].
        rate: hertz.
    """

    def __init__(self, samples: np.ndarray, rate: int) -> None:
        samples = np.asarray(samples)
        known = samples.dtype == np.int16 or samples.dtype.kind == "f"
        if samples.ndim not in (1, 2) or (samples.ndim == 2 and not 0 < samples.shape[1] < 65):
            known = False
        if not known:
            raise AudioError(
                f"samples: {samples.dtype} of shape {list(samples.shape)}; give floats or int16, "
                "[samples] or [samples, channels]"
            )
        if not np.isfinite(samples).all():
            raise AudioError("samples: some are infinite or not numbers", "not numbers")
        check_rate("samples", rate)
        scale = 32768 if samples.dtype == np.int16 else 1
        samples = samples if samples.ndim == 2 else samples[:, None]
        self._samples = samples.astype(np.float32) / np.float32(scale)
        self.path, self.rate = Path("samples"), int(rate)
        self.frames, self.channels = self._samples.shape

    def __str__(self) -> str:
        return str(self.path)

    def mono(self) -> np.ndarray:
        """The mean of the channels, float32 [T], clipped to [-1, 1]."""
        if np.abs(self._samples).max(initial=0) > MAX_OVERSHOOT:
            raise AudioError("samples: floats beyond 1; divide them by the largest integer")
        clipped: np.ndarray = np.clip(self._samples.mean(1), -1.0, 1.0)
        return clipped

    def _read(self, first: int, stop: int, size: int) -> Iterator[np.ndarray]:
        for start in range(first, stop, size):
            yield self._samples[start : min(start + size, stop)]


def check_rate(name: object, rate: float) -> None:
    """Raise an AudioError for a sample rate, in hertz, that no speech has.

    Args:
        name: of the recording, for the message.
    """
    if not MIN_RATE <= rate <= MAX_RATE or rate != int(rate):
        raise AudioError(
            f"{name}: {rate} Hz; the sample rate must be a whole number from {MIN_RATE} to "
            f"{MAX_RATE:,}; correct it, or the header"
        )


class _Scale:
    """Finds float samples at the scale of integers."""

    def __init__(self) -> None:
        self._peak = self._energy = self._beyond = 0.0

    def add(self, block: np.ndarray) -> None:
        loudness = np.abs(block)
        peak = float(loudness.max(initial=0))
        self._peak = max(self._peak, peak)
        self._energy += float(np.vdot(block, block))
        if peak > 1:
            beyond = loudness[loudness > 1]
            self._beyond += float(np.vdot(beyond, beyond))

    def check(self, path: Path) -> None:
        if self._peak <= MAX_OVERSHOOT or self._beyond < self._energy / 2:
            return
        bits = next((n for n in (8, 16, 24, 32) if self._peak <= 2.0 ** (n - 1)), 0)
        divide = f"divide them by {2 ** (bits - 1)}" if bits else "scale them to that"
        gain = f"volume={2.0 ** (1 - bits) if bits else 1 / self._peak:.12g}"
        raise AudioError(
            f"{path}: its largest sample is {self._peak:.6g}, but samples of a float file are "
            f"between -1 and 1; {divide}: {converted(path, '-af', gain)}",
            "another scale",
        )


@contextmanager
def open_sound(path: Path | Samples) -> Iterator[Sound]:
    """Open a sound file of any format that libsndfile reads, or a headerless `.raw` file.

    Raises:
        AudioError: the file is missing, damaged or truncated, or its length cannot be told.
    """
    if isinstance(path, Samples):
        yield path
        return
    if not path.is_file():
        missing = "is no file that can be read" if path.exists() else "no such sound file"
        raise AudioError(f"{path}: {missing}; {FETCH}", "missing")
    try:
        with path.open("rb") as file:
            status = os.fstat(file.fileno())
            contents, raw = _look(path, status.st_size, status.st_mtime_ns)
            opened = _Contents(file, contents)
            try:
                sound = _SoundFile(opened, **raw)
            except soundfile.LibsndfileError as error:
                file.seek(0)
                what = describe(path, file.read(DESCRIBED_BYTES), _cause(error))
                raise AudioError(f"{path}: {what}") from None
            with sound:
                if sound.frames == np.iinfo(np.int64).max:
                    raise _unknown(
                        path, BadLengthError("its header has no length", "unknown length")
                    )
                yield Sound(path, sound, opened)
    except OSError as error:
        raise AudioError(f"{path}: cannot be read ({error.strerror}); {FETCH}") from None


@lru_cache(maxsize=16)  # many segments may lie in one recording
def _look(path: Path, size: int, changed: int) -> tuple[Contents, dict[str, object]]:
    """What libsndfile shall read of a file, and what it cannot find out itself."""
    if not size:
        raise AudioError(f"{path}: is an empty file; {FETCH}", "empty")
    with path.open("rb") as file, mmap(file.fileno(), 0, access=ACCESS_READ) as data:
        if path.suffix.lower() == ".raw" and not has_header(data):
            if size % 2:
                raise AudioError(
                    f"{path}: truncated, half a sample at its end; {FETCH}", "truncated"
                )
            raw = {"samplerate": RAW_RATE, "channels": 1, "format": "RAW", "subtype": "PCM_16"}
            return Contents(b"", 0, size), {**raw, "endian": "BIG"}
        try:
            return look(data), {}
        except BadLengthError as error:
            raise _unknown(path, error) from None
        except (struct.error, IndexError):  # a field is behind the end of the file
            raise _unknown(path, BadLengthError("its header is not whole", "truncated")) from None


def _unknown(path: Path, error: BadLengthError) -> AudioError:
    todo = {"fetch": FETCH, "separate": "separate the files that were joined"}.get(
        error.todo, f"rewrite it: {converted(path, before=error.todo.split())}"
    )
    return AudioError(f"{path}: {error}; {todo}", error.kind)


class _Contents(io.RawIOBase):
    """A file as `Contents` describes it, for libsndfile.

    Attributes:
        ended_early: more was asked for than there is.
    """

    def __init__(self, file: io.BufferedReader, contents: Contents) -> None:
        self._file, self._contents, self._place = file, contents, 0
        self._size = len(contents.head) + contents.stop - contents.body
        self.ended_early = False

    @property
    def left(self) -> int:
        """Bytes that were not read."""
        return self._size - self._place

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._place

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        base = {os.SEEK_SET: 0, os.SEEK_CUR: self._place, os.SEEK_END: self._size}[whence]
        self._place = max(0, base + offset)
        return self._place

    def readinto(self, buffer: "bytearray | memoryview") -> int:  # type: ignore[override]
        target, done, head = memoryview(buffer), 0, self._contents.head
        if self._place < len(head):
            part = head[self._place : self._place + len(target)]
            target[: len(part)] = part
            done = len(part)
        left = max(0, min(len(target), self._size - self._place) - done)
        if left:
            self._file.seek(self._contents.body + self._place + done - len(head))
            done += self._file.readinto(target[done : done + left])
        self.ended_early |= done < len(target)
        self._place += done
        return done


def _cause(error: soundfile.LibsndfileError) -> str:
    """The message of libsndfile, or its error code if it has no message."""
    text = " ".join(error.error_string.removeprefix("Error : ").split()).strip(" .")
    return text or f"code {error.code}"


def read_audio(utterance: Utterance, sample_rate: int) -> np.ndarray:
    """Read an utterance's samples.

    Returns:
        float32 [samples] in [-1, 1], at `sample_rate` hertz.

    Raises:
        AudioError: the file cannot be read, the segment is outside or has no sound.
        AudioFormatError: another sample rate, or more than one channel.
    """
    path = Path(utterance.audio)
    with open_sound(path) as sound:
        if sound.rate != sample_rate:
            raise AudioFormatError(
                f"{path}: {sound.rate} Hz, but {sample_rate} Hz is needed: "
                f"{converted(path, '-ar', str(sample_rate))}",
                f"{sound.rate} Hz",
            )
        if sound.channels != 1:
            raise AudioFormatError(
                f"{path}: {sound.channels} channels, but one is needed: "
                f"{converted(path, '-ac', '1')}",
                f"{sound.channels} channels",
            )
        first, stop = _bounds(utterance, sound.frames, sample_rate)
        if stop <= first:
            whole = utterance.start is None and utterance.end is None
            what = "has no samples" if whole else f"segment '{utterance.id}' has no samples"
            raise AudioError(f"{path}: {what}; {FETCH}", "no samples")
        (samples,) = sound.blocks(first, stop, stop - first)
    check_sound(path, float(samples.max()) - float(samples.min()))
    clipped: np.ndarray = np.clip(samples[:, 0], -1.0, 1.0)  # float files may overshoot
    return clipped


def check_sound(path: Path, difference: float) -> None:
    """Refuse a file whose samples differ by `difference`, if that is no more than dither."""
    if 0 <= difference <= SILENT_DIFFERENCE:
        what = "equal" if difference == 0 else "within ±1 of 16 bits"
        raise AudioError(f"{path}: no sound, because all samples are {what}", "no sound")


def _bounds(utterance: Utterance, frames: int, sample_rate: int) -> tuple[int, int]:
    """First sample of the utterance's segment and the one after its last.

    Times are truncated to a sample, not rounded, like Kaldi's (featbin/extract-segments.cc): one
    sample more can be one frame more.
    """
    first = int((utterance.start or 0.0) * sample_rate)
    stop = frames if utterance.end is None else int(utterance.end * sample_rate)
    if (
        first < 0
        or first >= frames > 0
        or stop > frames + round(SEGMENT_SLACK_SECONDS * sample_rate)
    ):
        raise AudioError(
            f"{utterance.audio}: {frames / sample_rate:.2f} s long, but segment '{utterance.id}' "
            f"is from {utterance.start} to {utterance.end} s; fix the segment or {FETCH}",
            "segment outside",
        )
    return first, min(stop, frames)
