"""Kaldi tables, objects by utterance: archives, or their index (scp).

A table is given as a path, perhaps with `*` (`exp/tri3b_ali/pdf.*.gz`) and with Kaldi's `ark:` or
`scp:` before it. An index begins with `scp:` or ends in `.scp`; it has lines

    utterance-id path:offset            or path:offset[first:last], some rows of a matrix; as in
                                        Kaldi, `last` may be up to two rows after its end

A relative path in an index starts at the working directory, as in Kaldi, or else at the folder of
the index. Archives may be gzipped. Commands (`… |`) are not run.
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
from acoustic_kd.system.text import read_lines

GZIP = b"\x1f\x8b"
MAX_ROWS_PAST_END = 3  # of a range, beyond the matrix's last row (Kaldi: util/kaldi-holder.cc)
_PREFIX = re.compile(r"(ark|scp)(?:,[a-z,]*)?:")
_ENTRY = re.compile(r"(?P<path>.+?)(:(?P<offset>\d{1,18}))?(\[(?P<rows>[^\[\]]*)\])?")


@dataclass(frozen=True)
class Place:
    """The place of an object.

    Attributes:
        offset: of the object, in bytes; in a gzipped archive, of its uncompressed content.
        rows: of a matrix; None for all.
    """

    path: Path
    offset: int
    rows: slice | None = None

    def __str__(self) -> str:
        """The entry of an index."""
        rows = "" if self.rows is None else f"[{self.rows.start}:{self.rows.stop - 1}]"
        return f"{self.path}:{self.offset}{rows}"


class Table(Mapping[str, Any]):
    """Utterance → object, which is read at each access.

    At the beginning each archive is scanned once. Reading objects in their stored order is fastest;
    in a gzipped archive, any other order is very slow.

    Attributes:
        given: the table as the user gave it.
    """

    def __init__(self, given: str, kind: Kind) -> None:
        """Find every object of a kind."""
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
            raise UserError(f"{given}: holds no utterance; give another file")

    def __len__(self) -> int:
        return len(self._places)

    def __iter__(self) -> Iterator[str]:
        return iter(self._places)

    def __contains__(self, name: object) -> bool:
        return name in self._places

    def __getitem__(self, name: str) -> Any:
        """Read the object of an utterance.

        Raises:
            KeyError: the table lacks the utterance.
        """
        place = self._places[name]
        if self._open is None or self._open[0] != place.path:
            self.close()
            with _readable(place.path, name):
                self._open = place.path, open_archive(place.path)
        return read_place(place, self._kind, name, self._open[1])

    def close(self) -> None:
        """Close the file that was read last."""
        if self._open is not None:
            self._open[1].close()
            self._open = None


def find_files(given: str) -> tuple[list[Path], bool]:
    """The files of a table, and whether they are indices."""
    text = given.strip()
    prefix = _PREFIX.match(text)
    name = text[prefix.end() :].strip() if prefix else text
    if text.endswith("|") or name.startswith("|") or name == "-":
        raise UserError(
            f"{given}: commands are not run; write the output to a file and give its path"
        )
    path = Path(name).expanduser()
    paths = [path]
    if "*" in name:
        paths = sorted(Path(path.anchor or ".").glob(str(path.relative_to(path.anchor))))
    paths = [path for path in paths if path.is_file()]
    if not paths:
        raise UserError(f"{given}: no such file; give an archive of Kaldi, or its scp")
    return paths, (prefix[1] == "scp") if prefix else path.suffix == ".scp"


def table_files(given: str) -> list[Path]:
    """Every file that a table is read from: archives; or indices with their archives."""
    paths, is_index = find_files(given)
    if not is_index:
        return paths
    return paths + sorted({place.path for path in paths for _, _, place in _index(path)})


def open_archive(path: Path) -> BinaryIO:
    """Open an archive, gzipped or not."""
    with path.open("rb") as file:
        is_gzipped = file.read(2) == GZIP
    return cast("BinaryIO", gzip.open(path)) if is_gzipped else path.open("rb")


@contextmanager
def _readable(path: Path, name: str | None) -> Iterator[None]:
    """Name the file and the utterance in errors of reading."""
    where = f"{path} (utterance '{name}')" if name else str(path)
    try:
        yield
    except Damaged as error:
        raise UserError(
            f"{where}: {error}; check that the file is the right one, and complete"
        ) from None
    except (OSError, EOFError, zlib.error) as error:
        reason = getattr(error, "strerror", None) or " ".join(str(error).split())
        raise UserError(f"{where}: cannot be read ({reason})") from None


def read_place(place: Place, kind: Kind, name: str, file: BinaryIO | None = None) -> Any:
    """Read the object at a place.

    Args:
        name: the utterance, for messages.
        file: the archive, if it is open.
    """
    with _readable(place.path, name):
        if file is None:
            with open_archive(place.path) as opened:
                return read_place(place, kind, name, opened)
        file.seek(place.offset)
        value = read_object(file, kind)
    if place.rows is None:
        return value
    last, count = place.rows.stop - 1, len(value)
    is_matrix = getattr(value, "ndim", 0) == 2
    if not is_matrix or place.rows.start >= count or last >= count + MAX_ROWS_PAST_END:
        raise UserError(
            f"{place.path} (utterance '{name}'): has {count} frames, but its scp asks for rows to "
            f"{last}; write the scp again"
        )
    return value[place.rows]


def _objects(path: Path, kind: Kind) -> Iterator[tuple[str, str, Place]]:
    """(file, utterance, place) of each object of an archive."""
    name = None
    with _readable(path, None):
        file = open_archive(path)
    with file:
        while True:
            with _readable(path, name):
                next_name = read_key(file)
                if next_name is None:
                    return
                name, place = next_name, Place(path, file.tell())
            with _readable(path, name):
                read_object(file, kind, skip=True)
            yield str(path), name, place


def _index(path: Path) -> Iterator[tuple[str, str, Place]]:
    """("PATH:LINE", utterance, place) of each line of an scp."""
    for where, line in read_lines(path):
        name, _, entry = line.strip().replace("\t", " ").partition(" ")
        yield where, name, parse_place(where, entry.strip(), path.parent)


def archive_of(entry: str) -> Path:
    """The file of an index entry, with or without an offset."""
    path = Path(entry)
    return path if path.is_file() else Path(re.sub(r":\d+(\[[^\[\]]*\])?$", "", entry))


def parse_place(where: str, entry: str, folder: Path) -> Place:
    """Parse the entry of a line of an scp.

    Args:
        where: "PATH:LINE", for messages.
        folder: where a relative path may start, beside the working directory.
    """
    if entry.startswith("|") or entry.endswith("|"):
        raise UserError(
            f"{where}: '{entry}' is a command, and commands are not run; write its output to an "
            "archive and give its scp"
        )
    match = _ENTRY.fullmatch(entry)
    text = match["rows"] if match else None
    rows = re.fullmatch(r"(\d{1,9}):(\d{1,9})(,:?)?", "0:0" if text is None else text)
    all_rows = text in (":", ",", ":,", ",:", ":,:")
    if not match or not (all_rows or (rows and int(rows[1]) <= int(rows[2]))):
        raise UserError(
            f"{where}: expected 'utterance-id path:offset', perhaps with [first:last] rows, found "
            f"'{entry}'"
        )
    path = Path(match["path"])
    if path.parts[:1] == ("~",):
        path = path.expanduser()
    if not path.is_file() and (folder / path).is_file():
        path = folder / path
    if not path.is_file():
        raise UserError(
            f"{where}: {match['path']}: no such file, neither from the working directory "
            f"{Path.cwd()} nor from {folder}; fix the path"
        )
    # Without an offset the file is one object, with no id before it.
    span = slice(int(rows[1]), int(rows[2]) + 1) if rows and text is not None else None
    return Place(path.absolute(), int(match["offset"] or 0), span)
