"""Reading a store of soft targets: found by utterance, every block checked."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from acoustic_kd.features.frames import Frames, Index, shard_paths
from acoustic_kd.soft_targets.encoding import ZERO, Encoding
from acoustic_kd.soft_targets.manifest import check_pair, read_entry
from acoustic_kd.soft_targets.shard import Header, Shard, open_soft_targets
from acoustic_kd.soft_targets.targets import SoftTargets, as_signed_bits
from acoustic_kd.system.errors import UserError


def read_soft_targets(
    directory: Path,
    frames: Frames,
    temperature: float,
    encoding: Encoding | None = None,
    shards: Iterable[Path] | None = None,
) -> SoftTargets:
    """Read the soft targets of `frames`, found by utterance, in whatever order they were stored.

    Those that are stored dense, of a single member or of a geometric mean, may be read at another
    temperature than they were made at: they are tempered again.

    Args:
        temperature: at which they will be learnt.
        encoding: that they must have; None: whichever they have.
        shards: where `find_soft_targets` found them; None: look into every shard.

    Raises:
        UserError: an utterance is missing; frame count, classes, class inventory, temperature,
            encoding or format differ from what training asks for, or between shards; a shard is
            unfinished or damaged. Both sides, or the damaged block's utterances, are named.
    """
    gathered = _Gathered(len(frames))
    for shard, source, target, _ in _matching(directory, frames, temperature, encoding, shards):
        header = shard.header
        for blocks in block_ranges(source, header):  # what is not learnt from need not be read
            span = slice(header.span(blocks[0]).start, header.span(blocks[-1]).stop)
            here = (source >= span.start) & (source < span.stop)
            every = int(here.sum()) == span.stop - span.start
            arrays = _read_blocks(shard, blocks)
            gathered.add(arrays, header, source[here] - span.start, target[here], every)
    targets = gathered.targets(header, temperature)
    _check_zeros(directory, targets)
    return targets


@dataclass(frozen=True)
class ShardMatch:
    """A shard of soft targets.

    Attributes:
        path: of it.
        utterances: int64, the numbers of those looked for that it holds.
        frame_bytes: that a frame of it takes.
    """

    path: Path
    utterances: np.ndarray
    frame_bytes: float


def find_soft_targets(
    directory: Path, wanted: Index, temperature: float, encoding: Encoding | None = None
) -> list[ShardMatch]:
    """Where the soft targets of some utterances are; but for the blocks, all is checked."""
    return [
        ShardMatch(shard.path, utterances, shard.bytes / max(1, shard.header.frames))
        for shard, _, _, utterances in _matching(directory, wanted, temperature, encoding, None)
    ]


def _matching(
    directory: Path,
    frames: Frames | Index,
    temperature: float,
    encoding: Encoding | None,
    shards: Iterable[Path] | None,
) -> Iterator[tuple[Shard, np.ndarray, np.ndarray, np.ndarray]]:
    """Each shard, open and checked, and what `_places` says of it."""
    rows = {name: number for number, name in enumerate(frames.ids)}
    found = np.zeros(len(rows), bool)
    one: tuple[Path, Header] | None = None
    for path in shard_paths(directory) if shards is None else shards:
        with open_soft_targets(path) as shard:
            header = shard.header
            _check(path, header, frames, temperature, encoding)
            one = one or (path, header)
            _check_alike(path, header, *one)
            check_pair(path, header, read_entry(path))
            source, target, utterances = _places(shard, rows, frames)
            yield shard, source, target, utterances
        found[utterances] = True
    missing = np.flatnonzero(~found)
    if len(missing):
        raise UserError(
            f"{directory}: no soft targets for {len(missing)} of {len(frames.ids)} utterances, "
            f"'{frames.ids[missing[0]]}' among them; run soft-targets on this transfer set"
        )


def block_ranges(frames: np.ndarray, header: Header) -> list[range]:
    """The blocks that some frames of a shard are in, those beside one another together."""
    blocks = np.unique(frames // header.block_frames)
    runs = np.split(blocks, np.flatnonzero(np.diff(blocks) > 1) + 1)
    return [range(int(run[0]), int(run[-1]) + 1) for run in runs if len(run)]


class _Gathered:
    """The wanted frames of shard after shard."""

    def __init__(self, frames: int) -> None:
        self.first = np.zeros(frames, np.int64)
        self.by_frame: dict[str, np.ndarray] = {}
        self.flat: dict[str, list[np.ndarray]] = {}
        self.there = 0  # rows, or entries if frames differ in how many they have

    def add(
        self,
        arrays: dict[str, np.ndarray],
        header: Header,
        source: np.ndarray,
        target: np.ndarray,
        every: bool,
    ) -> None:
        """Add the frames `source` of what was read of a shard, which are the frames `target` here.

        Args:
            every: they are all that was read: in their order, as utterances of a shard follow it.
        """
        for name in arrays.keys() & {"counts", "tails"}:
            stored = arrays[name][source]
            self.by_frame.setdefault(name, np.zeros(len(self.first), stored.dtype))[target] = stored
        if header.encoding.varies:
            counts = arrays["counts"].astype(np.int64)
            before, counts = (np.cumsum(counts) - counts)[source], counts[source]
            starts = np.cumsum(counts) - counts
            total = int(counts.sum())
            chosen = np.repeat(before - starts, counts) + np.arange(total) if not every else None
        else:
            starts, total, chosen = np.arange(len(source)), len(source), source
        for name in arrays.keys() & {"classes", "codes"}:
            array = arrays[name]
            if not every:  # a dense shard is large: it is copied only where it must be
                shape = (-1,) if header.encoding.varies else (-1, header.encoding.kept_classes)
                array = array.reshape(shape)[chosen].reshape(-1)
            self.flat.setdefault(name, []).append(array)
        self.first[target] = self.there + starts
        self.there += total

    def targets(self, header: Header, temperature: float) -> SoftTargets:
        """All that was added; nothing can be added afterwards."""
        flat = {name: as_signed_bits(_joined(self.flat.pop(name))) for name in list(self.flat)}
        counts, tails = self.by_frame.get("counts"), self.by_frame.get("tails")
        width = header.encoding.kept_classes
        if counts is not None:
            counts, width = counts.astype(np.int32), int(counts.max(initial=0))
        return SoftTargets(
            encoding=header.encoding,
            temperature=temperature,
            first=torch.from_numpy(self.first),
            counts=None if counts is None else torch.from_numpy(counts),
            classes=flat.get("classes"),
            codes=flat["codes"],
            tails=None if tails is None else torch.from_numpy(tails),
            width=width,
            exponent=header.temperature / temperature,
        )


def _joined(parts: list[np.ndarray]) -> np.ndarray:
    return parts[0] if len(parts) == 1 else np.concatenate(parts)


def _read_blocks(shard: Shard, blocks: range) -> dict[str, np.ndarray]:
    """The arrays of some neighbouring blocks of a shard, every block checked."""
    arrays, damaged = shard.read(blocks)
    if damaged is not None:
        raise UserError(
            f"{shard.describe_damage(damaged)}; delete the shard and run soft-targets again"
        )
    return arrays


def _places(
    shard: Shard, rows: dict[str, int], frames: Frames | Index
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Which frames of a shard are wanted, which of `frames` they are, and of which utterances.

    The store may cover more than this training uses: what it does not is left out.
    """
    places = np.array([rows.get(name, -1) for name in shard.ids], np.int64)
    here = np.flatnonzero(places >= 0)
    there = places[here]
    lengths, expected = np.diff(shard.offsets)[here], np.diff(frames.offsets)[there]
    for number in np.flatnonzero(lengths != expected):
        raise UserError(
            f"{shard.path}: utterance '{shard.ids[here[number]]}' has {lengths[number]} frames of "
            f"soft targets but {expected[number]} of features; make the soft targets again"
        )
    steps = np.arange(lengths.sum()) - np.repeat(np.cumsum(lengths) - lengths, lengths)
    source, target = (
        np.repeat(starts, lengths) + steps
        for starts in (shard.offsets[here], frames.offsets[there])
    )
    return source, target, there


