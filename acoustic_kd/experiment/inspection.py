"""Checks a whole experiment: the files of its steps, and its stores of frames and soft targets."""

from collections.abc import Callable
from pathlib import Path

from acoustic_kd.experiment.stages import STAGES
from acoustic_kd.system.files import AGAIN
from acoustic_kd.system.records import DONE, STARTED, compare_files, read_record

Rows = list[tuple[str, str]]
# From a folder of shards, its problems, a line each.
CheckStore = Callable[[Path], list[str]]


def inspect_experiment(
    directory: Path, verify: bool, check_store: CheckStore
) -> tuple[Rows, list[str]]:
    """Compare every file of an experiment with the record of its step.

    Args:
        directory: of the experiment, or of a stage with several steps.
        verify: compare check sums, and check the stores; else sizes alone.

    Returns:
        A summary, as names and values, and the problems, a line each.
    """
    known: set[Path] = set()
    problems: list[str] = []
    files = total = steps = 0
    unknown: list[Path] = []
    for path in sorted(directory.rglob(STARTED)):
        if not (path.parent / DONE).exists():
            problems.append(
                f"{path.parent}: interrupted, or its {DONE} is lost; run {_how(path.parent)} again"
            )
    for path in sorted(directory.rglob(DONE)):
        steps += 1
        if read_record(path) is None:
            problems.append(f"{path}: damaged; {AGAIN}")
            continue
        found = compare_files(path.parent, known=known, how=_how(path.parent), content=verify)
        files, total = files + found.files, total + found.bytes
        problems += found.missing + found.damaged
        unknown += found.unknown
    rows = [("steps", f"{steps} finished"), ("files", f"{len(known):,}")]
    if not verify:
        return rows, problems
    stores = sorted({path.parent for path in directory.rglob("shard-*.h5")})
    store_problems = [problem for store in stores for problem in check_store(store)]
    damaged = {problem.partition(": ")[0] for problem in problems}
    problems += [p for p in store_problems if p.partition(": ")[0] not in damaged]
    unknown = [path for path in unknown if path.parent not in stores]
    rows += [
        ("verified", f"{files:,} files of {total:,} bytes by SHA-256"),
        ("stores", f"{len(stores)} of frames or soft targets, read as a whole"),
    ]
    if unknown:
        rows.append(("not verified", f"{len(unknown):,} files without check sum, as {unknown[0]}"))
    return rows, problems


def _how(step: Path) -> str:
    """What makes the files of a step again."""
    stages = {s.folder: f"stage {n} ({name})" for n, (name, s) in enumerate(STAGES.items())}
    folders = reversed(step.absolute().parts[-3:])  # such as members/specialists/01
    return next((stages[folder] for folder in folders if folder in stages), "the experiment")
