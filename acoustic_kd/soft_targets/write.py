"""Write a store of soft targets: shards, each with a manifest entry.

Shard n holds the soft targets of the utterances of frame shard n. The file format is described in
docs/files.md.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from acoustic_kd.features.frames import Classes, Frames, frame_index
from acoustic_kd.soft_targets.encoding import Encoded, Encoding, encode
from acoustic_kd.soft_targets.header import Header
from acoustic_kd.soft_targets.manifest import Entry, Measured, entry_path, write_entry
from acoustic_kd.soft_targets.shard import write_shard_file
from acoustic_kd.soft_targets.targets import as_soft_targets
from acoustic_kd.system.errors import UserError

DEFAULT = Encoding(bits=8)  # 20 classes and the mass of the others
BLOCK_FRAMES = 4096  # predicted at once, with one check sum


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


def write_shard(
    path: Path,
    frames: Frames,
    predictions: Iterable[Tensor],
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
    path = Path(path)
    encoding = encoding.of(frames.classes.count)
    weights = provenance.weights
    header = Header(
        num_classes=frames.classes.count,
        inventory=frames.classes.inventory,
        temperature=float(provenance.temperature),
        mean=provenance.mean,
        weights=None if weights is None else tuple(w / sum(weights) for w in weights),
        members=provenance.members,
        encoding=encoding,
        frames=len(frames),
        utterances=len(frames.ids),
        block_frames=block,
    )
    measured = Measured()

    def encoded() -> Iterator[Encoded]:
        number = 0
        for probabilities in predictions:  # large: no other reference may keep them
            span = header.span(number)
            if not 0 < len(probabilities) == span.stop - span.start:
                raise ValueError(f"block {number} has {len(probabilities)} frames, not {span}")
            _check_sums(path, frames, span.start, probabilities)
            stored = encode(probabilities, encoding, path.name, number)
            soft = as_soft_targets(stored, encoding, header.temperature, len(probabilities))
            measured.add(probabilities, soft)
            del probabilities, soft
            yield stored
            number += 1
        if number < len(header.blocks):
            raise ValueError(f"there are predictions for {number} of {len(header.blocks)} blocks")

    entry_path(path).unlink(missing_ok=True)  # it describes an older shard
    write_shard_file(path, header, frames.ids, frames.offsets, encoded())
    return write_entry(path, header, measured)


def _check_sums(path: Path, frames: Frames, first: int, probabilities: Tensor) -> None:
    sums = probabilities.sum(-1)
    wrong = ((sums - 1).abs() < 0.01).logical_not_().nonzero()  # not >=: NaN is wrong too
    if len(wrong):
        frame = first + int(wrong[0])
        name = frames.ids[int(np.searchsorted(frames.offsets, frame, "right")) - 1]
        raise UserError(
            f"{path}: the prediction for frame {frame} (utterance '{name}') sums to "
            f"{float(sums[wrong[0]]):g}, not 1; the member's output is invalid (NaN?)"
        )


def write_soft_targets(
    directory: Path,
    lengths: Mapping[str, int],
    predictions: Iterable[Tensor],
    classes: Classes,
    temperature: float,
    members: Sequence[str],
    encoding: Encoding = DEFAULT,
    shard_frames: int = 1_000_000,
) -> list[Entry]:
    """Write a store of soft targets from the predictions of any classifiers of frames.

    Args:
        directory: must not hold a store yet.
        lengths: utterance → its number of frames, at least 1.
        predictions: probabilities [T, K] at the temperature, of utterance after utterance in the
            order of `lengths`; read one at a time.
        members: names or digests of the averaged classifiers.
        shard_frames: frames in a shard, about.

    Returns:
        The shards' manifest entries.

    Raises:
        UserError: the directory holds a store; predictions are missing, too many, of another
            shape, or not distributions. Whole shards stay.
    """
    directory = Path(directory)
    if any(directory.glob("shard-*")):
        raise UserError(f"{directory}: holds soft targets already; use another directory")
    empty = [name for name, length in lengths.items() if length < 1]
    if empty:
        raise UserError(f"{directory}: utterance '{empty[0]}' has no frames; leave it out")
    provenance = Provenance(temperature, tuple(members))
    remaining, entries = iter(predictions), []
    for number, in_shard in enumerate(_divide(lengths, shard_frames)):
        blocks = in_blocks(in_shard, remaining, classes.count, directory)
        path, frames = directory / f"shard-{number:05d}.h5", frame_index(in_shard, classes)
        entries.append(write_shard(path, frames, blocks, provenance, encoding))
    if next(remaining, None) is not None:
        raise UserError(f"{directory}: there are more predictions than the {len(lengths)} lengths")
    return entries


def _divide(lengths: Mapping[str, int], shard_frames: int) -> Iterator[dict[str, int]]:
    """The utterances of shard after shard, with their lengths."""
    in_shard: dict[str, int] = {}
    frames = 0
    for name, length in lengths.items():
        in_shard[name], frames = length, frames + length
        if frames >= shard_frames:
            yield in_shard
            in_shard, frames = {}, 0
    if in_shard:
        yield in_shard


def in_blocks(
    lengths: dict[str, int], predictions: Iterator[Tensor], count: int, directory: Path
) -> Iterator[Tensor]:
    """The predictions of some utterances in blocks, for `write_shard`.

    Args:
        predictions: [T, K] of utterance after utterance, in the order of `lengths`.
        directory: of the store, for messages.
    """
    pending: list[Tensor] = []
    for name, length in lengths.items():
        prediction = next(predictions, None)
        if prediction is None:
            raise UserError(f"{directory}: there is no prediction for utterance '{name}'")
        if tuple(prediction.shape) != (length, count):
            raise UserError(
                f"{directory}: the prediction for utterance '{name}' is {list(prediction.shape)}, "
                f"not {length} frames of {count} classes"
            )
        pending.append(prediction.detach())
        if sum(map(len, pending)) >= BLOCK_FRAMES:
            *whole, rest = torch.cat(pending).split(BLOCK_FRAMES)
            whole, rest = (whole, rest) if len(rest) < BLOCK_FRAMES else ([*whole, rest], rest[:0])
            yield from whole
            pending = [rest.clone()]
    if sum(map(len, pending)):
        yield torch.cat(pending)
