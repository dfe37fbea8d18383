"""One HDF5 shard of frames, with check sums.

    features   [T, D]  float16 or float32, frames of all its utterances one after the other
    targets    [T]     int32, the class of each frame (absent in an untranscribed store)
    ids        [U]     UTF-8, the utterances
    offsets    [U + 1] int64, utterance u is frames offsets[u] … offsets[u + 1] - 1

with attributes `format`, `classes` (K) and `inventory` (hash of what the classes mean).
"""

import re
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import h5py
import numpy as np

from acoustic_kd.system.errors import UserError
from acoustic_kd.system.hdf5 import (
    Reader,
    add_dataset,
    add_text_attribute,
    open_hdf5,
    reading,
    write_hdf5,
)
from acoustic_kd.system.remote import local_folder

FORMAT = "acoustic_kd frames 1"
INFINITE_HALF = 0x7C00  # the bits of the exponent of a float16 that is infinite or NaN
MOST_CLASSES = (1 << 31) - 1
ROWS = 1 << 14  # that are checked together


def shard_paths(directory: Path | str) -> list[Path]:
    """The shards of a store, in order; those of a remote store (`local_folder`) are copied."""
    paths = sorted(local_folder(directory).glob("shard-*.h5"))
    if not paths:
        raise UserError(f"{directory}: no shards (shard-*.h5) here; run the stage that writes them")
    return paths


def write_frame_shard(
    path: Path,
    ids: list[str],
    offsets: np.ndarray,
    features: np.ndarray,
    targets: np.ndarray | None,
    count: int,
    inventory: str,
) -> None:
    """Write a shard; the arrays and attributes are those of the file."""
    for problem in id_problems(ids):
        raise UserError(f"{path}: {problem}; an id is one word")
    for problem in value_problems(ids, offsets, features, targets, count):
        raise UserError(f"{path}: {problem}")

    def write(file: h5py.File) -> None:
        file.attrs["classes"] = count
        add_text_attribute(file, "inventory", inventory)
        add_dataset(file, "features", features)
        if targets is not None:
            add_dataset(file, "targets", targets)
        add_dataset(file, "ids", ids)
        add_dataset(file, "offsets", offsets)

    write_hdf5(path, FORMAT, [write])


class FrameShard:
    """A shard that is open for reading; what `read` returns is checked.

    Attributes:
        count: K.
        inventory: hash of what the classes mean.
        ids: U utterance ids.
        offsets: int64 [U + 1].
        dimension: D.
        dtype: of the features, float16 or float32.
        problems: contradictions between ids, offsets and numbers of frames.
        has_check_sums: whether a changed bit is noticed. Shards of other programs may have none.
    """

    def __init__(self, file: Reader) -> None:
        self.path = file.path
        self.count, self.inventory = file.integer("classes"), file.text("inventory")
        self._features = file.dataset("features", "f", 2)
        self._length, self.dimension = map(int, self._features.shape)
        self.dtype = self._features.dtype.newbyteorder("=")
        self.labelled = "targets" in file
        self._targets = file.dataset("targets", "iu") if self.labelled else None
        self.ids = file.texts("ids")
        offsets = file.dataset("offsets", "iu")[:]
        self.has_check_sums = file.has_check_sums
        if self.dtype not in (np.float16, np.float32):
            raise file.refuse(f"'features' is {self.dtype}, not float16 or float32")
        if not 0 <= self.count <= MOST_CLASSES:
            raise file.refuse(f"attribute 'classes' is {self.count}")
        if not self.dimension or not len(self):
            raise file.refuse(f"'features' is empty, {len(self)} frames of {self.dimension}")
        self.problems = [*id_problems(self.ids), *offset_problems(self.ids, offsets, len(self))]
        if self._targets is not None and len(self._targets) != len(self):
            self.problems.append(
                f"{len(self)} frames of features, but {len(self._targets)} targets"
            )
        self.offsets = offsets.astype(np.int64)

    def __len__(self) -> int:
        return self._length

    def read(self, span: slice) -> tuple[np.ndarray, np.ndarray | None]:
        """Features [n, D] as stored, and int64 targets [n] or None, of neighbouring frames."""
        features, targets = self._read(span)
        offsets = self.offsets - span.start
        for problem in value_problems(self.ids, offsets, features, targets, self.count):
            raise UserError(f"{self.path}: {problem}; write the file again")
        return features, None if targets is None else targets.astype(np.int64)

    def targets(self) -> np.ndarray | None:
        """The int64 targets [T] of all frames, without their features; None if there are none."""
        if self._targets is None:
            return None
        with reading(self.path):
            targets: np.ndarray = self._targets[:].astype(np.int64)
        for problem in value_problems(
            self.ids, self.offsets, np.zeros((0, 1)), targets, self.count
        ):
            raise UserError(f"{self.path}: {problem}; write the file again")
        return targets

    def value_problems(self, span: slice) -> Iterator[str]:
        """What is wrong with the values of neighbouring frames, if `problems` is empty."""
        return value_problems(self.ids, self.offsets - span.start, *self._read(span), self.count)

    def _read(self, span: slice) -> tuple[np.ndarray, np.ndarray | None]:
        with reading(self.path):
            features = self._features[span].astype(self.dtype, copy=False)
            return features, None if self._targets is None else self._targets[span]


