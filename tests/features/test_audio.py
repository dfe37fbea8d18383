"""Reading audio: every format, and every way in which a file can be broken."""

import os
import struct
from pathlib import Path

import numpy as np
import pytest
import soundfile

from acoustic_kd.corpora.utterances import Utterance
from acoustic_kd.features.audio import AudioError, AudioFormatError, read_audio
from acoustic_kd.system.errors import UserError

FORMATS = {".wav": "WAV", ".flac": "FLAC", ".sph": "NIST"}
HEADERS = tuple(FORMATS)
SUFFIXES = (*HEADERS, ".raw")
TONE = np.round(8000 * np.sin(np.arange(16000) / 20)).astype(np.int16)


def write(path, samples=TONE, rate=16000):
    if path.suffix == ".raw":
        samples.astype(">i2").tofile(path)
    else:
        soundfile.write(path, samples, rate, format=FORMATS[path.suffix], subtype="PCM_16")
    return path


def read(path, start=None, end=None, rate=16000):
    return read_audio(Utterance("u", "s", str(path), None, start, end), rate)


@pytest.mark.parametrize("suffix", SUFFIXES)
@pytest.mark.parametrize(
    ("start", "end", "samples"),
    [
        (None, None, TONE),
        (0.25, 0.5, TONE[4000:8000]),
        (0.25004, 0.50004, TONE[4000:8000]),  # 4000.64 is 4000, like Kaldi's
        (0.75, None, TONE[12000:]),
        (0.5, 1.4, TONE[8000:]),  # within Kaldi's slack
    ],
)
def test_samples_of_a_segment(tmp_path, suffix, start, end, samples):
    actual = read(write(tmp_path / f"a{suffix}"), start, end)
    assert actual.dtype == np.float32
    np.testing.assert_array_equal(actual, samples.astype(np.float32) / 32768)


def cut(size):
    """Cut a good file; a headerless file shows it by half a sample at its end only."""

    def spoil(path):
        data = write(path).read_bytes()
        stop = int(len(data) * size) if 0 < size < 1 else size
        path.write_bytes(data[: stop + 1 - stop % 2])

    return spoil


def damaged_inside(path):
    data = bytearray(write(path).read_bytes())
    data[len(data) // 2 : len(data) // 2 + 50] = bytes(50)
    path.write_bytes(data)


def not_finite(path):
    soundfile.write(path, np.array([0.5, np.nan], np.float32), 16000, subtype="FLOAT")


REFUSALS = [  # (suffixes, how the file is made, options of reading, error, words of the message)
    (SUFFIXES, write, {"start": 0.5, "end": 1.6}, AudioError, ["1.00 s long", "'u'", "0.5 to 1.6"]),
    (SUFFIXES, write, {"start": 1.5}, AudioError, ["1.00 s long", "fix the segment"]),
    (SUFFIXES, lambda path: None, {}, AudioError, ["no such sound file"]),
    (SUFFIXES, Path.touch, {}, AudioError, []),
    (SUFFIXES, lambda path: write(path, TONE[:0]), {}, AudioError, []),
    *((SUFFIXES, cut(size), {}, AudioError, []) for size in (0.02, 0.5, 0.9, -1)),
    ([".wav"], cut(20000), {}, AudioError, ["truncated, has 20001 of 32044 bytes"]),
    ([".flac"], damaged_inside, {}, AudioError, ["damaged"]),
    (
        HEADERS, lambda path: path.write_text("<html>404 not found</html>\n" * 100), {},
        AudioError, ["is a web page", "fetch the sound file itself"],
    ),
    (HEADERS, Path.mkdir, {}, AudioError, ["is no file that can be read"]),
    (HEADERS, os.mkfifo, {}, AudioError, ["is no file that can be read"]),
    (HEADERS, lambda path: write(path, TONE * 0 + 7), {}, AudioError, ["no sound"]),
    (HEADERS, lambda path: write(path, np.sign(TONE)), {}, AudioError, ["are within ±1"]),
    (HEADERS, write, {"start": 0.5, "end": 0.5}, AudioError, ["segment 'u' has no samples"]),
    (HEADERS, write, {"start": -0.5}, AudioError, ["fix the segment"]),
    ([".wav"], not_finite, {}, AudioError, ["not numbers"]),
    (
        HEADERS, lambda path: write(path, rate=8000), {},
        AudioFormatError, ["8000 Hz", "16000 Hz is needed", "ffmpeg -i {path} -ar 16000"],
    ),
    ([".raw"], write, {"rate": 8000}, AudioFormatError, ["16000 Hz, but 8000 Hz"]),
    (
        HEADERS, lambda path: write(path, np.stack([TONE, TONE], axis=1)), {},
        AudioFormatError, ["2 channels", "ffmpeg -i {path} -ac 1"],
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
    with pytest.raises(UserError) as caught:
        read(path, **options)
    assert type(caught.value) is error and "{" not in caught.value.kind
    message = str(caught.value)
    assert message.startswith(f"{path}: ") and "\n" not in message
    assert not [word for word in words if word.format(path=path) not in message], message


def test_wav_with_other_chunks_before_the_data(tmp_path):
    data = write(tmp_path / "a.wav").read_bytes()
    extra = b"LIST" + struct.pack("<I", 5) + b"abcde\0"  # odd sizes are padded
    path = tmp_path / "b.wav"
    path.write_bytes(data[:36] + extra + data[36:])
    assert len(read(path)) == len(TONE)
    path.write_bytes(path.read_bytes()[:-2])
    with pytest.raises(AudioError, match="truncated"):
        read(path)


@pytest.mark.parametrize("subtype", ["FLOAT", "DOUBLE"])
@pytest.mark.parametrize("scale", [2**7, 2**15, 2**23, 2**31])
def test_floats_at_the_scale_of_integers(tmp_path, subtype, scale):
    path = tmp_path / "a b.wav"
    soundfile.write(path, TONE / 16384 * scale, 16000, subtype=subtype)
    with pytest.raises(
        AudioError, match=f"largest sample is .*divide them by {scale}: ffmpeg"
    ) as e:
        read(path)
    assert f"'{path}'" in str(e.value) and e.value.kind == "another scale"


def test_float_wav(tmp_path):
    path = tmp_path / "a.wav"
    soundfile.write(path, np.array([0.5, 1.5, -2.0], np.float32), 16000, subtype="FLOAT")
    assert read(path).tolist() == [0.5, 1.0, -1.0]


def test_real_speech(shared_data):
    path = next((shared_data / "LibriSpeech/train-clean-5").rglob("*.flac"))
    samples = read(path)
    assert len(samples) == soundfile.info(path).frames
    assert 0.01 < np.abs(samples).max() <= 1
