"""G: a back-off language model as an acceptor, held in arrays.

A state is a history, an arc an n-gram, and every state but that of the empty history has one
back-off arc, to the longest shorter history there is. The states are those of Kaldi's `arpa2fst`: a
history that nothing follows is left out, and its back-off cost is added to the arcs that enter it.
"""

import itertools
import math
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from acoustic_kd.language.arpa import (
    BOS,
    END,
    EOS,
    TITLE,
    iterate_arpa,
    normalised_words,
    read_header,
)
from acoustic_kd.system.characters import visible
from acoustic_kd.system.errors import UserError
from acoustic_kd.system.text import open_text

UNKNOWN_WORDS = ("<unk>", "<UNK>")  # n-grams with them are left out
BLOCK_LINES = 1 << 16  # lines read together
ROUNDING = 1e-3  # by which the logarithm of a probability may exceed 0


@dataclass
class Grammar:
    """An acceptor of H states and A arcs; costs are negated natural logs.

    Attributes:
        words: the vocabulary, sorted; the label of a word is its place, from 1.
        final: float32 [H], cost of ending in each state; infinity where it is not final.
        backoff, backoff_cost: int32, float32 [H], where a state backs off to (-1: nowhere).
        source, word, cost, target: [A] the arcs, sorted by source.
    """

    words: list[str]
    start: int
    final: np.ndarray
    backoff: np.ndarray
    backoff_cost: np.ndarray
    source: np.ndarray
    word: np.ndarray
    cost: np.ndarray
    target: np.ndarray


@dataclass
class _Section:
    """N-grams of one order: word ids [G, order], log10 probabilities, log10 back-off weights."""

    ids: np.ndarray
    logprob: np.ndarray
    backoff: np.ndarray


def linear_grammar(words: Sequence[str]) -> Grammar:
    """The acceptor of one sentence, at no cost."""
    vocabulary = sorted(set(words))
    label = {word: number for number, word in enumerate(vocabulary, start=1)}
    count = len(words)
    final = np.full(count + 1, np.inf, np.float32)
    final[count] = 0.0
    states = np.arange(count + 1, dtype=np.int32)
    return Grammar(
        vocabulary,
        0,
        final,
        np.full(count + 1, -1, np.int32),
        np.zeros(count + 1, np.float32),
        states[:-1],
        np.array([label[word] for word in words], np.int32),
        np.zeros(count, np.float32),
        states[1:],
    )


def read_grammar(
    path: Path, left_out: Collection[str] = (), normalise: Callable[[str], str] = visible
) -> Grammar:
    """Read an ARPA file as an acceptor.

    Args:
        left_out: words whose n-grams are skipped.
        normalise: for the words, as for transcripts.
    """
    words, sections = _read(Path(path), {*UNKNOWN_WORDS, *left_out}, normalise)
    bos, eos = len(words) + 1, len(words) + 2
    for order, section in enumerate(sections, start=1):
        ids = section.ids
        inside = np.all(ids >= 0, axis=1) & np.all(ids[:, :-1] != eos, axis=1)
        inside &= np.all(ids[:, 1:] != bos, axis=1)
        sections[order - 1] = _Section(
            ids[inside], section.logprob[inside], section.backoff[inside]
        )
    if not np.any(sections[0].ids == bos) or not any(np.any(s.ids[:, -1] == eos) for s in sections):
        raise UserError(
            f"language model {path}: has no {BOS} or no {EOS}; train it on whole sentences"
        )
    return _without_dead_ends(_acceptor(path, words, sections))


class _Histories:
    """The states: number 0 is the empty history, and the others follow order by order."""

    def __init__(self, num_words: int) -> None:
        self.width = num_words + 3
        self.keys: list[np.ndarray] = []
        self.first: list[int] = [1]

    def add(self, keys: np.ndarray) -> None:
        """The histories of the next order, by `key`, sorted."""
        self.keys.append(keys)
        self.first.append(self.first[-1] + len(keys))

    def key(self, state: np.ndarray, word: np.ndarray) -> np.ndarray:
        return state.astype(np.int64) * self.width + word

    def find(self, ids: np.ndarray) -> np.ndarray:
        """The state of each row of word ids, or -1."""
        state = np.zeros(len(ids), np.int64)
        for order in range(ids.shape[1]):
            if order >= len(self.keys) or not len(self.keys[order]):
                return np.full(len(ids), -1, np.int64)
            keys = self.keys[order]
            wanted = self.key(state, ids[:, order])
            place = np.minimum(np.searchsorted(keys, wanted), len(keys) - 1)
            exists = (keys[place] == wanted) & (state >= 0)
            state = np.where(exists, self.first[order] + place, -1)
        return state

    def longest(self, ids: np.ndarray) -> np.ndarray:
        """The state of the longest end of each row that is a history."""
        state = self.find(ids)
        while ids.shape[1] and np.any(state < 0):
            ids, lost = ids[:, 1:], np.flatnonzero(state < 0)
            state[lost] = self.find(ids[lost])
        return state


