"""Read soft targets from a store: looked up by utterance, every block checked."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from acoustic_kd.features.frame_shard import shard_paths
from acoustic_kd.features.frames import Classes, Frames, Index, frame_index
from acoustic_kd.soft_targets.encoding import ZERO_CODE, Encoding
from acoustic_kd.soft_targets.header import Header
from acoustic_kd.soft_targets.manifest import check_pair, read_entry
from acoustic_kd.soft_targets.shard import Shard, open_soft_targets
from acoustic_kd.soft_targets.targets import SoftTargets, as_signed_bits
from acoustic_kd.system.errors import UserError


def read_soft_targets(
    directory: Path,
    frames: Frames | None = None,
    temperature: float | None = None,
    encoding: Encoding | None = None,
    shards: Iterable[Path] | None = None,
) -> SoftTargets:
    """Read the soft targets of `frames`, looked up by utterance; the order of the store is free.

    Without `frames` they are those of the whole store, in its order.

    Dense soft targets of a single member or of a geometric mean can be read at another temperature
    than they were stored at: they are tempered again.

    Args:
        temperature: of the loss; None: that of the store.
        encoding: required; None: any.
        shards: from `find_soft_targets`; None: search every shard.

    Raises:
        UserError: an utterance is missing; frame count, classes, class inventory, temperature,
            encoding or format differ from those required, or between shards; a shard is
            unfinished or damaged. The message has both values, or the damaged block's utterances.
    """
    if frames is None or temperature is None:
        index, stored = _index(directory)
        frames = index if frames is None else frames
        temperature = stored if temperature is None else temperature
    gathered = _Gathered(len(frames))
    for shard, source, target, _ in _matching(directory, frames, temperature, encoding, shards):
        header = shard.header
        for blocks in block_ranges(source, header):  # no need to read the others
            span = slice(header.span(blocks[0]).start, header.span(blocks[-1]).stop)
            inside = (source >= span.start) & (source < span.stop)
            every = int(inside.sum()) == span.stop - span.start
            arrays = _read_blocks(shard, blocks)
            gathered.add(arrays, header, source[inside] - span.start, target[inside], every)
    targets = gathered.targets(header, temperature, frames)
    _check_zeros(directory, targets)
    return targets


def _index(directory: Path) -> tuple[Frames, float]:
    """All utterances of a store, and its temperature."""
    lengths: dict[str, int] = {}
    for path in shard_paths(directory):
        with open_soft_targets(path) as shard:
            header = shard.header
            for name, length in zip(shard.ids, np.diff(shard.offsets).tolist(), strict=True):
                if name in lengths:
                    raise UserError(f"{path}: utterance '{name}' is in another shard, too")
                lengths[name] = length
    return frame_index(lengths, Classes(header.num_classes, header.inventory)), header.temperature


@dataclass(frozen=True)
class ShardMatch:
    """A shard of soft targets that has some of the wanted utterances.

    Attributes:
        path: of the shard.
        utterances: int64, the numbers of the wanted utterances in it.
        frame_bytes: bytes of a frame in memory.
    """

    path: Path
    utterances: np.ndarray
    frame_bytes: float


def find_soft_targets(
    directory: Path, wanted: Index, temperature: float, encoding: Encoding | None = None
) -> list[ShardMatch]:
    """Find the shards that have the soft targets of some utterances.

    It refuses what `read_soft_targets` refuses, except damaged blocks.
    """
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
    """Open and check each shard, and yield it with the result of `_match_frames`.

    If an utterance is in no shard, the end of the iteration raises a UserError.
    """
    rows = {name: number for number, name in enumerate(frames.ids)}
    is_found = np.zeros(len(rows), bool)
    first: tuple[Path, Header] | None = None
    for path in shard_paths(directory) if shards is None else shards:
        with open_soft_targets(path) as shard:
            header = shard.header
            _check(path, header, frames, temperature, encoding)
            first = first or (path, header)
            _check_same_store(path, header, *first)
            check_pair(path, header, read_entry(path))
            source, target, utterances = _match_frames(shard, rows, frames)
            yield shard, source, target, utterances
        is_found[utterances] = True
    missing = np.flatnonzero(~is_found)
    if len(missing):
        raise UserError(
            f"{directory}: no soft targets for {len(missing)} of {len(frames.ids)} utterances, "
            f"such as '{frames.ids[missing[0]]}'; run soft-targets on this transfer set"
        )


def block_ranges(frames: np.ndarray, header: Header) -> list[range]:
    """The blocks of some frames of a shard, as ranges of neighbouring blocks."""
    blocks = np.unique(frames // header.block_frames)
    runs = np.split(blocks, np.flatnonzero(np.diff(blocks) > 1) + 1)
    return [range(int(run[0]), int(run[-1]) + 1) for run in runs if len(run)]


class _Gathered:
    """Collects the wanted frames of shard after shard."""

    def __init__(self, frames: int) -> None:
        self.first = np.zeros(frames, np.int64)
        self.by_frame: dict[str, np.ndarray] = {}
        self.flat: dict[str, list[np.ndarray]] = {}
        self.size = 0  # rows, or entries if frames differ in their number of entries

    def add(
        self,
        arrays: dict[str, np.ndarray],
        header: Header,
        source: np.ndarray,
        target: np.ndarray,
        every: bool,
    ) -> None:
        """Add frames of a shard.

        Args:
            arrays: blocks of the shard.
            source: int64 [n], the wanted frames in `arrays`.
            target: int64 [n], their numbers in the result.
            every: whether they are all frames of `arrays`; they are in the same order then.
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
            if not every:  # a dense shard is large: avoid the copy
                shape = (-1,) if header.encoding.varies else (-1, header.encoding.kept_classes)
                array = array.reshape(shape)[chosen].reshape(-1)
            self.flat.setdefault(name, []).append(array)
        self.first[target] = self.size + starts
        self.size += total

    def targets(self, header: Header, temperature: float, frames: Frames) -> SoftTargets:
        """The soft targets of all frames; call it once, after the last `add`."""
        flat = {name: as_signed_bits(_join(self.flat.pop(name))) for name in list(self.flat)}
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
            keys=frames.ids,
            offsets=frames.offsets,
        )


