"""Text files that users bring: plain or compressed, line by line, with the line of every error."""

import bz2
import gzip
import io
import lzma
import re
import zlib
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO, TypeVar

from acoustic_kd.system.errors import UserError
from acoustic_kd.system.files import regular_file

BLOCK_BYTES = 1 << 20  # of lines that are decoded together
_Value = TypeVar("_Value")

_COMPRESSED: dict[bytes, Callable[..., Any]] = {
    b"\x1f\x8b": gzip.open,
    b"\xfd7zXZ\0": lzma.open,
    **{b"BZh%d1AY&SY" % level: bz2.open for level in range(1, 10)},
}
# The first bytes of files that are not text → what they are, and what to do.
_OTHER = {
    b"\x28\xb5\x2f\xfd": "compressed by zstd; decompress it",
    b"\x04\x22\x4d\x18": "compressed by lz4; decompress it",
    b"\x1f\x9d": "compressed by compress; decompress it",
    b"7z\xbc\xaf\x27\x1c": "a 7-Zip archive; unpack it",
    b"Rar!": "a RAR archive; unpack it",
    b"PK\x03\x04": "a zip archive or an office document; unpack it, or save it as plain text",
    b"\xff\xfe\0\0": "UTF-32 text; convert it to UTF-8",
    b"\0\0\xfe\xff": "UTF-32 text; convert it to UTF-8",
    b"\xff\xfe": "UTF-16 text; convert it to UTF-8",
    b"\xfe\xff": "UTF-16 text; convert it to UTF-8",
    b"%PDF": "a PDF document; save it as plain text",
    b"{\\rtf": "an RTF document; save it as plain text",
    b"<!DOCTYPE": "a web page; download the file itself",
    b"<!doctype": "a web page; download the file itself",
    b"<html": "a web page; download the file itself",
    b"version https://git-lfs": "a pointer of Git LFS; fetch the file with 'git lfs pull'",
    b"mmap lm http://kheafield.com": "a binary model of KenLM; give the ARPA file of the model",
    b"blmt": "a binary model of IRSTLM; give the ARPA file of the model",
    b"Qblmt": "a binary model of IRSTLM; give the ARPA file of the model",
    b"SRILM_BINARY": "a binary model of SRILM; give the ARPA file of the model",
    b"Trie Language Model": "a binary model of Sphinx; give the ARPA file of the model",
    b"\xd6\xfd\xb2\x7e": "a transducer of OpenFst; give the text that it was made from",
}
_HEAD_BYTES = 512  # that show what a file is; a tar archive says it behind 257
_BYTE_ORDER_MARK = b"\xef\xbb\xbf"
_LINE_END = re.compile("\r+\n")
# Control characters but tabs and line ends.
_CONTROL = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f]")


@contextmanager
def open_text(path: Path, kind: str = "") -> Iterator[BinaryIO]:
    """Open a text file of the user for its bytes, without a byte order mark, decompressed.

    gzip, bzip2 and xz are known by the content, whatever the name is. Raises a UserError that says
    what the file is if it is not text, and if it is damaged or cannot be read, also later.

    Args:
        kind: what messages call the file; it stands before the path.
    """
    name = f"{kind} {path}".lstrip()
    try:
        with open(path, "rb", opener=regular_file) as raw:
            file: io.BufferedReader = raw
            while opener := _starts_with(file, _COMPRESSED):
                file = io.BufferedReader(opener(file))
            if other := _starts_with(file, _OTHER) or _by_its_shape(file.peek(_HEAD_BYTES)):
                raise UserError(f"{name}: {other}")
            if file.peek(_HEAD_BYTES).startswith(_BYTE_ORDER_MARK):
                file.read(len(_BYTE_ORDER_MARK))
            yield file
    except (EOFError, gzip.BadGzipFile, zlib.error, lzma.LZMAError):
        raise UserError(f"{name}: damaged compressed file; fetch or make it again") from None
    except OSError as error:
        if error.strerror is None:  # of bz2
            raise UserError(f"{name}: damaged compressed file; fetch or make it again") from None
        raise UserError(f"{name}: cannot be read ({error.strerror})") from None


def _starts_with(file: io.BufferedReader, table: dict[bytes, _Value]) -> _Value | None:
    head = file.peek(_HEAD_BYTES)
    return next((value for mark, value in table.items() if head.startswith(mark)), None)


def _by_its_shape(head: bytes) -> str | None:
    """What a file without a mark at its beginning is; None: text."""
    if head[257:262] == b"ustar":
        return "a tar archive; unpack it"
    zeros = [head[place:_HEAD_BYTES:2].count(0) for place in (0, 1)]
    if 3 * max(zeros) > len(head[:_HEAD_BYTES]):
        return "UTF-16 text or no text; convert it to UTF-8"
    return None


def read_lines(
    path: Path, kind: str = "", comment: re.Pattern[bytes] | None = None
) -> Iterator[tuple[str, str]]:
    """Read a text file of the user as `open_text` does: yield ("PATH:LINE", line without its end).

    Lines end at LF or CR LF: transcripts may hold other characters that Unicode calls line ends.
    Bytes that are not UTF-8 and control characters other than tabs are errors with their line.

    Args:
        kind: what messages call the file; it stands before the path.
        comment: what may be in another encoding, and is then left out (with `re.MULTILINE`).
    """
    name = f"{kind} {path}".lstrip()
    number = 0  # of lines before the block
    with open_text(path, kind) as file:
        while lines := file.readlines(BLOCK_BYTES):
            text = _decoded(name, number, b"".join(lines), comment)
            for place, line in enumerate(text.split("\n")[: len(lines)], start=number + 1):
                yield f"{name}:{place}", line
            number += len(lines)


def _decoded(name: str, number: int, block: bytes, comment: re.Pattern[bytes] | None = None) -> str:
    """The text of a block of whole lines, which come after `number` others."""
    try:
        text = block.decode()
    except UnicodeDecodeError as error:
        if comment is not None:
            return _decoded(name, number, comment.sub(b"", block))
        line = number + 1 + block.count(b"\n", 0, error.start)
        wrong = f"byte 0x{block[error.start]:02x} is not UTF-8"
        raise UserError(f"{name}:{line}: {wrong}; convert the file") from None
    if "\r" in text:
        text = _LINE_END.sub("\n", text).removesuffix("\r")
    if found := _CONTROL.search(text):
        where = f"{name}:{number + 1 + text.count(chr(10), 0, found.start())}"
        if found[0] == "\r":
            raise UserError(f"{where}: a carriage return in the line; end lines with LF or CR LF")
        raise UserError(f"{where}: control character U+{ord(found[0]):04X}; remove it")
    if "\n\ufeff" in text:  # of files that were put together
        text = text.replace("\n\ufeff", "\n")
    return text.removeprefix("\ufeff")


def unique(rows: Iterable[tuple[str, str, _Value]]) -> Iterator[tuple[str, str, _Value]]:
    """Pass on rows ("PATH:LINE", id, value) of a file; refuse an id that comes twice."""
    seen = set()
    for where, key, value in rows:
        if key in seen:
            raise UserError(f"{where}: duplicate id '{key}'; keep one of the lines")
        seen.add(key)
        yield where, key, value
