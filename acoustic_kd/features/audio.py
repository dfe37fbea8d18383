"""The samples of a corpus' sound files; `recordings` reads other recordings.

Two kinds of failure: an `AudioError` concerns one file (missing, damaged, empty), so a caller may
exclude that utterance and count it; an `AudioFormatError` (sample rate, channels) probably concerns
every file of the corpus, so it stops the run.
"""

import struct
from pathlib import Path

import numpy as np
import soundfile

from acoustic_kd.corpora.utterances import Utterance
from acoustic_kd.system.errors import UserError

RAW_RATE = 16000  # headerless files are AN4's: big-endian 16-bit samples at 16 kHz
SEGMENT_SLACK_SECONDS = 0.5  # from the end of a recording to that of a segment, as in Kaldi
# Sizes that a program writes when it cannot seek back to the header of its output.
_UNKNOWN_SIZES = range(0x7FFF0000, 0x100000000)
_FIX = "fetch it again or take it out of the corpus"


class AudioError(UserError):
    """One sound file cannot be used; others may be usable."""


class AudioFormatError(UserError):
    """A sound file of the wrong kind: a wrong sample rate, or more than one channel."""


def read_audio(utterance: Utterance, sample_rate: int) -> np.ndarray:
    """Read an utterance's samples.

    Returns:
        float32 [samples] in [-1, 1], at `sample_rate` hertz.

    Raises:
        AudioError: the file is missing, damaged, truncated or empty, or the segment is outside.
        AudioFormatError: another sample rate, or more than one channel.
    """
    path = Path(utterance.audio)
    if not path.is_file():
        raise AudioError(f"{path}: no such sound file; {_FIX}")
    read = _read_raw if path.suffix == ".raw" else _read_with_header
    samples = read(path, utterance, sample_rate)
    if not len(samples):
        raise AudioError(f"{path}: has no samples; {_FIX}")
    if not np.isfinite(samples).all():
        raise AudioError(f"{path}: has samples that are not numbers; {_FIX}")
    clipped: np.ndarray = np.clip(samples, -1.0, 1.0)  # float files may overshoot
    return clipped


def _read_raw(path: Path, utterance: Utterance, sample_rate: int) -> np.ndarray:
    if sample_rate != RAW_RATE:
        raise _wrong_rate(path, RAW_RATE, sample_rate)
    data = path.read_bytes()
    if len(data) % 2:
        raise AudioError(f"{path}: truncated, half a sample at its end; {_FIX}")
    samples = np.frombuffer(data, dtype=">i2").astype(np.float32) / 32768
    first, stop = _bounds(path, utterance, len(samples), sample_rate)
    return samples[first:stop]


def _read_with_header(path: Path, utterance: Utterance, sample_rate: int) -> np.ndarray:
    try:
        with soundfile.SoundFile(path) as file:
            if file.samplerate != sample_rate:
                raise _wrong_rate(path, file.samplerate, sample_rate)
            if file.channels != 1:
                raise AudioFormatError(
                    f"{path}: {file.channels} channels, but one is needed: "
                    f"sox {path} -c 1 mono{path.suffix}"
                )
            _check_length(path, file)
            first, stop = _bounds(path, utterance, file.frames, sample_rate)
            file.seek(first)
            samples: np.ndarray = file.read(stop - first, dtype="float32")
    except soundfile.LibsndfileError as error:
        raise AudioError(
            f"{path}: damaged or not a sound file ({cause_of(error)}); {_FIX}"
        ) from None
    if len(samples) < stop - first:
        raise _truncated(path, stop - first, len(samples))
    return samples


def cause_of(error: soundfile.LibsndfileError) -> str:
    """The message of libsndfile, or its error code if it has no message."""
    return error.error_string.removeprefix("Error : ").strip(" .\n") or f"code {error.code}"


def _bounds(path: Path, utterance: Utterance, frames: int, sample_rate: int) -> tuple[int, int]:
    """First sample of the utterance's segment and the one after its last.

    Times are truncated to a sample, not rounded, like Kaldi's (featbin/extract-segments.cc): one
    sample more can be one frame more.
    """
    first = int((utterance.start or 0.0) * sample_rate)
    stop = frames if utterance.end is None else int(utterance.end * sample_rate)
    if first >= frames > 0 or stop > frames + round(SEGMENT_SLACK_SECONDS * sample_rate):
        raise AudioError(
            f"{path}: {frames / sample_rate:.2f} s long, but segment '{utterance.id}' is from "
            f"{utterance.start} to {utterance.end} s; fix the segment or {_FIX}"
        )
    return first, min(stop, frames)


def _check_length(path: Path, file: soundfile.SoundFile) -> None:
    """Compare the length in the header with the size of the file.

    libsndfile notices a FLAC file that ends early; in WAV and SPHERE files it silently adapts
    the length to the size.
    """
    if file.frames == np.iinfo(np.int64).max:
        raise AudioError(f"{path}: its header has no length; rewrite it: sox {path} new.flac")
    size = header_bytes(path, file)
    if size is not None and size > path.stat().st_size:
        raise _truncated(path, size, path.stat().st_size, "bytes")


def header_bytes(path: Path, file: soundfile.SoundFile) -> int | None:
    """Size of a WAV or SPHERE file by its header; None for other files, or if it has no size."""
    read = {"WAV": _wav_bytes, "WAVEX": _wav_bytes, "NIST": _sphere_bytes}.get(file.format)
    return read(path) if read else None


def _wav_bytes(path: Path) -> int | None:
    """Size of a RIFF file by its data chunk; None if the chunk has no size."""
    with path.open("rb") as file:
        if file.read(4) != b"RIFF":  # RF64 and RIFX are rare: libsndfile checks them
            return None
        file.seek(12)
        while len(header := file.read(8)) == 8:
            name, size = struct.unpack("<4sI", header)
            if name == b"data":
                return None if size in _UNKNOWN_SIZES else file.tell() + size
            file.seek(size + size % 2, 1)
    return None


def _sphere_bytes(path: Path) -> int | None:
    """Size of a NIST SPHERE file by its header; None if the header has no size."""
    with path.open("rb") as file:
        header = file.read(1024).decode("latin-1").split("\n")
    fields = {row[0]: row[2] for line in header if len(row := line.split()) == 3}
    try:
        samples, width = int(fields["sample_count"]), int(fields["sample_n_bytes"])
        return int(header[1]) + samples * width * int(fields.get("channel_count", "1"))
    except (KeyError, ValueError, IndexError):
        return None


def _wrong_rate(path: Path, rate: int, wanted: int) -> AudioFormatError:
    return AudioFormatError(
        f"{path}: {rate} Hz, but {wanted} Hz is needed: sox {path} -r {wanted} new{path.suffix}"
    )


def _truncated(path: Path, expected: int, actual: int, unit: str = "samples") -> AudioError:
    return AudioError(f"{path}: truncated, has {actual} of {expected} {unit}; {_FIX}")
