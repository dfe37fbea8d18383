"""N-gram language models by interpolated modified Kneser-Ney smoothing, written as ARPA files.

Chen and Goodman, *An Empirical Study of Smoothing Techniques for Language Modeling* (1998),
section 4.1.6; the adjusted counts and the fallback for degenerate counts of counts are those of
Heafield et al., *Scalable Modified Kneser-Ney Language Model Estimation* (2013).

    p(w | h) = (c(hw) - D(c(hw))) / c(h·) + gamma(h) p(w | h'),    h' = h without its first word

where c is the raw count at the highest order and for n-grams that begin with <s>, and otherwise
the number of different words before the n-gram.

An n-gram is identified by the pair (number of its first n - 1 words, last word), so that every step
is a NumPy operation on whole arrays, for any order.
"""

from array import array
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from acoustic_kd.language.arpa import BOS, EOS, write_arpa
from acoustic_kd.language.pruning import prune
from acoustic_kd.system.errors import UserError

FALLBACK_DISCOUNTS = (0.5, 1.0, 1.5)  # KenLM's, for counts too few to estimate from
BOS_ID, EOS_ID = 0, 1


@dataclass
class Ngrams:
    """All G n-grams of one order, in lexicographic order of their word ids.

    So `prefix * (vocabulary + 1) + word` rises, and bisection finds an n-gram.

    Attributes:
        prefix, suffix: [G] numbers, one order below, of the first and the last n - 1 words.
        word: [G] id of the last word.
        raw: [G] number of occurrences.
        first_is_bos, has_oov: [G] bool.
        count: [G] adjusted counts (see above).
    """

    prefix: np.ndarray
    suffix: np.ndarray
    word: np.ndarray
    raw: np.ndarray
    first_is_bos: np.ndarray
    has_oov: np.ndarray
    count: np.ndarray


def train_lm(
    sentences: Iterable[Sequence[str]],
    vocabulary: Iterable[str],
    path: Path,
    order: int = 3,
    min_counts: Sequence[int] | None = None,
    threshold: float | None = None,
) -> list[int]:
    """Train an n-gram model on `sentences` and write it to `path` in ARPA format.

    The vocabulary is closed: every word of it gets a probability, seen or not, and n-grams with
    other words are left out (the model has no <unk>). The same input gives the same file.

    Args:
        sentences: lists of words, without <s> and </s>; read once.
        vocabulary: the words to predict.
        order: length of the longest n-grams.
        min_counts: for each order, the least count of n-grams to keep (first: 1; never falling);
            the back-off gets the probability of the others. Default: keep all.
        threshold: prune an n-gram if the perplexity grows by less than this share without it
            (`pruning`). Default: keep all.

    Returns:
        The number of n-grams of each order, up to the highest that has any.
    """
    words = [BOS, EOS, *sorted(set(vocabulary) - {BOS, EOS})]
    min_counts = list(min_counts or [1] * order)
    tokens, ends = _encode(sentences, words)
    orders = _count(tokens, ends, len(words), order)
    if not orders[0].count[EOS_ID + 1 : len(words)].any():
        raise UserError(
            "language model: no training sentence has a word of the vocabulary; "
            "check the text (upper or lower case?) and the lexicon"
        )
    kept = [~o.has_oov & (o.raw >= m) for o, m in zip(orders, min_counts, strict=True)]
    kept[0] = ~orders[0].has_oov
    probabilities, backoffs = _probabilities(orders, kept)
    if threshold is not None:
        predictions = len(tokens) - orders[0].raw[BOS_ID]
        kept, backoffs = prune(orders, kept, probabilities, backoffs, threshold, predictions)
    while not kept[-1].any():  # ARPA files have no empty orders
        kept.pop()
    write_arpa(
        path,
        words,
        [_word_ids(orders, n, keep) for n, keep in enumerate(kept)],
        [np.log10(p[keep]) for p, keep in zip(probabilities, kept, strict=False)],
        [np.log10(b[keep]) for b, keep in zip(backoffs, kept[:-1], strict=False)],
    )
    return [int(np.count_nonzero(keep)) for keep in kept]


def discounts(counts: np.ndarray) -> np.ndarray:
    """D(0), D(1), D(2), D(3 and more) from adjusted counts (Chen and Goodman, equation 26)."""
    n1, n2, n3, n4 = (int(np.count_nonzero(counts == c)) for c in (1, 2, 3, 4))
    if min(n1, n2, n3, n4) > 0:
        y = n1 / (n1 + 2 * n2)
        estimated = (1 - 2 * y * n2 / n1, 2 - 3 * y * n3 / n2, 3 - 4 * y * n4 / n3)
        if min(estimated) > 0:
            return np.array([0.0, *estimated])
    return np.array([0.0, *FALLBACK_DISCOUNTS])


