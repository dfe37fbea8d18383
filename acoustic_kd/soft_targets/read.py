"""Read soft targets from a store: looked up by utterance, every block checked."""

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch

from acoustic_kd.features.frame_sequence import Classes
from acoustic_kd.features.frame_shard import shard_paths
from acoustic_kd.features.frames import Frames, Index, frame_index
from acoustic_kd.soft_targets.encoding import ZERO_CODE, Encoding
from acoustic_kd.soft_targets.header import Header
from acoustic_kd.soft_targets.manifest import check_pair, read_entry
from acoustic_kd.soft_targets.shard import BY_FRAME, Shard, open_soft_targets
from acoustic_kd.soft_targets.targets import SoftTargets, as_signed_bits
from acoustic_kd.system.errors import UserError

# An open shard; the wanted frames in it, their numbers in all, and their utterances' (int64).
Match = tuple[Shard, np.ndarray, np.ndarray, np.ndarray]
ONLY_DENSE = "only a geometric mean or a single member, stored dense, can be tempered again"


def read_soft_targets(
    directory: Path | str,
    frames: Frames | None = None,
    temperature: float | None = None,
    encoding: Encoding | None = None,
    shards: Iterable[Path] | None = None,
) -> SoftTargets:
    """Read soft targets, looked up by utterance; the order of the store is free.

    Dense soft targets of a single member or of a geometric mean can be read at another temperature
    than they were stored at: they are tempered again.

    Args:
        directory: of the store; a remote one, such as s3://bucket/folder, is copied first.
        frames: whose soft targets; None: all of the store, in its order.
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
    pieces = _pieces(directory, frames, temperature, encoding, shards)
    targets = _gather(pieces, frames, temperature)
    zero = ZERO_CODE if targets.codes.dtype == torch.uint8 else 0
    if targets.exponent < 1 and bool((targets.codes == zero).any()):
        raise UserError(
            f"{directory}: temperature is {targets.exponent * temperature:g}, but training needs "
            f"{temperature:g}, at which probabilities that were too small to be stored would "
            "matter; run soft-targets again"
        )
    return targets


def _index(directory: Path | str) -> tuple[Frames, float]:
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


def find_soft_targets(
    directory: Path, wanted: Index, temperature: float, encoding: Encoding | None = None
) -> Iterator[tuple[Path, np.ndarray, float]]:
    """Shards with the numbers (int64) of the wanted utterances in them, and bytes of a frame.

    It refuses what `read_soft_targets` refuses, except damaged blocks.
    """
    for shard, _, _, utterances in _matching(directory, wanted, temperature, encoding, None):
        yield shard.path, utterances, shard.bytes / max(1, shard.header.frames)


def _matching(
    directory: Path | str,
    frames: Frames | Index,
    temperature: float,
    encoding: Encoding | None,
    shards: Iterable[Path] | None,
) -> Iterator[Match]:
    """Open, check and match each shard.

    If an utterance is in no shard, the end of the iteration raises a UserError.
    """
    rows = {name: number for number, name in enumerate(frames.ids)}
    is_found = np.zeros(len(rows), bool)
    classes = frames.classes
    first: tuple[Header, str] | None = None
    for path in shard_paths(directory) if shards is None else shards:
        with open_soft_targets(path) as shard:
            header = shard.header
            values: dict[str, tuple[object, object]] = {
                "number of classes": (header.num_classes, classes.count),
                "class inventory": (header.inventory, classes.inventory),
            }
            if encoding is not None:
                values["encoding"] = str(header.encoding), str(encoding.of(classes.count))
            single = len(header.members) == 1 or header.mean == "geometric"
            if not (single and header.encoding.name == "dense"):
                values["temperature"] = header.temperature, float(temperature)
            for name, (stored, needed) in values.items():
                if stored != needed:
                    hint = ONLY_DENSE if name == "temperature" else "run soft-targets again"
                    raise UserError(
                        f"{path}: {name} is {stored}, but training needs {needed}; {hint}"
                    )
            first = first or (header, path.name)
            for difference in header.differences_from(*first):
                raise UserError(f"{path}: {difference}; run soft-targets again")
            check_pair(path, header, read_entry(path))
            match = _match_frames(shard, rows, frames)
            yield match
        is_found[match[-1]] = True
    for missing in np.flatnonzero(~is_found):
        raise UserError(
            f"{directory}: no soft targets for {(~is_found).sum()} of {len(frames.ids)} "
            f"utterances, such as '{frames.ids[missing]}'; run soft-targets on this transfer set"
        )


# Header and arrays of some blocks; the wanted frames in them, and their numbers in all (int64).
Piece = tuple[Header, dict[str, np.ndarray], np.ndarray, np.ndarray]


def _pieces(*wanted: Any) -> Iterator[Piece]:
    """What `_matching` finds, in pieces of neighbouring blocks; other blocks are not read."""
    for shard, source, target, _ in _matching(*wanted):  # no name: an error closes the shard
        numbers = np.unique(source // shard.header.block_frames)
        runs = np.split(numbers, np.flatnonzero(np.diff(numbers) > 1) + 1)
        for blocks in (range(int(run[0]), int(run[-1]) + 1) for run in runs if len(run)):
            span = shard.header.span(blocks.start, blocks.stop)
            inside = (source >= span.start) & (source < span.stop)
            arrays = _read_blocks(shard, blocks)
            yield shard.header, arrays, source[inside] - span.start, target[inside]


def _gather(pieces: Iterable[Piece], frames: Frames, temperature: float) -> SoftTargets:
    """The soft targets of all frames from their pieces."""
    first, size = np.zeros(len(frames), np.int64), 0  # rows, or entries if the encoding varies
    by_frame: dict[str, np.ndarray] = {}
    flat: dict[str, list[np.ndarray]] = {}
    for header, arrays, source, target in pieces:
        width, varies = header.encoding.kept_classes, header.encoding.varies
        starts, chosen = np.arange(len(source)), source
        if varies:
            counts = arrays["counts"].astype(np.int64)
            before, counts = (np.cumsum(counts) - counts)[source], counts[source]
            starts, chosen = np.cumsum(counts) - counts, _ranges(before, counts)
        for name, array in arrays.items():
            if name in BY_FRAME:
                kind = np.int32 if name == "counts" else array.dtype
                by_frame.setdefault(name, np.zeros(len(first), kind))[target] = array[source]
                continue
            rows = array if varies else array.reshape(-1, width)
            if len(chosen) < len(rows):  # a dense shard is large: avoid a copy of all
                rows = rows[chosen]
            flat.setdefault(name, []).append(rows.reshape(-1))
        first[target] = size + starts
        size += len(chosen)
    joined = {}
    for name in list(flat):  # large: one after the other
        parts = flat.pop(name)
        joined[name] = as_signed_bits(parts[0] if len(parts) == 1 else np.concatenate(parts))
    joined |= {name: torch.from_numpy(values) for name, values in by_frame.items()}
    in_order = not varies and np.array_equal(first, np.arange(len(first)))
    stored: Any = {name: joined.get(name) for name in ("counts", "classes", "codes", "tails")}
    return SoftTargets(
        header.encoding, temperature, None if in_order else torch.from_numpy(first), **stored,
        width=int(by_frame["counts"].max(initial=0)) if varies else width,
        exponent=header.temperature / temperature, keys=frames.ids, offsets=frames.offsets,
    )  # fmt: skip


def _read_blocks(shard: Shard, blocks: range) -> dict[str, np.ndarray]:
    """Read the arrays of neighbouring blocks of a shard, and check every block."""
    arrays, damaged = shard.read(blocks)
    if damaged is not None:
        raise UserError(f"{shard.describe_damage(damaged)}; delete it and run soft-targets again")
    return arrays


def _match_frames(shard: Shard, rows: dict[str, int], frames: Frames | Index) -> Match:
    """Match a shard with `frames` by utterance; the shard may have other utterances, too."""
    numbers = np.array([rows.get(name, -1) for name in shard.ids], np.int64)
    in_shard = np.flatnonzero(numbers >= 0)
    in_frames = numbers[in_shard]
    lengths, expected = np.diff(shard.offsets)[in_shard], np.diff(frames.offsets)[in_frames]
    for number in np.flatnonzero(lengths != expected):
        raise UserError(
            f"{shard.path}: utterance '{shard.ids[in_shard[number]]}' has {lengths[number]} frames "
            f"of soft targets but {expected[number]} of features; run soft-targets again"
        )
    source = _ranges(shard.offsets[in_shard], lengths)
    return shard, source, _ranges(frames.offsets[in_frames], lengths), in_frames


def _ranges(starts: np.ndarray, lengths: np.ndarray) -> np.ndarray:
    """The numbers from starts[n] to starts[n] + lengths[n] - 1, for n after n."""
    steps: np.ndarray = np.repeat(starts - np.cumsum(lengths) + lengths, lengths)
    return steps + np.arange(lengths.sum())
