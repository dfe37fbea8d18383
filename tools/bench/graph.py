#!/usr/bin/env python3
"""Cost of building decoding graphs, by size of the vocabulary.

For each size: the most frequent words of a text that the lexicon has, a trigram model of them
(trigrams seen --min-count times or more), and its graph: n-grams, states, arcs, megabytes on disk,
seconds, and the peak memory of a process that does nothing else. The graph does not depend on
speech, so its senones come from a random tree with a fixed seed.
"""

import gzip
import tempfile
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

import bench
from acoustic_kd.decoding.graph.compile import build_graph
from acoustic_kd.language.lexicon import SILENCE, read_lexicon
from acoustic_kd.language.ngrams import train_lm

LEFT_QUESTION_SHARE = (0.8, 0.5, 0.2)  # of each HMM state's questions: about the left phone
COLUMNS = {
    "words": "words|,", "ngrams": "n-grams|,", "states": "states|,", "arcs": "arcs|,",
    "megabytes": "MB|,", "seconds": "seconds|,", "peak_gib": "peak GiB|,",
}  # fmt: skip


def measure(
    *,
    text: Path,
    lexicon: Path,
    words: Sequence[int] = (5000, 10000, 20000, 40000),
    min_count: int = 2,
    senones: int = 5000,
) -> Iterator[bench.Row]:
    """Yield a row for each size of the vocabulary."""
    for size in words:
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name)
            bench.in_new_process(train, text, lexicon, size, min_count, folder / "lm.arpa")
            yield bench.in_new_process(build, lexicon, senones, folder)


def train(text: Path, lexicon_path: Path, size: int, min_count: int, out: Path) -> None:
    """Train the trigram model of a vocabulary."""
    lexicon = read_lexicon(lexicon_path)
    with gzip.open(text, "rt", encoding="utf-8") as file:
        sentences = [line.upper().split() for line in file]
    counts = Counter(word for words in sentences for word in words if word in lexicon)
    vocabulary = [word for word, count in counts.most_common(size) if count > 1]
    train_lm(sentences, vocabulary, out, 3, [1, 1, min_count])


def build(lexicon_path: Path, senones: int, folder: Path) -> bench.Row:
    """Build the graph; returns its size and cost."""
    lexicon = read_lexicon(lexicon_path)
    inventory = random_senones(lexicon.phones(), senones)
    return build_graph(lexicon, folder / "lm.arpa", inventory, folder)


@dataclass(frozen=True)
class Senones:
    """The fields of a senone inventory that graphs need."""

    phones: tuple[str, ...]
    table: np.ndarray
    num_senones: int


def random_senones(phones: list[str], count: int, seed: int = 0) -> Senones:
    """Split the contexts of every phone and state at random until there are `count` senones."""
    rng = np.random.default_rng(seed)
    everything = np.arange(len(phones) + 1)
    leaves = [
        (phone, state, everything, everything) for phone in everything[1:] for state in range(3)
    ]
    while len(leaves) < count - 3:
        chosen = int(rng.integers(len(leaves)))
        phone, state, *sides = leaves[chosen]
        side = int(rng.random() >= LEFT_QUESTION_SHARE[state])
        yes = rng.random(len(sides[side])) < 0.5
        if yes.all() or not yes.any():
            continue
        no_sides = list(sides)
        no_sides[side], sides[side] = sides[side][~yes], sides[side][yes]
        leaves[chosen] = (phone, state, *sides)
        leaves.append((phone, state, *no_sides))
    table = np.zeros((len(everything),) * 3 + (3,), np.int32)
    table[:, 0] = [0, 1, 2]
    for senone, (phone, state, left, right) in enumerate(leaves, start=3):
        table[np.ix_(left, [phone], right, [state])] = senone
    return Senones((SILENCE, *phones), table, len(leaves) + 3)


if __name__ == "__main__":
    bench.main(measure, COLUMNS)
