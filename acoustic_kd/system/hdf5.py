"""HDF5 files: the one way to write them, and the one way to read them.

Writing: HDF5 crashes the process if a write to the disk fails. So it writes to a Python file that
always accepts the bytes and keeps the error for us to raise.

Reading: a file may be damaged, or made to do harm. A dataset is read only if the file itself holds
all of it, in a layout and with filters that we know.
"""

import errno
import io
import math
import os
import re
import stat
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from acoustic_kd.system.errors import UserError
from acoustic_kd.system.files import atomic_path
from acoustic_kd.system.hdf5_heap import has_endless_heap
from acoustic_kd.system.parallel import run_behind

VERSION = ("v110", "v110")  # with check sums of HDF5's own records, and not of a newer library
CHUNK_BYTES = 1 << 16  # that have one check sum
FILTERS = (
    h5py.h5z.FILTER_DEFLATE,
    h5py.h5z.FILTER_SHUFFLE,
    h5py.h5z.FILTER_FLETCHER32,
    h5py.h5z.FILTER_LZF,
)
FREE_BYTES = 1 << 26  # a compressed dataset may always grow to this size
LARGEST_RATIO = 100  # of a larger dataset to its compressed size
LARGEST_ATTRIBUTE = 1 << 12  # bytes
HEAP_TEXTS = 32  # texts of variable length that are read together
# Errors of the system that addresses in a damaged file cause.
OF_DAMAGE = (errno.EINVAL, errno.EOVERFLOW, errno.EFBIG)
KINDS = {"f": "floating-point numbers", "iu": "integers", "S": "text"}
CLASSES = {h5py.h5t.FLOAT: "f", h5py.h5t.INTEGER: "iu", h5py.h5t.STRING: "S"}


class _AcceptingFile(io.FileIO):
    """A new file whose writes never fail: the first error is kept in `error`.

    What cannot be written is kept in memory, because HDF5 may read it again. That is little: the
    writer looks at `error` before each piece of work.
    """

    def __init__(self, path: Path) -> None:
        super().__init__(path, "w+")
        self.error: OSError | None = None
        self._unwritten: list[tuple[int, bytes]] = []  # place in the file, content

    def write(self, content: Any) -> int:
        view = memoryview(content).cast("B")
        place, done = self.tell(), 0
        try:
            while self.error is None and done < len(view):
                done += super().write(view[done:]) or 0
        except OSError as error:
            self.error = error
        if done < len(view):
            self._unwritten.append((place + done, bytes(view[done:])))
        return len(view)

    def readinto(self, buffer: Any) -> int:
        view = memoryview(buffer).cast("B")
        first = self.tell()
        count = super().readinto(view) or 0
        view[count:] = bytes(len(view) - count)
        for place, content in self._unwritten:
            begin, end = max(place, first), min(place + len(content), first + len(view))
            if begin < end:
                view[begin - first : end - first] = content[begin - place : end - place]
        return len(view)

    def truncate(self, size: int | None = None) -> int:
        try:
            return super().truncate(size)
        except OSError as error:
            self.error = self.error or error
            return size or 0

    def raise_error(self, path: Path) -> None:
        """Raise the error that was kept, with the path of the file."""
        if self.error is not None:
            raise OSError(self.error.errno, self.error.strerror, str(path))


def write_hdf5(path: Path, form: str, works: Iterable[Callable[[h5py.File], object]]) -> None:
    """Write an HDF5 file, whole or not at all; the same content gives the same bytes.

    All of HDF5 runs in a thread, because Ctrl-C and SIGTERM interrupt the main thread anywhere.

    Args:
        form: attribute `format` of the file.
        works: each is called with the open file, while the next one is prepared.

    Raises:
        OSError: the disk is full, or fails otherwise; it names `path`.
    """
    with atomic_path(path) as temporary:
        disk = _AcceptingFile(temporary)
        opened: list[h5py.File] = []

        def open_() -> None:
            opened.append(h5py.File(disk, "w", libver=VERSION))
            add_text_attribute(opened[0], "format", form)

        def steps() -> Iterator[Callable[[], object]]:
            yield open_
            for work in works:
                disk.raise_error(path)
                yield partial(lambda work: work(opened[0]), work)
                del work  # may be large: the thread frees it

        try:
            run_behind(_call, steps())
        finally:
            run_behind(_call, [lambda: [file.close() for file in opened]])
            disk.raise_error(path)
        disk.close()


