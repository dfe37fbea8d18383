"""The ensemble's predictions for any number of frames, within the memory of the device.

If all members fit on the device, each block of frames goes through all of them. Otherwise one
member at a time is on the device: it predicts a group of blocks, adds to one sum for each block
there, and the next member takes its place. Either way a member sees the same blocks, and a block's
sum runs over the members in the same order, so the predictions are bit-identical.

Shapes: B frames of a block, K classes, M members.
"""

from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path

import torch
from torch import Tensor

from acoustic_kd.features.frames import Frames
from acoustic_kd.settings import ModelConfig
from acoustic_kd.system.errors import UserError
from acoustic_kd.system.memory import GIGABYTE, free_host_memory, free_memory, usable
from acoustic_kd.system.parallel import prefetch
from acoustic_kd.training.ensemble import Mean
from acoustic_kd.training.model import WEIGHTS, AcousticModel, load_model, read_description
from acoustic_kd.training.networks import window_frames
from acoustic_kd.training.precision import logits_of
from acoustic_kd.training.specialists import Specialists
from acoustic_kd.training.windows import Splicer, make_splicer

LOGIT_COPIES = 5  # of a block's logits at once: raw, tempered, encoded, measured


@dataclass(frozen=True)
class MemorySizes:
    """Bytes that writing soft targets takes.

    Attributes:
        members: of each member's weights.
        block: of a block's activations, and of its predictions while they are encoded.
        total: of a block's sum over the members.
    """

    members: tuple[int, ...]
    block: int
    total: int


@dataclass(frozen=True)
class Plan:
    """Where the members are.

    Attributes:
        all_on_device: the device holds all members at once.
        in_host_memory: members that are not on the device are in host memory; else in their files.
        blocks: number of blocks of frames that a member predicts before the next takes its place.
    """

    all_on_device: bool
    in_host_memory: bool
    blocks: int


