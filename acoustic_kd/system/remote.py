"""Folders of object stores and other remote file systems, copied to this machine by fsspec."""

import hashlib
import json
import os
import shutil
from functools import lru_cache
from pathlib import Path, PurePosixPath
from typing import Any

from acoustic_kd.system.errors import UserError, first_line, printable
from acoustic_kd.system.files import NO_ROOM, wait_for_lock, write_jsonl
from acoustic_kd.system.parallel import progress

SCHEME = "://"  # in every remote place, such as s3://bucket/folder
TOGETHER = 64  # files that are copied at the same time
# What changes with the content of a file, by file system; the size alone where it has none.
MARKS = ("ETag", "etag", "md5Hash", "LastModified", "updated", "mtime", "created")


def local_folder(place: str | Path) -> Path:
    """The folder of a place on this machine; a remote folder is copied, once in a process.

    The copy is in `acoustic_kd` in $XDG_CACHE_HOME, by default ~/.cache. Files that have not
    changed since an earlier copy are not copied again; an interrupted copy resumes.

    Args:
        place: a path, or an address that fsspec knows; s3:// needs the package s3fs.

    Raises:
        UserError: the remote folder cannot be read, or has no files.
    """
    return _copy(place) if isinstance(place, str) and SCHEME in place else Path(place)


@lru_cache(maxsize=16)
def _copy(place: str) -> Path:
    import fsspec  # slow to import

    name = PurePosixPath(place).name
    home = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    cache = home / "acoustic_kd" / f"{name}-{hashlib.sha256(place.encode()).hexdigest()[:12]}"
    try:
        system, root = fsspec.core.url_to_fs(place)
        found = system.find(root, detail=True)
    except Exception as error:  # each file system has errors of its own
        raise _refuse(place, error) from None
    files = {}
    for path, info in found.items():
        if path.endswith("/") or info.get("type") == "directory":  # S3 has objects for folders
            continue
        relative = PurePosixPath(path).relative_to(PurePosixPath(root))
        if ".." in relative.parts or not relative.parts:
            raise UserError(f"{place}: '{printable(path)}' is outside this folder")
        files[str(relative)] = path, _mark(info)
    if not files:
        raise UserError(f"{place}: has no files; check the address")
    with wait_for_lock(cache):
        _update(place, system, cache, files)
    return cache / "files"


def _update(place: str, system: Any, cache: Path, files: dict[str, tuple[str, list[Any]]]) -> None:
    """Copy what is missing or has changed, and delete what is no longer in the remote folder.

    Args:
        system: of fsspec.
        files: name → path in `system`, and mark.
    """
    folder, record, temporary = cache / "files", cache / "copied.jsonl", cache / "copying"
    copied = _read_record(record)
    for name in [n for n in copied if n not in files or copied[n] != files[n][1]]:
        del copied[name]
        (folder / name).unlink(missing_ok=True)
    due = [n for n in files if n not in copied or not (folder / n).is_file()]
    if not due:
        return
    from acoustic_kd.system.download import require_downloads_allowed  # slow to import

    require_downloads_allowed(place)
    write_jsonl(record, copied.items())
    with progress(None, f"copying {place}", len(due), unit="file") as bar, record.open("a") as log:
        for first in range(0, len(due), TOGETHER):
            names = due[first : first + TOGETHER]
            shutil.rmtree(temporary, ignore_errors=True)  # of a killed process
            temporary.mkdir()
            targets = [temporary / str(number) for number in range(len(names))]
            try:
                system.get([files[n][0] for n in names], list(map(str, targets)))
            except Exception as error:
                if isinstance(error, OSError) and error.errno in NO_ROOM:
                    raise
                raise _refuse(place, error) from None
            for name, target in zip(names, targets, strict=True):
                _put(target, folder, name)
                log.write(json.dumps([name, files[name][1]]) + "\n")
                bar.update()
            log.flush()
    shutil.rmtree(temporary, ignore_errors=True)


def _read_record(path: Path) -> dict[str, list[Any]]:
    """Name → mark of each file that was copied; a line that a kill has cut does not count."""
    copied: dict[str, list[Any]] = {}
    for line in path.read_text().splitlines() if path.exists() else ():
        try:
            name, mark = json.loads(line)
        except ValueError:
            break
        copied[name] = mark
    return copied


def _put(source: Path, folder: Path, name: str) -> None:
    """Rename a file into the folder; what is there under its name, or in place of its folder,
    is deleted.
    """
    target = folder / name
    for parent in reversed(target.relative_to(folder).parents):
        if (folder / parent).is_file():
            (folder / parent).unlink()
    if target.is_dir():
        shutil.rmtree(target)
    target.parent.mkdir(parents=True, exist_ok=True)
    source.replace(target)


def _mark(info: dict[str, Any]) -> list[Any]:
    """What a file is known by: its size, and a mark of its content or its time."""
    marks = (str(info[key]) for key in MARKS if info.get(key) is not None)
    return [info.get("size"), next(marks, None)]


def _refuse(place: str, error: Exception) -> UserError:
    reason = f"{type(error).__name__}: {first_line(error)}"
    return UserError(f"{place}: cannot be read ({reason}); check the address and your access to it")
