"""Either all samples of a file are read, or one line says why not: any container, any damage."""

import io
import struct

import numpy as np
import pytest
import soundfile
from hypothesis import example, given, settings
from hypothesis import strategies as st

from acoustic_kd.features.audio import AudioError, open_sound

N = 3000
TONE = 0.3 * np.sin(np.arange(N) / 20 * (1 + np.arange(N) / N)) + 0.01 * np.cos(np.arange(N) * 2)
WITHOUT_LENGTH = ("IRCAM", "PAF", "PVF", "XI")  # a cut file is a shorter file


def made(container, subtype=None, samples=TONE, rate=16000, **options):
    file = io.BytesIO()
    soundfile.write(file, samples, rate, subtype, format=container, **options)
    return file.getvalue()


def kinds():
    for container in soundfile.available_formats():
        if container in ("RAW", "SD2"):  # SD2 writes a second file into the working directory
            continue
        for subtype in soundfile.available_subtypes(container):
            try:
                made(container, subtype, rate=8000)
            except soundfile.LibsndfileError:
                continue  # it can only be read
            yield container, subtype


DECODER_DELAY = 529  # samples that libsndfile's MP3 decoder leaves out at the beginning
KINDS = list(kinds())
WITH_LENGTH = [kind for kind in KINDS if kind[0] not in WITHOUT_LENGTH]


def read(path, data, first=0, stop=None):
    path.write_bytes(data)
    with open_sound(path) as sound:
        stop = sound.frames if stop is None else stop
        return np.concatenate(list(sound.blocks(first, stop, 1000)) or [np.zeros((0, 1))])


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    return tmp_path_factory.mktemp("sound") / "a b.bin"


@pytest.mark.parametrize("kind", KINDS, ids="-".join)
def test_every_container_is_read_whole_and_in_segments(path, kind):
    data = made(*kind, rate=8000)
    whole = read(path, data)
    assert len(whole) >= N
    if kind[1] not in ("MPEG_LAYER_III", "OPUS"):  # which shift the phases
        assert np.corrcoef(whole[:N, 0], TONE)[0, 1] > 0.95
    np.testing.assert_allclose(read(path, data, 1001, 2002), whole[1001:2002], atol=1e-6)


@settings(max_examples=40)
@given(st.sampled_from(WITH_LENGTH), st.sampled_from([8000, 16000]), st.data())
def test_a_file_that_was_cut_is_refused(path, kind, rate, data):
    whole = made(*kind, rate=8000 if kind[0] == "WVE" else rate)
    cut = data.draw(st.integers(1, len(whole)))
    expected = read(path, whole)
    try:
        actual = read(path, whole[:-cut])
    except AudioError as error:
        assert "\n" not in str(error)
    else:
        if kind != ("WAV", "GSM610"):  # its writer leaves out the last byte
            np.testing.assert_array_equal(actual, expected)


@settings(max_examples=40)
@given(
    st.sampled_from(WITH_LENGTH),
    st.sampled_from([bytes(100), b"x", b"some text\n" * 9, b"TAG".ljust(128, b"\0")])
    | st.binary(max_size=300),
)
@example(("SVX", "PCM_S8"), b"some text\n" * 9)
def test_junk_behind_the_sound(path, kind, junk):
    data = made(*kind, rate=8000)
    expected = read(path, data)
    try:
        actual = read(path, data + junk)
    except AudioError as error:
        assert "\n" not in str(error)
    else:
        if kind != ("WAV", "GSM610"):
            np.testing.assert_array_equal(actual, expected)


@settings(max_examples=40)
@given(st.sampled_from(KINDS), st.integers(0, 60), st.binary(min_size=1, max_size=8))
@example(("FLAC", "PCM_16"), 3, b"\0")
@example(("W64", "PCM_16"), 56, bytes(8))  # a chunk without a size is followed by itself
def test_a_damaged_header_is_no_crash(path, kind, place, damage):
    data = made(*kind, rate=8000)
    try:
        read(path, data[:place] + damage + data[place + len(damage) :])
    except AudioError as error:
        assert "\n" not in str(error)


# --- lengths that a header does not know --------------------------------------------------------


def patched(data, name, form, size, offset=4):
    place = data.index(name) + offset
    new = struct.pack(form, size)
    return data[:place] + new + data[place + len(new) :]


WAV, AIFF, FLAC, MP3 = (made(name) for name in ("WAV", "AIFF", "FLAC", "MP3"))
FLAC_HEAD = FLAC[:21] + bytes([FLAC[21] & 0xF0]) + bytes(4) + FLAC[26:]
APE = struct.pack("<8sIIII8x", b"APETAGEX", 2000, 32, 0, 0x80000000)
ID3 = b"ID3\4\0\0\0\0\1\0" + bytes(128)


