"""Records of steps: what was made of what, and the check sums of the files.

A record has a check sum of its own, too. Records of earlier versions have no check sums: files are
then compared by size alone.
"""

import os
from collections.abc import Collection, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from fnmatch import fnmatch
from pathlib import Path
from typing import Any, TypedDict

from acoustic_kd.system.errors import UserError
from acoustic_kd.system.files import json_sha256, read_json, sha256, write_json

STARTED, DONE = RECORDS = ("started.json", "done.json")


class _Later(TypedDict, total=False):
    """What only some records have."""

    name: str
    seconds: float  # that the step took, or ran before it was interrupted
    files: dict[str, int | None]  # path in the folder → bytes; None: there was no such file
    sha256: dict[str, str]  # path → SHA-256, unless the file has check sums of its own
    check: str  # SHA-256 of the other entries


class Record(_Later):
    """The content of a record."""

    digest: str
    settings: dict[str, Any]
    inputs: dict[str, Any]


def read_record(path: Path) -> dict[str, Any] | None:
    """A record; None if it is missing or damaged."""
    try:
        record: dict[str, Any] = read_json(path, Record)
    except UserError:
        return None
    check = record.pop("check", None)
    # A record with check sums of files has one of its own. Damage may have changed its key.
    unknown = record.keys() - Record.__required_keys__ - Record.__optional_keys__
    if unknown or ((check is not None or "sha256" in record) and check != json_sha256(record)):
        return None
    return record


def read_done(directory: Path, how: str = "the stage that writes it") -> dict[str, Any] | None:
    """The content of `done.json`, for readers of a step; None if the step is not done.

    Args:
        how: what to run if the record is damaged, which is an error.
    """
    path = Path(directory) / DONE
    record = read_record(path)
    if record is None and path.is_file():
        raise UserError(f"{path}: damaged; delete it and run {how} again")
    return record


def write_record(path: Path, record: dict[str, Any]) -> None:
    """Write a record with its check sum."""
    write_json(path, record | {"check": json_sha256(record)})


def digests(paths: Sequence[Path]) -> list[str]:
    """The SHA-256 of files, of several at the same time."""
    with ThreadPoolExecutor() as pool:
        return list(pool.map(sha256, paths))


def file_of(directory: Path, name: str) -> Path:
    """The path of a file of a record.

    `..` is that of the path: the directory may be a link to another disk.
    """
    return Path(os.path.normpath(Path(directory, name)))


@dataclass
class Verified:
    """What was compared with records.

    Attributes:
        files, bytes: that are as their records say.
        unknown: files whose content the record does not know.
        missing, damaged: files that are not, a line each.
    """

    files: int = 0
    bytes: int = 0
    unknown: list[Path] = field(default_factory=list)
    missing: list[str] = field(default_factory=list)
    damaged: list[str] = field(default_factory=list)


def compare_files(
    directory: Path,
    patterns: Collection[str] = ("*",),
    known: set[Path] | None = None,
    how: str = "the stage that writes it",
    content: bool = True,
) -> Verified:
    """Compare the files of a finished step with its record.

    Args:
        patterns: of paths in the directory, as `fnmatch` has them; `*` matches `/`, too.
        known: files that were compared before; they are left out, and the others are added.
        how: what to run if a file is damaged.
        content: compare check sums, not sizes alone.
    """
    result, known = Verified(), set() if known is None else known
    record = read_done(directory) or {}
    sums = record.get("sha256", {}) if content else {}
    chosen: list[tuple[Path, str]] = []
    for name, size in record.get("files", {}).items():
        path = file_of(directory, name)
        if size is None or path in known or not any(fnmatch(name, p) for p in patterns):
            continue
        known.add(path)
        if not path.is_file():
            result.missing.append(f"{path}: is missing; run {how} again")
        elif path.stat().st_size != size:
            result.damaged.append(_damaged(path, "its size", how))
        elif name in sums:
            chosen.append((path, sums[name]))
        else:
            result.unknown.append(path)
    for (path, expected), actual in zip(chosen, digests([p for p, _ in chosen]), strict=True):
        if actual != expected:
            result.damaged.append(_damaged(path, "its SHA-256", how))
        else:
            result.files += 1
            result.bytes += path.stat().st_size
    return result


def _damaged(path: Path, what: str, how: str) -> str:
    return f"{path}: damaged or changed ({what} differs from its record); delete it and run {how}"


def verify_files(
    directory: Path,
    patterns: Collection[str] = ("*",),
    known: set[Path] | None = None,
    how: str = "the stage that writes it",
    missing: bool = False,
) -> None:
    """Raise a UserError if a file of a finished step is not as its record says.

    Args:
        patterns, known, how: as for `compare_files`.
    """
    found = compare_files(directory, patterns, known, how)
    for problem in [*([] if missing else found.missing), *found.damaged]:
        raise UserError(problem)


def recorded_digests(directories: Iterable[Path]) -> dict[Path, tuple[int, str]]:
    """Size and SHA-256 of the files of finished steps, by their records."""
    found = {}
    for directory in directories:
        record = read_record(directory / DONE) or {}
        for name, digest in record.get("sha256", {}).items():
            found[file_of(directory, name)] = record["files"][name], digest
    return found
