"""Beam search for the units that spell words, letter by letter, many words at once.

A hypothesis is the beginning of a word, cut into units. Arrays hold `H` hypotheses.
"""

import math
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from acoustic_kd.language.g2p_alignment import MAX_UNIT_LETTERS, Unit
from acoustic_kd.language.ngrams import BOS_ID, EOS_ID

if TYPE_CHECKING:
    from acoustic_kd.language.g2p import GraphoneModel

FIRST_UNIT = EOS_ID + 1  # the word id of unit 0 in the n-gram


class Guess(NamedTuple):
    """A pronunciation, and its share of the probability of all that the search keeps."""

    phones: tuple[str, ...]
    share: float


class _Hypotheses(NamedTuple):
    """Beginnings of words.

    Attributes:
        word: [H] index of the word.
        depth, context: [H] of the n-gram model.
        node: [H] number of the last unit in the history; -1 at the start.
        score: [H] log probability.
    """

    word: np.ndarray
    depth: np.ndarray
    context: np.ndarray
    node: np.ndarray
    score: np.ndarray

    def select(self, chosen: np.ndarray) -> "_Hypotheses":
        return _Hypotheses(*(column[chosen] for column in self))


class _Spelling:
    """Letters → the word ids of the units that have them."""

    def __init__(self, units: list[Unit]) -> None:
        texts = [unit.letters for unit in units]
        self.numbers = {text: number for number, text in enumerate(sorted(set(texts)))}
        number = np.array([self.numbers[text] for text in texts])
        self.units = np.argsort(number, kind="stable") + FIRST_UNIT
        self.count = np.bincount(number, minlength=len(self.numbers))
        self.first = np.cumsum(self.count) - self.count

    def continuations(
        self, words: Sequence[str], which: np.ndarray, begin: int, width: int
    ) -> tuple[np.ndarray, np.ndarray]:
        """Every unit that may be next, for the `width` letters from letter `begin`.

        Args:
            which: [H] the word of each hypothesis.

        Returns:
            For each continuation the index of its hypothesis, and its unit.
        """
        texts = [word[begin : begin + width] for word in words]
        numbers = [self.numbers.get(text, -1) if len(text) == width else -1 for text in texts]
        number = np.array(numbers)[which]
        possible = np.flatnonzero(number >= 0)
        number = number[possible]
        count = self.count[number]
        within = np.arange(count.sum()) - np.repeat(np.cumsum(count) - count, count)
        units = self.units[np.repeat(self.first[number], count) + within]
        return np.repeat(possible, count), units


class _History:
    """The units of all hypotheses, each with a pointer to the unit before it."""

    def __init__(self) -> None:
        self.parents: list[np.ndarray] = []
        self.units: list[np.ndarray] = []
        self.size = 0

    def add(self, parents: np.ndarray, units: np.ndarray) -> np.ndarray:
        """Add nodes and return their numbers."""
        self.parents.append(parents)
        self.units.append(units)
        self.size += len(units)
        return np.arange(self.size - len(units), self.size)

    def phones(self, units: list[Unit], nodes: np.ndarray) -> list[tuple[str, ...]]:
        """The phones on the path to each node."""
        parent, unit = np.concatenate(self.parents), np.concatenate(self.units) - FIRST_UNIT
        spoken = []
        for node in nodes.tolist():
            pieces = []
            while node >= 0:
                pieces.append(units[unit[node]].phones)
                node = parent[node]
            spoken.append(tuple(phone for piece in reversed(pieces) for phone in piece))
        return spoken


def search(model: "GraphoneModel", words: Sequence[str], beam: int) -> list[list[Guess]]:
    """Find the probable pronunciations of words of known letters, the most probable first.

    Args:
        beam: number of hypotheses of a word that are kept at each of its letters.
    """
    spelling, history = _Spelling(model.units), _History()
    lengths = np.array([len(word) for word in words])
    rows, zero = np.arange(len(words)), np.zeros(len(words), np.int64)
    # The context is <s> alone: an n-gram of order 1, whose number is the word id.
    start = _Hypotheses(rows, zero + 1, zero + BOS_ID, zero - 1, np.zeros(len(words), np.float32))
    by_letters = [[start], *([] for _ in range(max(lengths) + MAX_UNIT_LETTERS))]
    ended = []
    for i in range(max(lengths) + 1):
        current = _prune(_join(by_letters[i] or [start.select(rows[:0])]), beam)
        ended.append(current.select(lengths[current.word] == i))
        for width in range(1, MAX_UNIT_LETTERS + 1):
            source, unit = spelling.continuations(words, current.word, i, width)
            old = current.select(source)
            logprob, depth, context = model.extend(old.depth, old.context, unit)
            nodes = history.add(old.node, unit)
            by_letters[i + width].append(
                _Hypotheses(old.word, depth, context, nodes, old.score + logprob)
            )
    end = _join(ended)
    logprob, _, _ = model.extend(end.depth, end.context, np.full(len(end.word), EOS_ID))
    scores: list[dict[tuple[str, ...], float]] = [{} for _ in words]
    phones = history.phones(model.units, end.node)
    for word, spoken, score in zip(
        end.word.tolist(), phones, (end.score + logprob).tolist(), strict=True
    ):
        if spoken:  # several cuts may have the same phones
            scores[word][spoken] = float(np.logaddexp(scores[word].get(spoken, -np.inf), score))
    return [_guesses(word_scores) for word_scores in scores]


def _join(parts: Iterable[_Hypotheses]) -> _Hypotheses:
    return _Hypotheses(*(np.concatenate(column) for column in zip(*parts, strict=True)))


def _prune(hypotheses: _Hypotheses, beam: int) -> _Hypotheses:
    """Keep the best `beam` hypotheses of each word; of equally good ones the earlier."""
    order = np.lexsort((hypotheses.node, -hypotheses.score, hypotheses.word))
    word = hypotheses.word[order]
    rank = np.arange(len(word)) - np.searchsorted(word, word)
    return hypotheses.select(order[rank < beam])


def _guesses(scores: dict[tuple[str, ...], float]) -> list[Guess]:
    """Pronunciations with their shares, by decreasing share, then by their phones."""
    if not scores:
        return []
    total = float(np.logaddexp.reduce(list(scores.values())))
    ranked = sorted(scores.items(), key=lambda item: (-item[1], item[0]))
    return [Guess(phones, math.exp(score - total)) for phones, score in ranked]
