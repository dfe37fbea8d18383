"""Where the sound of a file begins and ends, found by looking at the file's bytes.

libsndfile reads as many frames as it expects when it opens a file. It takes a file that was cut
short for a whole one, estimates the length of an MP3 file, and reads only the first of two joined
streams. So the lengths in the file are compared with each other and with the file's size here.
`features/streams.py` does it for MP3, Ogg and FLAC; this module does it for containers that have
the size of their data in a header, and decides which of the two looks at a file.

IRCAM, PAF, PVF and headerless files have no length, so a cut file cannot be noticed there, unless
it ends inside a sample.
"""

import re
import struct
from collections.abc import Callable
from dataclasses import dataclass

from acoustic_kd.features import streams
from acoustic_kd.features.streams import BadLengthError, Bytes, Contents, is_padding, skip_tags

# Sizes that a program writes when it cannot seek back to the header of its output: nearly 2 or
# 4 GiB. Zero is one of them where anything but chunks follows.
PLACEHOLDERS = (range(0x7FFF0000, 0x80001000), range(0xFFFF0000, 0x100000000))
JOINED = (b"RIFF", b"RIFX", b"RF64", b"FORM", b"riff", b"caff")


@dataclass(frozen=True)
class _Chunks:
    """How a container writes its chunks.

    Attributes:
        first: byte of the first chunk.
        name: bytes of a chunk's name.
        size: `struct` format of the size behind it.
        data: name of the chunk of sound; all four letters are compared.
        counts_header: the size of a chunk includes name and size.
        align: chunks begin at multiples of so many bytes.
        before: bytes of the chunk of sound before the first sample.
        ends: libsndfile takes chunks behind the sound for sound.
    """

    first: int
    name: int
    size: str
    data: bytes
    counts_header: bool = False
    align: int = 2
    before: int = 0
    ends: bool = False


def look(data: Bytes) -> Contents:
    """Find the sound of a file.

    Args:
        data: the whole file, memory-mapped.

    Raises:
        BadLengthError: a part of the sound is missing, or the file contradicts itself.
    """
    start = skip_tags(data, 0, len(data))
    head = bytes(data[start : start + 16])
    for magic, find in _FINDERS.items():
        if re.match(magic, head, re.DOTALL):
            return find(data, start)
    return Contents(b"", start, len(data))


def has_header(data: Bytes) -> bool:
    """Whether a file begins with the name of a container; MPEG's two bytes may be samples."""
    return any(re.match(m, bytes(data[:16]), re.DOTALL) for m in _FINDERS if m not in _SHORT)


def _riff(data: Bytes, start: int) -> Contents:
    order = ">" if data[start : start + 4] == b"RIFX" else "<"
    _check_wav_format(data, start, order)
    return _in_chunks(data, start, _Chunks(12, 4, order + "I", b"data"))


def _w64(data: Bytes, start: int) -> Contents:
    _check_wav_format(data, start, "<", header=24)
    return _in_chunks(data, start, _Chunks(40, 16, "<Q", b"data", True, 8, ends=True))


def _aiff(data: Bytes, start: int) -> Contents:
    _check_aiff_format(data, start)
    name, before = (
        (b"SSND", 8) if data[start + 8 : start + 12] in (b"AIFF", b"AIFC") else (b"BODY", 0)
    )
    kind = _Chunks(12, 4, ">I", name, before=before, ends=name == b"BODY")
    return _in_chunks(data, start, kind)


def _caf(data: Bytes, start: int) -> Contents:
    return _in_chunks(data, start, _Chunks(8, 4, ">Q", b"data", align=1, before=4))


def _in_chunks(data: Bytes, start: int, kind: _Chunks) -> Contents:
    """The sound of a file that consists of chunks."""
    place, header = start + kind.first, kind.name + struct.calcsize(kind.size)
    long_size, long_place = None, 0  # of RF64
    while place + header <= len(data):
        name = bytes(data[place : place + 4])
        (size,) = struct.unpack_from(kind.size, data, place + kind.name)
        body = place + header
        if name == b"ds64" and place + header + 24 <= len(data):
            long_place = body + 8
            (long_size,) = struct.unpack_from("<Q", data, long_place)
        size -= header if kind.counts_header else 0
        if name == kind.data:
            field = place + kind.name, kind.size
            if size == 0xFFFFFFFF and long_size is not None:
                size, field = long_size, (long_place, "<Q")
            extra = header if kind.counts_header else 0
            return _of_size(data, start, body, size, field, kind, extra)
        if size < 0:
            raise BadLengthError("a chunk before its sound has no size", "damaged")
        place = body + size + -(body + size - start) % kind.align
    if place > len(data):
        raise BadLengthError.cut(place - start, len(data) - start)
    raise BadLengthError("its header has no chunk of sound", "damaged")