@pytest.mark.parametrize(
    "data",
    [
        *(patched(WAV, b"data", "<I", n) for n in (0, 0x7FFFF000, 0x7FFFFFFF, 0xFFFFFFFF)),
        *(patched(AIFF, b"SSND", ">I", n) for n in (0, 0x7FFFFFFF)),
        *(patched(made("AU"), b".snd", ">I", n, 8) for n in (0, 0xFFFFFFFF)),
        *(patched(made("W64"), b"data", "<Q", n, 16) for n in (0, 24, 2**64 - 1)),
        *(patched(made("CAF"), b"data", ">Q", n) for n in (0, 2**64 - 1)),
        *(patched(made("RF64"), b"ds64", "<Q", n, 16) for n in (0, 2**64 - 1)),
        FLAC_HEAD, ID3 + FLAC, ID3 + WAV, ID3 + MP3, MP3 + APE, MP3 + b"TAG".ljust(128, b"\0"),
        WAV + b"LIST" + struct.pack("<I", 4) + b"abcd",
        made("OGG") + bytes(3000),
    ],
)  # fmt: skip
def test_unknown_lengths_and_tags(path, data):
    assert len(read(path, data)) == N


def test_mp3_frames_are_counted(path):
    noise = np.random.default_rng(0).uniform(-1, 1, 40000) * np.repeat(
        [0.001, 0.5, 0.001, 1], 10000
    )
    data = made("MP3", samples=noise, bitrate_mode="VARIABLE")
    frames = struct.unpack(">I", data[data.index(b"Xing") + 8 :][:4])[0]
    place = data.index(b"\xff\xf3", 4)
    for bare in (data[place:], data[place:] + data[place:]):
        actual = read(path, bare)
        copies = len(bare) // len(data[place:])
        assert len(actual) == copies * frames * 576 - DECODER_DELAY
    assert len(read(path, data + data)) == (2 * frames + 1) * 576 - DECODER_DELAY


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (patched(WAV, b"data", "<I", N), "wrong length, 3000 bytes.*ffmpeg -ignore_length 1 -i '"),
        (WAV + WAV, "separate the files that were joined"),
        (FLAC + FLAC, "several FLAC streams"),
        (made("OGG") + made("OGG"), "several Ogg streams.*ffmpeg -i '"),
        (MP3 + made("MP3", rate=44100), "from 16000 Hz and 1 channels to 44100 Hz"),
        (patched(FLAC, b"fLaC", ">I", 1000, 22), "1000 samples, but its last frame ends at 3000"),
        (made("NIST").replace(b"-i 3000", b"-i 1000"), "1000 samples, but 4000 bytes follow"),
        (made("NIST").replace(b"sample_count", b"sample_xount"), "its header has no length"),
        (patched(WAV, b"fmt ", "<I", 8000, 12), "contradicts itself: 8000 Hz"),
        (patched(WAV, b"fmt ", "<H", 0x55, 8), "MPEG sound in a WAV file.*ffmpeg -i '"),
        (patched(WAV, b"fmt ", "<H", 8, 22), "contradicts itself: .* 8 bits"),
        (patched(AIFF, b"COMM", ">H", 8, 14), "contradicts itself: .* 8"),
        (made("OGG")[:3000] + b"damage" + made("OGG")[3006:], "a wrong Ogg page"),
        (b"", "is an empty file"),
        (b"NIST_1A\n   1024\nsample_coding -s26 pcm,embedded-shorten-v2.00\n" + bytes(2000),
         "by shorten.*sph2pipe -f wav '"),
        (b"\0\0\0\x20ftypM4A " + bytes(99), "is MP4 or M4A.*ffmpeg -i '"),
        (b"\x1a\x45\xdf\xa3" + bytes(99), "is Matroska or WebM"),
        (b"#!AMR\n" + bytes(99), "is AMR"),
        (b"\xff\xf1\x50\x80" + bytes(99), "is AAC"),
        (b"version https://git-lfs.github.com/spec/v1\noid", "git lfs pull"),
        (b"\x1f\x8b" + bytes(99), "gzip"),
        (b"words", "is text"),
        (bytes(999), "zeros only"),
    ],
)  # fmt: skip
def test_what_is_refused_and_why(path, data, message):
    with pytest.raises(AudioError, match=message) as caught:
        read(path, data)
    assert str(caught.value).startswith(f"{path}: ") and "\n" not in str(caught.value)


def test_a_headerless_name_with_a_header(tmp_path):
    assert len(read(tmp_path / "a.raw", WAV)) == N
