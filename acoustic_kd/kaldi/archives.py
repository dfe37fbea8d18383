"""Tables of objects by utterance: one or more archives, or the index (scp) of some.

What is given is a path, which may have `*` in it (`exp/tri3b_ali/pdf.*.gz`), with Kaldi's `ark:` or
`scp:` before it or without. An index is what begins with `scp:` or ends in `.scp`; it has lines

    utterance-id path:offset            or path:offset[first:last], some rows of a matrix; as in
                                        Kaldi `last` may be up to two rows after its end

A relative path in it begins at the working directory, as Kaldi has it, or where there is no such
file, at the index's own folder. Archives may be gzipped. Commands (`… |`) are not run.
"""

import gzip
import re
import zlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, cast

from acoustic_kd.kaldi.objects import Damaged, Kind, read_key, read_object
from acoustic_kd.system.errors import UserError
from acoustic_kd.system.files import read_lines

GZIP = b"\x1f\x8b"
ROWS_OVER = 3  # rows that a range may end behind a matrix (Kaldi: util/kaldi-holder.cc)
_PREFIX = re.compile(r"(ark|scp)(?:,[a-z,]*)?:")
_ENTRY = re.compile(r"(?P<path>.+?)(:(?P<offset>\d+))?(\[(?P<rows>[^\[\]]*)\])?")


@dataclass(frozen=True)
class Place:
    """Where an object lies.

    Attributes:
        path: the archive.
        offset: of the object, in bytes (of what a gzipped archive holds).
        rows: of a matrix, None for all.
    """

    path: Path
    offset: int
    rows: slice | None = None

    def __str__(self) -> str:
        """As in an index."""
        rows = "" if self.rows is None else f"[{self.rows.start}:{self.rows.stop - 1}]"
        return f"{self.path}:{self.offset}{rows}"


class Table(Mapping[str, Any]):
    """Utterance → object, read where and when it is asked for.

    An archive is looked through once at the beginning. It is read fastest in the order in which it
    is stored, and if gzipped in no other.

    Attributes:
        given: what was given.
    """

    def __init__(self, given: str, kind: Kind) -> None:
        """Find every object.

        Args:
            kind: of the objects.
        """
        self.given, self._kind = given, kind
        self._places: dict[str, Place] = {}
        self._open: tuple[Path, BinaryIO] | None = None
        paths, is_index = find_files(given)
        for path in paths:
            for where, name, place in _index(path) if is_index else _objects(path, kind):
                if name in self._places:
                    raise UserError(f"{where}: duplicate id '{name}'; keep one of the two")
                self._places[name] = place
        if not self._places:
            raise UserError(f"{given}: there is no utterance in it")

    def __len__(self) -> int:
        return len(self._places)

    def __iter__(self) -> Iterator[str]:
        return iter(self._places)

    def __contains__(self, name: object) -> bool:
        return name in self._places

    def __getitem__(self, name: str) -> Any:
        """The object of an utterance.

        Raises:
            KeyError: there is none.
            UserError: it cannot be read.
        """
        place = self._places[name]
        if self._open is None or self._open[0] != place.path:
            self.close()
            with _readable(place.path, name):
                self._open = place.path, open_archive(place.path)
        return read_place(place, self._kind, name, self._open[1])

    def close(self) -> None:
        """Let go of the file that was read last."""
        if self._open is not None:
            self._open[1].close()
            self._open = None


def find_files(given: str) -> tuple[list[Path], bool]:
    """The files that are meant, and whether they are indices."""
    text = given.strip()
    prefix = _PREFIX.match(text)
    name = text[prefix.end() :].strip() if prefix else text
    if text.endswith("|") or name.startswith("|") or name == "-":
        raise UserError(
            f"{given}: commands are not run; write its output to a file and give that one's path"
        )
    path = Path(name).expanduser()
    paths = [path]
    if "*" in name:
        paths = sorted(Path(path.anchor or ".").glob(str(path.relative_to(path.anchor))))
    paths = [found for found in paths if found.is_file()]
    if not paths:
        raise UserError(f"{given}: no such file; it must be an archive of Kaldi's or an scp of one")
    return paths, (prefix[1] == "scp") if prefix else path.suffix == ".scp"