def _call(step: Callable[[], object]) -> None:
    step()


def add_text_attribute(file: h5py.File, name: str, text: str) -> None:
    """Add an attribute of text of fixed length: text of variable length has no check sum."""
    file.attrs.create(name, _fixed_length([text]).reshape(()))


def add_dataset(file: h5py.File, name: str, values: np.ndarray | Sequence[str]) -> None:
    """Add an array, or texts of fixed length, with a check sum of each chunk."""
    array = values if isinstance(values, np.ndarray) else _fixed_length(values)
    rows = CHUNK_BYTES // max(1, array.dtype.itemsize * math.prod(array.shape[1:]))
    chunks = (max(1, min(rows, len(array))), *array.shape[1:])
    file.create_dataset(name, data=array, chunks=chunks, fletcher32=True)


def _fixed_length(texts: Sequence[str]) -> np.ndarray:
    encoded = [text.encode() for text in texts]
    length = max(map(len, encoded), default=0)
    return np.array(encoded, h5py.string_dtype("utf-8", max(1, length)))


@contextmanager
def reading(path: Path) -> Iterator[None]:
    """Turn every error of reading an HDF5 file into a `UserError` that names the file."""
    try:
        yield
    except UserError:
        raise
    except MemoryError:
        raise UserError(f"{path}: too large for the memory that is free") from None
    except Exception as error:  # damage can make HDF5 fail in many ways
        if (number := _system_error(error)) is not None:
            raise UserError(f"{path}: cannot be read ({os.strerror(number)})") from None
        reason = " ".join(str(error).split()).split("(")[-1].strip(")'\"")
        reason = (reason or type(error).__name__)[:200]
        raise UserError(
            f"{path}: not a readable HDF5 file ({reason}); delete it and run the stage that "
            "writes it"
        ) from None


def _system_error(error: Exception) -> int | None:
    """The number of an error of the system, such as of a disk; None for an error of the content."""
    if not isinstance(error, OSError):
        return None
    found = re.search(r"errno = ([0-9]+)", str(error))  # h5py sets `errno` for some errors only
    number = int(found[1]) if found else error.errno
    return None if number in (None, 0, *OF_DAMAGE) else number


class Reader:
    """An HDF5 file that is open for reading.

    Attributes:
        has_check_sums: whether all datasets that were asked for have check sums.
    """

    def __init__(self, path: Path, file: h5py.File, size: int) -> None:
        self.path = path
        self.has_check_sums = True
        self._file = file
        self._size = size
        self._heaps_end: bool | None = None  # None: not checked yet

    def __contains__(self, name: str) -> bool:
        return name in self._file

    def refuse(self, reason: str) -> UserError:
        """The error that something in this file is wrong."""
        return UserError(f"{self.path}: {reason}; write the file again")

    def text(self, name: str) -> str:
        """An attribute that is one text."""
        value = self._attribute(name, "S")
        try:
            return value if isinstance(value, str) else bytes(value).decode()
        except UnicodeDecodeError:
            raise self.refuse(f"attribute '{name}' is not UTF-8") from None

    def integer(self, name: str) -> int:
        """An attribute that is one integer."""
        return int(self._attribute(name, "iu"))

    def _attribute(self, name: str, kind: str) -> Any:
        if name not in self._file.attrs:
            raise self.refuse(f"attribute '{name}' is missing")
        stored = h5py.h5a.open(self._file.id, name.encode())
        if stored.shape != () or CLASSES.get(stored.get_type().get_class()) != kind:
            raise self.refuse(f"attribute '{name}' is not one value of type {KINDS[kind]}")
        if stored.get_storage_size() > LARGEST_ATTRIBUTE:
            raise self.refuse(f"attribute '{name}' has more than {LARGEST_ATTRIBUTE} bytes")
        self._check_heaps(stored.get_type())
        return self._file.attrs[name]

    def dataset(self, name: str, kind: str, dimensions: int = 1) -> h5py.Dataset:
        """A dataset that this file holds whole.

        Args:
            kind: a key of `KINDS`.
        """
        if name not in self._file:
            raise self.refuse(f"'{name}' is missing")
        if self._file.id.links.get_info(name.encode()).type != h5py.h5l.TYPE_HARD:
            raise self.refuse(f"'{name}' is a link to another place")
        data = self._file[name]
        if not isinstance(data, h5py.Dataset):
            raise self.refuse(f"'{name}' is not a dataset")
        if CLASSES.get(data.id.get_type().get_class()) != kind:
            raise self.refuse(f"'{name}' does not contain {KINDS[kind]}")
        if data.shape is None or len(data.shape) != dimensions:
            shape = "no" if data.shape is None else len(data.shape)
            raise self.refuse(f"'{name}' has {shape} dimensions, not {dimensions}")
        if problem := _storage_problem(data, self._size):
            raise self.refuse(f"'{name}' {problem}")
        self._check_heaps(data.id.get_type())
        self.has_check_sums &= bool(data.fletcher32)
        return data

    def _check_heaps(self, kind: h5py.h5t.TypeID) -> None:
        """Refuse text of variable length if HDF5 would read it without end."""
        if not isinstance(kind, h5py.h5t.TypeStringID) or not kind.is_variable_str():
            return
        if self._heaps_end is None:
            sizes = self._file.id.get_create_plist().get_sizes()
            self._heaps_end = sizes == (8, 8) and not has_endless_heap(self.path)
        if not self._heaps_end:
            raise self.refuse("the heap of its texts is damaged")

    def texts(self, name: str) -> list[str]:
        """A dataset [U] of UTF-8 texts, of fixed or variable length."""
        data = self.dataset(name, "S")
        if data.dtype.kind == "S":
            stored = data[:].tolist()
        else:  # many entries may point to one long text
            stored, total = [], 0
            for first in range(0, len(data), HEAP_TEXTS):
                stored += data[first : first + HEAP_TEXTS].tolist()
                total += sum(map(len, stored[first:]))
                if total > self._size:
                    raise self.refuse(f"'{name}' is larger than the file")
        texts = []
        for number, text in enumerate(stored):
            try:
                texts.append(text.decode())
            except UnicodeDecodeError:
                raise self.refuse(f"'{name}': text {number} is not UTF-8") from None
        return texts


