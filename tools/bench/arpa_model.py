"""A back-off language model as dictionaries: for tests and measurements, not for speed."""

import math
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from acoustic_kd.language.arpa import BOS, EOS, iterate_arpa


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
    """Read an ARPA file."""
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
