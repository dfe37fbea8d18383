"""One HDF5 file of soft targets, in blocks of frames that each have a check sum.

    header   ASCII JSON: what the soft targets are, see `Header`
    ids      [U]           UTF-8, the utterances
    offsets  [U + 1]       int64, utterance u is frames offsets[u] … offsets[u + 1] - 1
    counts   [T]           uint8 or uint16, entries of each frame (top-p and sampled)
    classes  [N]           uint16 or uint32, of the entries, frame after frame (all but dense)
    codes    [N]           float16, uint8 or uint16, theirs (`acoustic_kd.soft_targets.encoding`)
    tails    [T]           uint8 (top-k and top-p at 8 bits)
    starts   [blocks + 1]  int64, block b is entries starts[b] … starts[b + 1] - 1
    checks   [1 + blocks]  uint32, CRC-32 of header, ids, offsets and starts; then of each block

and the attribute `format`. The bytes do not depend on when or where they were written.
"""

import json
import zlib
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import partial, reduce
from itertools import chain
from pathlib import Path

import h5py
import numpy as np

from acoustic_kd.features.frame_shard import id_problems, offset_problems
from acoustic_kd.soft_targets.encoding import Encoded
from acoustic_kd.soft_targets.header import Header
from acoustic_kd.soft_targets.values import start_problems, value_problem
from acoustic_kd.system.errors import UserError
from acoustic_kd.system.hdf5 import Reader, add_dataset, open_hdf5, reading, write_hdf5

FORMAT = "acoustic_kd soft targets 2"
BY_FRAME = ("counts", "tails")  # arrays with a number a frame; the others have one an entry
HDF5_CHUNK = 1 << 16  # numbers
Offsets = Sequence[int] | np.ndarray
MAX_NAMED = 5  # utterances of a damaged block in its message


def write_shard_file(
    path: Path, header: Header, ids: Sequence[str], offsets: Offsets, blocks: Iterable[Encoded]
) -> Header:
    """Write a shard, whole or not at all, block after block; returns its header.

    A block is written in a thread while the next one is made, so memory holds two at a time.

    Args:
        header: its numbers of frames and utterances are those known before the first block.
        ids, offsets: of the utterances; both may grow until the last block.
    """
    kinds = header.encoding.arrays(header.num_classes)
    starts, checks = [0], list[int]()

    def append(encoded: Encoded, file: h5py.File) -> None:
        arrays = {name: getattr(encoded, name).cpu().numpy() for name in kinds}
        block = {name: array.astype(kinds[name], copy=False) for name, array in arrays.items()}
        for name, values in block.items():
            if name not in file:
                chunk = min(HDF5_CHUNK, max(1, max(1, len(header.blocks)) * len(values)))
                file.create_dataset(name, (0,), kinds[name], maxshape=(None,), chunks=(chunk,))
            data = file[name]
            place = len(data)
            data.resize((place + len(values),))
            data[place:] = values
        starts.append(starts[-1] + len(block["codes"]))
        checks.append(_check(block.values()))

    def end(file: h5py.File) -> None:
        text = json.dumps(whole().as_json())
        checks.insert(0, _check_of(text, ids, offsets, starts))
        file.create_dataset("header", data=np.bytes_(text))
        add_dataset(file, "ids", ids)
        for name, values in (("offsets", offsets), ("starts", starts)):
            add_dataset(file, name, np.asarray(values, np.int64))
        add_dataset(file, "checks", np.array(checks, np.uint32))

    def whole() -> Header:
        return replace(header, frames=int(offsets[-1]), utterances=len(ids))

    write_hdf5(path, FORMAT, chain((partial(append, encoded) for encoded in blocks), [end]))
    return whole()


def _check(arrays: Iterable[np.ndarray]) -> int:
    """CRC-32 of a block's arrays."""
    return reduce(lambda check, array: zlib.crc32(array.data, check), arrays, 0)


def _check_of(text: str, ids: Sequence[str], offsets: Iterable[int], starts: Iterable[int]) -> int:
    """CRC-32 of everything except the blocks."""
    return zlib.crc32(json.dumps([text, ids, [*map(int, offsets)], [*map(int, starts)]]).encode())


