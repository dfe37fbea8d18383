"""HDF5 frame shards: features and, where known, the target class of every frame.

A store is a directory of shards `shard-00000.h5`, `shard-00001.h5`, …, each whole utterances:

    features   [T, D]  float16 or float32, frames of all its utterances one after the other
    targets    [T]     int32, the class of each frame (absent in an untranscribed store)
    ids        [U]     UTF-8, the utterances
    offsets    [U + 1] int64, utterance u is frames offsets[u] … offsets[u + 1] - 1

with attributes `format`, `classes` (K) and `inventory` (hash of what the classes mean). An
utterance is any sequence of frames; MNIST's digits are utterances of one frame.
"""

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import h5py
import numpy as np
import torch

from acoustic_kd.system.errors import UserError
from acoustic_kd.system.files import atomic_path

FORMAT = "acoustic_kd frames 1"
NO_TARGET = -1  # target of a frame without a transcript, in memory only


@dataclass(frozen=True)
class Classes:
    """What the targets of a store mean.

    Attributes:
        count: K.
        inventory: hash of the class inventory; equal hashes mean equal classes.
    """

    count: int
    inventory: str


@dataclass(frozen=True)
class FrameSequence:
    """The frames of an utterance: features [T, D] and targets [T] or None."""

    id: str
    features: np.ndarray
    targets: np.ndarray | None

    @property
    def labels(self) -> np.ndarray:
        """The targets; a ValueError if there are none."""
        if self.targets is None:
            raise ValueError(f"utterance '{self.id}' has no targets")
        return self.targets


def shard_paths(directory: Path) -> list[Path]:
    """The shards of a store, in order."""
    paths = sorted(Path(directory).glob("shard-*.h5"))
    if not paths:
        raise UserError(f"{directory}: no shards (shard-*.h5) here; run the stage that writes them")
    return paths


@contextmanager
def open_shard(path: Path, expected_format: str) -> Iterator[h5py.File]:
    """Open a shard for reading; damage is a UserError, also within the block."""
    try:
        with h5py.File(path, "r") as file:
            stored = file.attrs.get("format")
            if stored != expected_format:
                raise UserError(f"{path}: format is {stored!r}, expected '{expected_format}'")
            yield file
    except (OSError, KeyError, RuntimeError) as error:
        reason = " ".join(str(error).split()).split("(")[-1].strip(")'\"")
        raise UserError(
            f"{path}: not a readable HDF5 file ({reason}); delete it and run the "
            "stage that writes it"
        ) from None


def write_store(
    directory: Path,
    utterances: Iterable[FrameSequence],
    classes: Classes,
    shard_frames: int,
    dtype: str = "float16",
) -> int:
    """Write a store of shards of about `shard_frames` frames; returns the number of frames."""
    total = number = frames = 0
    pending: list[FrameSequence] = []
    for utterance in utterances:
        pending.append(utterance)
        frames += len(utterance.features)
        if frames >= shard_frames:
            _write_shard(Path(directory) / f"shard-{number:05d}.h5", pending, classes, dtype)
            total, number, frames, pending = total + frames, number + 1, 0, []
    if pending:
        _write_shard(Path(directory) / f"shard-{number:05d}.h5", pending, classes, dtype)
    return total + frames


def _write_shard(path: Path, utterances: list[FrameSequence], classes: Classes, dtype: str) -> None:
    lengths = [len(u.features) for u in utterances]
    with atomic_path(path) as temporary, h5py.File(temporary, "w") as file:
        file.attrs["format"] = FORMAT
        file.attrs["classes"] = classes.count
        file.attrs["inventory"] = classes.inventory
        features = np.concatenate([u.features for u in utterances])
        file.create_dataset("features", data=features.astype(dtype))
        targets = [u.targets for u in utterances if u.targets is not None]
        if targets:
            if [len(t) for t in targets] != lengths:
                raise ValueError("targets and features of an utterance differ in length")
            file.create_dataset("targets", data=np.concatenate(targets).astype(np.int32))
        file.create_dataset("ids", data=[u.id for u in utterances], dtype=h5py.string_dtype())
        file.create_dataset("offsets", data=np.concatenate([[0], np.cumsum(lengths)]))


def read_utterances(path: Path) -> Iterator[FrameSequence]:
    """The utterances of one shard, in order, with float32 features."""
    with open_shard(path, FORMAT) as file:
        features = file["features"][:].astype(np.float32)
        targets = file["targets"][:] if "targets" in file else None
        offsets = file["offsets"][:]
        for number, name in enumerate(file["ids"].asstr()[:]):
            span = slice(offsets[number], offsets[number + 1])
            yield FrameSequence(name, features[span], None if targets is None else targets[span])


def count_frames(paths: list[Path]) -> int:
    """The number of frames of some shards, without reading them."""
    total = 0
    for path in paths:
        with open_shard(path, FORMAT) as file:
            total += len(file["features"])
    return total


