"""Writing ARPA files: lines are put together as columns of bytes, many at a time.

Each field of the lines (a number, a word, a tab) is a matrix of bytes, a row a line, filled up with
zeros; side by side, with the zeros taken out, they are the file. No line passes through Python.
"""

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from acoustic_kd.files import atomic_path

DECIMALS = 7
LINES = 1 << 16  # put together at once
_WHOLE = 2  # digits before the point: -99 is the least


def write_arpa(
    path: Path,
    words: Sequence[str],
    ngrams: Sequence[np.ndarray],
    logprobs: Sequence[np.ndarray],
    backoffs: Sequence[np.ndarray],
) -> None:
    """Write a back-off model, whole or not at all; the same model gives the same bytes.

    Args:
        words: the vocabulary.
        ngrams: for each order n from 1 up, int [G, n]: the numbers of the words.
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
    """The lines of one order, block by block; `columns`: log probability, perhaps back-off."""
    for start in range(0, len(grams), LINES):
        block = grams[start : start + LINES]
        numbers = [fixed_point(column[start : start + LINES]) for column in columns]
        tab, space, end = (np.full((len(block), 1), ord(c), np.uint8) for c in "\t \n")
        fields = [numbers[0], tab, table[block[:, 0]]]
        for word in block.T[1:]:
            fields += [space, table[word]]
        for number in numbers[1:]:
            fields += [tab, number]
        padded = np.concatenate([*fields, end], axis=1)
        yield padded[padded != 0].tobytes()


def _bytes_of(words: Sequence[str]) -> np.ndarray:
    """uint8 [V, L]: the words in UTF-8, filled up with zeros."""
    array = np.array([word.encode() for word in words])
    return array.view(np.uint8).reshape(len(words), array.itemsize)


def fixed_point(values: np.ndarray) -> np.ndarray:
    """uint8 [G, W]: numbers above -100 and below 100 as text, filled up with zeros.

    As `f"{value:.7f}"` writes them, but that a number which rounds to zero has no sign.
    """
    scaled = np.rint(values * 10.0**DECIMALS).astype(np.int64)
    digits = np.empty((len(scaled), 1 + _WHOLE + 1 + DECIMALS), np.uint8)
    digits[:, 0] = np.where(scaled < 0, ord("-"), 0)
    rest = np.abs(scaled)
    places = [*range(digits.shape[1] - 1, 1 + _WHOLE, -1), *range(_WHOLE, 0, -1)]
    for place in places:  # the last digit first
        rest, digit = np.divmod(rest, 10)
        digits[:, place] = digit + ord("0")
    digits[:, 1 + _WHOLE] = ord(".")
    digits[:, 1][digits[:, 1] == ord("0")] = 0
    return digits
