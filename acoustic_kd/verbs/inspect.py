"""`acoustic-kd inspect`: a summary of a store, and its problems."""

import argparse
import sys
from pathlib import Path

import h5py
import numpy as np

from acoustic_kd.features import frames
from acoustic_kd.features.frames import open_shard, shard_paths
from acoustic_kd.soft_targets import verify as soft_targets
from acoustic_kd.system.errors import USAGE_ERROR, UserError

BLOCK_FRAMES = 1 << 16  # checked together

Rows = list[tuple[str, str]]


def inspect(directory: Path, verify: bool) -> tuple[str, Rows, list[str]]:
    """Summarise a store of soft targets or frames, and check it.

    Args:
        verify: read all of it.

    Returns:
        A title, the summary as names and values, and the problems, a line each.
    """
    if not Path(directory).is_dir():
        raise UserError(f"{directory}: no such folder")
    if _holds_frames(directory):
        rows, problems = examine_frames(shard_paths(directory), verify)
        return f"frames in {directory}", rows, problems
    shards = soft_targets.all_shards(directory) or shard_paths(directory)
    report = soft_targets.examine(directory, verify)
    rows = report.rows()
    if verify and not report.problems:
        rows.append(("verified", f"{len(shards)} shards, every check sum"))
    return f"soft targets in {directory}", rows, report.problems


def _holds_frames(directory: Path) -> bool:
    """Whether most shards have the format of frames; any of them may be damaged."""
    formats: list[bool] = []
    for path in sorted(Path(directory).glob("shard-*.h5")):
        try:
            with h5py.File(path, "r") as file:
                formats.append(file.attrs.get("format") == frames.FORMAT)
        except OSError:
            continue
    return sum(formats) > len(formats) / 2


def examine_frames(shards: list[Path], verify: bool) -> tuple[Rows, list[str]]:
    """The summary of a store of frames, and its problems; the shards have no check sums."""
    problems: list[str] = []
    kinds: dict[tuple[str, ...], Path] = {}
    seen: dict[str, Path] = {}
    total = size = 0
    for path in shards:
        try:
            with open_shard(path, frames.FORMAT) as file:
                problems += [f"{path}: {text}" for text in _frame_problems(file, verify)]
                features, inventory = file["features"], file.attrs["inventory"]
                kind = (
                    f"{file.attrs['classes']:,} (inventory {inventory[:12]})",
                    f"{features.shape[1]} of {features.dtype}",
                    "yes" if "targets" in file else "none",
                )
                ids, count = list(file["ids"].asstr()[:]), len(features)
        except UserError as error:
            problems.append(str(error))
            continue
        except Exception as error:  # damage can make HDF5 fail in many ways
            problems.append(f"{path}: damaged ({' '.join(str(error).split())})")
            continue
        for name in ids:
            if name in seen:
                problems.append(f"{path}: duplicate utterance '{name}', also in {seen[name].name}")
            seen[name] = path
        kinds.setdefault(kind, path)
        total, size = total + count, size + path.stat().st_size
    names = ("classes", "features", "targets")
    for values, path in list(kinds.items())[1:]:
        first_values, first_path = next(iter(kinds.items()))
        for name, value, expected in zip(names, values, first_values, strict=True):
            if value != expected:
                problems.append(f"{path}: {name}: {value}, but in {first_path.name}: {expected}")
    rows = [("shards", f"{len(shards)}"), ("utterances", f"{len(seen):,}")]
    rows.append(("frames", f"{total:,}"))
    rows += zip(names, next(iter(kinds), ()), strict=False)
    rows.append(("bytes a frame", f"{size / max(total, 1):.1f} ({size:,} bytes in all)"))
    if verify and not problems:
        rows.append(("verified", f"{len(shards)} shards read; frames have no check sums"))
    return rows, problems


def _frame_problems(file: h5py.File, verify: bool) -> list[str]:
    """Contradictions between the arrays of a shard of frames."""
    features, offsets = file["features"], file["offsets"][:]
    count, problems = len(features), []
    if len(offsets) != len(file["ids"]) + 1:
        problems.append(f"{len(file['ids'])} utterances, but {len(offsets)} offsets")
    elif offsets[0] != 0 or offsets[-1] != count or (np.diff(offsets) < 0).any():
        problems.append(f"its offsets do not divide its {count} frames into utterances")
    if "targets" in file and len(file["targets"]) != count:
        problems.append(f"{count} frames of features, but {len(file['targets'])} targets")
    if verify:
        targets, classes = file.get("targets", np.zeros(0)), int(file.attrs["classes"])
        for first in range(0, count, BLOCK_FRAMES):
            span = slice(first, first + BLOCK_FRAMES)
            not_finite = np.flatnonzero(~np.isfinite(features[span]).all(1))
            outside = np.flatnonzero((targets[span] < 0) | (targets[span] >= classes))
            if len(not_finite):
                problems.append(f"frame {first + not_finite[0]} has features that are not numbers")
            if len(outside):
                number = first + outside[0]
                problems.append(f"frame {number} has target {targets[number]} of {classes} classes")
    return problems


def add_options(parser: argparse.ArgumentParser) -> None:
    parser.description = (
        "Summarise a store of soft targets or frames, and check it; exit with status 2 if it has "
        "problems."
    )
    parser.epilog = "Example: acoustic-kd inspect exp/an4/soft_targets --verify"
    parser.add_argument("directory", type=Path, metavar="DIR", help="directory of the shards")
    parser.add_argument("--verify", action="store_true", help="read all shards, compare check sums")


def run(options: argparse.Namespace) -> int:
    title, rows, problems = inspect(options.directory, options.verify)
    print(title)
    for name, value in rows:
        print(f"  {name:<14} {value}")
    for problem in problems:
        print(f"acoustic-kd inspect: error: {problem}", file=sys.stderr)
    return USAGE_ERROR if problems else 0