@dataclass
class Frames:
    """Frames of whole shards in memory.

    Attributes:
        features: [T, D], in the precision of the shards, without splicing.
        targets: int64 [T], NO_TARGET for a frame without a transcript; None if all have none.
        ids: U utterance ids.
        offsets: int64 [U + 1].
        classes: what the targets mean.
    """

    features: torch.Tensor
    targets: torch.Tensor | None
    ids: list[str]
    offsets: np.ndarray
    classes: Classes

    def __len__(self) -> int:
        return len(self.features)

    @property
    def labels(self) -> torch.Tensor:
        """The targets; a ValueError if there are none."""
        if self.targets is None:
            raise ValueError("the frames have no targets")
        return self.targets

    @property
    def transcribed(self) -> bool:
        """Whether the target of every frame is known."""
        return self.targets is not None and not bool((self.targets == NO_TARGET).any())

    def select(self, chosen: np.ndarray) -> "Frames":
        """The utterances for which `chosen`, bool [U], is true."""
        lengths = np.diff(self.offsets)
        kept = torch.from_numpy(np.repeat(chosen, lengths))
        return Frames(
            self.features[kept],
            None if self.targets is None else self.targets[kept],
            [name for name, keep in zip(self.ids, chosen, strict=True) if keep],
            np.concatenate([[0], np.cumsum(lengths[chosen])]),
            self.classes,
        )

    def spans(self) -> Iterator[tuple[str, slice]]:
        """Each utterance with its frames."""
        for number, name in enumerate(self.ids):
            yield name, slice(int(self.offsets[number]), int(self.offsets[number + 1]))


def frame_index(lengths: Mapping[str, int], classes: Classes) -> Frames:
    """`Frames` of known lengths without features, to write or look up soft targets.

    Args:
        lengths: utterance → its number of frames.
    """
    offsets = np.concatenate([[0], np.cumsum(list(lengths.values()), dtype=np.int64)])
    return Frames(torch.zeros(int(offsets[-1]), 0), None, list(lengths), offsets, classes)


@dataclass(frozen=True)
class Index:
    """The contents of some shards, without their frames.

    Attributes:
        paths: the shards.
        labelled: of each shard, whether it has targets.
        sizes: of each shard, how many utterances it holds.
        ids: U utterance ids, shard after shard.
        offsets: int64 [U + 1], the first frame of each, counted through all shards.
        classes: what the targets mean.
        dimension: D.
        number_bytes: bytes of a stored feature.
    """

    paths: list[Path]
    labelled: list[bool]
    sizes: list[int]
    ids: list[str]
    offsets: np.ndarray
    classes: Classes
    dimension: int
    number_bytes: int

    @property
    def lengths(self) -> dict[str, int]:
        """Utterance → its frames."""
        return dict(zip(self.ids, np.diff(self.offsets).tolist(), strict=True))


def read_index(paths: Path | list[Path]) -> Index:
    """Read the index of a store (its directory), or of shards of one or several stores."""
    paths = paths if isinstance(paths, list) else shard_paths(paths)
    labelled, ids, lengths = [], [], []
    stores: dict[Path, bool] = {}  # store → whether it has targets
    kinds: dict[Classes, Path] = {}
    for path in paths:
        with open_shard(path, FORMAT) as file:
            kinds.setdefault(Classes(int(file.attrs["classes"]), file.attrs["inventory"]), path)
            labelled.append("targets" in file)
            if stores.setdefault(path.parent, labelled[-1]) != labelled[-1]:
                raise UserError(f"{path.parent}: some shards have targets and some have none")
            ids.append(file["ids"].asstr()[:])
            lengths.append(np.diff(file["offsets"][:]))
            dimension, number_bytes = file["features"].shape[1], file["features"].dtype.itemsize
    if len(kinds) > 1:
        (first, first_path), (second, path) = list(kinds.items())[:2]
        raise UserError(
            f"{path}: class inventory {second.inventory[:12]} ({second.count} classes) "
            f"differs from {first.inventory[:12]} ({first.count}) in {first_path}"
        )
    offsets = np.concatenate([[0], np.cumsum(np.concatenate(lengths))])
    names = [name for in_shard in ids for name in in_shard]
    sizes = [len(in_shard) for in_shard in ids]
    kind = next(iter(kinds))
    return Index(paths, labelled, sizes, names, offsets, kind, dimension, number_bytes)


def read_frames(paths: Path | list[Path]) -> Frames:
    """Read a store (its directory), or shards of one or several stores, into memory.

    Where one store has targets and another has none, the frames of the other have NO_TARGET.
    """
    index = read_index(paths)
    features, targets = [], []
    for path, labelled in zip(index.paths, index.labelled, strict=True):
        with open_shard(path, FORMAT) as file:
            features.append(torch.from_numpy(file["features"][:]))
            if labelled:
                targets.append(torch.from_numpy(file["targets"][:]).long())
            else:
                targets.append(torch.full((len(features[-1]),), NO_TARGET))
    known = torch.cat(targets) if any(index.labelled) else None
    return Frames(torch.cat(features), known, index.ids, index.offsets, index.classes)
