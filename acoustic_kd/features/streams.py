"""How many frames an MP3, Ogg or FLAC file has, found by looking at its parts.

MP3 frames are counted by their headers, Ogg pages are followed to the page with the end-of-stream
flag, and the last frame of a FLAC file says how many samples precede it.
"""

import mmap
import struct
import zlib
from dataclasses import dataclass
from typing import NamedTuple

Bytes = mmap.mmap | bytes

_REVERSED = bytes(int(f"{n:08b}"[::-1], 2) for n in range(256))  # the bits of each byte


class BadLengthError(Exception):
    """A file without all of its sound, or of a length that cannot be told.

    Attributes:
        kind: in one or two words, to sum up many files.
        todo: "fetch" it again; "separate" joined files; or options of ffmpeg, which can rewrite it.
    """

    def __init__(self, reason: str, kind: str, todo: str = "") -> None:
        super().__init__(reason)
        self.kind, self.todo = kind, "fetch" if kind in ("truncated", "damaged") else todo

    @classmethod
    def cut(cls, expected: int, actual: int) -> "BadLengthError":
        return cls(f"truncated, has {actual} of {expected} bytes", "truncated")


@dataclass(frozen=True)
class Contents:
    """What libsndfile shall read: `head`, then the bytes of the file from `body` to `stop`."""

    head: bytes
    body: int
    stop: int


def skip_tags(data: Bytes, place: int, stop: int) -> int:
    """The place after ID3v2 and APE tags at `place`, and after zeros that follow them."""
    first = place
    while place < stop:
        if data[place : place + 3] == b"ID3" and place + 10 <= stop:
            size = data[place + 6 : place + 10]
            footer = 10 if data[place + 5] & 0x10 else 0
            place += 10 + footer + sum((size[i] & 127) << 7 * (3 - i) for i in range(4))
        elif data[place : place + 8] == b"APETAGEX" and place + 32 <= stop:
            size_of_items, _, flags = struct.unpack_from("<III", data, place + 12)
            is_header = flags & 1 << 29
            place += 32 + size_of_items if is_header else 32
        elif place > first and data[place] == 0:
            place += 1
        else:
            break
    return min(place, stop)


def is_padding(data: Bytes, place: int, stop: int) -> bool:
    """Whether nothing but tags, zeros or less than a few bytes are from `place` to `stop`."""
    if stop - place < 8:
        return True
    if stop - place >= 128 and data[stop - 128 : stop - 125] == b"TAG":
        return is_padding(data, place, stop - 128)
    tag = 0
    if stop - place >= 32 and data[stop - 32 : stop - 24] == b"APETAGEX":
        size, _, flags = struct.unpack_from("<III", data, stop - 20)
        tag = size + (32 if flags & 1 << 31 else 0)
    elif stop - place >= 15 and data[stop - 9 : stop] == b"LYRICS200":
        digits = bytes(data[stop - 15 : stop - 9])
        tag = 15 + int(digits) if digits.isdigit() else 0
    if tag:
        return stop - tag >= place and is_padding(data, place, stop - tag)
    after = skip_tags(data, place, stop)
    if after > place:
        return is_padding(data, after, stop)
    return not any(data[place : place + 64]) and not any(data[place:stop])


# ------------------------------------------------------------------------------------------ MP3

_BIT_RATES = {  # thousands of bits a second, by version 1 or not, and layer
    (True, 1): (32, 64, 96, 128, 160, 192, 224, 256, 288, 320, 352, 384, 416, 448),
    (True, 2): (32, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320, 384),
    (True, 3): (32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320),
    (False, 1): (32, 48, 56, 64, 80, 96, 112, 128, 144, 160, 176, 192, 224, 256),
    (False, 2): (8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160),
}
_BIT_RATES[False, 3] = _BIT_RATES[False, 2]


class _Header(NamedTuple):
    """What the 4 bytes before an MPEG frame say."""

    size: int
    samples: int
    rate: int
    channels: int
    layer: int