def _of_size(
    data: Bytes,
    start: int,
    body: int,
    size: int,
    field: tuple[int, str],
    kind: _Chunks | None = None,
    extra: int = 0,
) -> Contents:
    """The sound from `body` on, of the size in a header.

    Args:
        field: place of the size in the file, and its `struct` format.
        kind: of the chunks behind the sound; None: there are none.
        extra: what the size in the header includes beside the sound.
    """
    rest = len(data) - body
    width = struct.calcsize(field[1])
    unknown = size > rest and (
        any(size in some for some in PLACEHOLDERS) if width == 4 else size >= 1 << 62
    )
    first = kind.before if kind else 0
    empty = size <= first and not _harmless(data, body + max(size, first), start, kind)
    if unknown or empty:  # it is read to its end
        known = struct.pack(field[1], min(rest + extra, (1 << 8 * width) - 2))
        head = bytes(data[start : field[0]]) + known
        return Contents(head, field[0] + width, len(data))
    if size > rest:
        raise BadLengthError.cut(body + size - start, len(data) - start)
    if is_padding(data, body + size, len(data)):
        return Contents(b"", start, body + size)  # or libsndfile might take it for sound
    if not _harmless(data, body + size, start, kind):
        raise BadLengthError(
            f"wrong length, {rest - size} bytes that are no chunk follow the {size} bytes of sound "
            "that its header promises",
            "wrong length",
            "-ignore_length 1" if data[start : start + 4] == b"RIFF" else "fetch",
        )
    return Contents(b"", start, body + size if kind and kind.ends else len(data))


def _harmless(data: Bytes, place: int, start: int, kind: _Chunks | None) -> bool:
    """Whether there is no sound from `place` on: chunks, tags, zeros, or a few bytes."""
    if is_padding(data, place, len(data)):
        return True
    if kind is None:
        return False
    header = kind.name + struct.calcsize(kind.size)
    # Some programs do not pad a chunk of an odd size.
    for first in {place, place + -(place - start) % kind.align}:
        at = first
        while at + header <= len(data) and not is_padding(data, at, len(data)):
            name = bytes(data[at : at + 4])
            if name in JOINED or name == kind.data:
                raise BadLengthError(
                    "another file or more sound follows its sound", "joined", "separate"
                )
            (size,) = struct.unpack_from(kind.size, data, at + kind.name)
            if not re.fullmatch(rb"[ -~]{4}", name) or (kind.counts_header and size < header):
                break
            at += size if kind.counts_header else header + size
            at += -(at - start) % kind.align if first != place or at < len(data) else 0
        else:
            if is_padding(data, at, len(data)):
                return True
    return False