def files_of(given: str) -> list[Path]:
    """Every file that a table is read from: archives; or indices, and the archives they name."""
    paths, is_index = find_files(given)
    if not is_index:
        return paths
    return paths + sorted({place.path for path in paths for _, _, place in _index(path)})


def open_archive(path: Path) -> BinaryIO:
    """An archive, gzipped or not, open for reading."""
    with path.open("rb") as file:
        zipped = file.read(2) == GZIP
    return cast("BinaryIO", gzip.open(path)) if zipped else path.open("rb")


@contextmanager
def _readable(path: Path, name: str | None) -> Iterator[None]:
    """Around reading: what goes wrong is said with the file and the utterance."""
    here = f" (utterance '{name}')" if name else ""
    try:
        yield
    except Damaged as error:
        raise UserError(
            f"{path}{here}: {error}; is it the right file, and was it written to its end?"
        ) from None
    except (OSError, EOFError, zlib.error) as error:
        reason = getattr(error, "strerror", None) or " ".join(str(error).split())
        raise UserError(f"{path}{here}: cannot be read ({reason})") from None


def read_place(place: Place, kind: Kind, name: str, file: BinaryIO | None = None) -> Any:
    """The object at a place.

    Args:
        name: its utterance, for messages.
        file: the archive if it is open.
    """
    with _readable(place.path, name):
        if file is None:
            with open_archive(place.path) as opened:
                return read_place(place, kind, name, opened)
        file.seek(place.offset)
        found = read_object(file, kind)
    if place.rows is None:
        return found
    last, count = place.rows.stop - 1, len(found)
    if getattr(found, "ndim", 0) != 2 or place.rows.start >= count or last >= count + ROWS_OVER:
        raise UserError(
            f"{place.path} (utterance '{name}'): rows to {last} are asked for, and it has {count} "
            "frames"
        )
    return found[place.rows]


def _objects(path: Path, kind: Kind) -> Iterator[tuple[str, str, Place]]:
    """(file, utterance, place) of each object of an archive."""
    name = None
    with _readable(path, None):
        file = open_archive(path)
    with file:
        while True:
            with _readable(path, name):
                following = read_key(file)
                if following is None:
                    return
                name, place = following, Place(path, file.tell())
            with _readable(path, name):
                read_object(file, kind, skip=True)
            yield str(path), name, place


def _index(path: Path) -> Iterator[tuple[str, str, Place]]:
    """("PATH:LINE", utterance, place) of each line of an scp."""
    for where, line in read_lines(path):
        name, _, entry = line.strip().replace("\t", " ").partition(" ")
        yield where, name, parse_place(where, entry.strip(), path.parent)


def archive_of(entry: str) -> Path:
    """The file that an entry of an index names, or a path that is given without an offset."""
    path = Path(entry)
    return path if path.is_file() else Path(re.sub(r":\d+(\[[^\[\]]*\])?$", "", entry))


def parse_place(where: str, entry: str, folder: Path) -> Place:
    """What a line of an scp names.

    Args:
        where: "file:line", for messages.
        folder: where a relative path may begin, too.
    """
    if entry.startswith("|") or entry.endswith("|"):
        raise UserError(
            f"{where}: '{entry}' is a command, and commands are not run; write its output to an "
            "archive and give that one's scp"
        )
    found = _ENTRY.fullmatch(entry)
    asked = found["rows"] if found else None
    rows = re.fullmatch(r"(\d+):(\d+)(,:?)?", "0:0" if asked is None else asked)
    every = asked in (":", ",", ":,", ",:", ":,:")
    if not found or not (every or (rows and int(rows[1]) <= int(rows[2]))):
        raise UserError(
            f"{where}: expected 'utterance-id path:offset', perhaps with [first:last] rows, found "
            f"'{entry}'"
        )
    path = Path(found["path"])
    if not path.is_file() and (folder / path).is_file():
        path = folder / path
    if not path.is_file():
        raise UserError(f"{where}: {found['path']}: no such file")
    # Without an offset the file is one object, with no id before it.
    span = slice(int(rows[1]), int(rows[2]) + 1) if rows and asked is not None else None
    return Place(path.absolute(), int(found["offset"] or 0), span)
