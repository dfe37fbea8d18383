"""The order of an epoch: which blocks are read together, which frames make a batch.

All blocks of the data are put in an order that follows from seed and epoch and divided into chunks,
as many as memory needs. The blocks of a chunk are assigned to streams; the frames of a stream are
shuffled, and every batch takes an equal share of each stream. A process that learns from some
streams alone reads nothing else. The streams do not depend on the number of processes, so neither
do the batches. With one chunk and one stream a batch is any frames of all.

Where utterances have copies, an epoch may draw one copy of each (`Copies`): a batch then has frames
of drawn copies alone.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import zip_longest

import numpy as np
import torch
from torch import Tensor

from acoustic_kd.system.errors import UserError
from acoustic_kd.system.seeds import seed_of


@dataclass(frozen=True)
class ProcessShare:
    """What of every batch a process learns from: some streams, or a share of one.

    Attributes:
        streams: their numbers.
        rank, sharers: of `sharers` processes with the same stream this is number `rank`.
        readers: how many processes, or groups that share a stream, divide the data.
    """

    streams: range = range(1)
    rank: int = 0
    sharers: int = 1
    readers: int = 1


WHOLE_SHARE = ProcessShare()  # of a process that is alone


def share_of_process(rank: int, processes: int, streams: int) -> ProcessShare:
    """What process number `rank` learns from."""
    if processes % streams == 0:
        sharers = processes // streams
        stream = rank // sharers
        return ProcessShare(range(stream, stream + 1), rank % sharers, sharers, streams)
    if streams % processes == 0:
        own = streams // processes
        return ProcessShare(range(rank * own, (rank + 1) * own), readers=processes)
    raise UserError(
        f"setting 'train.streams' is {streams} and there are {processes} processes; one must be a "
        "multiple of the other"
    )


@dataclass(frozen=True)
class Stream:
    """Blocks whose frames are shuffled together.

    Attributes:
        blocks: int64 [blocks], their numbers, ascending.
        size: their frames that are learnt from.
        seed: of the order of the frames.
        share: frames of each batch.
    """

    blocks: np.ndarray
    size: int
    seed: int
    share: int

    @property
    def batches(self) -> int:
        """How many batches have frames of it; the last one has what is left."""
        return -(-self.size // self.share)


@dataclass(frozen=True)
class Copies:
    """Utterances, some of which are copies of one another, such as at other vocal tract lengths.

    Attributes:
        lengths: int64 [U], the utterances' frames, block after block.
        block: int64 [U], the number of each one's block.
        original: int64 [U], numbers from 0 on: copies of one another have the same.
    """

    lengths: np.ndarray
    block: np.ndarray
    original: np.ndarray

    def draw(self, seed: int, epoch: int) -> np.ndarray:
        """bool [U]: of the copies of each utterance one, drawn at random."""
        counts = np.bincount(self.original)
        generator = torch.Generator().manual_seed(seed_of("copies", seed, epoch))
        picked = torch.rand(len(counts), generator=generator, dtype=torch.float64).numpy() * counts
        order = np.argsort(self.original, kind="stable")
        begins = np.cumsum(counts) - counts
        place = np.empty(len(order), np.int64)  # of each utterance among its copies
        place[order] = np.arange(len(order)) - np.repeat(begins, counts)
        chosen: np.ndarray = place == picked.astype(np.int64)[self.original]
        return chosen


@dataclass(frozen=True)
class Drawn:
    """The copies that an epoch has drawn. Attributes: all of them; bool [U], which were drawn."""

    copies: Copies
    chosen: np.ndarray

    def sizes(self, blocks: int) -> np.ndarray:
        """int64 [blocks], drawn frames of each block."""
        lengths = np.where(self.chosen, self.copies.lengths, 0)
        return np.bincount(self.copies.block, lengths, blocks).astype(np.int64)

    def among(self, block: int) -> np.ndarray:
        """bool [frames of the block], which were drawn."""
        first, stop = np.searchsorted(self.copies.block, [block, block + 1])
        return np.repeat(self.chosen[first:stop], self.copies.lengths[first:stop])


@dataclass(frozen=True)
class Epoch:
    """The order of an epoch.

    Attributes:
        chunks: the streams of each.
        block_frames: int64 [blocks], frames of every block of the data.
        drawn: the copies that are learnt from; None: all.
    """

    chunks: list[list[Stream]]
    block_frames: np.ndarray
    drawn: Drawn | None = None

    @property
    def frames(self) -> int:
        """All of them."""
        return sum(stream.size for streams in self.chunks for stream in streams)

    @property
    def steps(self) -> int:
        """Batches."""
        return sum(self._batches)

    @property
    def _batches(self) -> list[int]:
        return [max(stream.batches for stream in streams) for streams in self.chunks]

    def remaining_chunks(self, step: int) -> Iterator[tuple[int, int]]:
        """What is left after so many steps: chunks, and each one's first batch that is left."""
        for chunk, batches in enumerate(self._batches):
            if step < batches:
                yield chunk, step
            step = max(0, step - batches)

    def blocks(self, chunk: int, part: ProcessShare) -> np.ndarray:
        """int64 [blocks], numbers of those of a chunk that a process reads, ascending."""
        return np.sort(np.concatenate([self.chunks[chunk][n].blocks for n in part.streams]))

    def batches(self, chunk: int, part: ProcessShare) -> Iterator[tuple[Tensor, int]]:
        """The batches of a chunk.

        Yields:
            int64 [B], numbers of the frames that the process learns from, among those of the blocks
            that it reads; and how many frames the whole batch has.
        """
        streams, blocks = self.chunks[chunk], self.blocks(chunk, part)
        ends = np.cumsum(self.block_frames[blocks])
        columns = [
            self._shuffled(streams[n], blocks, ends).split(streams[n].share) for n in part.streams
        ]
        steps = max(stream.batches for stream in streams)
        nothing = torch.empty(0, dtype=torch.int64)
        rows = zip_longest(*columns, fillvalue=nothing)
        for step in range(steps):
            total = sum(min(n.share, max(0, n.size - step * n.share)) for n in streams)
            pieces = next(rows, (nothing,))
            batch = pieces[0] if len(pieces) == 1 else torch.cat(pieces)
            yield batch[part.rank :: part.sharers], total

    def _shuffled(self, stream: Stream, blocks: np.ndarray, ends: np.ndarray) -> Tensor:
        """int64 [size], the frames of a stream in their order, by their places in `blocks`."""
        order = torch.randperm(stream.size, generator=torch.Generator().manual_seed(stream.seed))
        if len(stream.blocks) == len(blocks) and self.drawn is None:
            return order
        last = ends[np.searchsorted(blocks, stream.blocks)]
        places = []
        for block, end in zip(stream.blocks, last, strict=True):
            own = np.arange(end - self.block_frames[block], end)
            places.append(own if self.drawn is None else own[self.drawn.among(block)])
        return torch.from_numpy(np.concatenate(places))[order]


