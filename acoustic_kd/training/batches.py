"""The order of an epoch: which blocks are read together, which frames make a batch.

All blocks of the data are put in an order that follows from seed and epoch and divided into chunks,
as many as memory asks for. The blocks of a chunk are dealt to lanes; the frames of a lane are
shuffled, and every batch takes an equal share of each lane. A process that learns from some lanes
alone reads nothing else, and since the lanes are the same however many processes there are, so are
the batches. With one chunk and one lane a batch is any frames of all.

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
class Part:
    """What of every batch a process learns from: some lanes, or a share of one.

    Attributes:
        lanes: their numbers.
        rank, sharers: of `sharers` processes with the same lane this is number `rank`.
        readers: how many processes, or groups that share a lane, divide the data among themselves.
    """

    lanes: range = range(1)
    rank: int = 0
    sharers: int = 1
    readers: int = 1


ALL = Part()  # of a process that is alone


def part_of(rank: int, processes: int, lanes: int) -> Part:
    """What process number `rank` learns from.

    Raises:
        UserError: processes and lanes do not come out even.
    """
    if processes % lanes == 0:
        sharers = processes // lanes
        lane = rank // sharers
        return Part(range(lane, lane + 1), rank % sharers, sharers, lanes)
    if lanes % processes == 0:
        own = lanes // processes
        return Part(range(rank * own, (rank + 1) * own), readers=processes)
    raise UserError(
        f"setting 'train.lanes' is {lanes} and there are {processes} processes; one must be a "
        "multiple of the other"
    )


@dataclass(frozen=True)
class Lane:
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
        chunks: the lanes of each.
        block_frames: int64 [blocks], frames of every block of the data.
        drawn: the copies that are learnt from; None: all.
    """

    chunks: list[list[Lane]]
    block_frames: np.ndarray
    drawn: Drawn | None = None

    @property
    def frames(self) -> int:
        """All of them."""
        return sum(lane.size for lanes in self.chunks for lane in lanes)

    @property
    def steps(self) -> int:
        """Batches."""
        return sum(self._batches)

    @property
    def _batches(self) -> list[int]:
        return [max(lane.batches for lane in lanes) for lanes in self.chunks]

    def rest(self, step: int) -> Iterator[tuple[int, int]]:
        """What is left after so many steps: chunks, and each one's first batch that is left."""
        for chunk, batches in enumerate(self._batches):
            if step < batches:
                yield chunk, step
            step = max(0, step - batches)

    def blocks(self, chunk: int, part: Part) -> np.ndarray:
        """int64 [blocks], numbers of those of a chunk that a process reads, ascending."""
        return np.sort(np.concatenate([self.chunks[chunk][n].blocks for n in part.lanes]))

    def batches(self, chunk: int, part: Part) -> Iterator[tuple[Tensor, int]]:
        """The batches of a chunk.

        Yields:
            int64 [B], numbers of the frames that the process learns from, among those of the blocks
            that it reads; and how many frames the whole batch has.
        """
        lanes, blocks = self.chunks[chunk], self.blocks(chunk, part)
        ends = np.cumsum(self.block_frames[blocks])
        columns = [self._shuffled(lanes[n], blocks, ends).split(lanes[n].share) for n in part.lanes]
        steps = max(lane.batches for lane in lanes)
        nothing = torch.empty(0, dtype=torch.int64)
        rows = zip_longest(*columns, fillvalue=nothing)
        for step in range(steps):
            total = sum(min(n.share, max(0, n.size - step * n.share)) for n in lanes)
            pieces = next(rows, (nothing,))
            batch = pieces[0] if len(pieces) == 1 else torch.cat(pieces)
            yield batch[part.rank :: part.sharers], total

    def _shuffled(self, lane: Lane, blocks: np.ndarray, ends: np.ndarray) -> Tensor:
        """int64 [size], the frames of a lane in their order, by their places in `blocks`."""
        order = torch.randperm(lane.size, generator=torch.Generator().manual_seed(lane.seed))
        if len(lane.blocks) == len(blocks) and self.drawn is None:
            return order
        last = ends[np.searchsorted(blocks, lane.blocks)]
        places = []
        for block, end in zip(lane.blocks, last, strict=True):
            own = np.arange(end - self.block_frames[block], end)
            places.append(own if self.drawn is None else own[self.drawn.among(block)])
        return torch.from_numpy(np.concatenate(places))[order]


def plan_epoch(
    sizes: np.ndarray,
    chunks: int,
    batch_frames: int,
    seed: int,
    epoch: int,
    lanes: int = 1,
    copies: Copies | None = None,
) -> Epoch:
    """Divide blocks of `sizes` frames into about equal chunks, drawn anew each epoch, and lanes.

    A chunk has at most an equal share of the frames and one block; so has a lane of its chunk.

    Args:
        copies: of which one each is drawn; None: all frames are learnt from.

    Raises:
        UserError: there are too few blocks, or frames of a batch, for so many lanes.
    """
    blocks = [np.arange(len(sizes))]
    if chunks > 1:
        generator = torch.Generator().manual_seed(seed_of("blocks", seed, epoch))
        order = torch.randperm(len(sizes), generator=generator).numpy()
        middles = np.cumsum(sizes[order]) - sizes[order] / 2
        shares = (middles * chunks / sizes.sum()).astype(np.int64)
        blocks = [np.sort(some) for some in np.split(order, np.flatnonzero(np.diff(shares)) + 1)]
    fewest = min(map(len, blocks))
    if lanes > min(fewest, batch_frames):
        raise UserError(
            f"setting 'train.lanes' is {lanes}: there are too few data for so many lanes, only "
            f"{fewest} blocks in a chunk, or too few frames in a batch ({batch_frames})"
        )
    drawn = None if copies is None else Drawn(copies, copies.draw(seed, epoch))
    learnt = sizes if drawn is None else drawn.sizes(len(sizes))
    bounds = [batch_frames * lane // lanes for lane in range(lanes + 1)]
    planned = []
    for chunk, some in enumerate(blocks):
        numbers = (chunk,) if chunk else ()
        dealt = []
        for lane, own in enumerate(deal(some, learnt, lanes)):
            which = numbers if lanes == 1 else (chunk, lane)
            order_seed = seed_of("order", seed, epoch, *which)
            share = bounds[lane + 1] - bounds[lane]
            dealt.append(Lane(own, int(learnt[own].sum()), order_seed, share))
        planned.append(dealt)
    return Epoch(planned, sizes, drawn)


def deal(blocks: np.ndarray, sizes: np.ndarray, lanes: int) -> list[np.ndarray]:
    """Deal ascending blocks to lanes, the largest first, there and back.

    So lanes differ by the frames of one block at most. The same blocks are dealt the same way, and
    where there is one chunk a process keeps its blocks from epoch to epoch.
    """
    if lanes == 1:
        return [blocks]
    order = blocks[np.argsort(-sizes[blocks], kind="stable")]
    turn, place = np.divmod(np.arange(len(order)), lanes)
    lane = np.where(turn % 2, lanes - 1 - place, place)
    return [np.sort(order[lane == number]) for number in range(lanes)]
