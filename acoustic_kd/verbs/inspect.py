"""`acoustic-kd inspect`: a summary of a store or an experiment, and its problems."""

import argparse
from pathlib import Path

from acoustic_kd.features import frame_shard as frames
from acoustic_kd.features.frame_shard import shard_paths
from acoustic_kd.system.errors import USAGE_ERROR, UserError, print_error
from acoustic_kd.system.hdf5 import format_of
from acoustic_kd.system.paths import path_argument
from acoustic_kd.system.records import DONE

BLOCK_FRAMES = 1 << 16  # checked together

Rows = list[tuple[str, str]]


def inspect(directory: Path, verify: bool) -> tuple[str, Rows, list[str]]:
    """Summarise a store of soft targets or frames, or an experiment, and check it.

    Args:
        verify: read all of it.

    Returns:
        A title, the summary as names and values, and the problems, a line each.
    """
    directory = Path(directory)
    # The imports below load PyTorch, which takes seconds and is not needed for frames.
    if not directory.is_dir():
        raise UserError(f"{directory}: no such folder")
    if not any(directory.glob("shard-*")) and any(directory.rglob(DONE)):
        from acoustic_kd.experiment.inspection import inspect_experiment

        rows, problems = inspect_experiment(
            directory, verify, lambda store: inspect(store, True)[2]
        )
        return f"experiment in {directory}", rows, problems
    if _holds_frames(directory):
        rows, problems = examine_frames(shard_paths(directory), verify)
        return f"frames in {directory}", rows, problems
    from acoustic_kd.soft_targets import verify as soft_targets

    shards = soft_targets.all_shards(directory) or shard_paths(directory)
    report = soft_targets.examine(directory, verify)
    rows = report.rows()
    if verify and not report.problems:
        rows.append(("verified", f"{len(shards)} shards, every check sum"))
    return f"soft targets in {directory}", rows, report.problems


def _holds_frames(directory: Path) -> bool:
    """Whether most shards have the format of frames; any of them may be damaged."""
    formats = [format_of(path) for path in Path(directory).glob("shard-*.h5")]
    readable = [form for form in formats if form is not None]
    return readable.count(frames.FORMAT) > len(readable) / 2


def examine_frames(shards: list[Path], verify: bool) -> tuple[Rows, list[str]]:
    """The summary of a store of frames, and its problems."""
    problems: list[str] = []
    kinds: dict[tuple[str, ...], Path] = {}
    seen: dict[str, Path] = {}
    total = size = unchecked = 0
    for path in shards:
        try:
            with frames.open_frames(path, refuse=False) as shard:
                problems += [f"{path}: {text}" for text in _frame_problems(shard, verify)]
        except UserError as error:
            problems.append(str(error))
            continue
        kind = (
            f"{shard.count:,} (inventory {frames.shown_inventory(shard.inventory)})",
            f"{shard.dimension} of {shard.dtype}",
            "yes" if shard.labelled else "none",
        )
        ids, count = dict.fromkeys(shard.ids), len(shard)
        unchecked += not shard.has_check_sums
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
        none = f"; {unchecked} have no check sums" if unchecked else ", every check sum"
        rows.append(("verified", f"{len(shards)} shards{none}"))
    return rows, problems


def _frame_problems(shard: frames.FrameShard, verify: bool) -> list[str]:
    """Contradictions between the arrays of a shard of frames; with `verify`, wrong values."""
    problems = list(shard.problems)
    if verify and not problems:
        for first in range(0, len(shard), BLOCK_FRAMES):
            problems += shard.value_problems(slice(first, first + BLOCK_FRAMES))
    return problems


def add_options(parser: argparse.ArgumentParser) -> None:
    parser.description = (
        "Summarise a store of soft targets or frames, or an experiment, and check it; exit with "
        "status 2 if it has problems."
    )
    parser.epilog = "Example: acoustic-kd inspect exp/an4 --verify"
    parser.add_argument(
        "directory", type=path_argument, metavar="DIR",
        help="directory of the shards, or of the experiment",
    )  # fmt: skip
    parser.add_argument("--verify", action="store_true", help="read all files, compare check sums")


def run(options: argparse.Namespace) -> int:
    title, rows, problems = inspect(options.directory, options.verify)
    print(title)
    for name, value in rows:
        print(f"  {name:<14} {value}")
    for problem in problems:
        print_error("acoustic-kd inspect", problem)
    return USAGE_ERROR if problems else 0
