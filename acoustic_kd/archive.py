"""Archives, unpacked with care: nothing lands elsewhere, and nothing of a bad one stays."""

import shutil
import tarfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath

from acoustic_kd.errors import UserError
from acoustic_kd.parallel import progress


@contextmanager
def unpacked(archive: Path, inside: str, folder: Path) -> Iterator[Path]:
    """Yield a temporary folder with what a .tar.gz holds; it goes away with the block.

    Each member is checked before it is written: a regular file or a folder, below the folder
    `inside` of the archive. Owners, permissions and times are not taken over.

    Args:
        folder: where the temporary one is made, so that what is in it can be renamed to a place
            there.

    Raises:
        UserError: the archive is damaged, or a member is something else or lies elsewhere.
    """
    temporary = folder / f".{archive.name}.unpacked"
    shutil.rmtree(temporary, ignore_errors=True)  # a killed process left it
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
    """Where a file goes; None for a folder, which is made as its files need it."""
    path = PurePosixPath(member.name)
    below = path.parts[:1] == (inside,) and ".." not in path.parts
    # The archive's own top may be listed: `.`, or the folder itself.
    if member.isdir() and (below or not path.parts):
        return None
    if not member.isreg() or not below or len(path.parts) < 2:
        raise UserError(
            f"{archive}: not unpacked: '{member.name}' in it is no file or folder below {inside}/"
        )
    return path
