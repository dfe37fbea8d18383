"""Back-off language models in ARPA files: read them with every line checked, and write them.

Many lines are written at once. Each field (a number, a word, a tab) is a matrix of bytes, one row a
line, padded with zeros. These matrices side by side, without the zeros, are the bytes of the file.
"""

from collections.abc import Callable, Iterator, Sequence
from itertools import chain
from pathlib import Path
from typing import NamedTuple

import numpy as np

from acoustic_kd.system.errors import UserError
from acoustic_kd.system.files import atomic_path
from acoustic_kd.system.text import open_text

BOS, EOS = "<s>", "</s>"
TITLE, END = b"\\%d-grams:", b"\\end\\"  # lines between n-grams


class Entry(NamedTuple):
    """One n-gram: its words, log10 probability, and log10 back-off weight (0 if absent)."""

    words: tuple[str, ...]
    logprob: float
    backoff: float


def iterate_arpa(path: Path) -> Iterator[Entry]:
    """Yield the n-grams of an ARPA file in their order, each line checked."""
    with open_text(path, "language model") as file:
        yield from _entries(file, path)


def _entries(file: Iterator[bytes], path: Path) -> Iterator[Entry]:
    lines = enumerate(file, start=1)
    sizes, title = read_header(lines, path)
    order, remaining = 0, 0
    for number, line in chain([title], lines):
        fields = line.split()
        if not fields:
            continue
        if line.startswith(b"\\"):
            if remaining:
                raise _malformed(
                    path, number, f"{remaining} {order}-grams fewer than the header says"
                )
            order += 1
            while fields != [TITLE % order] and order <= len(sizes) and not sizes[order - 1]:
                order += 1
            if order > len(sizes) and fields == [END]:
                return
            if order > len(sizes) or fields != [TITLE % order]:
                raise _malformed(path, number, f"'{_shown(line)}' is out of place")
            remaining = sizes[order - 1]
            continue
        remaining -= 1
        if remaining < 0 or len(fields) not in (order + 1, order + 2):
            raise _malformed(path, number, f"'{_shown(line)}' is not an entry of the {order}-grams")
        try:
            words = tuple(field.decode() for field in fields[1 : order + 1])
            backoff = float(fields[-1]) if len(fields) > order + 1 else 0.0
            yield Entry(words, float(fields[0]), backoff)
        except UnicodeDecodeError as error:
            wrong = f"byte 0x{error.object[error.start]:02x} is not UTF-8; convert the file"
            raise UserError(f"language model {path}:{number}: {wrong}") from None
        except ValueError:
            raise _malformed(path, number, f"'{_shown(line)}' has no valid number") from None
    raise UserError(f"language model {path}: cut short (no \\end\\); fetch or build it again")


def read_header(
    lines: Iterator[tuple[int, bytes]], path: Path
) -> tuple[list[int], tuple[int, bytes]]:
    """Read the header from numbered lines: the number of n-grams by order, and the next title."""
    sizes: list[int] = []
    for _, line in lines:
        if line.split() == [b"\\data\\"]:
            break
        if line.split() == [b"iARPA"]:
            raise UserError(
                f"language model {path}: an iARPA file of IRSTLM; convert it with compile-lm "
                "--text=yes"
            )
    else:
        raise UserError(f"language model {path}: no \\data\\ line; not an ARPA file")
    for number, line in lines:
        if line.startswith(b"\\") and sizes:
            return sizes, (number, line)
        fields = line.replace(b"=", b" ").split()
        if not fields:
            continue
        if len(fields) != 3 or fields[0] != b"ngram" or not (fields[1] + fields[2]).isdigit():
            raise _malformed(path, number, f"'{_shown(line)}' is out of place")
        if int(fields[1]) != len(sizes) + 1:
            raise _malformed(path, number, f"the header lacks {len(sizes) + 1}-grams")
        sizes.append(int(fields[2]))
    raise UserError(f"language model {path}: cut short in its header; fetch or build it again")


