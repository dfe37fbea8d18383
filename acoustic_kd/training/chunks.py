"""The training data, read chunk by chunk where memory does not hold all of it.

A store is divided into blocks, neighbouring whole utterances of a shard. `batches` says which
blocks make a chunk, which is as large as memory permits; the next chunk is read while one is in
use. So every frame is seen once an epoch, beside the neighbours that its window needs, and every
batch follows from seed, epoch and the numbers of chunks and streams. Data that fit into memory are
one chunk.
"""

import math
from collections.abc import Callable, Generator, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from acoustic_kd.features.frame_sequence import NO_TARGET, Classes
from acoustic_kd.features.frame_shard import FrameShard, open_frames
from acoustic_kd.features.frames import Frames, read_index
from acoustic_kd.soft_targets.encoding import Encoding
from acoustic_kd.soft_targets.read import find_soft_targets, read_soft_targets
from acoustic_kd.soft_targets.targets import SoftTargets
from acoustic_kd.system.errors import UserError
from acoustic_kd.system.files import json_sha256
from acoustic_kd.system.memory import GIGABYTE
from acoustic_kd.system.parallel import prefetch
from acoustic_kd.training.batches import (
    WHOLE_SHARE,
    Balanced,
    Batches,
    Copies,
    Epoch,
    ProcessShare,
    Sampler,
)

BLOCK_FRAMES = 16384  # some minutes, by a speaker or two
ORDER_BYTES = 8  # of a frame's number in an order
# Beside the features: a frame's target, how far its utterance reaches, and its number.
FRAME_OVERHEAD_BYTES = 12 + ORDER_BYTES
SOFT_OVERHEAD_BYTES = 12  # of a frame, at most, beside its soft targets: their place and number


@dataclass(frozen=True)
class Chunk:
    """Frames, and their soft targets if there are any."""

    frames: Frames
    soft: SoftTargets | None

    @property
    def bytes(self) -> int:
        """Memory that the tensors take."""
        tensors = [self.frames.features, self.frames.targets]
        tensors += vars(self.soft).values() if self.soft else []
        return sum(tensor.nbytes for tensor in tensors if isinstance(tensor, Tensor))


def _copies(
    ids: list[str], lengths: np.ndarray, block: np.ndarray, original: Callable[[str], str] | None
) -> Copies:
    if original is None:
        return Copies(lengths, block, np.arange(len(ids)), ids)
    names, numbers = np.unique([original(name) for name in ids], return_inverse=True)
    return Copies(lengths, block, numbers, names.tolist())


class Relabelling(NamedTuple):
    """Gives frames other targets than their store has.

    Attributes:
        classes: what the other targets mean.
        targets: name of an utterance, its targets int64 [T] → the other targets, int64 [T].
    """

    classes: Classes
    targets: Callable[[str, np.ndarray], np.ndarray]


def subset_labels(classes: Classes, subset: Sequence[int]) -> Relabelling:
    """Targets of a specialist: the classes of a subset, and one that stands for all others."""
    inventory = json_sha256([classes.inventory, list(subset)])[:32]
    table = np.full(classes.count, len(subset))
    table[list(subset)] = np.arange(len(subset))
    return Relabelling(Classes(len(subset) + 1, inventory), lambda name, targets: table[targets])


class InMemoryData:
    """Training data that are in memory already: one chunk.

    Attributes:
        classes: what the targets mean.
        dimension: D.
        longest: frames of the longest utterance.
        learnable: whether every frame has a target, hard or soft.
        sizes: int64 [blocks], number of frames in each.
        copies: each epoch draws one copy of each utterance.
    """

    def __init__(
        self, frames: Frames, soft: SoftTargets | None, original: Callable[[str], str] | None = None
    ) -> None:
        """
        Args:
            original: see `ShardedData`.
        """
        if soft is not None and soft.keys and list(soft.keys) != frames.ids:
            raise UserError(
                "the soft targets are of other utterances than the frames, or in another order; "
                "read them by read_soft_targets(directory, frames)"
            )
        self.chunk = Chunk(frames, soft)
        lengths = np.diff(frames.offsets)
        self.copies = _copies(frames.ids, lengths, np.zeros_like(lengths), original)
        self.classes, self.dimension = frames.classes, frames.features.shape[1]
        self.longest = int(lengths.max(initial=0))
        self.learnable = soft is not None or frames.transcribed
        self.sizes = np.array([len(frames)])

    def num_chunks(
        self, memory: int | None, number_bytes: int, share: ProcessShare = WHOLE_SHARE
    ) -> int:
        """The number of chunks of an epoch."""
        return 1

    def sampler(self, share: float, seed: int) -> Sampler | None:
        """Draws the frames of an epoch from a share of the utterances; None: all frames."""
        return self.copies.of_share(share, seed)


