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
    assert len(read(path, start=0.5, end=1.4)) == 8000  # as Kaldi forgives


def test_a_segment_begins_and_ends_at_kaldi_s_samples(path):
    """Which are cut off: 4000.64 is 4000."""
    samples = read(write(path), start=0.25004, end=0.50004)
    np.testing.assert_array_equal(samples, TONE[4000:8000].astype(np.float32) / 32768)


def test_segment_outside_the_file(path):
    write(path)
    refused(path, AudioError, "1.00 s long", "'u'", "from 0.5 to 1.6", start=0.5, end=1.6)
    refused(path, AudioError, "1.00 s long", start=1.5)


def test_missing(path):
    refused(path, AudioError, "no such sound file")


def test_empty(path):
    path.touch()
    refused(path, AudioError)
    refused(write(path, TONE[:0]), AudioError)


@pytest.mark.parametrize("share", [0.02, 0.5, 0.9])
def test_truncated(path, share):
    data = write(path).read_bytes()
    size = int(len(data) * share)
    # A headerless file promises nothing: only half a sample at its end gives it away.
    path.write_bytes(data[: size + 1 - size % 2])
    refused(path, AudioError)


def test_one_sample_short(path):
    data = write(path).read_bytes()
    path.write_bytes(data[:-1])
    refused(path, AudioError)


def test_truncated_wav_tells_the_bytes(tmp_path):
    path = write(tmp_path / "a.wav")
    path.write_bytes(path.read_bytes()[:20000])
    refused(path, AudioError, "truncated, has 20000 of 32044 bytes")


def test_damaged_inside(tmp_path):
    path = write(tmp_path / "a.flac")
    data = bytearray(path.read_bytes())
    data[len(data) // 2 : len(data) // 2 + 50] = bytes(50)
    path.write_bytes(data)
    refused(path, AudioError, "damaged")


@pytest.mark.parametrize("suffix", [".wav", ".flac", ".sph"])
def test_not_a_sound_file(tmp_path, suffix):
    path = tmp_path / f"a{suffix}"
    path.write_text("<html>404 not found</html>\n" * 100)
    refused(path, AudioError, "damaged or not a sound file")
    path.unlink()
    path.mkdir()
    refused(path, AudioError, "no such sound file")


@pytest.mark.parametrize("suffix", [".wav", ".flac", ".sph"])
def test_8_khz_stops_everything(tmp_path, suffix):
    path = write(tmp_path / f"a{suffix}", rate=8000)
    refused(path, AudioFormatError, "8000 Hz", "16000 Hz is needed", f"sox {path} -r 16000")


def test_headerless_audio_is_16_khz(tmp_path):
    path = write(tmp_path / "a.raw")
    refused(path, AudioFormatError, "16000 Hz, but 8000 Hz", rate=8000)


@pytest.mark.parametrize("suffix", [".wav", ".flac", ".sph"])
def test_stereo_stops_everything(tmp_path, suffix):
    path = write(tmp_path / f"a{suffix}", np.stack([TONE, TONE], axis=1))
    refused(path, AudioFormatError, "2 channels", f"sox {path} -c 1")


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


def test_flac_without_a_length(tmp_path):
    path = write(tmp_path / "a.flac")
    data = bytearray(path.read_bytes())
    data[21] &= 0xF0  # STREAMINFO: the 36 bits of the number of samples
    data[22:26] = bytes(4)
    path.write_bytes(data)
    refused(path, AudioError, "has no length", "sox")


def test_float_wav(tmp_path):
    path = tmp_path / "a.wav"
    soundfile.write(path, np.array([0.5, 1.5, -2.0], np.float32), 16000, subtype="FLOAT")
    assert read(path).tolist() == [0.5, 1.0, -1.0]
    soundfile.write(path, np.array([0.5, np.nan], np.float32), 16000, subtype="FLOAT")
    refused(path, AudioError, "not numbers")


def test_real_speech(shared_data):
    path = next((shared_data / "LibriSpeech/train-clean-5").rglob("*.flac"))
    samples = read(path)
    assert len(samples) == soundfile.info(path).frames
    assert 0.01 < np.abs(samples).max() <= 1