class Shard:
    """A shard that is open for reading; what is read is checked.

    Attributes:
        path: of the file.
        header: its description.
        ids: U utterance ids.
        offsets: int64 [U + 1].
        starts: int64 [blocks + 1].
    """

    def __init__(self, file: Reader) -> None:
        self.path = file.path
        text = bytes(file.dataset("header", "S", 0)[()]).decode()
        try:
            self.header = header = Header.from_json(json.loads(text))
        except KeyError as error:
            raise file.refuse(f"its header lacks {error}") from None
        except (ValueError, TypeError, RecursionError) as error:
            raise file.refuse(f"its header is not valid ({error})") from None
        self.ids = file.texts("ids")
        self.offsets, self.starts, self._checks = (
            file.dataset(name, "iu")[:] for name in ("offsets", "starts", "checks")
        )
        edges = len(header.blocks) + 1
        expected = {"ids": header.utterances, "starts": edges, "checks": edges}
        for name, values in zip(expected, (self.ids, self.starts, self._checks), strict=True):
            if len(values) != expected[name]:
                raise file.refuse(f"'{name}' has {len(values)} values, not {expected[name]}")
        if self._checks[0] != _check_of(text, self.ids, self.offsets, self.starts):
            raise file.refuse("the check sum of its header is wrong")
        problems = chain(
            id_problems(self.ids),
            offset_problems(self.ids, self.offsets, header.frames),
            start_problems(header, self.starts),
        )
        for problem in problems:
            raise file.refuse(problem)
        self.offsets, self.starts = self.offsets.astype(np.int64), self.starts.astype(np.int64)
        self._data = {}
        for name, kind in header.encoding.arrays(header.num_classes).items():
            data = file.dataset(name, "f" if kind.kind == "f" else "iu")
            length = header.frames if name in BY_FRAME else int(self.starts[-1])
            if data.dtype != kind or len(data) != length:
                raise file.refuse(f"'{name}' is {len(data)} {data.dtype}, not {length} {kind}")
            self._data[name] = data

    @property
    def bytes(self) -> int:
        """Memory that the arrays of all blocks take."""
        return sum(data.nbytes for data in self._data.values())

    def read(self, blocks: range | None = None) -> tuple[dict[str, np.ndarray], int | None]:
        """Read neighbouring blocks (None: all); the arrays by name, and the first damaged block."""
        blocks = self.header.blocks if blocks is None else blocks
        spans = {name: self._place(name, blocks) for name in self._data}
        arrays = {}
        with reading(self.path):
            for name, span in spans.items():
                data = self._data[name]
                arrays[name] = np.empty(span.stop - span.start, data.dtype)
                if len(arrays[name]):
                    data.read_direct(arrays[name], span)
        for number in blocks:
            block, here = {}, range(number, number + 1)
            for name, array in arrays.items():
                place, first = self._place(name, here), spans[name].start
                block[name] = array[place.start - first : place.stop - first]
            if _check(block.values()) != self._checks[1 + number]:
                return arrays, number
            span = self.header.span(number)
            if wrong := value_problem(self.header, block, span.stop - span.start):
                frame = span.start + wrong[0]
                u = int(np.searchsorted(self.offsets, frame, "right")) - 1
                where = f"frame {frame - self.offsets[u]} of utterance '{self.ids[u]}'"
                raise UserError(
                    f"{self.path}: {where}: {wrong[1]}; delete the shard and run soft-targets again"
                )
        return arrays, None

    def _place(self, name: str, blocks: range) -> slice:
        """The place of neighbouring blocks in an array."""
        if name in BY_FRAME:
            return self.header.span(blocks.start, blocks.stop)
        return slice(self.starts[blocks.start], self.starts[blocks.stop])

    def describe_damage(self, number: int) -> str:
        """A message about a damaged block: its place, and its utterances."""
        span = self.header.span(number)
        inside = (self.offsets[:-1] < span.stop) & (self.offsets[1:] > span.start)
        ids = [f"'{self.ids[u]}'" for u in np.flatnonzero(inside)]
        names = ", ".join(ids[:MAX_NAMED])
        more = f" and {len(ids) - MAX_NAMED} more" if len(ids) > MAX_NAMED else ""
        where = f"block {number} (frames {span.start} to {span.stop - 1})"
        return f"{self.path}: {where} is damaged; it holds utterances {names}{more}"


@contextmanager
def open_soft_targets(path: Path) -> Iterator[Shard]:
    """Open a shard for reading; damage is a UserError."""
    with open_hdf5(path, FORMAT) as file:
        with reading(path):
            shard = Shard(file)
        yield shard