def _mpeg_header(four: bytes) -> _Header | None:
    word = int.from_bytes(four, "big")
    version, layer = word >> 19 & 3, 4 - (word >> 17 & 3)
    bit_rate, rate = word >> 12 & 15, word >> 10 & 3
    if word >> 21 != 0x7FF or version == 1 or layer == 4 or not 0 < bit_rate < 15 or rate == 3:
        return None
    first = version == 3
    hertz = (44100, 48000, 32000)[rate] // {3: 1, 2: 2, 0: 4}[version]
    samples = {1: 384, 2: 1152, 3: 1152 if first else 576}[layer]
    padding, unit = word >> 9 & 1, 4 if layer == 1 else 1
    bits = 1000 * _BIT_RATES[first, layer][bit_rate - 1]
    size = (samples // 8 // unit * bits // hertz + padding) * unit
    return _Header(size, samples, hertz, 1 if word >> 6 & 3 == 3 else 2, layer)


def mpeg(data: Bytes, start: int) -> Contents:
    """Count the frames of an MP3 file and compare the number with that of its Xing frame.

    Where there is no right Xing frame, one is put before the stream, because libsndfile reads as
    many frames as it says.
    """
    stop, headers = len(data), dict[bytes, _Header | None]()
    place, end, count, first = start, start, 0, None
    while place + 4 <= stop:
        four = bytes(data[place : place + 4])
        header = headers[four] if four in headers else headers.setdefault(four, _mpeg_header(four))
        if header is None:
            after = skip_tags(data, place, stop)
            if after > place:
                place = after
                continue
            if is_padding(data, place, stop):
                break
            raise BadLengthError(f"no MPEG frame at byte {place}", "damaged")
        first = first or header
        if header[2:] != first[2:]:
            raise BadLengthError(
                f"its format changes after {count * first.samples / first.rate:.2f} s, from "
                f"{first.rate} Hz and {first.channels} channels to {header.rate} Hz and "
                f"{header.channels}; files of different kinds were joined",
                "joined",
            )
        if place + header.size > stop:
            raise BadLengthError.cut(place + header.size, stop)
        count += 1
        place = end = place + header.size
    if first is None:
        raise BadLengthError("no MPEG frame in it", "damaged")
    return _with_count(data, start, end, count, first)


def _with_count(data: Bytes, start: int, stop: int, count: int, first: _Header) -> Contents:
    head = bytes(data[start : start + min(first.size, 64)])
    marks = [place for mark in (b"Xing", b"Info") if (place := head.find(mark, 4)) > 0]
    body = start
    if marks and first.layer == 3:
        place, body, count = start + marks[0], start + first.size, count - 1
        (flags,) = struct.unpack_from(">I", data, place + 4)
        frames, size = struct.unpack_from(">II", data, place + 8)
        if flags & 1 and frames == count:
            return Contents(b"", start, stop)
        whole = flags & 2 and start + size <= stop  # some programs count the Xing frame, too
        if flags & 1 and frames > count and not (whole and frames == count + 1):
            raise BadLengthError(f"truncated, has {count} of {frames} MPEG frames", "truncated")
    if first.layer != 3:  # libsndfile is right there, if the bit rate is constant
        return Contents(b"", start, stop)
    return Contents(_xing_frame(bytes(data[body : body + 4]), count), body, stop)


def _xing_frame(four: bytes, count: int) -> bytes:
    """A frame without sound that says how many frames follow."""
    # The highest bit rate, no padding, no check sum.
    word = int.from_bytes(four, "big") & ~0xF200 | 0x1E000
    mpeg1, mono = word >> 19 & 3 == 3, word >> 6 & 3 == 3
    side = (17 if mono else 32) if mpeg1 else (9 if mono else 17)
    frame = word.to_bytes(4, "big") + bytes(side) + b"Xing" + struct.pack(">II", 1, count)
    header = _mpeg_header(frame[:4])
    return frame.ljust(header.size if header else 0, b"\0")


# ------------------------------------------------------------------------------------------ Ogg


def ogg(data: Bytes, start: int) -> Contents:
    """Follow the pages of an Ogg file and check them; refuse joined streams."""
    place, pages, ended, sound = start, dict[bytes, int](), set[bytes](), False
    while place < len(data):
        if data[place : place + 4] != b"OggS":
            if is_padding(data, place, len(data)):
                break
            raise BadLengthError(f"no Ogg page at byte {place}", "damaged")
        segments = data[place + 26] if place + 27 <= len(data) else 0
        body = place + 27 + segments
        stop = body + sum(data[place + 27 : body])
        if place + 27 > len(data) or stop > len(data):
            raise BadLengthError.cut(max(stop, place + 27), len(data))
        flags, serial = data[place + 5], bytes(data[place + 14 : place + 18])
        (number,) = struct.unpack_from("<I", data, place + 18)
        if flags & 2 and sound:
            raise BadLengthError("several Ogg streams, one after another", "joined")
        sound = sound or not flags & 2
        if number != pages.get(serial, number - 1) + 1 or not _page_is_right(data, place, stop):
            raise BadLengthError(f"a wrong Ogg page at byte {place}", "damaged")
        pages[serial] = number
        if flags & 4:
            ended.add(serial)
        place = stop
    if ended != pages.keys():
        raise BadLengthError(
            f"truncated after {place - start} bytes, no page ends its stream", "truncated"
        )
    return Contents(b"", start, place)


def _page_is_right(data: Bytes, place: int, stop: int) -> bool:
    """Whether the page has the check sum in its header.

    Ogg's CRC-32 takes the bits of a byte in the other order than zlib's.
    """
    page = data[place : place + 22] + bytes(4) + data[place + 26 : stop]
    crc = zlib.crc32(page.translate(_REVERSED), 0xFFFFFFFF) ^ 0xFFFFFFFF
    return int(f"{crc:032b}"[::-1], 2) == int.from_bytes(data[place + 22 : place + 26], "little")


# ----------------------------------------------------------------------------------------- FLAC


def flac(data: Bytes, start: int) -> Contents:
    """Compare the number of samples in the header with the last frame's.

    A program that cannot seek back to the header leaves 0 there; then the right number is put in.
    """
    place, last = start + 4, False
    while not last and place + 4 <= len(data):
        last = bool(data[place] & 0x80)
        place += 4 + int.from_bytes(data[place + 1 : place + 4], "big")
    if place + 6 > len(data):
        raise BadLengthError.cut(place + 6 - start, len(data) - start)
    info = start + 8
    (block,) = struct.unpack_from(">H", data, info + 2)
    total = int.from_bytes(data[info + 13 : info + 18], "big") & (1 << 36) - 1
    if data.find(b"fLaC\0\0\0\x22", place) > 0:
        raise BadLengthError("several FLAC streams, one after another", "joined", "separate")
    ends = _flac_ends(data, place, block)
    if (total and total in ends) or (not total and not ends):
        return Contents(b"", start, len(data))  # without a frame, libsndfile reads no sample
    if not ends or ends[0] < total:
        raise BadLengthError(
            f"truncated, has {ends[0] if ends else 0} of {total} samples at most", "truncated"
        )
    if total:
        raise BadLengthError(
            f"its header has {total} samples, but its last frame ends at {ends[0]}", "wrong length"
        )
    packed = int.from_bytes(data[info + 13 : info + 18], "big") | ends[0]
    return Contents(
        bytes(data[start : info + 13]) + packed.to_bytes(5, "big"), info + 18, len(data)
    )


def _flac_ends(data: Bytes, first: int, block: int) -> list[int]:
    """The number of samples to the end of each of the last four frames, the last one first."""
    sync, ends, place = bytes(data[first : first + 2]), list[int](), len(data)
    while len(ends) < 4 and (place := data.rfind(sync, first, place)) >= 0:
        header = bytes(data[place : place + 16])
        if len(header) > 5 and all(
            header[i] & m == data[first + i] & m for i, m in ((2, 15), (3, 15))
        ):
            end = _flac_end(header, block)
            if end is not None:
                ends.append(end)
    return ends


def _flac_end(header: bytes, block: int) -> int | None:
    """The number of samples to the end of a frame, from its header; None if it is no header."""
    ones = 8 - (header[4] ^ 0xFF).bit_length()  # the number is coded like a character of UTF-8
    length = max(ones, 1)
    if ones in (1, 8) or len(header) < 4 + length:
        return None
    number = header[4] & (0x7F >> ones)
    for byte in header[5 : 4 + length]:
        number = number << 6 | byte & 0x3F
    code, place = header[2] >> 4, 4 + length
    if code == 0:
        return None
    if code in (6, 7):
        size = int.from_bytes(header[place : place + code - 5], "big") + 1
        place += code - 5
    else:
        size = 192 if code == 1 else 576 << code - 2 if code < 6 else 256 << code - 8
    rate_bytes = {12: 1, 13: 2, 14: 2}.get(header[2] & 15, 0)
    place += rate_bytes
    if place >= len(header) or _crc8(header[:place]) != header[place]:
        return None
    return number * (1 if header[1] & 1 else block) + size


def _crc8(data: bytes) -> int:
    crc = 0
    for byte in data:
        crc ^= byte
        for _ in range(8):
            crc = (crc << 1 ^ 0x107) if crc & 0x80 else crc << 1
    return crc
