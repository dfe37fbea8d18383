"""Objects of Kaldi's archives: integer vectors, matrices and posteriors, binary or text.

An archive has, for each utterance, its id, a space, and one object. A binary object begins with
`\\0B`. `<n>` below is a number of four bytes: the byte 4, then the number, little-endian.

    integers           <T>, then each as <number>
    float matrix       `FM `, <rows>, <columns>, rows · columns float32; of doubles `DM `, float64
    compressed matrix  `CM `, `CM2 ` or `CM3 `, smallest value and range (float32), rows and columns
                       (int32), then codes: see `_compressed`
    posterior          <T>, then for each frame <n> and n pairs of <class> and <weight> (a float32)

In text these are `1 2 3`; `[`, a row a line, `]`; and `[ class weight class weight ] [ … ] …`.
(Kaldi: util/kaldi-holder-inl.h, matrix/compressed-matrix.h, hmm/posterior.cc.)
"""

import codecs
import struct
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from acoustic_kd.system.files import atomic_path

MAX_READ_BYTES = 1 << 24  # at once: a damaged size must not take all memory
MAX_ID_BYTES = 1024
_SPACE = b" \t\r\n"
NUMBER = struct.Struct("<bi")
INTEGERS = np.dtype([("size", "i1"), ("value", "<i4")])
PAIRS = np.dtype([("s", "i1"), ("class", "<i4"), ("z", "i1"), ("weight", "<f4")])


class Damaged(ValueError):
    """Bytes that are no object of the expected kind; the text says why."""


@dataclass(frozen=True)
class Sparse:
    """Kaldi's `Posterior`: for each frame some classes with their weights, in the stored order.

    Attributes:
        offsets: int64 [T + 1]; frame t has the entries offsets[t] … offsets[t + 1] - 1.
        classes: int32 [N].
        weights: float32 [N].
    """

    offsets: np.ndarray
    classes: np.ndarray
    weights: np.ndarray

    def __len__(self) -> int:
        return len(self.offsets) - 1

    def __getitem__(self, frames: slice) -> "Sparse":
        first, last, _ = frames.indices(len(self))
        offsets = self.offsets[first : last + 1]
        span = slice(int(offsets[0]), int(offsets[-1]))
        return Sparse(offsets - offsets[0], self.classes[span], self.weights[span])


@dataclass(frozen=True)
class Kind:
    """One kind of object.

    Attributes:
        name: for messages.
        binary: reads an object after its `\\0B`; given True, skips it and returns None.
        text: reads an object from its first line.
    """

    name: str
    binary: Callable[[BinaryIO, bool], Any]
    text: Callable[[BinaryIO, bytes], Any]


def read_key(file: BinaryIO) -> str | None:
    """Read the id before an object; None at the end of the archive.

    White space before the id is skipped. A line may end after the id of an empty text object.
    """
    word = bytearray()
    while (byte := file.read(1)) and (byte not in _SPACE or not word):
        word += byte.strip(_SPACE)
        if byte == b"\0" or len(word) > MAX_ID_BYTES:
            raise Damaged("an utterance id is missing")
    if not word and not byte:
        return None
    if byte == b"\n":
        file.seek(-1, 1)
    try:
        name = word.removeprefix(codecs.BOM_UTF8).decode()
    except UnicodeDecodeError:
        name = ""
    if not name or not byte:
        raise Damaged("an utterance id is missing")
    return name


def read_object(file: BinaryIO, kind: Kind, skip: bool = False) -> Any:
    """Read the object at the file's position.

    Args:
        skip: go to the end of the object instead of reading it.

    Raises:
        Damaged: the object has another kind, or is incomplete.
    """
    first = file.read(1)
    try:
        if first != b"\0":
            return kind.text(file, first if first == b"\n" else first + file.readline())
        if file.read(1) == b"B":
            return kind.binary(file, skip)
    except Damaged:
        raise
    except (ValueError, OverflowError):  # no numbers, or impossibly large sizes
        pass
    raise Damaged(f"not {kind.name}")


# --- binary -------------------------------------------------------------------------------------


