"""L: the pronunciations of a vocabulary as arrays, for prefix trees with shared tails."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from acoustic_kd.language.lexicon import Lexicon, Pronunciation
from acoustic_kd.system.errors import UserError


@dataclass
class Pronunciations:
    """The different pronunciations in lexicographic order, and their tails.

    R pronunciations of at most L phones. A tail is the rest of a pronunciation from some phone on;
    number 0 is the empty tail.

    Attributes:
        phones: int16 [R, L] phone numbers, -1 behind the end.
        length: int16 [R].
        first_of_word: [words + 2] where each label's pronunciations begin in `of_words`.
        of_words: the pronunciations of every word in turn.
        cost: float32, of each of `of_words`.
        tail: int32 [R, L + 1] number of what remains after 0, 1, … phones.
        tail_phone, tail_next, tail_length: [tails] first phone, tail after it, phones.
    """

    phones: np.ndarray
    length: np.ndarray
    first_of_word: np.ndarray
    of_words: np.ndarray
    cost: np.ndarray
    tail: np.ndarray
    tail_phone: np.ndarray
    tail_next: np.ndarray
    tail_length: np.ndarray
    _shortest: list[np.ndarray]

    def common(self, first: np.ndarray, second: np.ndarray) -> np.ndarray:
        """[n] int16: how many phones pronunciations first <= second have in common."""
        same = self.length[first]
        span = second - first
        level = np.zeros(len(span), np.int8)
        for power in range(1, len(self._shortest)):
            level += span >= 1 << power
        result = same.copy()
        for power, table in enumerate(self._shortest):
            now = np.flatnonzero((level == power) & (span > 0))
            left = table[first[now] + 1]
            result[now] = np.minimum(left, table[second[now] + 1 - (1 << power)])
        return result


def pronunciations_of(
    lexicon: Lexicon,
    words: Sequence[str],
    phones: Sequence[str],
    costs: Mapping[Pronunciation, float],
) -> Pronunciations:
    """Put the pronunciations of `words` (labels 1, 2, …) into arrays.

    Args:
        costs: of pronunciations (word, phones) that cost more than 0.
    """
    _check(lexicon, words, phones)
    number = {phone: index for index, phone in enumerate(phones)}
    spelled = [[tuple(number[p] for p in pron) for pron in lexicon[word]] for word in words]
    distinct = sorted({pron for prons in spelled for pron in prons})
    rank = {pron: index for index, pron in enumerate(distinct)}
    length = np.array([len(pron) for pron in distinct], np.int16)
    longest = int(length.max(initial=1))
    matrix = np.full((len(distinct), longest), -1, np.int16)
    matrix[np.arange(longest) < length[:, None]] = [p for pron in distinct for p in pron]
    sizes = [0, 0, *(len(prons) for prons in spelled)]
    of_words = np.array([rank[pron] for prons in spelled for pron in prons], np.int32)
    cost = np.array([costs.get((w, pron), 0.0) for w in words for pron in lexicon[w]], np.float32)
    return Pronunciations(
        matrix,
        length,
        np.cumsum(sizes),
        of_words,
        cost,
        *_tails(matrix, length, len(phones)),
        _shortest_of_ranges(matrix),
    )


def _check(lexicon: Lexicon, words: Sequence[str], phones: Sequence[str]) -> None:
    missing = [word for word in words if word not in lexicon]
    if missing:
        more = f" and {len(missing) - 5} more" if len(missing) > 5 else ""
        raise UserError(
            f"lexicon: no pronunciation of {', '.join(missing[:5])}{more}, which the language "
            "model has; add them to the lexicon or train the language model without them"
        )
    unknown = sorted({p for w in words for pron in lexicon[w] for p in pron} - set(phones))
    if unknown:
        raise UserError(
            f"lexicon: phones {', '.join(unknown[:5])} are not in the senone inventory; "
            "build the senones from the same lexicon"
        )


def _tails(
    phones: np.ndarray, length: np.ndarray, num_phones: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """`tail`, `tail_phone`, `tail_next`, `tail_length`, numbered from the shortest up."""
    count, longest = phones.shape
    tail = np.zeros((count, longest + 1), np.int32)
    first, following, sizes = [np.array([-1])], [np.array([0])], [np.array([0])]
    total = 1
    for remaining in range(1, longest + 1):
        rows = np.flatnonzero(length >= remaining)
        place = length[rows] - remaining
        keys = tail[rows, place + 1].astype(np.int64) * num_phones + phones[rows, place]
        unique, which = np.unique(keys, return_inverse=True)
        tail[rows, place] = total + which
        first.append(unique % num_phones)
        following.append(unique // num_phones)
        sizes.append(np.full(len(unique), remaining))
        total += len(unique)
    phone, after, left = (np.concatenate(c).astype(np.int32) for c in (first, following, sizes))
    return tail, phone, after, left


def _shortest_of_ranges(phones: np.ndarray) -> list[np.ndarray]:
    """Level k, place i: the least agreement of neighbours (j - 1, j) for i <= j < i + 2^k."""
    alike = (phones[1:] == phones[:-1]) & (phones[1:] >= 0)
    common = np.cumprod(alike, axis=1, dtype=np.int16).sum(axis=1, dtype=np.int16)
    levels = [np.concatenate([np.zeros(1, np.int16), common])]
    while 1 << len(levels) < len(phones):
        half = 1 << (len(levels) - 1)
        below = levels[-1]
        levels.append(np.minimum(below[:-half], below[half:]) if half < len(below) else below)
    return levels