def _check_wav_format(data: Bytes, start: int, order: str, header: int = 8) -> None:
    """Compare the numbers in the format of a WAV or W64 file with each other."""
    place = data.find(b"fmt ", start, start + 4096)
    if place < 0 or place + header + 16 > len(data):
        return
    tag, channels, rate, bytes_a_second, width, bits = struct.unpack_from(
        order + "HHIIHH", data, place + header
    )
    if tag in (0x50, 0x55):  # libsndfile estimates the length, as of MP3 files
        raise BadLengthError("MPEG sound in a WAV file, whose length is unknown", "unknown length")
    right = width == channels * ((bits + 7) // 8) and bytes_a_second in (0, rate * width)
    if tag in (1, 3, 0xFFFE) and not right:
        raise BadLengthError(
            f"its header contradicts itself: {rate} Hz, {channels} channel(s) and {bits} bits, but "
            f"{width} bytes a frame and {bytes_a_second} bytes a second",
            "damaged",
        )


def _check_aiff_format(data: Bytes, start: int) -> None:
    """Compare the two lengths of an AIFF file with each other."""
    common, sound = (data.find(name, start, start + 4096) for name in (b"COMM", b"SSND"))
    if min(common, sound) < 0 or max(common, sound) + 18 > len(data):
        return
    channels, frames, bits = struct.unpack_from(">HIH", data, common + 8)
    size = struct.unpack_from(">I", data, sound + 4)[0] - 8
    plain = data[start + 8 : start + 12] == b"AIFF" or data[common + 26 : common + 30] == b"NONE"
    expected = frames * channels * ((bits + 7) // 8)
    if plain and frames and size not in (expected, expected + 1) and 0 < size < PLACEHOLDERS[0][0]:
        raise BadLengthError(
            f"its header contradicts itself: {frames} frames of {channels} channel(s) and {bits} "
            f"bits are {expected} bytes, not {size}",
            "damaged",
        )


def _au(data: Bytes, start: int) -> Contents:
    order = ">" if data[start : start + 4] == b".snd" else "<"
    if start + 24 > len(data):
        raise BadLengthError.cut(24, len(data) - start)
    offset, size = struct.unpack_from(order + "II", data, start + 4)
    return _of_size(data, start, start + offset, size, (start + 8, order + "I"))


def _sphere(data: Bytes, start: int) -> Contents:
    """NIST SPHERE: an ASCII header; what it says of compressed files is not of their bytes."""
    header = bytes(data[start : start + 4096]).decode("latin-1").split("\n")
    fields = {row[0]: row[2] for line in header if len(row := line.split(maxsplit=2)) == 3}
    if "," in fields.get("sample_coding", ""):  # compressed; libsndfile says that it cannot
        return Contents(b"", start, len(data))
    try:
        body, samples = start + int(header[1]), int(fields["sample_count"])
        size = samples * int(fields["sample_n_bytes"]) * int(fields.get("channel_count", "1"))
    except (KeyError, ValueError, IndexError):
        raise BadLengthError("its header has no length", "unknown length") from None
    if size > len(data) - body:
        raise BadLengthError.cut(body + size - start, len(data) - start)
    if not is_padding(data, body + size, len(data)):
        raise BadLengthError(
            f"its header has {samples} samples, but {len(data) - body - size} bytes follow them",
            "wrong length",
        )
    return Contents(b"", start, body + size)


def _voc(data: Bytes, start: int) -> Contents:
    """Creative Voice: blocks of a type, a size of 3 bytes, and data; a block of type 0 is last."""
    place, stop = start + int.from_bytes(data[start + 20 : start + 22], "little"), len(data)
    sounds = 0
    # libsndfile writes µ-law and A-law with a block that includes the last one.
    while place < stop and data[place] != 0 and not (sounds and is_padding(data, place, stop)):
        sounds += data[place] in (1, 2, 9)
        size = int.from_bytes(data[place + 1 : place + 4], "little")
        place += 4 + size
        if place > stop:
            raise BadLengthError.cut(place - start, stop - start)
    if sounds != 1:
        raise BadLengthError(f"{sounds} blocks of sound, but only one can be read", "joined")
    if not is_padding(data, place + 1, stop):
        raise BadLengthError(f"{stop - place} bytes follow its last block", "wrong length")
    return Contents(b"", start, min(place + 1, stop))


def _counted(count: Callable[[Bytes, int], tuple[int, int]]) -> Callable[[Bytes, int], Contents]:
    """A container with a number of bytes in its header: (place of the sound, its bytes)."""

    def find(data: Bytes, start: int) -> Contents:
        try:
            body, size = count(data, start)
        except struct.error:
            raise BadLengthError("its header is not whole", "truncated") from None
        if body + size > len(data):
            raise BadLengthError.cut(body + size - start, len(data) - start)
        if not is_padding(data, body + size, len(data)):
            raise BadLengthError(
                f"{len(data) - body - size} bytes follow the {size} bytes of sound of its header",
                "wrong length",
                "fetch",
            )
        return Contents(b"", start, body + size)

    return find


def _avr(data: Bytes, start: int) -> tuple[int, int]:
    stereo, bits = struct.unpack_from(">HH", data, start + 12)
    (frames,) = struct.unpack_from(">I", data, start + 26)
    return start + 128, frames * (2 if stereo else 1) * bits // 8


def _mpc(data: Bytes, start: int) -> tuple[int, int]:
    (stereo,) = struct.unpack_from("<B", data, start + 21)
    (frames,) = struct.unpack_from("<I", data, start + 30)
    return start + 42, frames * 2 * (2 if stereo else 1)


def _wve(data: Bytes, start: int) -> tuple[int, int]:
    return start + 32, struct.unpack_from(">I", data, start + 18)[0]


def _mat4(data: Bytes, start: int) -> tuple[int, int]:
    place = data.find(b"wavedata\0", start)
    order = "<" if data[start + 4] else ">"
    kind, rows, columns = struct.unpack_from(order + "III", data, place - 20)
    return place + 9, rows * columns * (8, 4, 4, 2, 2, 1)[min(kind % 1000 // 10, 5)]


def _mat5(data: Bytes, start: int) -> tuple[int, int]:
    place = data.find(b"wavedata", start)
    order = "<" if data[start + 126 : start + 128] == b"IM" else ">"
    return place + 16, struct.unpack_from(order + "I", data, place + 12)[0]


_MPEG, _MPC = rb"\xff[\xe2-\xe7\xf2-\xf7\xfa-\xff]", rb"\x01\x04"
_SHORT = _MPEG, _MPC
_FINDERS: dict[bytes, Callable[[Bytes, int], Contents]] = {
    rb"RIF[FX]....WAVE": _riff,
    rb"RF64....WAVE": _riff,
    rb"riff\x2e\x91\xcf\x11": _w64,
    rb"FORM": _aiff,
    rb"caff": _caf,
    rb"\.snd|dns\.": _au,
    rb"NIST_1A": _sphere,
    rb"Creative Voice": _voc,
    rb"2BIT": _counted(_avr),
    _MPC: _counted(_mpc),
    rb"ALawSoundFile": _counted(_wve),
    rb"fLaC": streams.flac,
    rb"OggS": streams.ogg,
    rb"\0{4}\x01\0{3}\x01\0{3}|\0\0\x03\xe8\0{3}\x01\0{3}\x01": _counted(_mat4),
    rb"MATLAB 5": _counted(_mat5),
    _MPEG: streams.mpeg,
}