def _read_exactly(file: BinaryIO, size: int) -> bytes:
    pieces = []
    while size > 0 and (piece := file.read(min(size, MAX_READ_BYTES))):
        pieces.append(piece)
        size -= len(piece)
    if size:
        raise Damaged(f"{size} bytes are missing at the end" if size > 0 else "a negative size")
    return pieces[0] if len(pieces) == 1 else b"".join(pieces)


def _skip(file: BinaryIO, size: int) -> None:
    """Skip some bytes; the last one is read, so that a truncated file is noticed."""
    if size > 0:
        file.seek(size - 1, 1)
    _read_exactly(file, min(size, 1))


def _number(file: BinaryIO, what: str) -> int:
    size, value = NUMBER.unpack(_read_exactly(file, NUMBER.size))
    if size != 4 or value < 0:
        raise Damaged(f"not {what}")
    return value


def _integers(file: BinaryIO, skip: bool) -> np.ndarray | None:
    size = _number(file, "integers") * INTEGERS.itemsize
    if skip:
        _skip(file, size)
        return None
    numbers = np.frombuffer(_read_exactly(file, size), INTEGERS)
    if (numbers["size"] != 4).any():
        raise Damaged("not integers")
    return numbers["value"].astype(np.int32)


def _matrix(file: BinaryIO, skip: bool) -> np.ndarray | None:
    token = b""
    while not token.endswith(b" ") and len(token) < 4:
        token += _read_exactly(file, 1)
    if token in (b"CM ", b"CM2 ", b"CM3 "):
        return _compressed(file, token, skip)
    if token not in (b"FM ", b"DM "):
        raise Damaged("not a matrix of floats")
    dtype = np.dtype("<f4" if token == b"FM " else "<f8")
    rows, columns = (_number(file, "a matrix") for _ in range(2))
    size = rows * columns * dtype.itemsize
    if skip:
        _skip(file, size)
        return None
    return np.frombuffer(_read_exactly(file, size), dtype).astype(np.float32).reshape(rows, columns)


def _compressed(file: BinaryIO, token: bytes, skip: bool) -> np.ndarray | None:
    """Read Kaldi's CompressedMatrix.

    `CM2` and `CM3` have a code of 16 or 8 bits for each element, linear between the smallest value
    and the largest. `CM` has codes of 8 bits, column by column, and for each column its percentiles
    0, 25, 75 and 100 in 16 bits; the codes 0 … 64, 64 … 192 and 192 … 255 are linear between them.
    """
    low, span, rows, columns = struct.unpack("<ffii", _read_exactly(file, 16))
    if rows < 0 or columns < 0:
        raise Damaged("a negative size")
    by_column = token == b"CM "
    size = rows * columns * (2 if token == b"CM2 " else 1) + (8 * columns if by_column else 0)
    if skip:
        _skip(file, size)
        return None
    data = _read_exactly(file, size)
    if not by_column:
        dtype = np.dtype("<u2" if token == b"CM2 " else "u1")
        codes = np.frombuffer(data, dtype).reshape(rows, columns)
        return low + codes.astype(np.float32) * np.float32(span / np.iinfo(dtype).max)
    percentiles = np.frombuffer(data, "<u2", 4 * columns).reshape(columns, 4, 1)
    p0, p25, p75, p100 = np.moveaxis(low + percentiles * np.float32(span / 65535), 1, 0)
    codes = np.frombuffer(data, "u1", offset=8 * columns).reshape(columns, rows)
    codes = codes.astype(np.float32)
    lower = p0 + (p25 - p0) * codes / 64
    middle = p25 + (p75 - p25) * (codes - 64) / 128
    upper = p75 + (p100 - p75) * (codes - 192) / 63
    values = np.where(codes <= 64, lower, np.where(codes <= 192, middle, upper))
    return np.ascontiguousarray(values.T, np.float32)


def _posterior(file: BinaryIO, skip: bool) -> "np.ndarray | Sparse | None":
    """Read a sparse posterior, or a matrix of posteriors."""
    first = _read_exactly(file, 1)
    if first != b"\4":
        file.seek(-1, 1)
        return _matrix(file, skip)
    (frames,) = struct.unpack("<i", _read_exactly(file, 4))
    if frames < 0:
        raise Damaged("a negative size")
    counts, pairs = [], []
    for _ in range(frames):  # the first number of a frame gives its length
        counts.append(_number(file, "posteriors"))
        pairs.append(_read_exactly(file, counts[-1] * PAIRS.itemsize))
    if skip:
        return None
    entries = np.frombuffer(b"".join(pairs), PAIRS)
    if (entries["s"] != 4).any() or (entries["z"] != 4).any():
        raise Damaged("not posteriors")
    return _sparse(counts, entries["class"].copy(), entries["weight"].copy())


