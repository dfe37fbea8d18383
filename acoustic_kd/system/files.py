"""Files that are written completely or not at all, locks on directories, and checksums."""

import errno
import fcntl
import hashlib
import json
import os
import secrets
import shutil
import stat
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any

from acoustic_kd.system.errors import UserError, warn
from acoustic_kd.system.json_types import WrongType, reader
from acoustic_kd.system.lock_holder import lock_holder

TEMPORARY = ".*.tmp"  # the names of files that are being written
AGAIN = "delete the file and run the stage that writes it again"  # after damage
NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)  # a full disk, a limit on space
# Of a file system without locks: NFS without its lock daemon, Lustre without the option flock, and
# 524, the Linux kernel's ENOTSUPP, of Cray's.
NO_LOCKS = (errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP, 524)
END_BYTES = 1 << 14  # half a second of 16-bit samples


@contextmanager
def atomic_path(path: Path) -> Iterator[Path]:
    """Yield a temporary path beside `path`; on success flush it to disk and rename it to `path`.

    If the block raises, or the process dies, `path` does not change: a reader never sees half a
    file.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    # Processes of other machines, or containers, may have the same number.
    temporary = path.with_name(f".{path.name}.{os.getpid()}.{secrets.token_hex(4)}.tmp")
    try:
        yield temporary
        with temporary.open("rb") as file:
            os.fsync(file.fileno())
        temporary.replace(path)
    except OSError as error:
        if error.filename is None and error.errno in NO_ROOM:  # writing does not know the name
            raise OSError(error.errno, error.strerror, str(path)) from None
        raise
    finally:
        temporary.unlink(missing_ok=True)
    # The rename itself must survive a power cut, so the directory is flushed too.
    directory = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(directory)
    finally:
        os.close(directory)


@contextmanager
def atomic_directory(path: Path) -> Iterator[Path]:
    """Yield a new temporary directory beside `path`; on success it takes the place of `path`.

    If the block raises, `path` does not change. A link stays, and what it leads to is replaced.
    """
    path = Path(path).resolve()
    path.parent.mkdir(parents=True, exist_ok=True)
    mark = f"{os.getpid()}.{secrets.token_hex(4)}"
    temporary, old = (path.with_name(f".{path.name}.{mark}{end}") for end in (".tmp", ".old.tmp"))
    temporary.mkdir()
    try:
        yield temporary
        try:
            if path.exists():
                path.rename(old)
            temporary.rename(path)
        except BaseException:
            if old.exists() and not path.exists():
                old.rename(path)
            raise
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    shutil.rmtree(old, ignore_errors=True)


@contextmanager
def exclusive_lock(directory: Path) -> Iterator[None]:
    """Work in `directory` alone: refuse if another process works there."""
    with _handle(directory) as handle:
        if not _locked(directory, handle, fcntl.LOCK_EX):
            raise _occupied(directory, handle)
        yield


@contextmanager
def shared_lock(directory: Path, gate: Path, prepare: Callable[[bool], None]) -> Iterator[None]:
    """Work in `directory` beside other processes with a shared lock; refuse an exclusive one.

    Args:
        gate: a directory that is locked while one process prepares.
        prepare: called first, with whether no other process works in `directory`.
    """
    with _handle(directory) as handle:
        with _handle(gate) as turn:
            if not _flock(gate, turn, fcntl.LOCK_EX):
                raise UserError(
                    f"{directory}: its file system has no locks, which runs with --shard need; "
                    "run the stage without --shard, or use another file system"
                )
            alone = _locked(directory, handle, fcntl.LOCK_EX)
            if not alone and not _locked(directory, handle, fcntl.LOCK_SH):
                raise _occupied(directory, handle)
            prepare(alone)
            if alone and not _locked(directory, handle, fcntl.LOCK_SH):  # another was faster
                raise _occupied(directory, handle)
        yield


@contextmanager
def wait_for_lock(directory: Path) -> Iterator[None]:
    """Wait until no other process holds this lock, then hold it."""
    with _handle(directory) as handle:
        if not _locked(directory, handle, fcntl.LOCK_EX):
            who = _holder(handle)
            print(f"  waiting for another run to finish with {directory}{who}", flush=True)
            _flock(directory, handle, fcntl.LOCK_EX)
        yield


@contextmanager
def take_turn(directory: Path) -> Iterator[None]:
    """Wait for this lock, without a message, then hold it."""
    with _handle(directory) as handle:
        _flock(directory, handle, fcntl.LOCK_EX)
        yield


@contextmanager
def _handle(directory: Path) -> Iterator[int]:
    """A descriptor of a directory, for locks, which end with the block or the process."""
    Path(directory).mkdir(parents=True, exist_ok=True)
    handle = os.open(directory, os.O_RDONLY)
    try:
        yield handle
    finally:
        os.close(handle)


def _locked(directory: Path, handle: int, kind: int) -> bool:
    """Take a lock, unless another process has it; warn once if there are no locks."""
    try:
        if not _flock(directory, handle, kind | fcntl.LOCK_NB):
            _warn_of_no_locks()
    except BlockingIOError:
        return False
    return True


def _flock(directory: Path, handle: int, kind: int) -> bool:
    """Take a lock; whether the file system has locks."""
    try:
        fcntl.flock(handle, kind)
    except BlockingIOError:
        raise
    except OSError as error:
        if error.errno in NO_LOCKS:
            return False
        raise UserError(f"{directory}: cannot be locked ({error.strerror})") from None
    return True


@cache
def _warn_of_no_locks() -> None:
    warn("this file system has no locks; make sure that no other run works in the same directory")


def _occupied(directory: Path, handle: int) -> UserError:
    return UserError(
        f"{directory}: another run works here{_holder(handle)}; wait for it, or give another "
        "--exp-dir"
    )


def _holder(handle: int) -> str:
    """The process that holds a lock, in brackets, where it is known."""
    holder = lock_holder(handle)
    return f" ({holder})" if holder else ""


def regular_file(path: str, flags: int) -> int:
    """An `opener` of `open` that refuses pipes and devices, where reading may never end.

    Raises:
        OSError: it is one, or cannot be opened.
    """
    handle = os.open(path, flags | os.O_NONBLOCK)  # else a pipe waits for its writer
    mode = os.fstat(handle).st_mode
    if not stat.S_ISREG(mode) and not stat.S_ISDIR(mode):  # Python refuses folders itself
        os.close(handle)
        raise OSError(errno.EINVAL, "not a regular file", path)
    return handle


def sha256(path: Path) -> str:
    """SHA-256 of a file, in hexadecimal."""
    return check_sum(path, "sha256")


def file_sha256(path: Path) -> str:
    """SHA-256 of a file of the user; an unreadable file is an error of the user."""
    with read_errors(path):
        return sha256(path)


def size_and_ends_digest(path: Path) -> tuple[int, str] | tuple[()]:
    """Size of a file and digest of its two ends; () for a missing file, a pipe or a device.

    The time is left out, because a copy or a new download changes it. The beginning of a FLAC file
    has a checksum of all samples; in other files a change between the ends that keeps the size is
    not noticed.
    """
    try:
        if not path.is_file():  # a pipe would be waited for
            return ()
        with path.open("rb") as file:
            size = os.fstat(file.fileno()).st_size
            ends = hashlib.sha256(file.read(END_BYTES))
            file.seek(max(END_BYTES, size - END_BYTES))
            ends.update(file.read(END_BYTES))
    except OSError:
        return ()
    return size, ends.hexdigest()


def check_sum(path: Path, kind: str) -> str:
    """The checksum of a file, md5 or sha256, in hexadecimal: against damage, not attacks."""
    digest = hashlib.new(kind, usedforsecurity=False)
    with open(path, "rb", opener=regular_file) as file:
        while piece := file.read(1 << 20):
            digest.update(piece)
    return digest.hexdigest()


def write_text(path: Path, text: str) -> None:
    """Write UTF-8 `text` to `path`, whole or not at all."""
    with atomic_path(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def write_json(path: Path, value: Any) -> None:
    """Write `value` as indented JSON, whole or not at all."""
    write_text(path, json.dumps(value, indent=2, ensure_ascii=False) + "\n")


def read_json(path: Path, kind: Any = Any, what: str = "") -> Any:
    """Read a JSON file.

    Args:
        kind: its type, one of those in `json_types`.
        what: completes "this file is not …" if the type is wrong.
    """
    with read_errors(path), open(path, encoding="utf-8", opener=regular_file) as file:
        text = file.read()
    return _parsed(text, reader(kind), what, str(path))


@contextmanager
def read_errors(path: Path) -> Iterator[None]:
    """Turn the errors of reading a file into a `UserError` that names it."""
    try:
        yield
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror})") from None
    except UnicodeDecodeError:
        raise UserError(f"{path}: not UTF-8 text; {AGAIN}") from None


def _parsed(text: str, read: Callable[[Any], Any], what: str, where: str) -> Any:
    """A JSON text as the type of a `reader`.

    Args:
        what: as for `read_json`.
        where: the file, and the line if it has several values.
    """
    try:
        return read(json.loads(text))
    except WrongType as error:
        raise UserError(f"{where}: {what and f'not {what}: '}{error}; {AGAIN}") from None
    except RecursionError:
        raise UserError(f"{where}: not valid JSON (too many brackets); {AGAIN}") from None
    except ValueError as error:
        raise UserError(f"{where}: not valid JSON ({error}); {AGAIN}") from None


def write_jsonl(path: Path, rows: Iterable[Any]) -> None:
    """Write one compact JSON value a line, whole or not at all."""
    with atomic_path(path) as temporary, temporary.open("w", encoding="utf-8") as file:
        file.writelines(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)


def read_jsonl(path: Path) -> list[Any]:
    """Read a JSON-lines file."""
    return [row for _, row in jsonl_rows(path)]


def jsonl_rows(path: Path, kind: Any = Any, what: str = "") -> Iterator[tuple[str, Any]]:
    """The rows of a JSON-lines file, one by one: ("PATH:LINE", row).

    Args:
        kind: type of a row, one of those in `json_types`.
        what: completes "this row is not …" if the type is wrong.
    """
    read = reader(kind)
    with read_errors(path), open(path, encoding="utf-8", newline="\n", opener=regular_file) as file:
        for number, line in enumerate(file, start=1):
            where = f"{path}:{number}"
            yield where, _parsed(line, read, what, where)


def json_sha256(value: Any) -> str:
    """SHA-256 of the canonical JSON form of `value`, in hexadecimal."""
    canonical = json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return hashlib.sha256(canonical.encode()).hexdigest()
