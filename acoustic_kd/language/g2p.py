"""Grapheme-to-phoneme conversion: probable pronunciations of words that the lexicon lacks.

Bisani and Ney, *Joint-Sequence Models for Grapheme-to-Phoneme Conversion* (2008): the words of a
lexicon, cut into units of letters and phones (`g2p_alignment`), are the sentences of an n-gram
model over units, here with modified Kneser-Ney smoothing. The pronunciations of a new word are the
phones of the probable sentences whose letters spell it (`g2p_search`).
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from acoustic_kd.language.g2p_alignment import Unit, align
from acoustic_kd.language.g2p_search import FIRST_UNIT, Guess, search
from acoustic_kd.language.lexicon import Lexicon
from acoustic_kd.language.ngrams import kneser_ney
from acoustic_kd.system.errors import UserError
from acoustic_kd.system.files import TEMPORARY, json_sha256
from acoustic_kd.system.tensors import load_tensors, save_tensors

ORDER = 6  # units; docs/lexicon-and-lm.md
BEAM = 16  # hypotheses of a word at each letter; 32 give no significantly better result
G2P_FORMAT = 1  # raised when the same lexicon gives another model
WORDS_PER_BATCH = 500
ARRAYS = ("keys", "suffix", "logprob", "backoff")


@dataclass(frozen=True)
class GraphoneModel:
    """An n-gram model over units.

    The G n-grams of each order are numbered from 0; see `ngrams.Ngrams`.

    Attributes:
        units: the vocabulary; unit u has the word id u + FIRST_UNIT.
        keys: for each order from 2 up, int64 [G], rising: (number of the prefix) × size + last id.
        suffix: for each order from 1 up, int32 [G]: number of the n-gram without its first unit,
            one order below.
        logprob: for each order from 1 up, float32 [G], natural logarithms.
        backoff: for each order below the highest, float32 [G], natural logarithms.
    """

    units: list[Unit]
    keys: list[np.ndarray]
    suffix: list[np.ndarray]
    logprob: list[np.ndarray]
    backoff: list[np.ndarray]

    def pronounce(self, words: Sequence[str]) -> list[list[Guess]]:
        """The probable pronunciations of each word, the most probable first.

        Returns:
            A list for each word, of at most BEAM pronunciations; empty if a letter is unknown, or
            if its letters never stand for any phone.
        """
        guesses: list[list[Guess]] = [[] for _ in words]
        letters = {letter for unit in self.units for letter in unit.letters}
        known = [row for row, word in enumerate(words) if word and set(word) <= letters]
        for start in range(0, len(known), WORDS_PER_BATCH):
            rows = known[start : start + WORDS_PER_BATCH]
            for row, guess in zip(rows, search(self, [words[r] for r in rows], BEAM), strict=True):
                guesses[row] = guess
        return guesses

    def extend(
        self, depth: np.ndarray, context: np.ndarray, word: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """The log probability of a word id after a context, and the next context.

        Args:
            depth: int64 [H], the order of the context as an n-gram, below the model's.
            context: int64 [H], the number of the context.
            word: int64 [H], the next word id.

        Returns:
            Log probability, float32 [H], and depth and number of the next context, int64 [H].
        """
        highest, size = len(self.logprob), len(self.units) + FIRST_UNIT + 1
        score = np.zeros(len(word), np.float32)
        depth, context = depth.copy(), context.copy()
        next_depth, next_context = np.ones_like(depth), word.copy()
        for n in range(highest - 1, 0, -1):
            rows = np.flatnonzero(depth == n)
            keys = self.keys[n - 1]
            wanted = context[rows] * size + word[rows]
            number = np.minimum(np.searchsorted(keys, wanted), len(keys) - 1)
            is_known = keys[number] == wanted
            known, number = rows[is_known], number[is_known]
            score[known] += self.logprob[n][number]
            depth[known] = -1  # finished
            is_longest = n + 1 == highest  # a context is shorter than the longest n-grams
            next_depth[known] = n if is_longest else n + 1
            next_context[known] = self.suffix[n][number] if is_longest else number
            unknown = rows[~is_known]
            score[unknown] += self.backoff[n - 1][context[unknown]]
            depth[unknown] = n - 1
            context[unknown] = self.suffix[n - 1][context[unknown]]
        without_context = depth == 0
        score[without_context] += self.logprob[0][word[without_context]]
        return score, next_depth, next_context

    def write(self, path: Path, made_from: str) -> None:
        """Write the model as safetensors; the same model gives the same bytes.

        Args:
            made_from: digest of the lexicon and of the settings, for `read_model`.
        """
        tensors = {
            f"{name}.{n}": array
            for name in ARRAYS
            for n, array in enumerate(getattr(self, name), start=1)
        }
        units = [[unit.letters, *unit.phones] for unit in self.units]
        save_tensors(path, tensors, {"model": json.dumps([made_from, units])})


def train_model(lexicon: Lexicon, order: int = ORDER) -> GraphoneModel:
    """Train on every pronunciation of a lexicon; the same lexicon gives the same model.

    Args:
        order: of the n-gram model, 2 or more.
    """
    rows = [(word, phones) for word in sorted(lexicon.entries) for phones in lexicon[word]]
    cuts = [cut for cut in align(rows) if cut is not None]
    if not cuts:
        raise UserError(
            "lexicon: every word has more than two phones a letter; give another lexicon, or "
            "align.unknown_words=exclude"
        )
    units = sorted({unit for cut in cuts for unit in cut})
    names = {unit: f"{number:08d}" for number, unit in enumerate(units)}  # sorted like the units
    sentences = [[names[unit] for unit in cut] for cut in cuts]
    orders, probabilities, backoffs = kneser_ney(sentences, names.values(), order)
    size = len(units) + FIRST_UNIT + 1
    return GraphoneModel(
        units,
        [ngrams.prefix * size + ngrams.word for ngrams in orders[1:]],
        [ngrams.suffix.astype(np.int32) for ngrams in orders],
        [_log(probability) for probability in probabilities],
        [_log(backoff) for backoff in backoffs[:-1]],
    )


def _log(values: np.ndarray) -> np.ndarray:
    return np.log(np.maximum(values, 1e-30)).astype(np.float32)


def read_model(path: Path, made_from: str) -> GraphoneModel | None:
    """Read a file of `GraphoneModel.write`; None if missing, damaged or made from other input."""
    try:
        tensors, metadata = load_tensors(path, "np")
        digest, rows = json.loads(metadata["model"])
        names = sorted(tensors, key=lambda name: int(name.partition(".")[2]))
        arrays = {
            part: [tensors[name] for name in names if name.startswith(f"{part}.")]
            for part in ARRAYS
        }
    except (UserError, TypeError, KeyError, ValueError):
        return None
    units = [Unit(letters, tuple(phones)) for letters, *phones in rows]
    return GraphoneModel(units, **arrays) if digest == made_from else None


def cached_model(lexicon: Lexicon, path: Path) -> GraphoneModel:
    """The model of a lexicon: read from `path`, or trained and written there.

    The folder of `path` must hold nothing else, and no other process may use it.
    """
    made_from = json_sha256([G2P_FORMAT, ORDER, list(lexicon.entries.items())])
    model = read_model(path, made_from)
    if model is None:
        for half_written in path.parent.glob(TEMPORARY):  # a killed process left it
            half_written.unlink()
        model = train_model(lexicon)
        model.write(path, made_from)
    return model
