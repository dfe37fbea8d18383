"""Writing a store of soft targets: shards, each with a manifest entry.

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
from acoustic_kd.soft_targets.manifest import Entry, Measured, entry_path, write_entry
from acoustic_kd.soft_targets.shard import Header, write_shard_file
from acoustic_kd.soft_targets.targets import from_encoded
from acoustic_kd.system.errors import UserError
from acoustic_kd.system.files import atomic_path

DEFAULT = Encoding(bits=8)  # 20 classes and the mass of the others
BLOCK = 4096  # frames that are predicted at once, and that share a check sum


def blocks_of(frames: int, block: int = BLOCK) -> Iterator[Tensor]:
    """The numbers of so many frames, int64 [B], block after block."""
    return (torch.arange(n, min(n + block, frames)) for n in range(0, frames, block))


@dataclass(frozen=True)
class Provenance:
    """Where soft targets come from.

    Attributes:
        temperature: of the members' predictions.
        members: digests of the members that were averaged.
        mean: how.
        weights: of the members in the mean, None if equal.
    """

    temperature: float
    members: tuple[str, ...]
    mean: str = "arithmetic"
    weights: tuple[float, ...] | None = None


def write_shard(
    path: Path,
    frames: Frames,
    predictions: Iterable[Tensor],
    origin: Provenance,
    encoding: Encoding,
    block: int = BLOCK,
) -> Entry:
    """Write the soft targets of `frames` as one shard, then its manifest entry; returns that.

    Args:
        predictions: probabilities [B, K] at `origin.temperature` of block after block of frames,
            taken one at a time. What the one before took to store is written meanwhile.
        block: frames of each but the last.
    """
    path = Path(path)
    encoding = encoding.of(frames.classes.count)
    weights = origin.weights
    header = Header(
        num_classes=frames.classes.count,
        inventory=frames.classes.inventory,
        temperature=float(origin.temperature),
        mean=origin.mean,
        weights=None if weights is None else tuple(w / sum(weights) for w in weights),
        members=origin.members,
        encoding=encoding,
        frames=len(frames),
        utterances=len(frames.ids),
        block_frames=block,
    )
    measured = Measured()

    def encoded() -> Iterator[Encoded]:
        number = 0
        for probabilities in predictions:  # nothing else may hold them: they are large
            span = header.span(number)
            if not 0 < len(probabilities) == span.stop - span.start:
                raise ValueError(f"block {number} has {len(probabilities)} frames, not {span}")
            _check_sums(path, frames, span.start, probabilities)
            part = encode(probabilities, encoding, path.name, number)
            decoded = from_encoded(part, encoding, header.temperature, len(probabilities))
            measured.add(probabilities, decoded)
            del probabilities, decoded
            yield part
            number += 1
        if number < len(header.blocks):
            raise ValueError(f"there are predictions for {number} of {len(header.blocks)} blocks")

    entry_path(path).unlink(missing_ok=True)  # else it would stand beside another shard
    with atomic_path(path) as temporary:
        write_shard_file(temporary, header, frames.ids, frames.offsets, encoded())
    return write_entry(path, header, measured)


def _check_sums(path: Path, frames: Frames, first: int, probabilities: Tensor) -> None:
    sums = probabilities.sum(-1)
    wrong = ((sums - 1).abs() < 0.01).logical_not_().nonzero()  # so put, NaN is wrong too
    if len(wrong):
        frame = first + int(wrong[0])
        name = frames.ids[int(np.searchsorted(frames.offsets, frame, "right")) - 1]
        raise UserError(
            f"{path}: the prediction for frame {frame} (utterance '{name}') sums to "
            f"{float(sums[wrong[0]]):g}, not 1; a member is spoilt"
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
        predictions: probabilities [T, K] at the temperature, of utterance after utterance in that
            order; taken one at a time.
        members: names or digests of the classifiers whose predictions were averaged.
        shard_frames: about how many frames go into a shard.

    Returns:
        The shards' manifest entries.

    Raises:
        UserError: the directory holds a store; predictions are missing, too many, of another
            shape, or no distributions. Shards that are written by then stay, whole.
    """
    directory = Path(directory)
    if any(directory.glob("shard-*")):
        raise UserError(f"{directory}: holds soft targets already; give another directory")
    empty = [name for name, length in lengths.items() if length < 1]
    if empty:
        raise UserError(f"{directory}: utterance '{empty[0]}' has no frames; leave it out")
    origin = Provenance(temperature, tuple(members))
    coming, entries = iter(predictions), []
    for number, part in enumerate(_parts(lengths, shard_frames)):
        blocks = in_blocks(part, coming, classes.count, directory)
        path = directory / f"shard-{number:05d}.h5"
        entries.append(write_shard(path, frame_index(part, classes), blocks, origin, encoding))
    if next(coming, None) is not None:
        raise UserError(f"{directory}: there are more predictions than the {len(lengths)} lengths")
    return entries


def _parts(lengths: Mapping[str, int], shard_frames: int) -> Iterator[dict[str, int]]:
    """The utterances of shard after shard."""
    part: dict[str, int] = {}
    frames = 0
    for name, length in lengths.items():
        part[name], frames = length, frames + length
        if frames >= shard_frames:
            yield part
            part, frames = {}, 0
    if part:
        yield part


def in_blocks(
    lengths: dict[str, int], predictions: Iterator[Tensor], count: int, directory: Path
) -> Iterator[Tensor]:
    """Blocks of the predictions of some utterances, for `write_shard`.

    Args:
        predictions: [T, K] of utterance after utterance, in the order of `lengths`.
        directory: where they go, for messages.
    """
    held: list[Tensor] = []
    for name, length in lengths.items():
        found = next(predictions, None)
        if found is None:
            raise UserError(f"{directory}: there is no prediction for utterance '{name}'")
        if tuple(found.shape) != (length, count):
            raise UserError(
                f"{directory}: the prediction for utterance '{name}' is {list(found.shape)}, not "
                f"{length} frames of {count} classes"
            )
        held.append(found.detach())
        if sum(map(len, held)) >= BLOCK:
            *whole, rest = torch.cat(held).split(BLOCK)
            whole, rest = (whole, rest) if len(rest) < BLOCK else ([*whole, rest], rest[:0])
            yield from whole
            held = [rest.clone()]
    if sum(map(len, held)):
        yield torch.cat(held)
