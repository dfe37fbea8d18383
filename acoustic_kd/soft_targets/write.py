"""Write a store of soft targets: shards, each with a manifest entry.

Shard n holds the soft targets of the utterances of frame shard n. The file format is described in
docs/files.md.
"""

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import accumulate, chain
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from acoustic_kd.features.frame_shard import id_problems
from acoustic_kd.features.frames import Classes, Frames
from acoustic_kd.soft_targets.encoding import Encoded, Encoding, SparseTargets, encode
from acoustic_kd.soft_targets.header import Header
from acoustic_kd.soft_targets.manifest import Entry, Measured, entry_path, write_entry
from acoustic_kd.soft_targets.predictions import (
    BLOCK_FRAMES,
    Batch,
    Predictions,
    frames_in,
    in_blocks,
    problem_of,
    whole_utterances,
)
from acoustic_kd.soft_targets.shard import write_shard_file
from acoustic_kd.soft_targets.targets import as_soft_targets
from acoustic_kd.system.errors import UserError

DEFAULT = Encoding(bits=8)  # 20 classes and the mass of the others


def blocks_of(frames: int, block: int = BLOCK_FRAMES) -> Iterator[Tensor]:
    """The frame numbers from 0 to `frames` - 1, int64 [B], block after block."""
    return (torch.arange(n, min(n + block, frames)) for n in range(0, frames, block))


@dataclass(frozen=True)
class Provenance:
    """Where soft targets come from.

    Attributes:
        temperature: of the members' predictions.
        members: digests of the averaged members.
        mean: arithmetic or geometric.
        weights: of the members in the mean; None: equal.
    """

    temperature: float
    members: tuple[str, ...]
    mean: str = "arithmetic"
    weights: tuple[float, ...] | None = None

    def __post_init__(self) -> None:
        if not 0 < self.temperature < math.inf:
            raise UserError(f"temperature is {self.temperature}, expected a number above 0")
        if self.weights and not (min(self.weights) >= 0 < sum(self.weights)):
            raise UserError(f"weights are {self.weights}, expected numbers from 0 on, not all 0")


@dataclass
class GrowingIndex:
    """Utterances that become known while their predictions are read."""

    classes: Classes
    ids: list[str] = field(default_factory=list)
    offsets: list[int] = field(default_factory=lambda: [0])

    def __len__(self) -> int:
        return self.offsets[-1]


def write_shard(
    path: Path,
    frames: Frames,
    predictions: Iterable[Predictions],
    provenance: Provenance,
    encoding: Encoding,
    block: int = BLOCK_FRAMES,
) -> Entry:
    """Write the soft targets of `frames` as one shard, then its manifest entry; returns the entry.

    Args:
        predictions: probabilities [B, K] at `provenance.temperature` of block after block of
            frames, read one at a time while the block before is written.
        block: frames of each block but the last.
    """
    encoding = encoding.of(frames.classes.count)
    return write_entry(*_write_data(path, frames, predictions, provenance, encoding, block))


