"""A readable listing of errors: totals, each utterance aligned, the most frequent confusions."""

from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import kaldialign

from acoustic_kd.decoding.scoring import Transcripts, check_hypotheses, error_counts
from acoustic_kd.system.files import write_text

GAP = "***"  # opposite an inserted or a deleted word
MAX_LINE_COLUMNS = 100
MAX_LISTED_CONFUSIONS = 30  # of each kind of error

Pairs = list[tuple[str, str]]  # reference and hypothesis


def write_alignments(path: Path, references: Transcripts, hypotheses: Transcripts) -> None:
    """Write the totals, one block an utterance, and the most frequent confusions."""
    check_hypotheses(references, hypotheses)
    aligned = {
        name: kaldialign.align(list(reference), list(hypotheses[name]), GAP)
        for name, reference in references.items()
    }
    blocks = [_totals(references, hypotheses)]
    blocks += [_block(name, len(references[name]), pairs) for name, pairs in aligned.items()]
    wrong = Counter(pair for pairs in aligned.values() for pair in pairs if pair[0] != pair[1])
    write_text(path, "\n".join([*blocks, *_confusions(wrong)]))


def _totals(references: Transcripts, hypotheses: Transcripts) -> str:
    counts = error_counts(references, hypotheses)
    errors, words, substitutions, insertions, deletions = counts.sum(axis=0).tolist()
    right = int((counts[:, 0] == 0).sum())
    return (
        f"WER {100 * errors / words:.2f} %: {errors} errors in {words} words "
        f"({substitutions} substitutions, {insertions} insertions, {deletions} deletions)\n"
        f"{right} of {len(counts)} utterances without an error\n"
    )


def _mark(pair: tuple[str, str]) -> str:
    reference, hypothesis = pair
    if reference == hypothesis:
        return " "
    return "I" if reference == GAP else "D" if hypothesis == GAP else "S"


def _block(name: str, words: int, pairs: Pairs) -> str:
    lines = [f"{name}: {sum(r != h for r, h in pairs)} errors in {words} words"]
    for part in _wrapped(pairs):
        widths = [max(map(len, pair)) for pair in part]
        rows = {
            "ref": [reference for reference, _ in part],
            "hyp": [hypothesis for _, hypothesis in part],
            "   ": list(map(_mark, part)),
        }
        for title, row in rows.items():
            cells = (word.ljust(width) for word, width in zip(row, widths, strict=True))
            lines.append(" ".join([title, *cells]).rstrip())
    return "\n".join(line for line in lines if line) + "\n"


def _wrapped(pairs: Pairs) -> Iterator[Pairs]:
    """The pairs in lines of at most MAX_LINE_COLUMNS, each with at least one pair."""
    line: Pairs = []
    used = len("ref")
    for pair in pairs:
        width = 1 + max(map(len, pair))
        if line and used + width > MAX_LINE_COLUMNS:
            yield line
            line, used = [], len("ref")
        line.append(pair)
        used += width
    yield line


def _confusions(wrong: Counter[tuple[str, str]]) -> Iterator[str]:
    """A list for each kind of error, the most frequent confusions first, then in sorted order."""
    titles = {"S": "Substitutions", "D": "Deletions", "I": "Insertions"}
    for kind, title in titles.items():
        ranked = sorted((-n, pair) for pair, n in wrong.items() if _mark(pair) == kind)
        rows = [
            f"{-count:6d}  {' -> '.join(word for word in pair if word != GAP)}"
            for count, pair in ranked[:MAX_LISTED_CONFUSIONS]
        ]
        if rows:
            yield "\n".join([f"{title}, the most frequent of {len(ranked)} kinds:", *rows]) + "\n"
