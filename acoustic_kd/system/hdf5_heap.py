"""Global heaps of HDF5 files, where text of variable length is. They have no check sums.

HDF5 reads a heap without end if the size of one of its objects is damaged. So sizes are checked
before HDF5 reads the heap.
"""

import mmap
from pathlib import Path

SIGNATURE = b"GCOL\x01"
HEAD = 16  # bytes before the objects of a heap, and before the content of an object
SMALLEST = 4096  # bytes of a heap; HDF5 itself refuses smaller ones


def has_endless_heap(path: Path) -> bool:
    """Whether HDF5 would read a heap of a file without end.

    The file must have addresses and lengths of 8 bytes.
    """
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
        first = content.find(SIGNATURE)
        while first >= 0:
            size = _number(content, first + 8, 8)
            # HDF5 itself refuses other sizes.
            if SMALLEST <= size <= len(content) - first and _is_endless(content, first, size):
                return True
            first = content.find(SIGNATURE, first + 1)
    return False


def _is_endless(content: mmap.mmap, first: int, size: int) -> bool:
    """Whether the objects of a heap do not lead to its end."""
    place, end = first + HEAD, first + size
    while place + HEAD <= end:
        index, length = _number(content, place, 2), _number(content, place + 8, 8)
        step = HEAD + -(-length // 8) * 8 if index else length  # object 0 is the free space
        if not 0 < step <= end - place:
            return True
        place += step
    return False


def _number(content: mmap.mmap, place: int, size: int) -> int:
    return int.from_bytes(content[place : place + size], "little")
