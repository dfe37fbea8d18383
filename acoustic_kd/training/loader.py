"""The data loader: the batches of an epoch in their order, and their chunks on the device."""

from collections.abc import Iterable, Iterator
from contextlib import closing, contextmanager

import torch
from torch import Tensor

from acoustic_kd.features.frames import Frames
from acoustic_kd.settings import ModelConfig, TrainConfig
from acoustic_kd.soft_targets.targets import SoftTargets
from acoustic_kd.training.batches import WHOLE_SHARE, Epoch, ProcessShare, plan_epoch
from acoustic_kd.training.chunks import Chunk, InMemoryData, ShardedData, prefetch_chunks
from acoustic_kd.training.precision import dtype_of
from acoustic_kd.training.windows import Splicer, make_splicer


class DataLoader:
    """Reads chunk after chunk onto the device (see `chunks`), and yields batches of frame numbers.

    Attributes:
        num_chunks: of an epoch; set it before reading.
        hard: int64 [T], the chunk's hard targets, or None.
        soft: the chunk's soft targets, or None.
    """

    def __init__(
        self,
        data: InMemoryData | ShardedData,
        config: ModelConfig,
        train: TrainConfig,
        seed: int,
        device: torch.device,
        bfloat16: bool,
        share: ProcessShare = WHOLE_SHARE,
    ) -> None:
        self.num_chunks = 1
        self.hard: Tensor | None = None
        self.soft: SoftTargets | None = None
        self._data, self._config, self._device, self._bfloat16 = data, config, device, bfloat16
        self._train, self._seed, self._share = train, seed, share
        self._sampler = data.sampler(train.share, train.share_seed)
        self._dtype = dtype_of(bfloat16)
        self._windows: Splicer | None = None
        if isinstance(data, InMemoryData):
            self._load(data.chunk)

    @property
    def windows(self) -> Splicer:
        """int64 [B] frame numbers of the loaded chunk → windows [B, W, D]."""
        if self._windows is None:
            raise RuntimeError("no chunk has been read")
        return self._windows

    def min_chunks(self, memory: int | None) -> int:
        """The smallest number of chunks within a memory budget: see `ShardedData.num_chunks`."""
        return self._data.num_chunks(memory, self._dtype.itemsize, self._share)

    def make_windows(self, frames: Frames) -> Splicer:
        """Put frames on the device, for their windows."""
        splicer = make_splicer(self._config, frames.features, frames.offsets, self._bfloat16)
        return splicer.to(self._device)

    def plan(self, epoch: int) -> Epoch:
        """The order of an epoch."""
        frames, streams = self._train.batch_frames, self._train.streams
        sizes, seed = self._data.sizes, self._seed
        return plan_epoch(sizes, self.num_chunks, frames, seed, epoch, streams, self._sampler)

    @contextmanager
    def prefetching(self, epochs: Iterable[int], step: int) -> Iterator[None]:
        """Read the chunks of some epochs within the block, each while the one before it is used.

        Args:
            step: number of steps of the first epoch that are done.
        """
        plans = map(self.plan, epochs)
        chunks = prefetch_chunks(self._data, plans, step, self._dtype, self._share)
        with closing(chunks) as self._chunks:
            yield

    def batches(self, epoch: Epoch, step: int) -> Iterator[tuple[Tensor, int]]:
        """The batches of an epoch from a step on; each one's chunk is loaded before it.

        Yields:
            int64 [B], numbers of frames of the loaded chunk that this process trains on, on the
            device; and the number of frames in the whole batch.
        """
        for _ in epoch.remaining_chunks(step):
            if len(epoch.chunks) > 1:
                self._windows = self.hard = self.soft = None  # makes room
            chunk, batches = next(self._chunks)
            if chunk is not None:
                self._load(chunk)
            del chunk  # the device has a copy
            for batch, size in batches:
                yield self._on_device(batch), size

    def _on_device(self, batch: Tensor) -> Tensor:
        if self._device.type != "cuda":
            return batch.to(self._device)
        return batch.pin_memory().to(self._device, non_blocking=True)  # the host need not wait

    def _load(self, chunk: Chunk) -> None:
        """Put a chunk on the device."""
        frames, soft = chunk.frames, chunk.soft
        self._windows = self.make_windows(frames)
        self.hard = None if frames.targets is None else frames.targets.to(self._device)
        self.soft = None if soft is None else soft.to(self._device)
