"""Word error rate with its uncertainty, and the choice of decoding weights on dev.

The intervals are those of Bisani and Ney, *Bootstrap Estimates for Confidence Intervals in ASR
Performance Evaluation* (2004): utterances are drawn with replacement, so that an interval covers
the choice of speakers and sentences. (kaldialign's own bootstrap answers NaN where no replication
differs from another, as for a test set without errors.)
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import kaldialign
import numpy as np

from acoustic_kd.system.errors import UserError
from acoustic_kd.system.text import read_lines

REPLICATIONS = 10_000
SEED = 0
BLOCK_REPLICATIONS = 500  # drawn together, to bound memory

Transcripts = Mapping[str, Sequence[str]]


@dataclass(frozen=True)
class Score:
    """Word error rate of one system on one test set.

    Attributes:
        percent: 100 · errors / words.
        errors: substitutions + insertions + deletions.
        words: words in the references.
        ci95: bounds, in percent, of the 95 % bootstrap interval.
    """

    percent: float
    errors: int
    words: int
    substitutions: int
    insertions: int
    deletions: int
    ci95: tuple[float, float]


@dataclass(frozen=True)
class Tuning:
    """The weights with the fewest word errors, and the word error rate of all that were tried.

    Attributes:
        table: (LM weight, word insertion penalty) → percent.
    """

    lm_weight: float
    penalty: float
    table: dict[tuple[float, float], float]

    @property
    def edge_settings(self) -> list[str]:
        """Settings whose grid ends at the chosen value, so that a better one may lie beyond it."""
        weights, penalties = (sorted(set(grid)) for grid in zip(*self.table, strict=True))
        chosen = {
            "decode.lm_weights": (self.lm_weight, weights),
            "decode.insertion_penalties": (self.penalty, penalties),
        }
        return [
            setting
            for setting, (best, grid) in chosen.items()
            if len(grid) > 1 and best in (grid[0], grid[-1])
        ]


def score(references: Transcripts, hypotheses: Transcripts) -> Score:
    """Word error rate of `hypotheses`; the same input gives the same interval."""
    return pooled(error_counts(references, hypotheses))


def pooled(counts: np.ndarray) -> Score:
    """The score of `error_counts`, or of their sum over several systems with the same references.

    The percentage of such a sum is the systems' mean; errors and words are totals.
    """
    errors, words, substitutions, insertions, deletions = counts.sum(axis=0).tolist()
    low, high = np.percentile(replicate(counts[:, :1], counts[:, 1]), [2.5, 97.5])
    edits = substitutions, insertions, deletions
    return Score(100 * errors / words, errors, words, *edits, (float(low), float(high)))


def grid_of(lm_weights: Sequence[float], penalties: Sequence[float]) -> list[tuple[float, float]]:
    """All pairs of an LM weight and a word insertion penalty, in the order that `tune` expects."""
    settings = [(weight, penalty) for weight in lm_weights for penalty in penalties]
    if not settings:
        raise UserError("tuning: give at least one LM weight and one word insertion penalty")
    return settings


def tune(
    hypotheses: Mapping[str, Sequence[Sequence[str]]],
    references: Transcripts,
    lm_weights: Sequence[float],
    penalties: Sequence[float],
    join: Callable[[Sequence[str]], list[str]] = list,
) -> Tuning:
    """Find the LM weight and the word insertion penalty with the least WER; on dev, never on test.

    Among equally good settings the one nearest to the middle of the grid wins, then the first.

    Args:
        hypotheses: utterance → labels recognised with each pair of `grid_of`.
        join: makes words of the graph's labels, for instance of pieces.
    """
    settings = grid_of(lm_weights, penalties)
    check_hypotheses(references, hypotheses)
    errors, words = [0] * len(settings), 0
    for name, reference in references.items():
        words += len(reference)
        # Many settings give the same words: each result is compared once.
        known: dict[tuple[str, ...], int] = {}
        for number, labels in zip(range(len(settings)), hypotheses[name], strict=True):
            hypothesis = tuple(labels)
            if hypothesis not in known:
                known[hypothesis] = kaldialign.edit_distance(reference, join(labels))["total"]
            errors[number] += known[hypothesis]
    columns = len(penalties)

    def preference(number: int) -> tuple[int, float, int]:
        row, column = divmod(number, columns)
        # Distances from the middle, as shares of the grid's size.
        distance = abs((2 * row + 1) / len(lm_weights) - 1) ** 2
        distance += abs((2 * column + 1) / columns - 1) ** 2
        return errors[number], round(distance, 9), number

    best = settings[min(range(len(settings)), key=preference)]
    table = {s: 100 * count / words for s, count in zip(settings, errors, strict=True)}
    return Tuning(*best, table)


def read_transcripts(path: Path) -> dict[str, list[str]]:
    """Utterance → words, from Kaldi's text format."""
    lines = (line.split() for _, line in read_lines(path))
    return {fields[0]: fields[1:] for fields in lines}


def error_counts(references: Transcripts, hypotheses: Transcripts) -> np.ndarray:
    """[utterances, 5]: errors, reference words, substitutions, insertions, deletions."""
    check_hypotheses(references, hypotheses)
    rows = []
    for name, reference in references.items():
        edits = kaldialign.edit_distance(reference, hypotheses[name])
        rows.append([edits[key] for key in ("total", "ref_len", "sub", "ins", "del")])
    return np.array(rows, dtype=np.int64)


def replicate(errors: np.ndarray, words: np.ndarray) -> np.ndarray:
    """[replications, systems] error rates in percent of utterances drawn with replacement.

    Args:
        errors: [utterances, systems].
        words: [utterances] reference words.
    """
    rng = np.random.default_rng(SEED)
    count = len(words)
    rates = []
    for _ in range(REPLICATIONS // BLOCK_REPLICATIONS):
        times = rng.multinomial(count, np.full(count, 1 / count), size=BLOCK_REPLICATIONS)
        drawn = times @ words
        # Draws of empty references alone have no error rate.
        rates.append(100 * (times @ errors)[drawn > 0] / drawn[drawn > 0, None])
    return np.concatenate(rates)


def check_hypotheses(references: Transcripts, hypotheses: Mapping[str, object]) -> None:
    """Raise a UserError if a reference has no hypothesis, or the references have no words."""
    missing = [name for name in references if name not in hypotheses]
    if missing:
        more = f" and {len(missing) - 3} more" if len(missing) > 3 else ""
        raise UserError(
            f"scoring: no hypothesis for {', '.join(missing[:3])}{more}; "
            "decode these utterances, or leave them out of the references"
        )
    if not any(len(reference) for reference in references.values()):
        raise UserError("scoring: the references have no words; check the test set")