@dataclass(frozen=True)
class SoftTargetSource:
    """A directory of soft targets, and what they must be: see `read_soft_targets`."""

    directory: Path
    temperature: float
    encoding: Encoding | None = None


class ShardedData:
    """Training data in shards; it has the attributes of `InMemoryData`."""

    def __init__(
        self,
        shards: list[Path],
        soft: SoftTargetSource | None = None,
        block_frames: int = BLOCK_FRAMES,
        original: Callable[[str], str] | None = None,
        relabelling: Relabelling | None = None,
        balanced: bool = False,
    ) -> None:
        """Check the shards, and all of the soft targets but their blocks.

        Args:
            block_frames: a block has the utterances that begin within so many frames of a shard.
            original: id → id of the utterance that it is a copy of, or the same id. Each epoch
                then draws one copy of each utterance. None: every epoch has all frames.
            relabelling: gives the frames other targets.
            balanced: half of the frames of an epoch are of the last class, which stands for all
                that a specialist does not tell apart.
        """
        index = read_index(shards)
        self.classes, self.dimension = index.classes, index.dimension
        self._relabelling = relabelling
        if relabelling is not None:
            self.classes = relabelling.classes
        self.longest = int(np.diff(index.offsets).max(initial=0))
        self.learnable = soft is not None or all(index.labelled)
        self._paths, self._labelled, self._soft = index.paths, index.labelled, soft
        # Each utterance's shard, and its first frame in that shard.
        shard = np.repeat(np.arange(len(shards)), index.sizes)
        before = np.cumsum([0, *index.sizes])[:-1]
        first = index.offsets[:-1] - index.offsets[before][shard]
        cell = first // block_frames
        begins = np.flatnonzero(np.diff(shard, prepend=-1) | np.diff(cell, prepend=-1))
        stops = np.append(begins[1:], len(shard))
        self.sizes = index.offsets[stops] - index.offsets[begins]
        # Each block's shard, and its utterances and first frame in that shard.
        self._shard = shard[begins]
        self._utterances = np.stack([begins, stops], 1) - before[self._shard][:, None]
        self._first = first[begins]
        block = np.repeat(np.arange(len(begins)), stops - begins)  # of each utterance
        self.copies = _copies(index.ids, np.diff(index.offsets), block, original)
        self._is_special = self._special_frames() if balanced else None
        self._soft_shards: list[list[Path]] = [[] for _ in self.sizes]
        self._soft_bytes = 0.0
        if soft is not None:
            found = find_soft_targets(soft.directory, index, soft.temperature, soft.encoding)
            for path, utterances, frame_bytes in found:
                for number in np.unique(block[utterances]):
                    self._soft_shards[number].append(path)
                self._soft_bytes = max(self._soft_bytes, frame_bytes + SOFT_OVERHEAD_BYTES)

    def num_chunks(
        self, memory: int | None, number_bytes: int, share: ProcessShare = WHOLE_SHARE
    ) -> int:
        """The smallest number of chunks of an epoch that fit into memory: 1, or so many that two
        chunks of at least two blocks fit.

        Args:
            memory: budget in bytes; None: unknown, assumed to be enough.
            number_bytes: of a feature on the device.
            share: what this process trains on; it reads nothing else.
        """
        total, block = int(self.sizes.sum()) / share.readers, int(self.sizes.max())
        # A chunk, and a stream of it, may be a block longer than an equal share.
        excess = block * (1.0 if share.readers == 1 else 1 / share.readers + len(share.streams))
        frame, soft = number_bytes * self.dimension + FRAME_OVERHEAD_BYTES, self._soft_bytes
        # Memory holds soft targets twice while they are joined.
        whole = total if share.readers == 1 else total + excess
        if memory is None or whole * (frame + ORDER_BYTES + 2 * soft) <= memory:  # the next order
            return 1
        pair_bytes = 2 * frame + 3 * soft  # a frame of the chunk in use, one of the next chunk
        max_frames, min_frames = memory / pair_bytes, block + excess  # of a chunk
        if max_frames < min_frames:
            raise UserError(
                f"setting 'train.memory_gb' (null: what is free) gives {memory / GIGABYTE:.3g} GB "
                f"for frames and targets, but two chunks of two blocks of {block} frames take "
                f"{min_frames * pair_bytes / GIGABYTE:.3g} GB; raise the setting or free memory"
            )
        return max(2, math.ceil(total / (max_frames - excess)))

    def sampler(self, share: float, seed: int) -> Sampler | None:
        """Draws the frames of an epoch from a share of the utterances; None: all frames."""
        copies = self.copies.of_share(share, seed)
        if self._is_special is None:
            return copies
        return Balanced(copies, self._is_special, np.cumsum(self.sizes))

    def _special_frames(self) -> np.ndarray:
        """bool [T], whether each frame is of the subset of a specialist."""
        found = []
        for path in self._paths:
            with open_frames(path) as file:
                targets = self._targets(file, range(len(file.ids)), file.targets())
            if targets is None:
                raise ValueError("specialists need transcribed frames")
            found.append(targets < self.classes.count - 1)
        return np.concatenate(found)

    def _targets(
        self, file: FrameShard, utterances: range, stored: np.ndarray | None
    ) -> np.ndarray | None:
        """The targets of neighbouring utterances of a shard, by those that are stored."""
        if stored is None or self._relabelling is None:
            return stored
        offsets = file.offsets - file.offsets[utterances.start]
        spans = ((file.ids[u], slice(offsets[u], offsets[u + 1])) for u in utterances)
        return np.concatenate([self._relabelling.targets(name, stored[s]) for name, s in spans])

    def read(self, blocks: np.ndarray, dtype: torch.dtype) -> Chunk:
        """Read some blocks in the order of the store, with features of type `dtype`."""
        blocks = np.sort(blocks)
        ends = np.cumsum(self.sizes[blocks])
        features = torch.empty(int(ends[-1]), self.dimension, dtype=dtype)
        targets = torch.full((len(features),), NO_TARGET) if any(self._labelled) else None
        ids: list[str] = []
        lengths: list[np.ndarray] = []
        for shard in np.unique(self._shard[blocks]):
            with open_frames(self._paths[shard]) as file:
                for place in np.flatnonzero(self._shard[blocks] == shard):
                    block = blocks[place]
                    source = slice(self._first[block], self._first[block] + self.sizes[block])
                    target = slice(ends[place] - self.sizes[block], ends[place])
                    in_block, stored = file.read(source)
                    features[target] = torch.from_numpy(in_block)
                    first, stop = self._utterances[block]
                    labels = self._targets(file, range(first, stop), stored)
                    if targets is not None and labels is not None:
                        targets[target] = torch.from_numpy(labels)
                    ids.extend(file.ids[first:stop])
                    lengths.append(np.diff(file.offsets[first : stop + 1]))
        offsets = np.concatenate([[0], np.cumsum(np.concatenate(lengths))])
        frames = Frames(features, targets, ids, offsets, self.classes)
        shards = sorted({path for block in blocks for path in self._soft_shards[block]})
        return Chunk(frames, self._read_soft(frames, shards))

    def _read_soft(self, frames: Frames, shards: list[Path]) -> SoftTargets | None:
        if (soft := self._soft) is None:
            return None
        return read_soft_targets(soft.directory, frames, soft.temperature, soft.encoding, shards)


def prefetch_chunks(
    data: InMemoryData | ShardedData,
    epochs: Iterator[Epoch],
    step: int,
    dtype: torch.dtype,
    share: ProcessShare,
) -> Generator[tuple[Chunk | None, Batches], None, None]:
    """The chunks of some epochs with their remaining batches (`Epoch.batches`).

    Each chunk is read, and its frames are shuffled, in a thread while the chunk before it is in
    use. Where all that this process reads is one chunk, it is read once. None stands for the chunk
    that the loader already holds.

    Args:
        step: number of steps of the first epoch that are done.
        dtype: of the features on the device.
        share: what this process trains on.
    """

    def chunks(step: int) -> Iterator[tuple[Chunk | None, Batches]]:
        is_read = False
        for epoch in epochs:
            for number, first in epoch.remaining_chunks(step):
                batches = islice(epoch.batches(number, share), first, None)
                if is_read or isinstance(data, InMemoryData):
                    yield None, batches
                else:
                    yield data.read(epoch.blocks(number, share), dtype), batches
                is_read = len(epoch.chunks) == 1
            step = 0

    return prefetch(chunks(step))