def _storage_problem(data: h5py.Dataset, file_size: int) -> str | None:
    """Why a dataset may not be read: not all of it is in the file, or it would fill the memory."""
    plist = data.id.get_create_plist()
    if data.is_virtual or plist.get_external_count():
        return "is stored in other files"
    number_size = data.id.get_type().get_size()
    size, chunks, codes = math.prod(data.shape) * number_size, 1, []
    if data.chunks is not None:
        codes = [plist.get_filter(n)[0] for n in range(plist.get_nfilters())]
        if unknown := [code for code in codes if code not in FILTERS]:
            return f"has the filter {unknown[0]}; only gzip, lzf, shuffle and Fletcher-32 are read"
        chunks = math.prod(
            -(-length // step) for length, step in zip(data.shape, data.chunks, strict=True)
        )
        size = chunks * math.prod(data.chunks) * number_size
    stored = data.id.get_storage_size()
    is_compressed = any(code != h5py.h5z.FILTER_FLETCHER32 for code in codes)
    limit = max(FREE_BYTES, LARGEST_RATIO * stored) if is_compressed else stored
    if stored > file_size or size > limit:
        return f"declares {size:,} bytes, but its file of {file_size:,} bytes does not hold them"
    if data.chunks is not None and data.id.get_num_chunks() != chunks:
        return "lacks some of its content"
    return None


@contextmanager
def open_hdf5(path: Path, form: str) -> Iterator[Reader]:
    """Open an HDF5 file for reading; damage is a UserError.

    Args:
        form: the attribute `format` that the file must have.
    """
    path = Path(path)
    with reading(path):
        file, size = _open(path)
    try:
        with reading(path):
            reader = Reader(path, file, size)
            stored = reader.text("format")
            if stored != form:
                raise UserError(f"{path}: format is '{stored}', expected '{form}'")
        yield reader
    finally:
        with reading(path):
            file.close()


def format_of(path: Path) -> str | None:
    """The attribute `format` of an HDF5 file; None if it cannot be read."""
    try:
        with reading(path):
            file, size = _open(path)
            with file:
                return Reader(path, file, size).text("format")
    except UserError:
        return None


def _open(path: Path) -> tuple[h5py.File, int]:
    try:
        status = path.stat()
        if not stat.S_ISREG(status.st_mode):
            raise UserError(f"{path}: not a file")
        path.open("rb").close()  # for an error with a clear reason
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror})") from None
    return h5py.File(path, "r", locking=False), status.st_size
