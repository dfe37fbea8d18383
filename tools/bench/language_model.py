#!/usr/bin/env python3
"""How long n-grams take to train on a text, how much memory, how large and how good they are.

The last lines of the text are held out, and each row of the table is a model of the rest: order,
least counts, pruning; seconds and peak memory of training (counting the words, reading, writing the
ARPA file), n-grams kept, and perplexity on what was held out, where words that the rest lacks are
not counted. Each row has a process of its own. With `--lmplz PROGRAM` (KenLM's, from its source),
each row without pruning has the greatest difference to the log10 probabilities in its model, too.

usage: tools/bench/language_model.py TEXT [--held-out LINES] [--vocabulary N] [--json FILE]
           [--rows ORDER[:COUNTS[:PRUNE]] …] [--lmplz PROGRAM]
"""

import argparse
import multiprocessing
import resource
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

from acoustic_kd.language.arpa import iterate_arpa, perplexity
from acoustic_kd.language.ngrams import train_lm
from acoustic_kd.language.text import TextFile, most_frequent
from acoustic_kd.system.errors import UserError
from acoustic_kd.system.files import write_json

ROWS = ["3", "3:1,1,2", "3::1e-8", "3::3e-8", "3::1e-7", "3:1,1,2:1e-8", "4", "4::1e-8"]


class Model(NamedTuple):
    """What a row of the table trains."""

    order: int
    min_counts: list[int] | None
    prune: float | None


class Lines:
    """Some sentences of a text: those from number `start` on, below `stop`."""

    def __init__(self, path: Path, start: int, stop: int | None) -> None:
        self.path, self.start, self.stop = path, start, stop

    def __iter__(self) -> Iterator[list[str]]:
        return islice(TextFile(self.path), self.start, self.stop)


def model_of(text: str) -> Model:
    """ORDER[:COUNTS[:PRUNE]], as `3:1,1,2:1e-8`; counts may be left empty."""
    try:
        order, counts, prune = (*text.split(":"), "", "")[:3]
        numbers = [int(count) for count in counts.split(",")] if counts else None
        return Model(int(order), numbers, float(prune) if prune else None)
    except ValueError:
        raise UserError(f"--rows {text}: expected ORDER[:COUNTS[:PRUNE]]") from None


def alone(function: Callable[..., Any], *arguments: Any) -> Any:
    """What a function gives in a fresh process, whose peak memory is its own."""
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        return pool.apply(function, arguments)


def train(model: Model, text: Lines, vocabulary: int | None, path: Path) -> dict[str, Any]:
    """Train a model; returns what it took."""
    begun, before = time.perf_counter(), _peak()
    counts = Counter(word for sentence in text for word in sentence)
    words = most_frequent(counts, vocabulary)
    numbers = train_lm(text, words, path, model.order, model.min_counts, model.prune)
    return {
        "words_of_text": counts.total(),
        "vocabulary": len(words),
        "ngrams": numbers,
        "seconds": round(time.perf_counter() - begun, 1),
        "peak_gib": round(_peak(), 2),
        "peak_gib_before": round(before, 2),
        "arpa_mb": round(path.stat().st_size / 1e6, 1),
    }


def _peak() -> float:
    """The most memory that this process has had so far, in GiB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20


def held_out(path: Path, text: Lines) -> dict[str, Any]:
    """Perplexity of an ARPA file on sentences."""
    found = perplexity(path, text)
    return {"perplexity": found.value, "predicted": found.words, "unknown": found.oov}


def difference(program: str, model: Model, text: Lines, path: Path) -> float:
    """Between the model at `path` and that of KenLM's lmplz on the same text."""
    if model.prune is not None or model.min_counts is not None:
        raise ValueError("lmplz prunes by other rules")
    with tempfile.TemporaryDirectory() as folder:
        source, made = Path(folder, "text"), Path(folder, "arpa")
        with source.open("w", encoding="utf-8") as file:
            file.writelines(" ".join(sentence) + "\n" for sentence in text)
        command = [program, "-o", str(model.order), "-S", "1G", "-T", folder, "--discount_fallback"]
        with source.open("rb") as file, made.open("wb") as out:
            subprocess.run(  # noqa: S603
                command, stdin=file, stdout=out, stderr=subprocess.DEVNULL, check=True
            )
        theirs = {e.words: e.logprob for e in iterate_arpa(made)}
        ours = {e.words: e.logprob for e in iterate_arpa(path)}
    if theirs.keys() - ours.keys() - {("<unk>",)} or ours.keys() - theirs.keys():
        raise ValueError("the two models have other n-grams")
    return max(abs(log - theirs[gram]) for gram, log in ours.items() if gram != ("<s>",))


HEAD = (
    "| order | least counts | pruned | n-grams by order | ARPA MB | perplexity | seconds | GiB |",
    "|---|---|---|---|---|---|---|---|",
)


def line(row: dict[str, Any]) -> str:
    """The row of the table."""
    counts, prune = row["min_counts"], row["prune"]
    cells = [
        str(row["order"]),
        " ".join(map(str, counts)) if counts else "",
        f"{prune:g}" if prune is not None else "",
        " + ".join(f"{number:,}" for number in row["ngrams"]),
        f"{row['arpa_mb']:.0f}",
        f"{row['perplexity']:.1f}",
        f"{row['seconds']:.0f}",
        f"{row['peak_gib']:.2f}",
    ]
    return f"| {' | '.join(cells)} |"


def main() -> int:
    """Print the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("text", type=Path)
    parser.add_argument("--held-out", type=int, default=20_000, metavar="LINES")
    parser.add_argument("--vocabulary", type=int, metavar="N")
    parser.add_argument("--rows", nargs="+", default=ROWS)
    parser.add_argument("--json", type=Path, metavar="FILE")
    parser.add_argument("--lmplz", metavar="PROGRAM")
    options = parser.parse_args()
    try:
        rows = measure(options)
    except UserError as error:
        print(f"language_model.py: error: {error}", file=sys.stderr)
        return 2
    if options.json is not None:
        write_json(options.json, rows)
    return 0


def measure(options: argparse.Namespace) -> list[dict[str, Any]]:
    """Train and measure every row, printing it."""
    models = [model_of(text) for text in options.rows]
    sentences = sum(1 for _ in TextFile(options.text))
    if not 0 < options.held_out < sentences:
        raise UserError(f"--held-out {options.held_out}: the text has {sentences} sentences")
    border = sentences - options.held_out
    learnt, rest = Lines(options.text, 0, border), Lines(options.text, border, None)
    rows = []
    for model in models:
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "lm.arpa"
            row = model._asdict() | alone(train, model, learnt, options.vocabulary, path)
            row |= alone(held_out, path, rest)
            if options.lmplz and not options.vocabulary and model[1:] == (None, None):
                row["difference"] = alone(difference, options.lmplz, model, learnt, path)
        if not rows:
            print(
                f"{row['words_of_text']:,} words, {row['vocabulary']:,} different; held out "
                f"{row['predicted'] + row['unknown']:,} with sentence ends, {row['unknown']:,} of "
                f"them unknown\n\n{chr(10).join(HEAD)}"
            )
        rows.append(row)
        print(line(row), flush=True)
    for row in rows:
        if "difference" in row:
            print(f"order {row['order']}: to lmplz at most {row['difference']:.1e} in log10")
    return rows


if __name__ == "__main__":
    sys.exit(main())
