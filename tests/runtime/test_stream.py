"""A stream hears what a file says, in blocks of any size; pauses end segments; silence costs
nothing.
"""

import io
import struct
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import soundfile

from acoustic_kd.features.audio import AudioError
from acoustic_kd.runtime.pcm import PcmStream
from acoustic_kd.runtime.recognizer import Recognizer
from acoustic_kd.system.errors import UserError

pytest.importorskip("onnx", reason="needs acoustic-kd[onnx]")


@pytest.fixture(scope="module")
def recognizer(bundle):
    return Recognizer.from_pretrained(bundle)


@pytest.fixture(scope="module")
def sentences(spoken):
    return [soundfile.read(audio, dtype="float32")[0] for audio in spoken]


def hear(recognizer, samples, block, rate=16000):
    stream, segments = recognizer.stream(rate), []
    for first in range(0, len(samples), block):
        segments += stream.accept(samples[first : first + block])
    return segments + stream.final()


def test_normalised_over_train_a_stream_has_the_words_of_the_file(recognizer, sentences):
    features = replace(recognizer.features, normalise="global")
    own = replace(recognizer, features=features)
    for samples in sentences:
        heard = hear(own, samples, 1600)
        assert " ".join(s.text for s in heard if s.text) == own(samples, 16000).text


@pytest.mark.parametrize("block", [1, 160, 999, 10**6])
def test_blocks_of_any_size_give_the_same(recognizer, sentences, block):
    samples = sentences[0][: 6000 if block == 1 else 24000]
    assert hear(recognizer, samples, block) == hear(recognizer, samples, 4000)


def test_a_pause_ends_a_segment_and_times_go_on(recognizer, sentences):
    rng = np.random.default_rng(0)
    pause = 1e-4 * rng.standard_normal(16000).astype(np.float32)
    once = hear(recognizer, np.concatenate([sentences[0], pause]), 1600)
    both = hear(recognizer, np.concatenate([sentences[0], pause, sentences[1], pause]), 1600)
    assert len(both) > len(once) >= 1
    assert both[: len(once)] == once
    begin = len(sentences[0]) / 16000
    assert all(word.start > begin - 0.5 for s in both[len(once) :] for word in s.words)


def test_silence_is_no_segment_and_takes_no_memory(recognizer):
    rng = np.random.default_rng(0)
    stream = recognizer.stream()
    for _ in range(60):
        noise = 1e-4 * rng.standard_normal(16000).astype(np.float32)
        assert stream.accept(noise) == []
    assert len(stream._frames) < 200 and len(stream._recent) < 100
    assert stream.partial == "" and stream.final() == []


def test_the_words_so_far(recognizer, sentences):
    stream, partial = recognizer.stream(), ""
    for first in range(0, len(sentences[0]), 1600):
        stream.accept(sentences[0][first : first + 1600])
        partial = stream.partial or partial
    assert partial


def test_other_rates_and_channels(recognizer, sentences):
    narrow = sentences[0][::2]
    stereo = np.stack([narrow, narrow], axis=1)
    mono, both = (hear(recognizer, s, 800, 8000) for s in (narrow, stereo))
    assert [s.text for s in mono] == [s.text for s in both]


@pytest.mark.parametrize("rate", [0, -8000, 5, 4_294_967_295])
def test_other_rates_are_refused(recognizer, bundle, command_refusal, monkeypatch, rate):
    with pytest.raises(UserError, match="the sample rate must be a whole number"):
        recognizer.stream(rate)
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(bytes(100))))
    message = command_refusal("transcribe", bundle, "--stream", "--rate", rate)
    assert "the sample rate must be a whole number" in message


def test_floats_at_the_scale_of_integers_are_refused(recognizer, sentences):
    with pytest.raises(UserError, match="floats beyond 1"):
        recognizer.stream().accept(32768 * sentences[0])


def test_an_experiment_is_no_bundle(recognizer):
    with pytest.raises(UserError, match="a stream needs a bundle"):
        replace(recognizer, train_moments=None).stream()


# --- standard input -------------------------------------------------------------------------------


def wav(samples, length=None, kind="PCM_16"):
    out = io.BytesIO()
    soundfile.write(out, samples, 16000, kind, format="WAV")
    content = bytearray(out.getvalue())
    if length is not None:
        place = content.index(b"data") + 4
        content[place : place + 4] = struct.pack("<I", length)
    return bytes(content)


@pytest.mark.parametrize("kind", ["PCM_16", "FLOAT"])
@pytest.mark.parametrize("length", [None, 0, 0xFFFFFFFF])
def test_a_header_may_lack_the_length(length, kind):
    samples = np.linspace(-0.5, 0.5, 4000)[:, None] * [1, 0.5]
    stream = PcmStream.open(io.BytesIO(wav(samples, length, kind)), 8000)
    assert (stream.rate, stream.channels) == (16000, 2)
    found = np.concatenate(list(stream.blocks()))
    scale = 32768 if kind == "PCM_16" else 1
    np.testing.assert_allclose(found / scale, samples, atol=1e-4)


def test_what_follows_the_samples_is_no_sound():
    samples = np.linspace(-0.5, 0.5, 4000)
    content = wav(samples) + b"LIST" + struct.pack("<I", 5) + b"INFO!"
    found = np.concatenate(list(PcmStream.open(io.BytesIO(content), 8000).blocks()))
    assert len(found) == 4000


def test_the_end_of_a_microphone_is_no_error(bundle, spoken, command, monkeypatch):
    class Microphone(io.BytesIO):
        def read(self, size=-1):
            if not (content := super().read(size)):
                raise KeyboardInterrupt
            return content

    samples = soundfile.read(spoken[0], dtype="int16")[0]
    monkeypatch.setattr("sys.stdin", SimpleNamespace(buffer=Microphone(samples.tobytes())))
    status, out, error = command("transcribe", bundle, "--stream")
    assert (status, error) == (0, "") and out.startswith('{"text": ')


def test_raw_samples():
    samples = np.arange(-1000, 1000, dtype="<i2")
    stream = PcmStream.open(io.BytesIO(samples.tobytes()), 8000)
    found = np.concatenate(list(stream.blocks()))[:, 0]
    assert stream.rate == 8000 and found.tolist() == samples.tolist()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (np.zeros(100, "<i2").tobytes() + b"x", "ends within a sample"),
        (wav(np.zeros(9))[:20], "ends within its WAV header"),
        (wav(np.zeros(9), kind="PCM_24"), "WAV of 24 bits"),
        (b"RIFF\0\0\0\0WAVEdata\0\0\0\0", "without its format"),
        (b"fLaC" + bytes(100), "neither WAV nor raw samples"),
        (b"OggS" + bytes(100), "neither WAV nor raw samples"),
    ],
)
def test_other_streams_are_one_line(content, message):
    with pytest.raises(AudioError, match=message):
        list(PcmStream.open(io.BytesIO(content), 16000).blocks())


def test_the_command_prints_a_segment_a_line(bundle, spoken, command, monkeypatch):
    samples = soundfile.read(spoken[0], dtype="int16")[0]
    content = samples.tobytes() + b"x"  # cut short: what was heard is printed all the same
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(content)))
    status, out, error = command("transcribe", bundle, "--stream")
    assert status == 2 and "ends within a sample" in error and error.count("\n") == 1
    heard = hear(Recognizer.from_pretrained(bundle), samples, 1600)
    assert out.count('{"text": ') == out.count("\n") == sum(bool(s.words) for s in heard)