def plan(sizes: MemorySizes, memory: int | None, host: int | None = 0) -> Plan:
    """The best plan within memory budgets.

    Args:
        memory: bytes on the device; None: unknown, assumed to be enough.
        host: bytes in host memory, for the other members; 0 if that is the device's memory.
    """
    if memory is None or sum(sizes.members) + sizes.block + sizes.total <= memory:
        return Plan(True, False, 1)
    in_host_memory = host is None or sum(sizes.members) <= host
    left = memory - minimum(sizes) + sizes.total
    return Plan(False, in_host_memory, max(1, left // sizes.total))


def minimum(sizes: MemorySizes) -> int:
    """Bytes on the device that one member at a time needs."""
    return max(sizes.members) + sizes.block + sizes.total


class Ensemble:
    """Members that predict block after block of frames, all of them or one at a time in memory.

    Attributes:
        digests: of the members, in order, and of the specialists.
        plan: where the members are; None before the first prediction.
    """

    def __init__(
        self,
        directories: Sequence[Path],
        mean: Mean,
        device: torch.device,
        bfloat16: bool = False,
        memory_gb: float | None = None,
        specialists: Specialists | None = None,
    ) -> None:
        """
        Args:
            directories: of M members, written by `save_model`.
            bfloat16: multiply matrices in bfloat16; the mean itself is always taken in float32.
            memory_gb: 10⁹ bytes on the device for members and predictions; None: what is free.
            specialists: refine the mean.
        """
        mean.check(len(directories))
        self._directories, self._device = list(directories), device
        self._temperature, self._specialists = mean.temperature, specialists
        # Specialists refine predictions at temperature 1.
        self._mean = replace(mean, temperature=1.0) if specialists else mean
        self._bfloat16, self._memory_gb = bfloat16, memory_gb
        self._shapes = [_Shape.read(path) for path in self._directories]
        self.digests = tuple(shape.digest for shape in self._shapes)
        self.digests += specialists.digests if specialists else ()
        self.plan: Plan | None = None
        self._loaded: list[AcousticModel] = []  # on the device, or in host memory

    def predictions(self, frames: Frames, blocks: Iterable[Tensor]) -> Iterator[Tensor]:
        """The mean of the members' predictions for block after block.

        Args:
            blocks: frame numbers; no block is larger than the first one.

        Returns:
            float32 [B, K] for each block; rows sum to 1. They are on the device, but of an Apple
            GPU on the CPU.
        """
        remaining = iter(blocks)
        first, low = self._shapes[0].model, self._bfloat16  # each member has its own window
        try:
            splicer = make_splicer(first, frames.features, frames.offsets, low).to(self._device)
            while group := list(islice(remaining, self.plan.blocks if self.plan else 1)):
                if self.plan is None:
                    self.plan = self._prepare(len(group[0]))
                    group += islice(remaining, self.plan.blocks - 1)
                totals: deque[Tensor | None] = deque([None] * len(group))
                for number, member in enumerate(self._members(self.plan)):
                    for block in group:
                        totals.append(self._add(totals.popleft(), member, splicer, block, number))
                for block in group:
                    yield self._finish(totals.popleft(), splicer, block)
        except torch.OutOfMemoryError:
            raise UserError(
                f"{self._device} has too little memory for the soft targets; set "
                "soft_targets.memory_gb to less than is free there, or end other programs on it"
            ) from None

    @torch.inference_mode()
    def _add(
        self,
        total: Tensor | None,
        member: AcousticModel,
        splicer: Splicer,
        frames: Tensor,
        number: int,
    ) -> Tensor:
        windows = splicer.around(frames.to(self._device), member.config)
        logits = logits_of(member, windows, self._bfloat16)
        return self._mean.add(total, logits, number)

    @torch.inference_mode()
    def _finish(self, total: Tensor | None, splicer: Splicer, frames: Tensor) -> Tensor:
        mean = self._mean.finish(total, len(self._directories))
        if self._specialists:
            mean = self._specialists.refine(mean, frames, splicer, self._temperature)
        return mean.cpu() if mean.device.type == "mps" else mean  # it has no float64 for encoding

    def _prepare(self, block: int) -> Plan:
        """Plan where the members are, and load them unless they stay in their files."""
        sizes, cpu = self._sizes(block), self._device.type == "cpu"
        memory, needed = usable(free_memory(self._device)), minimum(sizes)
        if self._memory_gb is not None:
            memory = int(self._memory_gb * GIGABYTE)
            if memory < needed:
                raise UserError(
                    f"setting 'soft_targets.memory_gb' is {self._memory_gb:g}; raise it to "
                    f"{needed / GIGABYTE:.3g} or more, for one member and a block of {block} frames"
                )
        chosen = plan(sizes, memory, 0 if cpu else usable(free_host_memory()))
        if chosen.all_on_device:
            self._loaded = [self._load(path).to(self._device) for path in self._directories]
        elif chosen.in_host_memory:
            self._loaded = [self._load(path) for path in self._directories]
        return chosen

    def _members(self, chosen: Plan) -> Iterator[AcousticModel]:
        """Each member on the device; unless all are there, the next one takes its place."""
        if chosen.all_on_device:
            yield from self._loaded
        elif chosen.in_host_memory:
            for member in self._loaded:
                in_host_memory = member.state_dict()  # put back without a copy
                yield member.to(self._device)
                member.load_state_dict(in_host_memory, assign=True)
        else:
            members = map(self._load, self._directories)
            # On the CPU memory has no room for the next one while this one predicts.
            for member in members if self._device.type == "cpu" else prefetch(members):
                yield member.to(self._device)
                member.to("meta")  # frees its memory

    def _load(self, directory: Path) -> AcousticModel:
        member = load_model(directory)
        return member.in_bfloat16() if self._bfloat16 else member

    def _sizes(self, block: int) -> MemorySizes:
        """Bytes that blocks of `block` frames take."""
        members = tuple(s.bytes // (2 if self._bfloat16 else 1) for s in self._shapes)
        total = max(4 * block * shape.classes for shape in self._shapes)
        work = max(4 * block * shape.units for shape in self._shapes)
        return MemorySizes(members, work + LOGIT_COPIES * total, total)


@dataclass(frozen=True)
class _Shape:
    """The size of a member, by its files.

    Attributes:
        model: its settings.
        digest: of its training.
        bytes: of its float32 weights.
        units: in memory at once for a frame while it predicts: its window and two layers.
        classes: K.
    """

    model: ModelConfig
    digest: str
    bytes: int
    units: int
    classes: int

    @classmethod
    def read(cls, directory: Path) -> "_Shape":
        model, values = read_description(directory, "digest")
        weights, window = directory / WEIGHTS, window_frames(model) * values["dimension"]
        units = window + 2 * model.width
        if model.kind == "cnn":  # two pictures of the first block
            units += window // 2 * model.channels
        try:
            size = weights.stat().st_size
        except OSError:
            raise UserError(f"{weights}: no such file; run the stage that trains it") from None
        return cls(model, values["digest"], size, units, values["classes"])