def kneser_ney(
    sentences: Iterable[Sequence[str]], vocabulary: Iterable[str], order: int
) -> tuple[list[Ngrams], list[np.ndarray], list[np.ndarray]]:
    """Train the model of `train_lm` as arrays instead of a file.

    Word ids: <s> is BOS_ID, </s> is EOS_ID, and the vocabulary follows in sorted order.

    Returns:
        the n-grams of each order, the probability of each, and its back-off weight (none at the
        highest order).
    """
    words = [BOS, EOS, *sorted(set(vocabulary) - {BOS, EOS})]
    orders = _count(*_encode(sentences, words), len(words), order)
    return orders, *_probabilities(orders, [~ngrams.has_oov for ngrams in orders])


def _encode(sentences: Iterable[Sequence[str]], words: list[str]) -> tuple[np.ndarray, np.ndarray]:
    """Word ids of all sentences, each as <s> … </s>, and for each id the index of its </s>.

    Words outside the vocabulary have the id `len(words)`.
    """
    ids = {word: number for number, word in enumerate(words)}
    oov = len(words)
    tokens, lengths = array("i"), array("i")
    for sentence in sentences:
        tokens.append(BOS_ID)
        tokens.extend([ids.get(word, oov) for word in sentence])
        tokens.append(EOS_ID)
        lengths.append(len(sentence) + 2)
    if not lengths:
        raise UserError("language model: no training sentences")
    ends = np.cumsum(lengths) - 1
    return np.array(tokens, np.int64), np.repeat(ends, lengths)


def _count(tokens: np.ndarray, ends: np.ndarray, num_words: int, order: int) -> list[Ngrams]:
    """Number and count the n-grams of each order up to `order`."""
    size = num_words + 1  # with the id of words outside the vocabulary
    ids = np.arange(size)
    raw = np.bincount(tokens, minlength=size)
    zero = np.zeros(size, np.int64)
    orders = [Ngrams(zero, zero, ids, raw, ids == BOS_ID, ids == num_words, raw.copy())]
    positions, numbers = np.arange(len(tokens)), tokens
    for n in range(2, order + 1):
        inside = positions + n - 1 <= ends[positions]
        suffixes = np.append(numbers[1:], -1)[inside]  # the shorter n-gram one to the right
        positions, below = positions[inside], orders[-1]
        keys = numbers[inside] * size + tokens[positions + n - 1]
        unique, first, numbers, raw = np.unique(
            keys, return_index=True, return_inverse=True, return_counts=True
        )
        prefix, word = unique // size, unique % size
        suffix = suffixes[first]
        bos, oov = below.first_is_bos[prefix], below.has_oov[prefix] | (word == num_words)
        orders.append(Ngrams(prefix, suffix, word, raw, bos, oov, raw.copy()))
        left_words = np.bincount(suffix, minlength=len(below.word))
        below.count = np.where(below.first_is_bos, below.raw, left_words)
    orders[0].count[BOS_ID] = 0  # <s> is never predicted
    return orders


def _word_ids(orders: list[Ngrams], n: int, keep: np.ndarray) -> np.ndarray:
    """int32 [G, n + 1]: the words of those n-grams of `orders[n]` that are kept."""
    numbers = np.flatnonzero(keep)
    columns = []
    for ngrams in orders[n::-1]:
        columns.append(ngrams.word[numbers].astype(np.int32))
        numbers = ngrams.prefix[numbers]
    return np.stack(columns[::-1], axis=1)


def _probabilities(
    orders: list[Ngrams], kept: list[np.ndarray]
) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """Probability and back-off weight of every n-gram, one array [G] an order."""
    words = kept[0] & ~orders[0].first_is_bos
    lower = np.full(1, 1 / np.count_nonzero(words))  # order 0: uniform
    probabilities, backoffs = [], []
    for ngrams, keep in zip(orders, kept, strict=True):
        counts = np.where(ngrams.has_oov, 0, ngrams.count)
        discount = discounts(counts)[np.minimum(counts, 3)]
        discounted = np.where(keep, counts - discount, 0.0)
        total = np.bincount(ngrams.prefix, counts, minlength=len(lower))
        seen = np.maximum(total, 1)
        freed = total - np.bincount(ngrams.prefix, discounted, minlength=len(lower))
        gamma = np.where(total > 0, freed / seen, 1.0)
        backoffs.append(gamma)
        lower = discounted / seen[ngrams.prefix] + gamma[ngrams.prefix] * lower[ngrams.suffix]
        probabilities.append(lower)
    probabilities[0][BOS_ID] = 1e-99
    return probabilities, [*backoffs[1:], np.empty(0)]
