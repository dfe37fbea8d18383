"""Damage to files: bits that flip, parts that are zero or lost."""

import json
import random
import re
from collections.abc import Iterator
from pathlib import Path

ZEROS = 512  # bytes of a sector


def flip(data: bytes, rng: random.Random) -> bytes:
    """One bit of it the other way round."""
    damaged = bytearray(data)
    damaged[rng.randrange(len(data))] ^= 1 << rng.randrange(8)
    return bytes(damaged)


def zero(data: bytes, rng: random.Random) -> bytes:
    """A run of zeros in it."""
    first = rng.randrange(len(data))
    return data[:first] + bytes(min(ZEROS, len(data) - first)) + data[first + ZEROS :]


def cut(data: bytes, rng: random.Random) -> bytes:
    """Its beginning alone."""
    return data[: rng.randrange(len(data))]


KINDS = (flip, zero, cut)


def one_of_each_kind(directory: Path) -> Iterator[Path]:
    """The files of an experiment, one of those whose names differ in digits alone."""
    seen = set()
    for path in sorted(directory.rglob("*")):
        kind = re.sub(r"[a-z]*-?\d+", "N", str(path.relative_to(directory)))
        if path.is_file() and kind not in seen and path.stat().st_size:
            seen.add(kind)
            yield path


def forget_check_sums(folder: Path, *keys: str) -> None:
    """Records as an earlier version wrote them, after which files may be changed.

    Args:
        keys: further entries to leave out.
    """
    for path in folder.rglob("done.json"):
        record = json.loads(path.read_text(encoding="utf-8"))
        kept = {k: v for k, v in record.items() if k not in (*keys, "sha256", "check")}
        path.write_text(json.dumps(kept), encoding="utf-8")
