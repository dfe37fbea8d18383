"""Folders of object stores and other remote file systems, copied to this machine by fsspec."""

import hashlib
import json
import os
import shutil
from functools import lru_cache
from pathlib import Path, PurePosixPath
from typing import Any

from acoustic_kd.system.errors import UserError, printable
from acoustic_kd.system.files import TEMPORARY, jsonl_rows, wait_for_lock
from acoustic_kd.system.parallel import progress

SCHEME = "://"  # in every remote place, such as s3://bucket/folder
RECORD = ".copied.jsonl"  # name, size and mark of each file that was copied
TOGETHER = 64  # files that are copied at the same time
# What changes with the content of a file, by file system; the size alone where it has none.
MARKS = ("ETag", "etag", "md5Hash", "LastModified", "updated", "mtime", "created")
MAX_REASON = 200  # characters


def is_remote(place: str | Path) -> bool:
    """Whether a place is a remote folder, such as s3://bucket/folder."""
    return isinstance(place, str) and SCHEME in place


def local_folder(place: str | Path) -> Path:
    """The folder of a place on this machine; a remote folder is copied, once in a process.

    The copy is in `acoustic_kd` in $XDG_CACHE_HOME, by default ~/.cache. Files that have not
    changed since an earlier copy are not copied again; an interrupted copy resumes.

    Args:
        place: a path, or an address that fsspec knows; s3:// needs the package s3fs.

    Raises:
        UserError: the remote folder cannot be read, or has no files.
    """
    return _copy(place) if isinstance(place, str) and is_remote(place) else Path(place)


@lru_cache(maxsize=16)
def _copy(place: str) -> Path:
    import fsspec  # slow to import

    name = PurePosixPath(place).name
    home = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    folder = home / "acoustic_kd" / f"{name}-{hashlib.sha256(place.encode()).hexdigest()[:12]}"
    try:
        system, root = fsspec.core.url_to_fs(place)
        found = system.find(root, detail=True)
    except Exception as error:  # each file system has errors of its own
        raise _refuse(place, error) from None
    names = {path: PurePosixPath(path).relative_to(PurePosixPath(root)) for path in found}
    if not names:
        raise UserError(f"{place}: has no files; check the address")
    for path, relative in names.items():
        if ".." in relative.parts or not relative.parts:
            raise UserError(f"{place}: '{printable(path)}' is no file below this folder")
    with wait_for_lock(folder):
        _update(place, system, folder, {str(names[p]): (p, info) for p, info in found.items()})
    return folder


def _update(
    place: str, system: Any, folder: Path, files: dict[str, tuple[str, dict[str, Any]]]
) -> None:
    """Copy what is missing or has changed, and delete what is no longer in the remote folder.

    Args:
        system: of fsspec.
        files: name → path in `system` and what that says of it.
    """
    record, wanted = folder / RECORD, {n: _mark(info) for n, (_, info) in files.items()}
    copied = dict(row for _, row in jsonl_rows(record)) if record.exists() else {}
    for name in copied:  # others may have been downloaded to this folder
        if copied[name] != wanted.get(name):
            (folder / name).unlink(missing_ok=True)
    due = [n for n in files if copied.get(n) != wanted[n] or not (folder / n).is_file()]
    temporary = folder / TEMPORARY.replace("*", "copy")
    with progress(None, f"copying {place}", len(due), unit="file") as bar, record.open("a") as log:
        for first in range(0, len(due), TOGETHER):
            names = due[first : first + TOGETHER]
            shutil.rmtree(temporary, ignore_errors=True)  # of a killed process
            temporary.mkdir()
            targets = [temporary / str(number) for number in range(len(names))]
            try:
                system.get([files[n][0] for n in names], list(map(str, targets)))
            except Exception as error:
                raise _refuse(place, error) from None
            for name, target in zip(names, targets, strict=True):
                (folder / name).parent.mkdir(parents=True, exist_ok=True)
                target.replace(folder / name)
                log.write(json.dumps([name, wanted[name]]) + "\n")
                bar.update()
            log.flush()
    shutil.rmtree(temporary, ignore_errors=True)


def _mark(info: dict[str, Any]) -> list[Any]:
    """What a file is known by: its size, and a mark of its content or its time."""
    marks = (str(info[key]) for key in MARKS if info.get(key) is not None)
    return [info.get("size"), next(marks, None)]


def _refuse(place: str, error: Exception) -> UserError:
    reason = " ".join(str(error).split())[:MAX_REASON] or type(error).__name__
    return UserError(f"{place}: cannot be read ({reason}); check the address and your access to it")
