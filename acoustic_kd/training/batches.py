"""The order of an epoch: which blocks are read together, which frames make a batch.

All blocks of the data are put in an order that follows from seed and epoch and divided into chunks,
as many as memory needs. The blocks of a chunk are assigned to streams; the frames of a stream are
shuffled, and every batch takes an equal share of each stream. A process that trains on some streams
only reads nothing else. The streams do not depend on the number of processes, so neither do the
batches. With one chunk and one stream a batch is a random sample of all frames.

Where utterances have copies, an epoch may draw one copy of each utterance (`Copies`): its batches
then have frames of the drawn copies only. A model may also learn from a share of the utterances.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import zip_longest

import numpy as np
import torch
from torch import Tensor

from acoustic_kd.system.errors import UserError
from acoustic_kd.system.seeds import seed_of

# Numbers of the frames that a process trains on, int64 [B], and the size of the whole batch.
Batches = Iterator[tuple[Tensor, int]]


@dataclass(frozen=True)
class ProcessShare:
    """The share of every batch that a process trains on: some streams, or a part of one stream.

    Attributes:
        streams: their numbers.
        rank, sharers: `sharers` processes divide the stream; this process is number `rank` of them.
        readers: number of processes, or of groups that share a stream, that divide the data.
    """

    streams: range = range(1)
    rank: int = 0
    sharers: int = 1
    readers: int = 1


WHOLE_SHARE = ProcessShare()  # of a single process


def share_of_process(rank: int, processes: int, streams: int) -> ProcessShare:
    """The share of process number `rank`; one of `processes` and `streams` divides the other."""
    if processes % streams == 0:
        sharers = processes // streams
        stream = rank // sharers
        return ProcessShare(range(stream, stream + 1), rank % sharers, sharers, streams)
    if streams % processes == 0:
        size = streams // processes
        return ProcessShare(range(rank * size, (rank + 1) * size), readers=processes)
    raise UserError(
        f"setting 'train.streams' is {streams} and there are {processes} processes; make one a "
        "multiple of the other"
    )


@dataclass(frozen=True)
class Stream:
    """Blocks whose frames are shuffled together.

    Attributes:
        blocks: int64 [blocks], their numbers, ascending.
        size: number of frames to train on.
        seed: of the order of the frames.
        batch_frames: frames in each batch.
    """

    blocks: np.ndarray
    size: int
    seed: int
    batch_frames: int

    @property
    def num_batches(self) -> int:
        """Number of batches with frames of this stream; the last one has fewer frames."""
        return -(-self.size // self.batch_frames)


@dataclass(frozen=True)
class Copies:
    """Utterances, some of which are copies of one another, such as at other vocal tract lengths.

    Attributes:
        lengths: int64 [U], the utterances' frames, block after block.
        block: int64 [U], the number of each utterance's block.
        original: int64 [U], numbers from 0 on; copies of one another have the same number.
        names: ids, by these numbers.
        learnt: bool, by these numbers: whether a model learns from the copies; None: from all.
    """

    lengths: np.ndarray
    block: np.ndarray
    original: np.ndarray
    names: Sequence[str] = ()
    learnt: np.ndarray | None = None

    def of_share(self, share: float, seed: int) -> "Copies | None":
        """The copies that a model learns from: those of a share of the utterances, rounded up.

        With one seed a share contains the smaller ones. The choice depends on nothing but the ids.

        Returns:
            None if a model learns from all frames in every epoch.
        """
        if share == 1:
            return self if len(self.names) < len(self.lengths) else None
        order = np.argsort([seed_of("share", seed, name) for name in self.names])
        learnt = np.zeros(len(order), bool)
        learnt[order[: math.ceil(share * len(order))]] = True
        return replace(self, learnt=learnt)

    def draw(self, seed: int, epoch: int) -> "DrawnCopies":
        """Draw one of the copies of each utterance at random."""
        counts = np.bincount(self.original)
        generator = torch.Generator().manual_seed(seed_of("copies", seed, epoch))
        uniform = torch.rand(len(counts), generator=generator, dtype=torch.float64).numpy()
        drawn = (uniform * counts).astype(np.int64)  # of each original, the number of a copy
        order = np.argsort(self.original, kind="stable")
        first = np.cumsum(counts) - counts
        number = np.empty(len(order), np.int64)  # of each utterance among its copies
        number[order] = np.arange(len(order)) - np.repeat(first, counts)
        is_drawn = number == drawn[self.original]
        return DrawnCopies(
            self, is_drawn if self.learnt is None else is_drawn & self.learnt[self.original]
        )


@dataclass(frozen=True)
class DrawnCopies:
    """The copies that an epoch has drawn."""

    copies: Copies
    is_drawn: np.ndarray  # bool [U]

    def block_sizes(self, blocks: int) -> np.ndarray:
        """int64 [blocks], number of drawn frames in each block."""
        lengths = np.where(self.is_drawn, self.copies.lengths, 0)
        return np.bincount(self.copies.block, lengths, blocks).astype(np.int64)

    def frame_mask(self, block: int) -> np.ndarray:
        """bool [frames of the block], whether each frame is drawn."""
        first, stop = np.searchsorted(self.copies.block, [block, block + 1])
        return np.repeat(self.is_drawn[first:stop], self.copies.lengths[first:stop])


@dataclass(frozen=True)
class DrawnFrames:
    """Frames that an epoch has drawn, each by itself.

    Attributes:
        is_drawn: bool [T], block after block.
        ends: int64 [blocks], of each block the number after its last frame.
    """

    is_drawn: np.ndarray
    ends: np.ndarray

    def block_sizes(self, blocks: int) -> np.ndarray:
        """int64 [blocks], number of drawn frames in each block."""
        return np.diff(np.cumsum(self.is_drawn)[self.ends - 1], prepend=0)

    def frame_mask(self, block: int) -> np.ndarray:
        """bool [frames of the block], whether each frame is drawn."""
        return self.is_drawn[self.ends[block - 1] if block else 0 : self.ends[block]]


@dataclass(frozen=True)
class Balanced:
    """Draws all frames of some classes, and as many of the others (paper section 5.1).

    Attributes:
        copies: to draw from; None: all utterances.
        is_special: bool [T], whether a frame is of these classes, block after block.
        ends: int64 [blocks], as of `DrawnFrames`.
    """

    copies: Copies | None
    is_special: np.ndarray
    ends: np.ndarray

    def draw(self, seed: int, epoch: int) -> DrawnFrames:
        """Draw the frames of an epoch; other frames at random."""
        there = np.ones(len(self.is_special), bool)
        if self.copies is not None:
            there = np.repeat(self.copies.draw(seed, epoch).is_drawn, self.copies.lengths)
        drawn, others = there & self.is_special, np.flatnonzero(there & ~self.is_special)
        if not drawn.any():
            raise UserError(
                "a specialist has no frame of its classes in an epoch; raise train.share or "
                "specialists.classes"
            )
        generator = torch.Generator().manual_seed(seed_of("others", seed, epoch))
        order = torch.randperm(len(others), generator=generator).numpy()
        drawn[others[order[: int(drawn.sum())]]] = True
        return DrawnFrames(drawn, self.ends)


Sampler = Copies | Balanced  # draws the frames of an epoch


@dataclass(frozen=True)
class Epoch:
    """The order of an epoch.

    Attributes:
        chunks: the streams of each chunk.
        block_frames: int64 [blocks], frames of every block of the data.
        drawn: the frames to train on; None: all.
    """

    chunks: list[list[Stream]]
    block_frames: np.ndarray
    drawn: DrawnCopies | DrawnFrames | None = None

    @property
    def frames(self) -> int:
        """Number of frames to train on."""
        return sum(stream.size for streams in self.chunks for stream in streams)

    @property
    def steps(self) -> int:
        """Number of batches."""
        return sum(map(self._num_batches, range(len(self.chunks))))

    def _num_batches(self, chunk: int) -> int:
        return max(stream.num_batches for stream in self.chunks[chunk])

    def remaining_chunks(self, step: int) -> Iterator[tuple[int, int]]:
        """The chunks that remain after `step` steps, each with its first remaining batch."""
        for chunk in range(len(self.chunks)):
            batches = self._num_batches(chunk)
            if step < batches:
                yield chunk, step
            step = max(0, step - batches)

    def blocks(self, chunk: int, share: ProcessShare) -> np.ndarray:
        """int64 [blocks], numbers of the blocks of a chunk that a process reads, ascending."""
        return np.sort(np.concatenate([self.chunks[chunk][n].blocks for n in share.streams]))

    def batches(self, chunk: int, share: ProcessShare) -> Batches:
        """The batches of a chunk; the frames are shuffled in this call.

        Returns:
            An iterator over int64 [B], numbers of the frames that the process trains on, among the
            frames of the blocks that it reads; and the number of frames in the whole batch.
        """
        streams, blocks = self.chunks[chunk], self.blocks(chunk, share)
        ends = np.cumsum(self.block_frames[blocks])
        return self._batches(
            chunk, share, [self._shuffled(streams[n], blocks, ends) for n in share.streams]
        )

    def _batches(self, chunk: int, share: ProcessShare, orders: list[Tensor]) -> Batches:
        streams = self.chunks[chunk]
        columns = [
            order.split(streams[n].batch_frames)
            for n, order in zip(share.streams, orders, strict=True)
        ]
        no_frames = torch.empty(0, dtype=torch.int64)
        rows = zip_longest(*columns, fillvalue=no_frames)
        for step in range(self._num_batches(chunk)):
            total = sum(
                min(stream.batch_frames, max(0, stream.size - step * stream.batch_frames))
                for stream in streams
            )
            pieces = next(rows, (no_frames,))
            batch = pieces[0] if len(pieces) == 1 else torch.cat(pieces)
            yield batch[share.rank :: share.sharers], total

    def _shuffled(self, stream: Stream, blocks: np.ndarray, ends: np.ndarray) -> Tensor:
        """int64 [size], the frames of a stream in their order, as numbers among those of `blocks`.

        Args:
            ends: of each of `blocks`, the number after its last frame.
        """
        order = torch.randperm(stream.size, generator=torch.Generator().manual_seed(stream.seed))
        if len(stream.blocks) == len(blocks) and self.drawn is None:
            return order
        numbers = []
        stream_ends = ends[np.searchsorted(blocks, stream.blocks)]
        for block, end in zip(stream.blocks, stream_ends, strict=True):
            in_block = np.arange(end - self.block_frames[block], end)
            numbers.append(in_block[self.drawn.frame_mask(block)] if self.drawn else in_block)
        return torch.from_numpy(np.concatenate(numbers))[order]


def plan_epoch(
    sizes: np.ndarray,
    chunks: int,
    batch_frames: int,
    seed: int,
    epoch: int,
    streams: int = 1,
    sampler: Sampler | None = None,
) -> Epoch:
    """Divide blocks of `sizes` frames into about equal chunks, drawn anew each epoch, and streams.

    A chunk has at most an equal share of the frames and one block; so has a stream of its chunk.

    Args:
        sampler: draws the frames to train on, such as one copy of each utterance; None: all.
    """
    blocks = [np.arange(len(sizes))]
    if chunks > 1:
        generator = torch.Generator().manual_seed(seed_of("blocks", seed, epoch))
        order = torch.randperm(len(sizes), generator=generator).numpy()
        middles = np.cumsum(sizes[order]) - sizes[order] / 2
        chunk_of_block = (middles * chunks / sizes.sum()).astype(np.int64)
        starts = np.flatnonzero(np.diff(chunk_of_block)) + 1
        blocks = [np.sort(numbers) for numbers in np.split(order, starts)]
    fewest = min(map(len, blocks))
    if streams > min(fewest, batch_frames):
        raise UserError(
            f"setting 'train.streams' is {streams}: too few data for so many streams, only "
            f"{fewest} blocks in a chunk, or too few frames in a batch ({batch_frames})"
        )
    drawn = None if sampler is None else sampler.draw(seed, epoch)
    train_frames = sizes if drawn is None else drawn.block_sizes(len(sizes))
    bounds = [batch_frames * stream // streams for stream in range(streams + 1)]
    chunk_streams: list[list[Stream]] = []
    for chunk, chunk_blocks in enumerate(blocks):
        chunk_streams.append([])
        for stream, numbers in enumerate(assign_to_streams(chunk_blocks, train_frames, streams)):
            key = (chunk, stream) if streams > 1 else (chunk,) if chunk else ()
            order_seed = seed_of("order", seed, epoch, *key)
            size, in_batch = int(train_frames[numbers].sum()), bounds[stream + 1] - bounds[stream]
            chunk_streams[-1].append(Stream(numbers, size, order_seed, in_batch))
    return Epoch(chunk_streams, sizes, drawn)


def assign_to_streams(blocks: np.ndarray, sizes: np.ndarray, streams: int) -> list[np.ndarray]:
    """Deal ascending blocks to streams, the largest first, in a zigzag.

    Streams differ by the frames of one block at most. The same blocks are always assigned
    in the same way, so with one chunk a process keeps its blocks from epoch to epoch.
    """
    if streams == 1:
        return [blocks]
    order = blocks[np.argsort(-sizes[blocks], kind="stable")]
    turn, place = np.divmod(np.arange(len(order)), streams)
    stream = np.where(turn % 2, streams - 1 - place, place)
    return [np.sort(order[stream == number]) for number in range(streams)]