@contextmanager
def open_frames(path: Path, refuse: bool = True) -> Iterator[FrameShard]:
    """Open a shard for reading; damage is a UserError.

    Args:
        refuse: contradictions (`FrameShard.problems`) are a UserError, too.
    """
    with open_hdf5(path, FORMAT) as file:
        with reading(path):
            shard = FrameShard(file)
        if refuse and shard.problems:
            raise file.refuse(shard.problems[0])
        yield shard


def shown_inventory(inventory: str) -> str:
    """A class inventory in a message: the beginning of a hash, a name whole."""
    return inventory[:12] if re.fullmatch("[0-9a-f]{32}|[0-9a-f]{64}", inventory) else inventory


def id_problems(ids: Iterable[str], seen: set[str] | None = None) -> Iterator[str]:
    """Ids that are not one word, or that come twice; `seen` has earlier ids, and gets these."""
    seen = set() if seen is None else seen
    for name in ids:
        if name.split() != [name] or "\0" in name:
            yield f"utterance id {name!r} is empty or contains a space"
        elif not name.isascii() and name.encode(errors="replace").decode() != name:
            yield f"utterance id {name!r} is not text: it has half of a character"
        if name in seen:
            yield f"duplicate utterance '{name}'"
        seen.add(name)


def offset_problems(ids: Sequence[str], offsets: np.ndarray, count: int) -> Iterator[str]:
    """Contradictions between utterances, their offsets [U + 1] and the number of frames."""
    if len(offsets) != len(ids) + 1:
        yield f"{len(ids)} utterances, but {len(offsets)} offsets"
        return
    bounds = [*map(int, offsets)]
    problem = ""
    if not ids:
        problem = "there is no utterance"
    elif bounds[0] != 0:
        problem = f"the first utterance '{ids[0]}' begins at frame {bounds[0]}"
    elif backwards := [u for u in range(len(ids)) if bounds[u + 1] < bounds[u]]:
        u = backwards[0]
        problem = f"utterance '{ids[u]}' begins at frame {bounds[u]} and ends at {bounds[u + 1]}"
    elif bounds[-1] != count:
        problem = f"the last utterance '{ids[-1]}' ends at frame {bounds[-1]}"
    if problem:
        yield f"its offsets do not divide its {count} frames into utterances: {problem}"


def value_problems(
    ids: Sequence[str],
    offsets: np.ndarray,
    features: np.ndarray,
    targets: np.ndarray | None,
    count: int,
) -> Iterator[str]:
    """The first frame with an infinite feature or NaN; the first target that is no class.

    Args:
        offsets: int64 [U + 1], counted from the first of these frames.
        features: [n, D] float16 or float32.
        targets: integers [n].
        count: K.
    """

    def place(frame: int) -> str:
        u = int(np.searchsorted(offsets, frame, "right")) - 1
        return f"frame {frame - offsets[u]} of utterance '{ids[u]}'"

    if not _all_finite(features):
        frame, number = np.argwhere(~np.isfinite(features))[0]
        yield f"{place(frame)}: feature {number} is {features[frame, number]}"
    if targets is not None and (targets.min(initial=0) < 0 or targets.max(initial=0) >= count):
        frame = np.flatnonzero((targets < 0) | (targets >= count))[0]
        yield f"{place(frame)}: the target is {targets[frame]}, but there are {count} classes"


def _all_finite(features: np.ndarray) -> bool:
    parts = (features[first : first + ROWS] for first in range(0, len(features), ROWS))
    if features.dtype == np.float16:  # NumPy is slow with its values
        exponents = (part.view(np.uint16) & INFINITE_HALF for part in parts)
        return all(part.max(initial=0) < INFINITE_HALF for part in exponents)
    return all(np.isfinite(part).all() for part in parts)
