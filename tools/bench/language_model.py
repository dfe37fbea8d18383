#!/usr/bin/env python3
"""Training time, memory, size and perplexity of n-gram models on a text.

The last lines of the text are held out; each row is a model of the rest, ORDER[:COUNTS[:PRUNE]] as
in `--rows 3 3:1,1,2 3::1e-8`: order, least counts, pruning; n-grams kept; perplexity of the
held-out lines without words that the rest lacks; seconds and peak memory of training (counting,
reading and writing the ARPA file included), in a process that does nothing else. With KenLM's
`--lmplz PROGRAM` (built from its source), models without pruning are also compared: the largest
difference of log10 probabilities.
"""

import subprocess
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import NamedTuple

from arpa_model import perplexity

import bench
from acoustic_kd.decoding.graph.compile import peak_memory
from acoustic_kd.language.arpa import iterate_arpa
from acoustic_kd.language.ngrams import train_lm
from acoustic_kd.language.text import TextFile, most_frequent
from acoustic_kd.system.errors import UserError

ROWS = ("3", "3:1,1,2", "3::1e-8", "3::3e-8", "3::1e-7", "3:1,1,2:1e-8", "4", "4::1e-8")
COLUMNS = {
    "order": "order", "counts": "least counts", "prune": "pruned|g", "by_order": "n-grams by order",
    "arpa_mb": "ARPA MB|.0f", "perplexity": "perplexity|.1f", "seconds": "seconds|.0f",
    "peak_gib": "GiB|.2f",
}  # fmt: skip


def measure(
    text: Path,
    *,
    held_out: int = 20_000,
    vocabulary: int | None = None,
    rows: Sequence[str] = ROWS,
    lmplz: str | None = None,
) -> Iterator[bench.Row]:
    """Yield a row for each model; print the size of the text before, differences after."""
    models = [Model.parse(row) for row in rows]
    sentences = sum(1 for _ in TextFile(text))
    if not 0 < held_out < sentences:
        raise UserError(
            f"--held-out is {held_out}; it must be from 1 to {sentences - 1}, because {text} has "
            f"{sentences} sentences"
        )
    border = sentences - held_out
    train_text, test_text = Lines(text, 0, border), Lines(text, border, None)
    differences = []
    for number, model in enumerate(models):
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "lm.arpa"
            row = bench.in_new_process(train, model, train_text, vocabulary, path)
            row |= bench.in_new_process(evaluate, path, test_text)
            if lmplz and not vocabulary and model[1:] == (None, None):
                arguments = lmplz, model.order, train_text, path
                row["difference"] = bench.in_new_process(difference, *arguments)
                differences.append(
                    f"order {model.order}: to lmplz at most {row['difference']:.1e} in log10"
                )
        if number == 0:
            print(
                f"{row['words_of_text']:,} words, {row['vocabulary']:,} different; held out "
                f"{row['predicted'] + row['unknown']:,} with sentence ends, {row['unknown']:,} of "
                "them unknown\n"
            )
        yield row
    for line in differences:
        print(line)


class Model(NamedTuple):
    """What a row of the table trains."""

    order: int
    min_counts: list[int] | None
    prune: float | None

    @classmethod
    def parse(cls, text: str) -> "Model":
        """Read ORDER[:COUNTS[:PRUNE]], as in `3:1,1,2:1e-8`; COUNTS may be empty."""
        try:
            order, counts, prune = (*text.split(":"), "", "")[:3]
            numbers = [int(count) for count in counts.split(",")] if counts else None
            return cls(int(order), numbers, float(prune) if prune else None)
        except ValueError:
            raise UserError(f"--rows {text}: write ORDER[:COUNTS[:PRUNE]]") from None


class Lines:
    """The sentences of a text from number `start` on, before number `stop`."""

    def __init__(self, path: Path, start: int, stop: int | None) -> None:
        self.path, self.start, self.stop = path, start, stop

    def __iter__(self) -> Iterator[list[str]]:
        return islice(TextFile(self.path), self.start, self.stop)


def train(model: Model, text: Lines, vocabulary: int | None, path: Path) -> bench.Row:
    """Train a model; returns its size and cost."""
    begin, before = time.perf_counter(), peak_memory()
    counts = Counter(word for sentence in text for word in sentence)
    words = most_frequent(counts, vocabulary)
    ngrams = train_lm(text, words, path, model.order, model.min_counts, model.prune)
    return model._asdict() | {
        "counts": " ".join(map(str, model.min_counts)) if model.min_counts else None,
        "by_order": " + ".join(f"{number:,}" for number in ngrams),
        "words_of_text": counts.total(),
        "vocabulary": len(words),
        "ngrams": ngrams,
        "seconds": round(time.perf_counter() - begin, 1),
        "peak_gib": round(peak_memory() / 2**30, 2),
        "peak_gib_before": round(before / 2**30, 2),
        "arpa_mb": round(path.stat().st_size / 1e6, 1),
    }


def evaluate(path: Path, text: Lines) -> bench.Row:
    """Perplexity of an ARPA file on sentences."""
    result = perplexity(path, text)
    return {"perplexity": result.value, "predicted": result.words, "unknown": result.oov}


def difference(program: str, order: int, text: Lines, path: Path) -> float:
    """The largest difference of log10 probabilities from the model that KenLM's lmplz trains."""
    with tempfile.TemporaryDirectory() as folder:
        source, arpa = Path(folder, "text"), Path(folder, "arpa")
        with source.open("w", encoding="utf-8") as file:
            file.writelines(" ".join(sentence) + "\n" for sentence in text)
        command = [program, "-o", str(order), "-S", "1G", "-T", folder, "--discount_fallback"]
        with source.open("rb") as file, arpa.open("wb") as out:
            subprocess.run(  # noqa: S603
                command, stdin=file, stdout=out, stderr=subprocess.DEVNULL, check=True
            )
        expected = {entry.words: entry.logprob for entry in iterate_arpa(arpa)}
    actual = {entry.words: entry.logprob for entry in iterate_arpa(path)}
    if expected.keys() - actual.keys() - {("<unk>",)} or actual.keys() - expected.keys():
        raise ValueError("the two models differ in their n-grams")
    return max(abs(log - expected[words]) for words, log in actual.items() if words != ("<s>",))


if __name__ == "__main__":
    bench.main(measure, COLUMNS)