def _join(arrays: list[np.ndarray]) -> np.ndarray:
    return arrays[0] if len(arrays) == 1 else np.concatenate(arrays)


def _read_blocks(shard: Shard, blocks: range) -> dict[str, np.ndarray]:
    """Read the arrays of neighbouring blocks of a shard, and check every block."""
    arrays, damaged = shard.read(blocks)
    if damaged is not None:
        raise UserError(
            f"{shard.describe_damage(damaged)}; delete the shard and run soft-targets again"
        )
    return arrays


def _match_frames(
    shard: Shard, rows: dict[str, int], frames: Frames | Index
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Match a shard with `frames` by utterance; the shard may have other utterances, too.

    Returns:
        int64, the numbers of the wanted frames in the shard, their numbers in `frames`, and the
        numbers in `frames` of their utterances.
    """
    numbers = np.array([rows.get(name, -1) for name in shard.ids], np.int64)
    in_shard = np.flatnonzero(numbers >= 0)
    in_frames = numbers[in_shard]
    lengths, expected = np.diff(shard.offsets)[in_shard], np.diff(frames.offsets)[in_frames]
    for number in np.flatnonzero(lengths != expected):
        raise UserError(
            f"{shard.path}: utterance '{shard.ids[in_shard[number]]}' has {lengths[number]} frames "
            f"of soft targets but {expected[number]} of features; run soft-targets again"
        )
    steps = np.arange(lengths.sum()) - np.repeat(np.cumsum(lengths) - lengths, lengths)
    source, target = (
        np.repeat(starts, lengths) + steps
        for starts in (shard.offsets[in_shard], frames.offsets[in_frames])
    )
    return source, target, in_frames


def _check(
    path: Path,
    header: Header,
    frames: Frames | Index,
    temperature: float,
    encoding: Encoding | None,
) -> None:
    classes = frames.classes
    values = [
        ("number of classes", header.num_classes, classes.count),
        ("class inventory", header.inventory, classes.inventory),
    ]
    if encoding is not None:
        values.append(("encoding", str(header.encoding), str(encoding.of(classes.count))))
    single = len(header.members) == 1 or header.mean == "geometric"
    if not (single and header.encoding.name == "dense"):
        values.append(("temperature", header.temperature, float(temperature)))
    for name, stored, required in values:
        if stored != required:
            hint = "; only a geometric mean or a single member, stored dense, can be tempered again"
            hint = hint if name == "temperature" else "; run soft-targets again"
            raise UserError(f"{path}: {name} is {stored}, but training needs {required}{hint}")


def _check_same_store(path: Path, header: Header, first_path: Path, first: Header) -> None:
    """Refuse a shard that cannot be of one store with the first one."""
    for name, value, expected in header.differences_from(first):
        raise UserError(
            f"{path}: {name} is {value}, but in {first_path.name} it is {expected}; run "
            "soft-targets again"
        )


def _check_zeros(directory: Path, targets: SoftTargets) -> None:
    """Refuse a higher temperature where probabilities were too small to be stored."""
    zero = ZERO_CODE if targets.codes.dtype == torch.uint8 else 0
    if targets.exponent < 1 and bool((targets.codes == zero).any()):
        stored = targets.exponent * targets.temperature
        raise UserError(
            f"{directory}: temperature is {stored:g}, but training needs {targets.temperature:g}, "
            "at which probabilities that were too small to be stored would matter; run "
            "soft-targets again"
        )