def _check(
    path: Path,
    header: Header,
    frames: Frames | Index,
    temperature: float,
    encoding: Encoding | None,
) -> None:
    classes = frames.classes
    facts = [
        ("number of classes", header.num_classes, classes.count),
        ("class inventory", header.inventory, classes.inventory),
    ]
    if encoding is not None:
        facts.append(("encoding", str(header.encoding), str(encoding.of(classes.count))))
    again = ""
    single = len(header.members) == 1 or header.mean == "geometric"
    if not (single and header.encoding.name == "dense"):
        again = "; only a geometric mean or a single member, stored dense, can be tempered again"
        facts.append(("temperature", header.temperature, float(temperature)))
    for what, found, expected in facts:
        if found != expected:
            hint = again if what == "temperature" else ""
            raise UserError(f"{path}: {what} is {found}, but training asks for {expected}{hint}")


def _check_alike(path: Path, header: Header, other_path: Path, other: Header) -> None:
    """Whether two shards can be of one store."""
    for what, found, expected in header.differences_from(other):
        raise UserError(
            f"{path}: {what} is {found}, but in {other_path.name} it is {expected}; make the soft "
            "targets again"
        )


def _check_zeros(directory: Path, targets: SoftTargets) -> None:
    """Whether what was too small to be stored would matter at a higher temperature."""
    zero = ZERO if targets.codes.dtype == torch.uint8 else 0
    if targets.exponent < 1 and bool((targets.codes == zero).any()):
        made = targets.exponent * targets.temperature
        raise UserError(
            f"{directory}: temperature is {made:g}, but training asks for {targets.temperature:g}, "
            "at which probabilities that were too small to be stored would matter; make the soft "
            "targets again"
        )
