"""Which phones each letter of a lexicon's words stands for, found by expectation maximisation.

A word and its pronunciation are cut into the same number of pieces, one or two letters beside up
to two phones: units such as `PH:F`, `X:K S` or `E:` (silent). Every way to cut counts as much as
it is probable, where a cut's probability is the product of its units', and a unit's is its share
of the expected counts: Jiampojamarn, Kondrak and Sherif, *Applying Many-to-Many Alignments and
Hidden Markov Models to Letter-to-Phoneme Conversion* (2007), section 3.

Words of as many letters and phones are aligned together: N of them, with I letters and J phones.
"""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

KINDS = ((1, 0), (1, 1), (1, 2), (2, 1))  # letters and phones of a unit; others are made of these
MOST_LETTERS = 2  # of a unit
ITERATIONS = 10


class Unit(NamedTuple):
    """Letters, and the phones that they stand for together."""

    letters: str
    phones: tuple[str, ...]


@dataclass
class _Group:
    """Words of as many letters and phones.

    Attributes:
        rows: [N] where they stand in the input.
        units: for each kind (a, b), int32 [N, I - a + 1, J - b + 1]: the unit that begins at letter
            i and phone j; None if the words are shorter than the kind.
    """

    rows: np.ndarray
    units: list[np.ndarray | None]
    shape: tuple[int, int, int]  # N, I, J


def align(
    pronunciations: Iterable[tuple[str, Sequence[str]]], iterations: int = ITERATIONS
) -> list[tuple[Unit, ...] | None]:
    """Cut words and their pronunciations into units, in the most probable way.

    Args:
        pronunciations: word and phones; a word may come several times.
        iterations: of expectation maximisation.

    Returns:
        In the same order the units of each; None where no cut fits, as with abbreviations that
        have more than two phones a letter.
    """
    pronunciations = list(pronunciations)
    groups, units = _group(pronunciations)
    weights = np.ones(len(units))  # at first every cut is as good as any other
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
    """Words by their lengths, with the number of every unit that they may be cut into."""
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
    """For each kind a number that spells the unit at every place: see `_Group.units`.

    The letters, then the phones, from 1 up, 0 where there is none: as digits to base `base` for the
    phones, and as large as need be for the letters.
    """
    codes: list[np.ndarray | None] = []
    for a, b in KINDS:
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
    """What `_codes` spelled."""
    base = len(phones) + 1
    units = []
    for code in codes.tolist():
        spelling, spoken = divmod(code, base**2)
        second, first = spelling >> 24, spelling & 0xFFFFFF
        text = letters[first - 1] + (letters[second - 1] if second else "")
        units.append(Unit(text, tuple(phones[p - 1] for p in divmod(spoken, base) if p)))
    return units


def _forward(group: _Group, weights: np.ndarray, best: bool) -> tuple[np.ndarray, np.ndarray]:
    """The weight of all cuts (or of the best one) of the first i letters and j phones.

    Returns:
        [I + 1, J + 1, N] weights, and int8, which kind the last unit of the best cut is.
    """
    number, length, spoken = group.shape
    total = np.zeros((length + 1, spoken + 1, number))
    last = np.zeros((length + 1, spoken + 1, number), np.int8)
    total[0, 0] = 1.0
    scores = [None if u is None else weights[u].transpose(1, 2, 0).copy() for u in group.units]
    for i in range(1, length + 1):
        for j in range(spoken + 1):
            here = total[i, j]
            for kind, (a, b) in enumerate(KINDS):
                if i < a or j < b or (own := scores[kind]) is None:
                    continue
                score = total[i - a, j - b] * own[i - a, j - b]
                if best:
                    last[i, j][score > here] = kind
                    np.maximum(here, score, out=here)
                else:
                    here += score
    return total, last


def _expected(group: _Group, weights: np.ndarray) -> np.ndarray:
    """How often each unit is expected in the group's words, [U]."""
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
            for kind, (a, b) in enumerate(KINDS):
                if i + a > length or j + b > spoken or (own := scores[kind]) is None:
                    continue
                passing = after[i + a, j + b] * own[i, j]
                after[i, j] += passing
                shares[kind][i, j] = passing * before[i, j]
    for units, share in zip(group.units, shares, strict=True):
        if units is not None:
            flat = units.transpose(1, 2, 0).ravel()
            counts += np.bincount(flat, share.ravel(), minlength=len(weights))
    return counts


def _best(group: _Group, weights: np.ndarray) -> list[list[int]]:
    """The units of each word's best cut; none where no cut fits."""
    number, length, spoken = group.shape
    total, last = _forward(group, weights, best=True)
    every = np.arange(number)
    i, j = np.full(number, length), np.full(number, spoken)
    found = total[length, spoken] > 0
    i[~found] = 0
    steps = []
    sizes = np.array(KINDS)
    while (going := i > 0).any():
        kind = last[i, j, every]
        a, b = sizes[kind].T
        step = np.full(number, -1)
        for k, units in enumerate(group.units):
            chosen = going & (kind == k)
            if units is not None and chosen.any():
                step[chosen] = units[every[chosen], i[chosen] - a[chosen], j[chosen] - b[chosen]]
        steps.append(step)
        i, j = np.where(going, i - a, i), np.where(going, j - b, j)
    if not steps:
        return [[] for _ in range(number)]
    table = np.stack(steps[::-1], axis=1)
    return [[unit for unit in row if unit >= 0] for row in table.tolist()]
