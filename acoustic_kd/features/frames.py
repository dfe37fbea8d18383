"""Frame stores: features and, where known, the target class of every frame.

A store is a directory of shards `shard-00000.h5`, `shard-00001.h5`, …, each whole utterances. An
utterance is any sequence of frames; MNIST's digits are utterances of one frame.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from acoustic_kd.features.frame_sequence import NO_TARGET, Classes, FrameSequence
from acoustic_kd.features.frame_shard import (
    FrameShard,
    open_frames,
    shard_paths,
    shown_inventory,
    write_frame_shard,
)
from acoustic_kd.system.errors import UserError


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
            _write(Path(directory) / f"shard-{number:05d}.h5", pending, classes, dtype)
            total, number, frames, pending = total + frames, number + 1, 0, []
    if pending:
        _write(Path(directory) / f"shard-{number:05d}.h5", pending, classes, dtype)
    return total + frames


def _write(path: Path, utterances: list[FrameSequence], classes: Classes, dtype: str) -> None:
    lengths = [len(u.features) for u in utterances]
    targets = [u.targets for u in utterances if u.targets is not None]
    if targets and [len(t) for t in targets] != lengths:
        raise ValueError("targets and features of an utterance differ in length")
    write_frame_shard(
        path,
        [u.id for u in utterances],
        np.concatenate([[0], np.cumsum(lengths, dtype=np.int64)]),
        np.concatenate([u.features for u in utterances]).astype(dtype),
        np.concatenate(targets).astype(np.int32) if targets else None,
        classes.count,
        classes.inventory,
    )


def read_utterances(path: Path) -> Iterator[FrameSequence]:
    """The utterances of one shard, in order, with float32 features."""
    with open_frames(path) as shard:
        features, targets = shard.read(slice(0, len(shard)))
        ids, offsets = shard.ids, shard.offsets
    for number, name in enumerate(ids):
        span = slice(offsets[number], offsets[number + 1])
        here = None if targets is None else targets[span]
        yield FrameSequence(name, features[span].astype(np.float32), here)


def count_frames(paths: list[Path]) -> int:
    """The number of frames of some shards, without reading them."""
    total = 0
    for path in paths:
        with open_frames(path) as shard:
            total += len(shard)
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
        labelled: of each shard, whether it has targets.
        sizes: of each shard, how many utterances it holds.
        ids: U utterance ids, shard after shard.
        offsets: int64 [U + 1], the first frame of each, counted through all shards.
        classes: what the targets mean.
        dimension: D.
    """

    paths: list[Path]
    labelled: list[bool]
    sizes: list[int]
    ids: list[str]
    offsets: np.ndarray
    classes: Classes
    dimension: int

    @property
    def lengths(self) -> dict[str, int]:
        """Utterance → its frames."""
        return dict(zip(self.ids, np.diff(self.offsets).tolist(), strict=True))


def read_index(paths: Path | str | list[Path]) -> Index:
    """Read the index of a store (its directory), or of shards of one or several stores."""
    paths = paths if isinstance(paths, list) else shard_paths(paths)
    shards = []  # closed: without their frames
    for path in paths:
        with open_frames(path) as shard:
            shards.append(shard)
    _check_same_store(shards)
    lengths = [np.diff(shard.offsets) for shard in shards]
    return Index(
        paths,
        [shard.labelled for shard in shards],
        [len(shard.ids) for shard in shards],
        [name for shard in shards for name in shard.ids],
        np.concatenate([[0], np.cumsum(np.concatenate(lengths))]),
        Classes(shards[0].count, shards[0].inventory),
        shards[0].dimension,
    )


def _check_same_store(shards: list[FrameShard]) -> None:
    """Refuse shards that cannot be read together."""
    first = shards[0]
    homes: dict[str, Path] = {}
    has_targets: dict[Path, bool] = {}
    for shard in shards:
        folder = shard.path.parent
        kind, expected = (shard.count, shard.inventory), (first.count, first.inventory)
        if has_targets.setdefault(folder, shard.labelled) != shard.labelled:
            raise UserError(f"{folder}: some shards have targets and some have none")
        if kind != expected:
            raise UserError(
                f"{shard.path}: class inventory {shown_inventory(shard.inventory)} ({shard.count} "
                f"classes) differs from {shown_inventory(first.inventory)} ({first.count}) in "
                f"{first.path}"
            )
        if shard.dimension != first.dimension:
            raise UserError(
                f"{shard.path}: frames of {shard.dimension} features, but {first.dimension} in "
                f"{first.path}; write the store again"
            )
        for name in shard.ids:
            if name in homes:
                raise UserError(
                    f"{shard.path}: duplicate utterance '{name}', also in {homes[name]}; keep one"
                )
            homes[name] = shard.path


def read_frames(paths: Path | str | list[Path]) -> Frames:
    """Read a store (its directory), or shards of one or several stores, into memory.

    Where one store has targets and another has none, the frames of the other have NO_TARGET.
    """
    index = read_index(paths)
    features, targets = [], []
    for path in index.paths:
        with open_frames(path) as shard:
            in_shard, labels = shard.read(slice(0, len(shard)))
        features.append(torch.from_numpy(in_shard))
        missing = np.full(len(in_shard), NO_TARGET, np.int64)
        targets.append(torch.from_numpy(missing if labels is None else labels))
    known = torch.cat(targets) if any(index.labelled) else None
    return Frames(torch.cat(features), known, index.ids, index.offsets, index.classes)
