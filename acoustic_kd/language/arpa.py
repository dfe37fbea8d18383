"""Back-off language models in ARPA files: read them with every line checked, write them, and
compute their perplexity.

Many lines are written at once. Each field (a number, a word, a tab) is a matrix of bytes, one row a
line, padded with zeros. These matrices side by side, without the zeros, are the bytes of the file.
"""

import gzip
import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple, TextIO

import numpy as np

from acoustic_kd.system.errors import UserError
from acoustic_kd.system.files import atomic_path

BOS, EOS = "<s>", "</s>"


class Entry(NamedTuple):
    """One n-gram: its words, log10 probability, and log10 back-off weight (0 if absent)."""

    words: tuple[str, ...]
    logprob: float
    backoff: float


class Perplexity(NamedTuple):
    """`value` over `words` predictions; these include sentence ends, and leave out `oov` words."""

    value: float
    words: int
    oov: int


@dataclass(frozen=True)
class ArpaModel:
    """A back-off n-gram model.

    Attributes:
        ngrams: for each order, from 1 up: words → (log10 probability, log10 back-off weight).
    """

    ngrams: tuple[dict[tuple[str, ...], tuple[float, float]], ...]

    @property
    def order(self) -> int:
        return len(self.ngrams)

    def logprob(self, history: tuple[str, ...], word: str) -> float:
        """log10 P(word | history), which depends on the last order - 1 words of `history`.

        It is minus infinity for a word that the model lacks.
        """
        history = history[max(0, len(history) - self.order + 1) :]
        backoff = 0.0
        while True:
            entry = self.ngrams[len(history)].get((*history, word))
            if entry is not None:
                return backoff + entry[0]
            if not history:
                return -math.inf
            backoff += self.ngrams[len(history) - 1].get(history, (0.0, 0.0))[1]
            history = history[1:]


def read_arpa(path: Path) -> ArpaModel:
    """Read an ARPA file (plain or `.gz`)."""
    ngrams: list[dict[tuple[str, ...], tuple[float, float]]] = []
    for words, logprob, backoff in iterate_arpa(path):
        while len(ngrams) < len(words):
            ngrams.append({})
        ngrams[len(words) - 1][words] = (logprob, backoff)
    return ArpaModel(tuple(ngrams))


def perplexity(model: ArpaModel | Path, sentences: Iterable[list[str]]) -> Perplexity:
    """Perplexity of `model` (or the ARPA file of that path) on sentences of words."""
    if not isinstance(model, ArpaModel):
        model = read_arpa(model)
    total, words, oov = 0.0, 0, 0
    for sentence in sentences:
        history: tuple[str, ...] = (BOS,)
        for word in [*sentence, EOS]:
            logprob = model.logprob(history, word)
            if logprob == -math.inf:
                oov += 1
            else:
                total += logprob
                words += 1
            history = (*history[-model.order :], word)
    return Perplexity(10 ** (-total / words) if words else math.nan, words, oov)


def open_arpa(path: Path) -> TextIO:
    """Open an ARPA file (plain or `.gz`) as text."""
    opener = gzip.open if str(path).endswith(".gz") else open
    return opener(path, "rt", encoding="utf-8")


def iterate_arpa(path: Path) -> Iterator[Entry]:
    """Yield the n-grams of an ARPA file in their order, each line checked."""
    try:
        with open_arpa(path) as file:
            yield from _entries(file, path)
    except (EOFError, gzip.BadGzipFile, UnicodeDecodeError):
        raise UserError(f"language model {path}: damaged file; fetch or build it again") from None
    except OSError as error:
        raise UserError(f"language model {path}: cannot be read ({error.strerror})") from None


def _entries(file: TextIO, path: Path) -> Iterator[Entry]:
    lines = enumerate(file, start=1)
    sizes = read_header(lines, path)
    order, remaining = 0, 0
    for number, line in lines:
        fields = line.split()
        if not fields:
            continue
        if line.startswith("\\"):
            if remaining:
                raise _malformed(
                    path, number, f"{remaining} {order}-grams fewer than the header says"
                )
            order += 1
            if order > len(sizes) and fields == ["\\end\\"]:
                return
            if order > len(sizes) or fields != [f"\\{order}-grams:"]:
                raise _malformed(path, number, f"'{line.strip()}' is out of place")
            remaining = sizes[order - 1]
            continue
        remaining -= 1
        # Only n-grams below the top order may carry a back-off weight (kaldilm refuses others).
        if remaining < 0 or len(fields) not in (order + 1, order + 1 + (order < len(sizes))):
            raise _malformed(path, number, f"'{line.strip()}' is not an entry of the {order}-grams")
        try:
            backoff = float(fields[-1]) if len(fields) > order + 1 else 0.0
            yield Entry(tuple(fields[1 : order + 1]), float(fields[0]), backoff)
        except ValueError:
            raise _malformed(path, number, f"'{line.strip()}' has no valid number") from None
    raise UserError(f"language model {path}: cut short (no \\end\\); fetch or build it again")


def read_header(lines: Iterator[tuple[int, str]], path: Path) -> list[int]:
    """Read the header and its blank line from numbered lines: the number of n-grams by order."""
    sizes: list[int] = []
    for _, line in lines:
        fields = line.split()
        if fields == ["\\data\\"]:
            break
    else:
        raise UserError(f"language model {path}: no \\data\\ line; not an ARPA file")
    for number, line in lines:
        fields = line.replace("=", " ").split()
        if not fields and sizes:
            return sizes
        if not fields:
            continue
        if len(fields) != 3 or fields[0] != "ngram" or not fields[2].isdigit():
            raise _malformed(path, number, f"'{line.strip()}' is out of place")
        if int(fields[1]) != len(sizes) + 1:
            raise _malformed(path, number, f"the header lacks {len(sizes) + 1}-grams")
        sizes.append(int(fields[2]))
    raise UserError(f"language model {path}: cut short in its header; fetch or build it again")


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
