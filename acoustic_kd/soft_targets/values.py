"""Checks of the values in a shard: its check sums may be right, and its content still wrong."""

from collections.abc import Iterator

import numpy as np

from acoustic_kd.soft_targets.encoding import ZERO_CODE
from acoustic_kd.soft_targets.header import Header

HALF_ONE = 0x3C00  # the bits of 1 in float16; of numbers below 0, of NaN they are larger


def start_problems(header: Header, starts: np.ndarray) -> Iterator[str]:
    """Contradictions between the first entries of the blocks [blocks + 1] and their frames."""
    kept, edges = header.encoding.kept_classes, np.arange(len(starts)) * header.block_frames
    frames = np.diff(np.minimum(edges, header.frames))
    entries = np.diff(starts.astype(np.int64))
    least = 1 if header.encoding.varies else kept
    wrong = np.flatnonzero((entries < least * frames) | (entries > kept * frames))
    if starts[0] != 0:
        yield f"the first block starts at entry {starts[0]}"
    elif len(wrong):
        block = wrong[0]
        yield f"block {block} has {entries[block]} entries in {frames[block]} frames"


def value_problem(
    header: Header, block: dict[str, np.ndarray], frames: int
) -> tuple[int, str] | None:
    """The first of a block's `frames` frames whose soft target is wrong, and what is wrong."""
    kept, codes = header.encoding.kept_classes, block["codes"]
    counts = np.full(frames, kept)
    if header.encoding.varies:
        counts = block["counts"].astype(np.int64)
        for frame in np.flatnonzero((counts < 1) | (counts > kept)):
            return int(frame), f"it has {counts[frame]} entries, not 1 to {kept}"
        if counts.sum() != len(codes):
            return frames - 1, f"the block has {len(codes)} entries, but {counts.sum()} counted"
    first = np.cumsum(counts) - counts  # entry of each frame

    def frame_of(entry: int) -> int:
        return int(np.searchsorted(first, entry, "right")) - 1

    if "classes" in block:
        classes = block["classes"]
        if classes.max(initial=0) >= header.num_classes:
            entry = int(np.flatnonzero(classes >= header.num_classes)[0])
            count = header.num_classes
            return frame_of(entry), f"the class is {classes[entry]}, but there are {count} classes"
        zero = codes == (ZERO_CODE if codes.dtype == np.uint8 else 0)
        suspects = np.arange(frames)
        if not header.encoding.varies:  # short rows are sorted 15 times as fast as all entries
            rows = np.sort(classes.reshape(-1, kept), axis=1)
            suspects = np.flatnonzero((rows[:, 1:] == rows[:, :-1]).any(1))
            classes, zero = (a.reshape(-1, kept)[suspects].ravel() for a in (classes, zero))
        if (repeated := _repeats(classes, counts[suspects], zero)) is not None:
            return int(suspects[repeated]), "a class comes twice"
    if codes.dtype == np.float16:
        bits = codes.view(np.uint16)
        if bits.max(initial=0) > HALF_ONE:
            entry = int(np.flatnonzero(bits > HALF_ONE)[0])
            return frame_of(entry), f"the probability is {codes[entry]}"
    sums, sampled = _sums(header, block, first), header.encoding.name == "sampled"
    for frame in np.flatnonzero(sums != kept if sampled else sums == 0):
        text = f"it has {sums[frame]} draws, not {kept}" if sampled else "all probabilities are 0"
        return int(frame), text
    return None


def _repeats(classes: np.ndarray, counts: np.ndarray, zero: np.ndarray) -> int | None:
    """The first frame that has a class twice, except for its first class as padding.

    Args:
        counts: entries of each frame.
        zero: whether the probability of each entry is 0.
    """
    first = np.cumsum(counts) - counts
    rows = np.repeat(np.arange(len(counts)) << 32, counts) | classes
    if zero.any():
        padding = zero & (rows == np.repeat(rows[first], counts))
        padding[first] = False
        rows = rows[~padding]
    rows.sort()
    again = np.flatnonzero(rows[1:] == rows[:-1])
    return int(rows[again[0]] >> 32) if len(again) else None


def _sums(header: Header, block: dict[str, np.ndarray], first: np.ndarray) -> np.ndarray:
    """A number for each frame: draws of sampled; otherwise 0 if all probabilities are 0."""
    codes = block["codes"]
    if not len(first):
        return first
    if header.encoding.name == "sampled":
        return np.add.reduceat(codes, first, dtype=np.int64)
    largest = codes.view(np.uint16) if codes.dtype == np.float16 else ZERO_CODE - codes
    sums = np.maximum.reduceat(largest, first)
    return np.maximum(sums, ZERO_CODE - block["tails"]) if "tails" in block else sums