def _acceptor(path: Path, words: list[str], sections: list[_Section]) -> Grammar:
    bos, eos = len(words) + 1, len(words) + 2
    histories = _Histories(len(words))
    final: dict[str, list] = {"state": [], "cost": []}
    backoff, backoff_cost = [np.array([-1])], [np.zeros(1, np.float32)]
    arcs: list[tuple[np.ndarray, ...]] = []
    start = lost = 0
    for order, section in enumerate(sections, start=1):
        source = histories.find(section.ids[:, :-1])
        known = np.flatnonzero(source >= 0)  # no n-gram without its history
        key = histories.key(source[known], section.ids[known, -1])
        lost += len(source) - len(known)
        by_key = np.argsort(key, kind="stable")
        known, key = known[by_key], key[by_key]
        if np.any(key[1:] == key[:-1]):
            raise UserError(f"language model {path}: has a duplicate {order}-gram; build it again")
        ids, source = section.ids[known], source[known]
        cost = section.logprob[known] * np.float32(-math.log(10))
        ends, begins = ids[:, -1] == eos, ids[:, -1] == bos
        final["state"].append(source[ends])
        final["cost"].append(cost[ends])
        if order < len(sections):
            histories.add(key[~ends])
            target = np.cumsum(~ends) + histories.first[order - 1] - 1
            backoff.append(histories.longest(ids[~ends, 1:]))
            backoff_cost.append(section.backoff[known][~ends] * np.float32(-math.log(10)))
        else:
            target = histories.longest(ids[:, 1:])
        if np.any(begins):
            start = int(target[begins][0])
        arc = ~(ends | begins)
        arcs.append((source[arc], ids[arc, -1], cost[arc], target[arc]))
    if lost:
        print(f"  {lost} n-grams of the language model are left out: it lacks their histories")
    columns = [np.concatenate(column) for column in zip(*arcs, strict=True)]
    finals = np.full(histories.first[-1], np.inf, np.float32)
    finals[np.concatenate(final["state"])] = np.concatenate(final["cost"])
    return Grammar(
        words,
        start,
        finals,
        np.concatenate(backoff).astype(np.int32),
        np.concatenate(backoff_cost),
        columns[0].astype(np.int32),
        columns[1].astype(np.int32),
        columns[2],
        columns[3].astype(np.int32),
    )


def _without_dead_ends(grammar: Grammar) -> Grammar:
    """Replace histories that nothing follows by those that they back off to."""
    count = len(grammar.final)
    kept = np.isfinite(grammar.final)
    kept[grammar.source] = True
    kept[[0, grammar.start]] = True
    state, cost = np.arange(count), np.zeros(count, np.float32)
    while np.any(lost := ~kept[state]):
        cost[lost] += grammar.backoff_cost[state[lost]]
        state[lost] = grammar.backoff[state[lost]]
    number = np.cumsum(kept, dtype=np.int32) - 1
    after = np.where(grammar.backoff >= 0, grammar.backoff, 0)
    backoff = np.where(grammar.backoff >= 0, number[state[after]], -1).astype(np.int32)
    backoff_cost = grammar.backoff_cost + np.where(grammar.backoff >= 0, cost[after], 0)
    return Grammar(
        grammar.words,
        int(number[grammar.start]),
        grammar.final[kept],
        backoff[kept],
        backoff_cost[kept].astype(np.float32),
        number[grammar.source],
        grammar.word,
        grammar.cost + cost[grammar.target],
        number[state[grammar.target]],
    )


def _read(
    path: Path, left_out: set[str], normalise: Callable[[str], str]
) -> tuple[list[str], list[_Section]]:
    """The vocabulary and the n-grams; ids are labels, then <s>, then </s>, and -1 for others."""
    try:
        return _read_quickly(path, left_out, normalise)
    except ValueError:
        for _ in iterate_arpa(path):  # raises an error that names the line
            pass
    raise UserError(f"language model {path}: not a valid ARPA file; build it again")


