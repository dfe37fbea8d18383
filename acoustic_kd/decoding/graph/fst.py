"""Finite-state transducers as NumPy arrays, so that nothing per arc happens in Python.

kaldifst offers an FST's arcs one Python call at a time; a graph of ten million arcs would take
minutes. OpenFst's binary files, however, hold the arcs as plain records: a `ConstFst` file is a
header, one 20-byte record a state and one 16-byte record an arc. These functions read and write
them whole. (OpenFst 1.7/1.8: `fst/fst.cc` FstHeader, `fst/const-fst.h`, `fst/vector-fst.h`.)
"""

import mmap
import struct
import tempfile
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import kaldifst
import numpy as np

from acoustic_kd.system.errors import UserError

MAGIC = 2125659606
HEADER = "<iiQqqq"  # version, flags, properties, start, states, arcs
CONST_VERSION = 2
IS_EXPANDED = 1  # the one property that every stored FST has; the others are left unknown
STATE = np.dtype(
    [("final", "<f4"), ("first", "<u4"), ("arcs", "<u4"), ("ieps", "<u4"), ("oeps", "<u4")]
)
ARC = np.dtype([("ilabel", "<i4"), ("olabel", "<i4"), ("weight", "<f4"), ("nextstate", "<i4")])


@dataclass
class FstArrays:
    """A transducer over the tropical semiring; weights are costs (negated natural logs).

    Attributes:
        final: [S] float32, the cost of ending in each state; infinity where it is not final.
        source: [A] int64, the state each arc leaves, in any order.
        arcs: [A] records of type `ARC`; label 0 is epsilon.
    """

    start: int
    final: np.ndarray
    source: np.ndarray
    arcs: np.ndarray


class ArcColumns:
    """Columns of equal length that are filled piece by piece."""

    def __init__(self, *kinds: type) -> None:
        self.kinds = kinds
        self.pieces: list[list[np.ndarray]] = [[np.zeros(0, kind)] for kind in kinds]

    def add(self, *columns: np.ndarray | float) -> None:
        size = max(np.size(column) for column in columns if not np.isscalar(column))
        for pieces, kind, column in zip(self.pieces, self.kinds, columns, strict=True):
            pieces.append(np.broadcast_to(np.asarray(column, dtype=kind), size))

    def join(self) -> tuple[np.ndarray, ...]:
        """The columns; frees the pieces of one column after the other."""
        joined = []
        for pieces in self.pieces:
            joined.append(np.concatenate(pieces))
            pieces.clear()
        return tuple(joined)


@dataclass(frozen=True)
class FstRecords:
    """A `ConstFst` file as it lies on disk, mapped: processes that map it share its memory.

    Rows are bytes because the file aligns nothing, and because NumPy gathers rows of 16 bytes as
    fast as single numbers: all of an arc costs one access to memory.

    Attributes:
        states: [S, 20] uint8, each row a record of type `STATE`.
        arcs: [A, 16] uint8, each row a record of type `ARC`.
    """

    start: int
    states: np.ndarray
    arcs: np.ndarray

    def states_at(self, state: np.ndarray) -> np.ndarray:
        """The `STATE` records of some states."""
        return self.states.take(state, axis=0).view(STATE)[:, 0]

    def arcs_at(self, arc: np.ndarray) -> np.ndarray:
        """The `ARC` records of some arcs."""
        return self.arcs.take(arc, axis=0).view(ARC)[:, 0]


def map_fst(path: Path, senones: int | None = None, words: int | None = None) -> FstRecords:
    """Map a `ConstFst` file into memory, to be read only.

    Args:
        senones, words: number of input and output labels, without and with epsilon; None: any.
    """
    try:
        with Path(path).open("rb") as file:
            # Filling the map at once is several times as fast as page by page at first use.
            flags = mmap.MAP_SHARED | getattr(mmap, "MAP_POPULATE", 0)
            data = mmap.mmap(file.fileno(), 0, flags=flags, prot=mmap.PROT_READ)
        kind, offset, start, states, arcs = _read_header(data)
        arcs_at = offset + states * STATE.itemsize
        sizes_fit = len(data) == arcs_at + arcs * ARC.itemsize
        if kind != "const" or not 0 <= start < states or arcs < 0 or not sizes_fit:
            raise ValueError
    except OSError as error:
        raise UserError(f"graph {path}: cannot be read ({error.strerror})") from None
    except (ValueError, struct.error):
        raise UserError(f"graph {path}: damaged or not a ConstFst; build it again") from None
    whole = np.frombuffer(data, np.uint8)
    records = FstRecords(
        start,
        whole[offset:arcs_at].reshape(states, STATE.itemsize),
        whole[arcs_at:].reshape(arcs, ARC.itemsize),
    )
    if not _consistent(records, senones, words):
        raise UserError(f"graph {path}: damaged (numbers out of range); build it again")
    return records