def _write_data(
    path: Path,
    frames: Frames | GrowingIndex,
    predictions: Iterable[Predictions],
    provenance: Provenance,
    encoding: Encoding,
    block: int = BLOCK_FRAMES,
) -> tuple[Path, Header, Measured]:
    """Write a shard; returns what its manifest entry needs."""
    path, classes, weights = Path(path), frames.classes, provenance.weights
    measured = Measured()

    def encoded() -> Iterator[Encoded]:
        number = done = 0
        for probabilities in predictions:  # large: no other reference may keep them
            count = frames_in(probabilities)
            if done != number * block or not 0 < count <= block or done + count > len(frames):
                raise ValueError(f"block {number} has {count} frames after {done}")
            if problem := problem_of(probabilities, classes.count):
                frame, text = done + problem[0], problem[1]
                name = frames.ids[int(np.searchsorted(frames.offsets, frame, "right")) - 1]
                raise UserError(
                    f"{path}: the prediction for frame {frame} (utterance '{name}') {text}"
                )
            stored = encode(probabilities, encoding, path.name, number)
            measured.add(probabilities, as_soft_targets(stored, encoding, 1.0, count))
            del probabilities
            yield stored
            number, done = number + 1, done + count
        if done < len(frames):
            raise ValueError(f"there are predictions for {done} of {len(frames)} frames")

    def last() -> tuple[Header, Sequence[str], Sequence[int] | np.ndarray]:
        header = Header(
            num_classes=classes.count,
            inventory=classes.inventory,
            temperature=float(provenance.temperature),
            mean=provenance.mean,
            weights=None if weights is None else tuple(w / sum(weights) for w in weights),
            members=provenance.members,
            encoding=encoding,
            frames=len(frames),
            utterances=len(frames.ids),
            block_frames=block,
        )
        return header, frames.ids, frames.offsets

    entry_path(path).unlink(missing_ok=True)  # it describes an older shard
    expected = max(1, -(-len(frames) // block))
    write_shard_file(path, encoding.arrays(classes.count), encoded(), expected, last)
    return path, last()[0], measured


def write_batches(
    directory: Path,
    batches: Iterable[Batch],
    classes: Classes,
    provenance: Provenance,
    encoding: Encoding,
    shard_frames: int = 1_000_000,
) -> list[Entry]:
    """Write a store whose utterances become known with their predictions; returns its entries.

    The manifest entries come last: without them an interrupted store is unfinished. After an error
    no file is left.

    Args:
        directory: must not hold a store yet.
        batches: read one at a time.
        shard_frames: frames in a shard, about; a batch is not divided.
    """
    directory = Path(directory)
    if any(directory.glob("shard-*")):
        raise UserError(f"{directory}: holds soft targets already; use another or delete it")
    remaining, seen, sparse, written = iter(batches), set[str](), False, []

    def predictions(index: GrowingIndex, first: Batch) -> Iterator[Predictions]:
        for names, lengths, prediction in chain([first], remaining):
            again = (f"duplicate utterance '{name}'" for name in names if name in seen)
            for problem in chain(id_problems(names), again):
                raise UserError(f"{directory}: {problem}")
            if isinstance(prediction, SparseTargets) != sparse:
                raise UserError(f"{directory}: '{names[0]}' is not sparse or dense like the others")
            seen.update(names)
            index.ids.extend(names)
            index.offsets.extend(accumulate(lengths, initial=index.offsets.pop()))
            yield prediction
            if len(index) >= shard_frames:
                return

    try:
        for number, first in enumerate(remaining):
            if not number:
                sparse = isinstance(first[2], SparseTargets)
                encoding = encoding.of(classes.count, sparse)
            index, path = GrowingIndex(classes), directory / f"shard-{number:05d}.h5"
            blocks = in_blocks(predictions(index, first))
            written.append(_write_data(path, index, blocks, provenance, encoding))
        if not written:
            raise UserError(f"{directory}: there are no predictions to store")
        return [write_entry(*data) for data in written]
    except BaseException:
        for number in range(len(written) + 1):
            path = directory / f"shard-{number:05d}.h5"
            path.unlink(missing_ok=True)
            entry_path(path).unlink(missing_ok=True)
        raise


def write_soft_targets(
    directory: Path,
    lengths: Mapping[str, int],
    predictions: Iterable[Predictions],
    classes: Classes,
    temperature: float,
    members: Sequence[str],
    encoding: Encoding = DEFAULT,
    shard_frames: int = 1_000_000,
) -> list[Entry]:
    """Write a store of soft targets from the predictions of any classifiers of frames.

    Args:
        directory: must not hold a store yet.
        lengths: utterance → its number of frames, at least 1; an image is an utterance of 1 frame.
        predictions: probabilities [T, K], or `SparseTargets` [T, k] of the k most probable classes,
            which are stored as top-k. Each is of one whole utterance or of several, in the order of
            `lengths`; read one at a time, not divided between shards.
        temperature: of the predictions; that of a server's log-probabilities is mostly 1.
        members: names or digests of the averaged classifiers.
        shard_frames: frames in a shard, about.

    Returns:
        The shards' manifest entries.

    Raises:
        UserError: the directory holds a store; predictions are missing, too many, of another
            shape, or not distributions. No file is left.
    """
    empty = [name for name, length in lengths.items() if length < 1]
    if empty:
        raise UserError(f"{directory}: utterance '{empty[0]}' has no frames; leave it out")
    batches = whole_utterances(lengths, predictions, classes.count, Path(directory))
    provenance = Provenance(temperature, tuple(members))
    return write_batches(directory, batches, classes, provenance, encoding, shard_frames)
