"""Files from public mirrors: fetched by https, checked, resumed after a broken connection, and
archives unpacked safely.
"""

import io
import os
import re
import shutil
import tarfile
import urllib.request
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from email.message import Message
from http.client import HTTPException
from pathlib import Path, PurePosixPath
from typing import BinaryIO
from urllib.error import HTTPError, URLError
from urllib.parse import urlsplit

from acoustic_kd.system.errors import UserError
from acoustic_kd.system.files import check_sum
from acoustic_kd.system.parallel import progress

SCHEME = "https://"  # of every address, and to the end of any redirection
TIMEOUT_SECONDS = 20  # seconds without a byte
BLOCK_BYTES = 1 << 18  # bytes


class MirrorError(Exception):
    """A mirror does not give a file; kept apart from errors of the local disk."""


class NotDownloaded(Exception):
    """A file is missing and downloads are switched off; the text is its name."""


_DOWNLOADS_ALLOWED = ContextVar("downloads_allowed", default=True)


@contextmanager
def no_downloads() -> Iterator[None]:
    """Download and unpack nothing within the block: a missing file raises `NotDownloaded`."""
    before = _DOWNLOADS_ALLOWED.set(False)
    try:
        yield
    finally:
        _DOWNLOADS_ALLOWED.reset(before)


def require_downloads_allowed(name: str) -> None:
    """Raise `NotDownloaded` where downloads are switched off."""
    if not _DOWNLOADS_ALLOWED.get():
        raise NotDownloaded(name)


@dataclass(frozen=True)
class CheckSum:
    """The checksum of a file; `kind` is md5 or sha256."""

    kind: str
    value: str


def download(urls: Sequence[str], path: Path, expected: CheckSum, max_bytes: int) -> None:
    """Download a file from the first of `urls` that delivers it completely.

    After a broken connection the next mirror delivers the rest, as long as any of them delivers
    something. An incomplete download stays for the next call, as in `fetch`.

    Raises:
        MirrorError: all mirrors failed; the text has the reason of each.
    """
    while True:
        before, failures = _size(partial_path(path)), []
        for url in urls:
            try:
                return fetch(url, path, expected, max_bytes)
            except MirrorError as error:
                failures.append(f"{urlsplit(url).netloc}: {error}")
        if _size(partial_path(path)) <= before:
            raise MirrorError("; ".join(failures))


def fetch(url: str, path: Path, expected: CheckSum, max_bytes: int) -> None:
    """Download `url` to `path`, which appears complete and checked, or not at all.

    After a broken connection `partial_path(path)` has the beginning; the next call resumes there.

    Args:
        max_bytes: a longer file is refused.

    Raises:
        MirrorError: the mirror does not deliver the file, or delivers another, which is deleted.
        OSError: the local disk refuses.
    """
    partial = partial_path(path)
    _receive(url, partial, max_bytes)
    actual = check_sum(partial, expected.kind)
    if actual != expected.value:
        partial.unlink()
        raise MirrorError(f"{expected.kind} is {actual}, expected {expected.value}")
    partial.replace(path)


def partial_path(path: Path) -> Path:
    """The path of an incomplete download."""
    return path.with_name(f".{path.name}.part")


def _size(path: Path) -> int:
    return path.stat().st_size if path.is_file() else 0


def _receive(url: str, partial: Path, max_bytes: int) -> None:
    """Append the missing bytes to `partial`, or write all if the mirror cannot resume."""
    with _mirror_errors():
        stream, size, total = _open(url, _size(partial))
    with stream, partial.open("ab") as file:
        file.truncate(size)
        options = {"initial": size, "unit": "B", "unit_scale": True, "leave": False}
        with progress(None, url.rpartition("/")[2], total, **options) as bar:
            while max(size, total or 0) <= max_bytes and (piece := _read(stream)):
                file.write(piece)
                size += len(piece)
                bar.update(len(piece))
        file.flush()
        os.fsync(file.fileno())
    if max(size, total or 0) > max_bytes:
        partial.unlink()
        raise MirrorError(f"more than {max_bytes} bytes")
    if total is not None and size < total:
        raise MirrorError(f"broke off after {size} of {total} bytes")


