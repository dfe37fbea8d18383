"""Beam search for the units that spell words, letter by letter, many words at once.

A hypothesis is a beginning of a word, cut into units. `H` of them stand in one row of arrays.
"""

import math
from collections.abc import Iterable, Sequence
from typing import NamedTuple, Protocol

import numpy as np

from acoustic_kd.language.g2p_alignment import MOST_LETTERS, Unit
from acoustic_kd.language.ngrams import BOS_ID, EOS_ID

FIRST_UNIT = EOS_ID + 1  # the word id of unit 0 in the n-gram


class Guess(NamedTuple):
    """One pronunciation, and its share of the probability of all that the search kept."""

    phones: tuple[str, ...]
    share: float


class Ngram(Protocol):
    """What the search asks of an n-gram over units (`g2p.model.GraphoneModel`)."""

    @property
    def units(self) -> list[Unit]: ...

    def extend(
        self, depth: np.ndarray, context: np.ndarray, word: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]: ...


class _Hypotheses(NamedTuple):
    """Beginnings of words.

    Attributes:
        word: [H] which word.
        depth, context: [H] of the n-gram.
        node: [H] the last unit, as a number in the history; -1 at the start.
        score: [H] log probability.
    """

    word: np.ndarray
    depth: np.ndarray
    context: np.ndarray
    node: np.ndarray
    score: np.ndarray

    def at(self, chosen: np.ndarray) -> "_Hypotheses":
        return _Hypotheses(*(column[chosen] for column in self))


class _Spelling:
    """Which units have which letters, as word ids."""

    def __init__(self, units: list[Unit]) -> None:
        texts = [unit.letters for unit in units]
        self.numbers = {text: number for number, text in enumerate(sorted(set(texts)))}
        number = np.array([self.numbers[text] for text in texts])
        self.units = np.argsort(number, kind="stable") + FIRST_UNIT
        self.count = np.bincount(number, minlength=len(self.numbers))
        self.first = np.cumsum(self.count) - self.count

    def following(
        self, words: Sequence[str], which: np.ndarray, begin: int, width: int
    ) -> tuple[np.ndarray, np.ndarray]:
        """Every unit that may come next, `width` letters from letter `begin` on.

        Args:
            which: [H] the word of each hypothesis.

        Returns:
            the hypothesis of each continuation, and its unit.
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
    """The units of every hypothesis that ever was, each with a pointer to the one before it."""

    def __init__(self) -> None:
        self.parents: list[np.ndarray] = []
        self.units: list[np.ndarray] = []
        self.size = 0

    def add(self, parents: np.ndarray, units: np.ndarray) -> np.ndarray:
        """Numbers of the new nodes."""
        self.parents.append(parents)
        self.units.append(units)
        self.size += len(units)
        return np.arange(self.size - len(units), self.size)

    def phones(self, units: list[Unit], nodes: np.ndarray) -> list[tuple[str, ...]]:
        """The phones on the way to each node."""
        parent, unit = np.concatenate(self.parents), np.concatenate(self.units) - FIRST_UNIT
        spoken = []
        for node in nodes.tolist():
            pieces = []
            while node >= 0:
                pieces.append(units[unit[node]].phones)
                node = parent[node]
            spoken.append(tuple(phone for piece in reversed(pieces) for phone in piece))
        return spoken


def search(model: Ngram, words: Sequence[str], beam: int) -> list[list[Guess]]:
    """The probable pronunciations of each word (of known letters), the most probable first.

    Args:
        beam: how many hypotheses of a word are kept at each of its letters.
    """
    spelling, history = _Spelling(model.units), _History()
    lengths = np.array([len(word) for word in words])
    every, zero = np.arange(len(words)), np.zeros(len(words), np.int64)
    # The context is <s> alone: an n-gram of order 1, whose number is the word id.
    start = _Hypotheses(every, zero + 1, zero + BOS_ID, zero - 1, np.zeros(len(words), np.float32))
    waiting = [[start], *([] for _ in range(max(lengths) + MOST_LETTERS))]
    ended = []
    for i in range(max(lengths) + 1):
        here = _prune(_join(waiting[i] or [start.at(every[:0])]), beam)
        ended.append(here.at(lengths[here.word] == i))
        for width in range(1, MOST_LETTERS + 1):
            source, unit = spelling.following(words, here.word, i, width)
            before = here.at(source)
            logprob, depth, context = model.extend(before.depth, before.context, unit)
            nodes = history.add(before.node, unit)
            waiting[i + width].append(
                _Hypotheses(before.word, depth, context, nodes, before.score + logprob)
            )
    end = _join(ended)
    logprob, _, _ = model.extend(end.depth, end.context, np.full(len(end.word), EOS_ID))
    scores: list[dict[tuple[str, ...], float]] = [{} for _ in words]
    phones = history.phones(model.units, end.node)
    for word, spoken, score in zip(
        end.word.tolist(), phones, (end.score + logprob).tolist(), strict=True
    ):
        if spoken:  # several cuts may say the same
            scores[word][spoken] = float(np.logaddexp(scores[word].get(spoken, -np.inf), score))
    return [_guesses(found) for found in scores]


def _join(parts: Iterable[_Hypotheses]) -> _Hypotheses:
    return _Hypotheses(*(np.concatenate(column) for column in zip(*parts, strict=True)))


def _prune(hypotheses: _Hypotheses, beam: int) -> _Hypotheses:
    """The best `beam` of each word; of equals the earlier ones."""
    order = np.lexsort((hypotheses.node, -hypotheses.score, hypotheses.word))
    word = hypotheses.word[order]
    rank = np.arange(len(word)) - np.searchsorted(word, word)
    return hypotheses.at(order[rank < beam])


def _guesses(scores: dict[tuple[str, ...], float]) -> list[Guess]:
    """Pronunciations with their shares, the largest first, equals in the order of their phones."""
    if not scores:
        return []
    total = float(np.logaddexp.reduce(list(scores.values())))
    ranked = sorted(scores.items(), key=lambda item: (-item[1], item[0]))
    return [Guess(phones, math.exp(score - total)) for phones, score in ranked]
