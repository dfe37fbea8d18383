"""Write a store of soft targets: shards, each with a manifest entry (format: docs/files.md).

Shard n holds the soft targets of the utterances of frame shard n.
"""

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate, chain
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from acoustic_kd.features.frame_sequence import Classes
from acoustic_kd.features.frame_shard import id_problems
from acoustic_kd.features.frames import Frames
from acoustic_kd.soft_targets.encoding import Encoded, Encoding, SparseTargets, encode
from acoustic_kd.soft_targets.header import Header
from acoustic_kd.soft_targets.manifest import Entry, Measured, entry_path, write_entry
from acoustic_kd.soft_targets.predictions import (
    BLOCK_FRAMES,
    Batch,
    Predictions,
    in_blocks,
    problem_of,
    tensors_of,
    whole_utterances,
)
from acoustic_kd.soft_targets.shard import Offsets, write_shard_file
from acoustic_kd.soft_targets.targets import as_soft_targets
from acoustic_kd.system.errors import UserError

DEFAULT = Encoding(bits=8)  # 20 classes and the mass of the others


def blocks_of(frames: int, block: int = BLOCK_FRAMES) -> Iterator[Tensor]:
    """The frame numbers from 0 to `frames` - 1, int64 [B], block after block."""
    return (torch.arange(n, min(n + block, frames)) for n in range(0, frames, block))


@dataclass(frozen=True)
class Provenance:
    """Where soft targets come from: fields of `Header`, but the weights need not sum to 1."""

    temperature: float
    members: tuple[str, ...]
    mean: str = "arithmetic"
    weights: tuple[float, ...] | None = None

    def __post_init__(self) -> None:
        if not 0 < self.temperature < math.inf:
            raise UserError(f"temperature is {self.temperature}, expected a number above 0")
        if self.weights and not (min(self.weights) >= 0 < sum(self.weights)):
            raise UserError(f"weights are {self.weights}, expected numbers from 0 on, not all 0")


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
    encoding, utterances = encoding.of(frames.classes.count), (frames.ids, frames.offsets)
    data = _write_data(path, *utterances, frames.classes, predictions, provenance, encoding, block)
    return write_entry(*data)


def _write_data(
    path: Path,
    ids: Sequence[str],
    offsets: Offsets,
    classes: Classes,
    predictions: Iterable[Predictions],
    provenance: Provenance,
    encoding: Encoding,
    block: int = BLOCK_FRAMES,
) -> tuple[Path, Header, Measured]:
    """Write a shard; returns what its manifest entry needs.

    Args:
        ids, offsets: of utterances; those of a block must be known once it is read.
    """
    path, weights, measured = Path(path), provenance.weights, Measured()

    def encoded() -> Iterator[Encoded]:
        number = done = 0
        for probabilities in predictions:  # large: no other reference may keep them
            count = len(tensors_of(probabilities)[0])
            if done != number * block or not 0 < count <= block or done + count > offsets[-1]:
                raise ValueError(f"block {number} has {count} frames after {done}")
            if problem := problem_of(probabilities, classes.count):
                frame, text = done + problem[0], problem[1]
                name = ids[int(np.searchsorted(offsets, frame, "right")) - 1]
                raise UserError(
                    f"{path}: the prediction for frame {frame} (utterance '{name}') {text}"
                )
            stored = encode(probabilities, encoding, path.name, number)
            measured.add(probabilities, as_soft_targets(stored, encoding, 1.0))
            del probabilities
            yield stored
            number, done = number + 1, done + count
        if done < offsets[-1]:
            raise ValueError(f"there are predictions for {done} of {offsets[-1]} frames")

    header = Header(
        classes.count, classes.inventory, float(provenance.temperature), provenance.mean,
        weights=None if weights is None else tuple(w / sum(weights) for w in weights),
        members=provenance.members, encoding=encoding,
        frames=int(offsets[-1]), utterances=len(ids), block_frames=block,
    )  # fmt: skip
    entry_path(path).unlink(missing_ok=True)  # it describes an older shard
    return path, write_shard_file(path, header, ids, offsets, encoded()), measured


def write_batches(
    directory: Path,
    batches: Iterable[Batch],
    classes: Classes | None,
    provenance: Provenance,
    encoding: Encoding,
    shard_frames: int = 1_000_000,
) -> list[Entry]:
    """Write a store whose utterances become known with their predictions; returns its entries.

    The manifest entries come last: without them an interrupted store is unfinished. After an error
    no file is left.

    Args:
        directory: must not hold a store yet.
        batches: read one at a time; a batch is not divided between shards.
        classes: None: only their number is known, from the first batch, which is dense.
        shard_frames: frames in a shard, about.
    """
    directory = Path(directory)
    there = next(path for path in (directory, *directory.absolute().parents) if path.exists())
    if not there.is_dir():
        raise UserError(f"{directory}: cannot be made, because {there} is a file; give another")
    if any(directory.glob("shard-*")):
        raise UserError(f"{directory}: holds soft targets already; use another or delete it")
    remaining, seen, written = iter(batches), set[str](), []
    if (first := next(remaining, None)) is None:
        raise UserError(f"{directory}: there are no predictions to store")
    known = classes or Classes(first[2][0].shape[-1], "unnamed")
    sparse = isinstance(first[2], SparseTargets)
    encoding = encoding.of(known.count, sparse)

    def predictions(ids: list[str], offsets: list[int], first: Batch) -> Iterator[Predictions]:
        for names, lengths, prediction in chain([first], remaining):
            for problem in id_problems(names, seen):
                raise UserError(f"{directory}: {problem}")
            if isinstance(prediction, SparseTargets) != sparse:
                raise UserError(f"{directory}: '{names[0]}' is not sparse or dense like the others")
            ids.extend(names)
            offsets.extend(accumulate(lengths, initial=offsets.pop()))
            yield prediction
            if offsets[-1] >= shard_frames:
                return

    try:
        for number, batch in enumerate(chain([first], remaining)):
            ids, offsets, path = list[str](), [0], directory / f"shard-{number:05d}.h5"
            blocks = in_blocks(predictions(ids, offsets, batch))
            written.append(_write_data(path, ids, offsets, known, blocks, provenance, encoding))
        return [write_entry(*data) for data in written]
    except BaseException:
        for path in directory.glob("shard-*"):
            path.unlink()
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
    for name in (name for name, length in lengths.items() if length < 1):
        raise UserError(f"{directory}: utterance '{name}' has no frames; leave it out")
    batches = whole_utterances(lengths, predictions, classes.count, Path(directory))
    provenance = Provenance(temperature, tuple(members))
    return write_batches(directory, batches, classes, provenance, encoding, shard_frames)
