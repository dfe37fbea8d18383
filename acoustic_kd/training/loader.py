"""What a model is trained on, where it is trained: batches in their order, and what they are of."""

from collections.abc import Iterable, Iterator
from contextlib import closing, contextmanager
from itertools import islice

import torch
from torch import Tensor

from acoustic_kd.features.frames import Frames
from acoustic_kd.settings import ModelConfig, TrainConfig
from acoustic_kd.soft_targets.targets import SoftTargets
from acoustic_kd.training.batches import WHOLE_SHARE, Epoch, ProcessShare, plan_epoch
from acoustic_kd.training.chunks import Chunk, InMemoryData, ShardedData, prefetch_chunks
from acoustic_kd.training.model import Splicer, make_splicer


class DataLoader:
    """Puts on the device, chunk by chunk, what the batches are of (see `chunks`).

    Attributes:
        chunks: how many an epoch has; set it before anything is read.
        hard: int64 [T], the chunk's hard targets, or None.
        soft: its soft targets, or None.
    """

    def __init__(
        self,
        data: InMemoryData | ShardedData,
        config: ModelConfig,
        train: TrainConfig,
        seed: int,
        device: torch.device,
        bfloat16: bool,
        part: ProcessShare = WHOLE_SHARE,
    ) -> None:
        """
        Args:
            part: of `train.streams` streams, what this process learns from.
        """
        self.chunks = 1
        self.hard: Tensor | None = None
        self.soft: SoftTargets | None = None
        self._data, self._config, self._device, self._bfloat16 = data, config, device, bfloat16
        self._train, self._seed, self._part = train, seed, part
        self._kind = torch.bfloat16 if bfloat16 else torch.float32
        self._chunk: Chunk | None = None
        self._windows: Splicer | None = None
        if isinstance(data, InMemoryData):
            self._load(data.chunk)

    @property
    def windows(self) -> Splicer:
        """int64 [B] numbers of frames of the chunk at hand → windows [B, W·D]."""
        if self._windows is None:
            raise RuntimeError("no chunk has been read")
        return self._windows

    def chunks_in(self, memory: int | None) -> int:
        """The number of chunks of an epoch within a memory budget: `ShardedData.num_chunks`."""
        return self._data.num_chunks(memory, self._kind.itemsize, self._part)

    def windows_of(self, frames: Frames) -> Splicer:
        """Frames on the device, and their windows."""
        splicer = make_splicer(self._config, frames.features, frames.offsets, self._bfloat16)
        return splicer.to(self._device)

    def plan(self, epoch: int) -> Epoch:
        """The order of an epoch."""
        frames, streams = self._train.batch_frames, self._train.streams
        sizes, copies = self._data.sizes, self._data.copies
        return plan_epoch(sizes, self.chunks, frames, self._seed, epoch, streams, copies)

    @contextmanager
    def reading(self, epochs: Iterable[int], step: int) -> Iterator[None]:
        """Within it, the chunks of some epochs are read, each while the one before it is used.

        Args:
            step: that the first epoch has come to.
        """
        plans = map(self.plan, epochs)
        with closing(
            prefetch_chunks(self._data, plans, step, self._kind, self._part)
        ) as self._coming:
            yield

    def batches(self, epoch: Epoch, step: int) -> Iterator[tuple[Tensor, int]]:
        """The batches of an epoch from a step on; what they are of is loaded before them.

        Yields:
            int64 [B], numbers of frames of the chunk at hand that this process learns from, and how
            many frames the batch has in all.
        """
        for number, first in epoch.remaining_chunks(step):
            if self.chunks > 1:
                self._load(None)  # makes room
            self._load(next(self._coming))
            yield from islice(epoch.batches(number, self._part), first, None)

    def _load(self, chunk: Chunk | None) -> None:
        """Put a chunk on the device, where it is not there yet, or take away what is there."""
        if chunk is None:
            self._chunk = self._windows = self.hard = self.soft = None
        elif chunk is not self._chunk:
            frames, soft = chunk.frames, chunk.soft
            self._chunk, self._windows = chunk, self.windows_of(frames)
            self.hard = None if frames.targets is None else frames.targets.to(self._device)
            self.soft = None if soft is None else soft.to(self._device)