def _read_quickly(
    path: Path, left_out: set[str], normalise: Callable[[str], str]
) -> tuple[list[str], list[_Section]]:
    """Read a valid file; ValueError for any other."""
    sections: list[_Section] = []
    vocabulary: list[str] = []
    ids: dict[bytes, int] = {}
    with open_text(path, "language model") as file:
        sizes, (_, title) = read_header(enumerate(file, start=1), path)
        for order, size in enumerate(sizes, start=1):
            blocks: list[tuple[np.ndarray, ...]] = []
            words: list[bytes] = []
            if title.split() == [TITLE % order]:
                for rows in _rows(file, size, order):
                    words += rows[1] if order == 1 else []
                    columns = [[ids.get(word, -1) for word in column] for column in rows[1:-1]]
                    blocks.append((rows[0], rows[-1], np.array(columns, np.int32).T))
                title = next((line for line in file if not line.isspace()), b"")
            elif size:
                raise ValueError
            none = np.zeros(0, np.float32)
            logprob, backoff = (np.concatenate([none, *(b[i] for b in blocks)]) for i in (0, 1))
            if order == 1:
                vocabulary, ids = _vocabulary(path, words, logprob, left_out, normalise)
                column = np.array([[ids.get(word, -1)] for word in words], np.int32)
            else:
                column = np.concatenate([np.zeros((0, order), np.int32), *(b[2] for b in blocks)])
            section = _Section(column, logprob, backoff)
            _check_numbers(path, order, section, vocabulary)
            sections.append(section)
        if title.split() != [END]:
            raise ValueError
    return vocabulary, sections


def _vocabulary(
    path: Path,
    words: list[bytes],
    logprob: np.ndarray,
    left_out: set[str],
    normalise: Callable[[str], str],
) -> tuple[list[str], dict[bytes, int]]:
    """The words of the graph, sorted, and the id of each word of the file that has one."""
    written = [word.decode() for word in words]
    names = normalised_words(written, logprob.tolist(), normalise)
    vocabulary = sorted(set(names) - {"", BOS, EOS} - left_out)
    if not vocabulary:
        raise UserError(f"language model {path}: no words in it; train it on other text")
    if lost := [word for word, name in zip(written, names, strict=True) if not name]:
        print(
            f"  {len(lost)} words of the language model are left out, because they are another "
            f"word in other characters, or no single word: {', '.join(lost[:5])}"
        )
    number = {word: label for label, word in enumerate([*vocabulary, BOS, EOS], start=1)}
    return vocabulary, {
        word: number[name] for word, name in zip(words, names, strict=True) if name in number
    }


def _check_numbers(path: Path, order: int, section: _Section, words: list[str]) -> None:
    """Refuse numbers that are not finite, and probabilities above 1, where they are used."""
    used = np.all(section.ids >= 0, axis=1)
    begins, ends = (section.ids[:, -1] == len(words) + place for place in (1, 2))
    section.logprob[begins] = 0  # <s> has no probability, whatever is written
    finite = np.isfinite(section.logprob) & (ends | np.isfinite(section.backoff))
    for wrong, text in (
        (used & ~finite, "a number is not finite"),
        (used & (section.logprob > ROUNDING), "its probability is above 1"),
    ):
        for row in np.flatnonzero(wrong)[:1]:
            ngram = " ".join([*words, BOS, EOS][label - 1] for label in section.ids[row])
            raise UserError(
                f"language model {path}: {order}-gram '{ngram}': {text}; build it again"
            )


def _rows(file: Iterator[bytes], size: int, order: int) -> Iterator[list]:
    """Columns of blocks of `size` lines: probability, each word, back-off weight."""
    while size:
        lines = list(itertools.islice(file, min(size, BLOCK_LINES)))
        rows = [fields for fields in map(bytes.split, lines) if fields]
        lengths = set(map(len, rows))
        allowed = {order + 1, order + 2}
        if not lines or not lengths <= allowed or any(line.startswith(b"\\") for line in lines):
            raise ValueError
        size -= len(rows)
        if not rows:
            continue
        if order + 1 in lengths:
            rows = [row if len(row) > order + 1 else [*row, b"0"] for row in rows]
        columns: list = list(zip(*rows, strict=True))
        for end in (0, -1):
            columns[end] = np.array(list(map(float, columns[end])), np.float32)
        yield columns