def plan_epoch(
    sizes: np.ndarray,
    chunks: int,
    batch_frames: int,
    seed: int,
    epoch: int,
    streams: int = 1,
    copies: Copies | None = None,
) -> Epoch:
    """Divide blocks of `sizes` frames into about equal chunks, drawn anew each epoch, and streams.

    A chunk has at most an equal share of the frames and one block; so has a stream of its chunk.

    Args:
        copies: of which one each is drawn; None: all frames are learnt from.
    """
    blocks = [np.arange(len(sizes))]
    if chunks > 1:
        generator = torch.Generator().manual_seed(seed_of("blocks", seed, epoch))
        order = torch.randperm(len(sizes), generator=generator).numpy()
        middles = np.cumsum(sizes[order]) - sizes[order] / 2
        shares = (middles * chunks / sizes.sum()).astype(np.int64)
        blocks = [np.sort(some) for some in np.split(order, np.flatnonzero(np.diff(shares)) + 1)]
    fewest = min(map(len, blocks))
    if streams > min(fewest, batch_frames):
        raise UserError(
            f"setting 'train.streams' is {streams}: too few data for so many streams, only "
            f"{fewest} blocks in a chunk, or too few frames in a batch ({batch_frames})"
        )
    drawn = None if copies is None else Drawn(copies, copies.draw(seed, epoch))
    learnt = sizes if drawn is None else drawn.sizes(len(sizes))
    bounds = [batch_frames * stream // streams for stream in range(streams + 1)]
    planned = []
    for chunk, some in enumerate(blocks):
        numbers = (chunk,) if chunk else ()
        dealt = []
        for stream, own in enumerate(assign_to_streams(some, learnt, streams)):
            which = numbers if streams == 1 else (chunk, stream)
            order_seed = seed_of("order", seed, epoch, *which)
            share = bounds[stream + 1] - bounds[stream]
            dealt.append(Stream(own, int(learnt[own].sum()), order_seed, share))
        planned.append(dealt)
    return Epoch(planned, sizes, drawn)


def assign_to_streams(blocks: np.ndarray, sizes: np.ndarray, streams: int) -> list[np.ndarray]:
    """Deal ascending blocks to streams, the largest first, there and back.

    Streams differ by the frames of one block at most. The same blocks are always assigned
    in the same way, so with one chunk a process keeps its blocks from epoch to epoch.
    """
    if streams == 1:
        return [blocks]
    order = blocks[np.argsort(-sizes[blocks], kind="stable")]
    turn, place = np.divmod(np.arange(len(order)), streams)
    stream = np.where(turn % 2, streams - 1 - place, place)
    return [np.sort(order[stream == number]) for number in range(streams)]
