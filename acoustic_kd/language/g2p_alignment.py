"""Align the letters of a lexicon's words with their phones by expectation maximisation.

A word and its pronunciation are cut into units of one or two letters with up to two phones, such as
`PH:F`, `X:K S` or `E:` (silent). Each way to cut is weighted by its probability, the product of the
probabilities of its units; a unit's probability is its share of the expected counts. See
Jiampojamarn, Kondrak and Sherif, *Applying Many-to-Many Alignments and Hidden Markov Models to
Letter-to-Phoneme Conversion* (2007), section 3.

N words with the same numbers of letters (I) and phones (J) are aligned together.
"""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

UNIT_SIZES = ((1, 0), (1, 1), (1, 2), (2, 1))  # letters and phones of a unit
MAX_UNIT_LETTERS = 2
ITERATIONS = 10


class Unit(NamedTuple):
    """Letters, and the phones that they stand for."""

    letters: str
    phones: tuple[str, ...]


@dataclass
class _Group:
    """Words with the same numbers of letters and phones.

    Attributes:
        rows: [N] their places in the input.
        units: for each size (a, b), int32 [N, I - a + 1, J - b + 1]: the unit that begins at letter
            i and phone j; None if the words are shorter than the unit.
    """

    rows: np.ndarray
    units: list[np.ndarray | None]
    shape: tuple[int, int, int]  # N, I, J


def align(
    pronunciations: Iterable[tuple[str, Sequence[str]]], iterations: int = ITERATIONS
) -> list[tuple[Unit, ...] | None]:
    """Cut words and their pronunciations into units, in the most probable way.

    Args:
        pronunciations: word and phones; a word may occur several times.

    Returns:
        The units of each pronunciation; None if it cannot be cut, as for abbreviations with more
        than two phones a letter.
    """
    pronunciations = list(pronunciations)
    groups, units = _group(pronunciations)
    weights = np.ones(len(units))  # at first all cuts are equally probable
    for _ in range(iterations):
        counts = sum((_expected(group, weights) for group in groups), start=np.zeros(len(units)))
        weights = counts / max(counts.sum(), 1e-300)
    cuts: list[tuple[Unit, ...] | None] = [None] * len(pronunciations)
    for group in groups:
        for row, numbers in zip(group.rows.tolist(), _best(group, weights), strict=True):
            if numbers:
                cuts[row] = tuple(units[number] for number in numbers)
    return cuts


def _group(pronunciations: list[tuple[str, Sequence[str]]]) -> tuple[list[_Group], list[Unit]]:
    """Group words by their lengths, and number the units that they may be cut into."""
    letters = sorted({letter for word, _ in pronunciations for letter in word})
    phones = sorted({phone for _, spoken in pronunciations for phone in spoken})
    letter_ids = {letter: number for number, letter in enumerate(letters, start=1)}
    phone_ids = {phone: number for number, phone in enumerate(phones, start=1)}
    by_shape = defaultdict(list)
    for row, (word, sequence) in enumerate(pronunciations):
        if len(sequence) <= 2 * len(word):
            by_shape[len(word), len(sequence)].append(row)
    groups, seen = [], []
    for (length, spoken), rows in sorted(by_shape.items()):
        shape = len(rows), length, spoken
        words = np.array([[letter_ids[c] for c in pronunciations[r][0]] for r in rows], np.int64)
        sounds = np.array([[phone_ids[p] for p in pronunciations[r][1]] for r in rows], np.int64)
        codes = _codes(words.reshape(shape[:2]), sounds.reshape(shape[0], spoken), len(phones) + 1)
        groups.append(_Group(np.array(rows), codes, shape))
        seen += [np.unique(code) for code in codes if code is not None]
    known = np.unique(np.concatenate(seen)) if seen else np.empty(0, np.int64)
    for group in groups:
        group.units = [
            None if code is None else np.searchsorted(known, code).astype(np.int32)
            for code in group.units
        ]
    return groups, _units(known, letters, phones)