def _read(stream: BinaryIO) -> bytes:
    with _mirror_errors():
        return stream.read(BLOCK_BYTES)


@contextmanager
def _mirror_errors() -> Iterator[None]:
    try:
        yield
    except (OSError, HTTPException) as error:  # OSError: URLError and timeouts too
        reason = error.reason if isinstance(error, URLError) and not error.filename else error
        raise MirrorError(str(reason) or type(error).__name__) from None


def _open(url: str, start: int) -> tuple[BinaryIO, int, int | None]:
    """The bytes of a file from `start` on, or all of them if the mirror cannot resume.

    Returns:
        The bytes, the place of their first one, and the size of the whole file (None: unknown).
    """
    _check_scheme(url)
    headers = {"Range": f"bytes={start}-"} if start else {}
    request = urllib.request.Request(url, headers=headers)  # noqa: S310  (checked above)
    try:
        response = urllib.request.urlopen(request, timeout=TIMEOUT_SECONDS)  # noqa: S310
    except HTTPError as error:
        with error:
            if error.code != 416 or not start:  # 416: the file ends before that byte
                raise
            if _total(error.headers, r"bytes \*/([0-9]+)") == start:
                return io.BytesIO(), start, start
        return _open(url, 0)
    try:
        _check_scheme(response.url)
        if response.status != 206:
            return response, 0, _total(response.headers, "([0-9]+)", "Content-Length")
        total = _total(response.headers, rf"bytes {start}-[0-9]+/([0-9]+)")
        if total is None:
            raise OSError("answers with other bytes than requested")
        return response, start, total
    except OSError:
        response.close()
        raise


def _check_scheme(url: str) -> None:
    if not url.startswith(SCHEME):
        raise OSError(f"leads to {url}, which is not {SCHEME}")


def _total(headers: Message, pattern: str, name: str = "Content-Range") -> int | None:
    """The bytes of the whole file by a header of the answer; None if it does not say."""
    match = re.fullmatch(pattern, headers.get(name) or "")
    return int(match[1]) if match else None


@contextmanager
def unpacked(archive: Path, inside: str, folder: Path) -> Iterator[Path]:
    """Yield a temporary folder with the files of a .tar.gz; it is deleted after the block.

    Each member is checked before it is written: it must be a regular file or a folder below the
    folder `inside` of the archive. Owners, permissions and times are not restored.

    Args:
        folder: where the temporary folder is made, so that its files can be renamed into `folder`.
    """
    temporary = folder / f".{archive.name}.unpacked"
    shutil.rmtree(temporary, ignore_errors=True)  # of a killed process
    temporary.mkdir(parents=True)
    try:
        _unpack(archive, inside, temporary)
        yield temporary
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _unpack(archive: Path, inside: str, folder: Path) -> None:
    try:
        with tarfile.open(archive, "r|gz") as tar:
            for member in progress(tar, f"unpacking {archive.name}", unit="file", leave=False):
                path = _checked(member, inside, archive)
                if path is None or (source := tar.extractfile(member)) is None:
                    continue
                target = folder / path
                target.parent.mkdir(parents=True, exist_ok=True)
                with source, target.open("xb") as file:
                    shutil.copyfileobj(source, file)
    except (tarfile.TarError, zlib.error, EOFError) as error:
        raise UserError(f"{archive}: damaged archive ({error})") from None
    except (FileExistsError, NotADirectoryError, IsADirectoryError) as error:
        raise UserError(f"{archive}: holds two files that clash at {error.filename}") from None


def _checked(member: tarfile.TarInfo, inside: str, archive: Path) -> PurePosixPath | None:
    """The path of a file; None for a folder, which is made when a file needs it."""
    path = PurePosixPath(member.name)
    below = path.parts[:1] == (inside,) and ".." not in path.parts
    # The archive may list its top: `.`, or the folder itself.
    if member.isdir() and (below or not path.parts):
        return None
    if not member.isreg() or not below or len(path.parts) < 2:
        raise UserError(
            f"{archive}: not unpacked: its member '{member.name}' is no file or folder below "
            f"{inside}/"
        )
    return path
