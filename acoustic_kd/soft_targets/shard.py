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
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from acoustic_kd.features.frames import open_shard
from acoustic_kd.soft_targets.encoding import Encoded, Encoding
from acoustic_kd.system.errors import UserError
from acoustic_kd.system.parallel import run_behind

FORMAT = "acoustic_kd soft targets 2"
STORE_FIELDS = ("num_classes", "inventory", "temperature", "mean", "weights", "members", "encoding")
BY_FRAME = ("counts", "tails")  # arrays with a number a frame; the others have one an entry
HDF5_CHUNK = 1 << 16  # numbers
MAX_NAMED = 5  # utterances of a damaged block in its message


@dataclass(frozen=True)
class Header:
    """The description of a shard's soft targets.

    Attributes:
        num_classes: K.
        inventory: hash of the classes.
        temperature: of the members' predictions.
        mean: arithmetic or geometric.
        weights: of the members in the mean; None: equal.
        members: digests of the members.
        encoding: for K classes.
        frames: T.
        utterances: U.
        block_frames: frames in each block but the last.
    """

    num_classes: int
    inventory: str
    temperature: float
    mean: str
    weights: tuple[float, ...] | None
    members: tuple[str, ...]
    encoding: Encoding
    frames: int
    utterances: int
    block_frames: int

    @property
    def blocks(self) -> range:
        """The numbers of the blocks."""
        return range(-(-self.frames // self.block_frames))

    def span(self, block: int) -> slice:
        """The frames of a block."""
        first = block * self.block_frames
        return slice(first, min(first + self.block_frames, self.frames))

    def differences_from(self, other: "Header") -> list[tuple[str, Any, Any]]:
        """The fields that must be equal in a store and differ: name, value, the other's value."""
        fields = [(name, getattr(self, name), getattr(other, name)) for name in STORE_FIELDS]
        return [(name, value, expected) for name, value, expected in fields if value != expected]

    def as_json(self) -> dict[str, Any]:
        """Plain values; the encoding's fields are beside the others."""
        values = asdict(self)
        encoding = values.pop("encoding")
        encoding["encoding"] = encoding.pop("name")
        plain: dict[str, Any] = json.loads(json.dumps(values | encoding))
        return plain

    @classmethod
    def from_json(cls, values: dict[str, Any]) -> "Header":
        """The header of the values of `as_json`; other values may be among them.

        Raises:
            KeyError, TypeError: the values are not a header.
        """
        plain = {key: values[key] for key in cls.__dataclass_fields__ if key != "encoding"}
        plain["members"] = tuple(plain["members"])
        plain["weights"] = None if plain["weights"] is None else tuple(plain["weights"])
        kept = {key: values[key] for key in Encoding.__dataclass_fields__ if key != "name"}
        return cls(encoding=Encoding(values["encoding"], **kept), **plain)


def write_shard_file(
    path: Path, header: Header, ids: list[str], offsets: np.ndarray, blocks: Iterable[Encoded]
) -> None:
    """Write a shard, block after block.

    A block is written in a thread while the next one is made, so memory holds two at a time.
    """
    kinds = header.encoding.arrays(header.num_classes)
    text = json.dumps(header.as_json())
    starts, checks = [0], []
    with h5py.File(path, "w") as file:
        file.attrs["format"] = FORMAT
        file.create_dataset("header", data=np.bytes_(text))
        file.create_dataset("ids", data=ids, dtype=h5py.string_dtype())
        file.create_dataset("offsets", data=np.asarray(offsets, np.int64))
        data = {}
        for name, kind in kinds.items():
            size = header.frames * (1 if name in BY_FRAME else header.encoding.kept_classes)
            chunks = (min(HDF5_CHUNK, max(1, size)),)
            data[name] = file.create_dataset(name, (0,), kind, maxshape=(None,), chunks=chunks)

        def write(block: dict[str, np.ndarray]) -> None:
            for name, values in block.items():
                place = len(data[name])
                data[name].resize((place + len(values),))
                data[name][place:] = values
            starts.append(len(data["codes"]))
            checks.append(_check(block.values()))

        run_behind(write, (_arrays(encoded, kinds) for encoded in blocks))
        checks.insert(0, _check_of(text, ids, offsets, starts))
        file.create_dataset("starts", data=np.array(starts, np.int64))
        file.create_dataset("checks", data=np.array(checks, np.uint32))


def _arrays(encoded: Encoded, kinds: dict[str, np.dtype]) -> dict[str, np.ndarray]:
    """The stored arrays of a block."""
    return {
        name: getattr(encoded, name).cpu().numpy().astype(kind, copy=False)
        for name, kind in kinds.items()
    }


def _check(arrays: Iterable[np.ndarray]) -> int:
    """CRC-32 of a block's arrays."""
    check = 0
    for array in arrays:
        check = zlib.crc32(array.data, check)
    return check


def _check_of(text: str, ids: list[str], offsets: Iterable[int], starts: Iterable[int]) -> int:
    """CRC-32 of everything except the blocks."""
    return zlib.crc32(json.dumps([text, ids, [*map(int, offsets)], [*map(int, starts)]]).encode())


class Shard:
    """A shard that is open for reading.

    Attributes:
        path: of the file.
        header: its description.
        ids: U utterance ids.
        offsets: int64 [U + 1].
        starts: int64 [blocks + 1].
    """

    def __init__(self, path: Path, file: h5py.File) -> None:
        self.path = path
        text = file["header"][()].decode()
        self.header = Header.from_json(json.loads(text))
        self.ids: list[str] = list(file["ids"].asstr()[:])
        self.offsets, self.starts = file["offsets"][:], file["starts"][:]
        self._checks = file["checks"][:]
        if self._checks[0] != _check_of(text, self.ids, self.offsets, self.starts):
            raise ValueError("the check sum of its header is wrong")
        self._kinds = self.header.encoding.arrays(self.header.num_classes)
        for name, empty in self.empty().items():
            data = file[name]
            if data.dtype != empty.dtype or data.shape != empty.shape:
                raise ValueError(
                    f"'{name}' is {data.dtype} {data.shape}, not {empty.dtype} {empty.shape}"
                )
        self._data = {name: file[name] for name in self._kinds}

    @property
    def bytes(self) -> int:
        """Memory that the arrays of all blocks take."""
        return sum(data.nbytes for data in self._data.values())

    def empty(self, blocks: range | None = None) -> dict[str, np.ndarray]:
        """Uninitialised arrays for neighbouring blocks (None: all)."""
        spans = {name: self._span(name, blocks) for name in self._kinds}
        return {
            name: np.empty(spans[name].stop - spans[name].start, kind)
            for name, kind in self._kinds.items()
        }

    def _span(self, name: str, blocks: range | None) -> slice:
        """The place of neighbouring blocks (None: all) in an array."""
        blocks = self.header.blocks if blocks is None else blocks
        if not blocks:
            return slice(0, 0)
        return slice(self.place(name, blocks[0]).start, self.place(name, blocks[-1]).stop)

    def place(self, name: str, number: int) -> slice:
        """The place of a block in an array."""
        if name in BY_FRAME:
            return self.header.span(number)
        return slice(self.starts[number], self.starts[number + 1])

    def block(self, number: int) -> dict[str, np.ndarray] | None:
        """Read the arrays of a block by name; None if it is damaged."""
        arrays = {name: data[self.place(name, number)] for name, data in self._data.items()}
        return arrays if _check(arrays.values()) == self._checks[1 + number] else None

    def read(self, blocks: range | None = None) -> tuple[dict[str, np.ndarray], int | None]:
        """Read neighbouring blocks (None: all); the arrays by name, and the first damaged block."""
        arrays = self.empty(blocks)
        starts = {name: self._span(name, blocks).start for name in arrays}
        for name, data in self._data.items():
            if len(arrays[name]):
                data.read_direct(arrays[name], self._span(name, blocks))
        for number in self.header.blocks if blocks is None else blocks:
            places = {name: self.place(name, number) for name in arrays}
            block = (
                array[places[name].start - starts[name] : places[name].stop - starts[name]]
                for name, array in arrays.items()
            )
            if _check(block) != self._checks[1 + number]:
                return arrays, number
        return arrays, None

    def describe_damage(self, number: int) -> str:
        """A message about a damaged block: its place, and its utterances."""
        span = self.header.span(number)
        inside = (self.offsets[:-1] < span.stop) & (self.offsets[1:] > span.start)
        ids = [f"'{self.ids[u]}'" for u in np.flatnonzero(inside)]
        names = ", ".join(ids[:MAX_NAMED])
        more = f" and {len(ids) - MAX_NAMED} more" if len(ids) > MAX_NAMED else ""
        return (
            f"{self.path}: block {number} (frames {span.start} to {span.stop - 1}) is damaged; it "
            f"holds utterances {names}{more}"
        )


@contextmanager
def open_soft_targets(path: Path) -> Iterator[Shard]:
    """Open a shard for reading; damage is a UserError, also within the block."""
    with open_shard(path, FORMAT) as file:
        try:
            shard = Shard(Path(path), file)
        except (UserError, OSError, KeyError, RuntimeError):
            raise  # `open_shard` names the file
        except Exception as error:  # damage can make HDF5 and JSON fail in many ways
            reason = " ".join(str(error).split())
            raise UserError(
                f"{path}: damaged ({reason}); delete it and run soft-targets again"
            ) from None
        yield shard