def normalised_words(
    words: Sequence[str], logprobs: Sequence[float], normalise: Callable[[str], str]
) -> list[str]:
    """The words of a model as transcripts have them; "" for one that is left out.

    Of several that become the same word, the one that is written so stays, or the most probable.
    """
    names = [word if word in (BOS, EOS) else normalise(word) for word in words]
    best: dict[str, tuple[bool, float, str]] = {}
    for name, word, logprob in zip(names, words, logprobs, strict=True):
        rank = (name == word, logprob, word)
        best[name] = max(rank, best.get(name, rank))
    return [
        name if best[name][2] == word and len(name.split()) == 1 else ""
        for name, word in zip(names, words, strict=True)
    ]


def _shown(line: bytes) -> str:
    """The beginning of a line, for a message."""
    text = line.decode(errors="backslashreplace").strip()
    return text if len(text) <= 100 else f"{text[:100]}…"


def _malformed(path: Path, number: int, why: str) -> UserError:
    return UserError(f"language model {path}:{number}: {why}; not a valid ARPA file")


DECIMALS = 7
LINES_PER_BLOCK = 1 << 16  # written at once
_INTEGER_DIGITS = 2  # before the point: -99 is the smallest number


def write_arpa(
    path: Path,
    words: Sequence[str],
    ngrams: Sequence[np.ndarray],
    logprobs: Sequence[np.ndarray],
    backoffs: Sequence[np.ndarray],
) -> None:
    """Write a back-off model as a whole or not at all; the same model gives the same bytes.

    Args:
        words: the vocabulary.
        ngrams: for each order n from 1 up, int [G, n] word ids.
        logprobs: for each order, [G] log10 probabilities.
        backoffs: for each order but the highest, [G] log10 back-off weights.
    """
    table = _bytes_of(words)
    with atomic_path(path) as temporary, temporary.open("wb") as file:
        heads = [f"ngram {n}={len(grams)}\n" for n, grams in enumerate(ngrams, start=1)]
        file.write("".join(["\\data\\\n", *heads]).encode())
        for n, grams in enumerate(ngrams, start=1):
            file.write(f"\n\\{n}-grams:\n".encode())
            columns = [logprobs[n - 1], *backoffs[n - 1 : n]]
            for block in _lines(table, grams, columns):
                file.write(block)
        file.write(b"\n\\end\\\n")


def _lines(table: np.ndarray, grams: np.ndarray, columns: Sequence[np.ndarray]) -> Iterator[bytes]:
    """The lines of one order in blocks; `columns`: log probability, and below the top back-off."""
    for start in range(0, len(grams), LINES_PER_BLOCK):
        block = grams[start : start + LINES_PER_BLOCK]
        numbers = [fixed_point(column[start : start + LINES_PER_BLOCK]) for column in columns]
        tab, space, end = (np.full((len(block), 1), ord(c), np.uint8) for c in "\t \n")
        fields = [numbers[0], tab, table[block[:, 0]]]
        for word in block.T[1:]:
            fields += [space, table[word]]
        for number in numbers[1:]:
            fields += [tab, number]
        padded = np.concatenate([*fields, end], axis=1)
        yield padded[padded != 0].tobytes()


def _bytes_of(words: Sequence[str]) -> np.ndarray:
    """uint8 [V, L]: the words in UTF-8, padded with zeros."""
    array = np.array([word.encode() for word in words])
    return array.view(np.uint8).reshape(len(words), array.itemsize)


def fixed_point(values: np.ndarray) -> np.ndarray:
    """uint8 [G, W]: numbers between -100 and 100 as text, padded with zeros.

    The text is that of `f"{value:.7f}"`, without the sign of numbers that round to zero.
    """
    scaled = np.rint(values * 10.0**DECIMALS).astype(np.int64)
    digits = np.empty((len(scaled), 1 + _INTEGER_DIGITS + 1 + DECIMALS), np.uint8)
    digits[:, 0] = np.where(scaled < 0, ord("-"), 0)
    remainder = np.abs(scaled)
    places = [*range(digits.shape[1] - 1, 1 + _INTEGER_DIGITS, -1), *range(_INTEGER_DIGITS, 0, -1)]
    for place in places:  # the last digit first
        remainder, digit = np.divmod(remainder, 10)
        digits[:, place] = digit + ord("0")
    digits[:, 1 + _INTEGER_DIGITS] = ord(".")
    digits[:, 1][digits[:, 1] == ord("0")] = 0
    return digits