def _sparse(counts: Any, classes: np.ndarray, weights: np.ndarray) -> Sparse:
    offsets = np.concatenate([[0], np.cumsum(np.asarray(counts, np.int64))])
    return Sparse(offsets, classes, weights)


# --- text ---------------------------------------------------------------------------------------


def _text_integers(file: BinaryIO, line: bytes) -> np.ndarray:
    return np.array(line.split(), np.int32)


def _text_matrix(file: BinaryIO, line: bytes) -> np.ndarray:
    """Read a matrix, from `[` to `]`."""
    if not line.lstrip().startswith(b"["):
        raise Damaged("not a matrix in text")
    lines = [line.replace(b"[", b" ", 1)]
    while b"]" not in lines[-1]:
        lines.append(file.readline())
        if not lines[-1]:
            raise Damaged("the closing ] is missing")
    last, _, rest = lines.pop().partition(b"]")
    if rest.strip():
        raise Damaged("text after the closing ]")
    rows = [row for row in (text.split() for text in (*lines, last)) if row]
    matrix = np.array(rows, np.float32)
    return matrix if rows else matrix.reshape(0, 0)


def _text_posterior(file: BinaryIO, line: bytes) -> "np.ndarray | Sparse":
    """Read `[ 1 0.5 2 0.5 ] [ 3 1 ]`, or a matrix if the line ends after its first `[`."""
    if line.strip() == b"[":
        return _text_matrix(file, line)
    words = np.array(line.split(), bytes)
    opens, closes = (np.flatnonzero(words == bracket) for bracket in (b"[", b"]"))
    if len(opens) != len(closes):
        raise Damaged("not posteriors: the brackets do not match")
    counts = closes - opens - 1
    numbers = words[(words != b"[") & (words != b"]")]
    nested = (opens[1:] < closes[:-1]).any()
    if nested or (counts < 0).any() or (counts % 2).any() or counts.sum() != len(numbers):
        raise Damaged("not posteriors: [ class weight … ] for each frame")
    classes, weights = numbers[0::2].astype(np.int32), numbers[1::2].astype(np.float32)
    return _sparse(counts // 2, classes, weights)


ALIGNMENT = Kind("integers, one a frame", _integers, _text_integers)
MATRIX = Kind("a matrix of floats", _matrix, _text_matrix)
POSTERIOR = Kind("posteriors (a matrix, or classes and weights)", _posterior, _text_posterior)


# --- writing ------------------------------------------------------------------------------------


def matrix_bytes(matrix: np.ndarray) -> bytes:
    """The bytes of [T, D] in a binary archive, in float32."""
    rows, columns = matrix.shape
    sizes = struct.pack("<bibi", 4, rows, 4, columns)
    return b"\0BFM " + sizes + np.ascontiguousarray(matrix, "<f4").tobytes()


def integer_bytes(numbers: np.ndarray) -> bytes:
    """The bytes of [T] in a binary archive of alignments."""
    stored = np.full(len(numbers), 4, INTEGERS)
    stored["value"] = numbers
    return b"\0B" + NUMBER.pack(4, len(numbers)) + stored.tobytes()


def write_objects(path: Path, objects: Iterable[tuple[str, bytes]]) -> int:
    """Write (id, bytes of an object) pairs as an archive, whole or not at all; return how many."""
    number = 0
    with atomic_path(path) as temporary, temporary.open("wb") as file:
        for name, data in objects:
            file.write(f"{name} ".encode() + data)
            number += 1
    return number


def write_archive(path: Path, matrices: Iterable[tuple[str, np.ndarray]]) -> int:
    """Write (id, [T, K]) pairs as float32, whole or not at all; return their number."""
    return write_objects(path, ((name, matrix_bytes(matrix)) for name, matrix in matrices))