def _codes(words: np.ndarray, sounds: np.ndarray, base: int) -> list[np.ndarray | None]:
    """For each unit size, the code of the unit at every place; see `_Group.units`.

    A code consists of letters and phones numbered from 1, or 0 for none: two digits to base `base`
    for the phones, and above them two of 24 bits for the letters.
    """
    codes: list[np.ndarray | None] = []
    for a, b in UNIT_SIZES:
        starts, ends = words.shape[1] - a + 1, sounds.shape[1] - b + 1
        if starts < 1 or ends < 1:
            codes.append(None)
            continue
        first = words[:, :starts]
        second = words[:, 1:] if a == 2 else np.zeros_like(first)
        spelling = (second << 24) + first
        spoken = np.zeros((len(words), ends), np.int64)
        for k in range(b):
            spoken = spoken * base + sounds[:, k : k + ends]
        codes.append(spelling[:, :, None] * base**2 + spoken[:, None, :])
    return codes


def _units(codes: np.ndarray, letters: list[str], phones: list[str]) -> list[Unit]:
    """The units of some codes of `_codes`."""
    base = len(phones) + 1
    units = []
    for code in codes.tolist():
        spelling, spoken = divmod(code, base**2)
        second, first = spelling >> 24, spelling & 0xFFFFFF
        text = letters[first - 1] + (letters[second - 1] if second else "")
        units.append(Unit(text, tuple(phones[p - 1] for p in divmod(spoken, base) if p)))
    return units


def _forward(group: _Group, weights: np.ndarray, best: bool) -> tuple[np.ndarray, np.ndarray]:
    """The weight of all cuts (or of the best cut) of the first i letters and j phones.

    Returns:
        [I + 1, J + 1, N] weights, and int8, the size of the best cut's last unit, as an index.
    """
    number, length, spoken = group.shape
    total = np.zeros((length + 1, spoken + 1, number))
    last = np.zeros((length + 1, spoken + 1, number), np.int8)
    total[0, 0] = 1.0
    scores = [None if u is None else weights[u].transpose(1, 2, 0).copy() for u in group.units]
    for i in range(1, length + 1):
        for j in range(spoken + 1):
            current = total[i, j]
            for kind, (a, b) in enumerate(UNIT_SIZES):
                if i < a or j < b or (unit_scores := scores[kind]) is None:
                    continue
                score = total[i - a, j - b] * unit_scores[i - a, j - b]
                if best:
                    last[i, j][score > current] = kind
                    np.maximum(current, score, out=current)
                else:
                    current += score
    return total, last


def _expected(group: _Group, weights: np.ndarray) -> np.ndarray:
    """The expected count of each unit in the group's words, [U]."""
    _, length, spoken = group.shape
    before, _ = _forward(group, weights, best=False)
    after = np.zeros_like(before)
    possible = before[length, spoken] > 0
    after[length, spoken][possible] = 1 / before[length, spoken][possible]
    counts = np.zeros(len(weights))
    shares = [np.zeros(() if u is None else u.shape[1:] + u.shape[:1]) for u in group.units]
    scores = [None if u is None else weights[u].transpose(1, 2, 0).copy() for u in group.units]
    for i in range(length - 1, -1, -1):
        for j in range(spoken, -1, -1):
            for kind, (a, b) in enumerate(UNIT_SIZES):
                if i + a > length or j + b > spoken or (unit_scores := scores[kind]) is None:
                    continue
                through_unit = after[i + a, j + b] * unit_scores[i, j]
                after[i, j] += through_unit
                shares[kind][i, j] = through_unit * before[i, j]
    for units, share in zip(group.units, shares, strict=True):
        if units is not None:
            flat = units.transpose(1, 2, 0).ravel()
            counts += np.bincount(flat, share.ravel(), minlength=len(weights))
    return counts


def _best(group: _Group, weights: np.ndarray) -> list[list[int]]:
    """The units of each word's best cut; an empty list if it cannot be cut."""
    number, length, spoken = group.shape
    total, last = _forward(group, weights, best=True)
    rows = np.arange(number)
    i, j = np.full(number, length), np.full(number, spoken)
    i[total[length, spoken] == 0] = 0
    steps = []
    sizes = np.array(UNIT_SIZES)
    while (unfinished := i > 0).any():
        kind = last[i, j, rows]
        a, b = sizes[kind].T
        step = np.full(number, -1)
        for k, units in enumerate(group.units):
            chosen = unfinished & (kind == k)
            if units is not None and chosen.any():
                step[chosen] = units[rows[chosen], i[chosen] - a[chosen], j[chosen] - b[chosen]]
        steps.append(step)
        i, j = np.where(unfinished, i - a, i), np.where(unfinished, j - b, j)
    if not steps:
        return [[] for _ in range(number)]
    table = np.stack(steps[::-1], axis=1)
    return [[unit for unit in row if unit >= 0] for row in table.tolist()]
