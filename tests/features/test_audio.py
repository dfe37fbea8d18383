"""Reading audio: every format, and every way in which a file can be broken."""

import struct

import numpy as np
import pytest
import soundfile

from acoustic_kd.corpora.utterances import Utterance
from acoustic_kd.features.audio import AudioError, AudioFormatError, read_audio
from acoustic_kd.system.errors import UserError

FORMATS = {".wav": "WAV", ".flac": "FLAC", ".sph": "NIST"}
TONE = np.round(8000 * np.sin(np.arange(16000) / 20)).astype(np.int16)


def write(path, samples=TONE, rate=16000):
    if path.suffix == ".raw":
        samples.astype(">i2").tofile(path)
    else:
        soundfile.write(path, samples, rate, format=FORMATS[path.suffix], subtype="PCM_16")
    return path


def read(path, start=None, end=None, rate=16000):
    return read_audio(Utterance("u", "s", str(path), None, start, end), rate)


def refused(path, error, *words, **options):
    """Reading fails with one line that names the file and holds `words`."""
    with pytest.raises(error) as caught:
        read(path, **options)
    assert isinstance(caught.value, UserError)
    message = str(caught.value)
    assert message.startswith(f"{path}: ") and "\n" not in message
    assert not [word for word in words if word not in message], message


@pytest.fixture(params=[".wav", ".flac", ".sph", ".raw"])
def path(request, tmp_path):
    return tmp_path / f"a{request.param}"


def test_samples(path):
    samples = read(write(path))
    assert samples.dtype == np.float32
    np.testing.assert_array_equal(samples, TONE.astype(np.float32) / 32768)


def test_segment(path):
    samples = read(write(path), start=0.25, end=0.5)
    np.testing.assert_array_equal(samples, TONE[4000:8000].astype(np.float32) / 32768)
    assert len(read(path, start=0.75)) == 4000
    assert len(read(path, start=0.5, end=1.4)) == 8000  # within Kaldi's slack


def test_segment_times_are_truncated_to_a_sample(path):
    """Like Kaldi's: 4000.64 is 4000."""
    samples = read(write(path), start=0.25004, end=0.50004)
    np.testing.assert_array_equal(samples, TONE[4000:8000].astype(np.float32) / 32768)


def cut(size):
    """Cut a good file; a headerless file shows it by half a sample at its end only."""

    def spoil(path):
        data = write(path).read_bytes()
        stop = int(len(data) * size) if size < 1 else size
        path.write_bytes(data[: stop + 1 - stop % 2])

    return spoil


def one_byte_short(path):
    path.write_bytes(write(path).read_bytes()[:-1])


def damaged_inside(path):
    data = bytearray(write(path).read_bytes())
    data[len(data) // 2 : len(data) // 2 + 50] = bytes(50)
    path.write_bytes(data)


def flac_without_length(path):
    data = bytearray(write(path).read_bytes())
    data[21] &= 0xF0  # STREAMINFO: the 36 bits of the number of samples
    data[22:26] = bytes(4)
    path.write_bytes(data)


def not_finite(path):
    soundfile.write(path, np.array([0.5, np.nan], np.float32), 16000, subtype="FLOAT")


EVERY, HEADERS = (".wav", ".flac", ".sph", ".raw"), (".wav", ".flac", ".sph")
REFUSALS = [  # (suffixes, how the file is made, options of reading, error, words of the message)
    (EVERY, write, {"start": 0.5, "end": 1.6}, AudioError, ["1.00 s long", "'u'", "0.5 to 1.6"]),
    (EVERY, write, {"start": 1.5}, AudioError, ["1.00 s long", "fix the segment"]),
    (EVERY, lambda path: None, {}, AudioError, ["no such sound file"]),
    (EVERY, lambda path: path.touch(), {}, AudioError, []),
    (EVERY, lambda path: write(path, TONE[:0]), {}, AudioError, []),
    *((EVERY, cut(share), {}, AudioError, []) for share in (0.02, 0.5, 0.9)),
    (EVERY, one_byte_short, {}, AudioError, []),
    ([".wav"], cut(20000), {}, AudioError, ["truncated, has 20001 of 32044 bytes"]),
    ([".flac"], damaged_inside, {}, AudioError, ["damaged"]),
    (
        HEADERS, lambda path: path.write_text("<html>404 not found</html>\n" * 100), {},
        AudioError, ["damaged or not a sound file"],
    ),
    (HEADERS, lambda path: path.mkdir(), {}, AudioError, ["no such sound file"]),
    ([".flac"], flac_without_length, {}, AudioError, ["has no length", "sox"]),
    ([".wav"], not_finite, {}, AudioError, ["not numbers"]),
    (
        HEADERS, lambda path: write(path, rate=8000), {},
        AudioFormatError, ["8000 Hz", "16000 Hz is needed", "sox {path} -r 16000"],
    ),
    ([".raw"], write, {"rate": 8000}, AudioFormatError, ["16000 Hz, but 8000 Hz"]),
    (
        HEADERS, lambda path: write(path, np.stack([TONE, TONE], axis=1)), {},
        AudioFormatError, ["2 channels", "sox {path} -c 1"],
    ),
]  # fmt: skip


@pytest.mark.parametrize(
    ("suffix", "make", "options", "error", "words"),
    [(suffix, *row[1:]) for row in REFUSALS for suffix in row[0]],
)
def test_refusals(tmp_path, suffix, make, options, error, words):
    """One line that names the file."""
    path = tmp_path / f"a{suffix}"
    make(path)
    refused(path, error, *(word.format(path=path) for word in words), **options)


def test_format_error_is_not_an_audio_error():
    """Callers skip files with an AudioError; a wrong sample rate must not be skipped."""
    assert not issubclass(AudioFormatError, AudioError)


@pytest.mark.parametrize("size", [0xFFFFFFFF, 0x7FFFF000])
def test_wav_written_through_a_pipe(tmp_path, size):
    path = write(tmp_path / "a.wav")
    data = bytearray(path.read_bytes())
    assert data[36:40] == b"data"
    data[40:44] = struct.pack("<I", size)
    path.write_bytes(data)
    assert len(read(path)) == len(TONE)


def test_wav_with_other_chunks_before_the_data(tmp_path):
    data = write(tmp_path / "a.wav").read_bytes()
    extra = b"LIST" + struct.pack("<I", 5) + b"abcde\0"  # odd sizes are padded
    path = tmp_path / "b.wav"
    path.write_bytes(data[:36] + extra + data[36:])
    assert len(read(path)) == len(TONE)
    path.write_bytes(path.read_bytes()[:-2])
    refused(path, AudioError, "truncated")


def test_float_wav(tmp_path):
    path = tmp_path / "a.wav"
    soundfile.write(path, np.array([0.5, 1.5, -2.0], np.float32), 16000, subtype="FLOAT")
    assert read(path).tolist() == [0.5, 1.0, -1.0]


def test_real_speech(shared_data):
    path = next((shared_data / "LibriSpeech/train-clean-5").rglob("*.flac"))
    samples = read(path)
    assert len(samples) == soundfile.info(path).frames
    assert 0.01 < np.abs(samples).max() <= 1