def _consistent(fst: FstRecords, senones: int | None, words: int | None) -> bool:
    """Whether all arcs belong to a state, and all states and labels exist."""
    states, arcs = fst.states.view(STATE)[:, 0], fst.arcs.view(ARC)[:, 0]
    ends = np.cumsum(states["arcs"], dtype=np.int64)
    if ends[-1] != len(arcs) or (states["first"] != ends - states["arcs"]).any():
        return False
    if (states["ieps"] > states["arcs"]).any() or np.isnan(states["final"]).any():
        return False
    limits = {"ilabel": senones and senones + 1, "olabel": words, "nextstate": len(states)}
    for name, limit in limits.items():
        least, most = arcs[name].min(initial=0), arcs[name].max(initial=0)
        if least < 0 or (limit is not None and most >= limit):
            return False
    return bool(np.isfinite(arcs["weight"]).all())


def write_fst(fst: FstArrays, path: Path) -> None:
    """Write a `ConstFst` file, arcs sorted by state, input label and output label."""
    order = np.lexsort((fst.arcs["olabel"], fst.arcs["ilabel"], fst.source))
    write_blocks(path, fst.start, fst.final, [(fst.source[order], fst.arcs[order])])


def write_blocks(
    path: Path, start: int, final: np.ndarray, blocks: Iterable[tuple[np.ndarray, np.ndarray]]
) -> int:
    """Write a `ConstFst` file whose arcs come block by block, and need not fit memory together.

    Args:
        final: [S] as in `FstArrays`.
        blocks: (source, arcs) of states in rising order, sorted as in the file; a state's arcs
            are in one block.

    Returns:
        The number of arcs.
    """
    names = b"".join(struct.pack("<i", len(name)) + name for name in (b"const", b"standard"))
    head = struct.pack("<i", MAGIC) + names
    states_at = len(head) + struct.calcsize(HEADER)
    arcs_at = states_at + len(final) * STATE.itemsize
    done = total = 0
    with Path(path).open("wb") as file:

        def write(source: np.ndarray, arcs: np.ndarray, end: int) -> None:
            state = np.zeros(end - done, STATE)
            state["final"] = final[done:end]
            state["arcs"] = np.bincount(source - done, minlength=end - done)
            state["first"] = total + np.cumsum(state["arcs"]) - state["arcs"]
            for name, label in (("ieps", "ilabel"), ("oeps", "olabel")):
                state[name] = np.bincount(source[arcs[label] == 0] - done, minlength=end - done)
            file.seek(states_at + done * STATE.itemsize)
            file.write(state.data)
            file.seek(arcs_at + total * ARC.itemsize)
            file.write(arcs.data)

        for source, arcs in blocks:
            if len(source):
                end = int(source[-1]) + 1
                write(source, arcs, end)
                done, total = end, total + len(arcs)
        write(np.zeros(0, np.int64), np.zeros(0, ARC), len(final))
        file.seek(0)
        counts = start, len(final), total
        file.write(head + struct.pack(HEADER, CONST_VERSION, 0, IS_EXPANDED, *counts))
    return total


def to_kaldifst(fst: FstArrays) -> kaldifst.StdVectorFst:
    """The same transducer as a mutable kaldifst object."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "fst")
        write_fst(fst, path)
        return kaldifst.StdVectorFst(kaldifst.StdConstFst.read(str(path)))


def _read_header(data: mmap.mmap) -> tuple[str, int, int, int, int]:
    """(kind of FST, bytes of header, start state, states, arcs)."""
    (magic,) = struct.unpack_from("<i", data, 0)
    if magic != MAGIC:
        raise ValueError
    names, offset = [], 4
    for _ in range(2):
        (length,) = struct.unpack_from("<i", data, offset)
        names.append(data[offset + 4 : offset + 4 + length].decode("ascii"))
        offset += 4 + length
    _, _, _, start, states, arcs = struct.unpack_from(HEADER, data, offset)
    return names[0], offset + struct.calcsize(HEADER), start, states, arcs


def concatenated_ranges(first: np.ndarray, size: np.ndarray) -> np.ndarray:
    """first[0], first[0] + 1, …, then those of first[1], …; `size` numbers of each."""
    ends = np.cumsum(size)
    total = int(ends[-1]) if len(ends) else 0
    return np.arange(total) + np.repeat(first - ends + size, size)
