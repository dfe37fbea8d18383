#!/usr/bin/env python3
"""What decoding graphs of growing vocabularies cost to build.

For each size, the most frequent words of a text that the lexicon has, a trigram of them (n-grams of
three words that were seen `--min-count` times or more), and its graph: n-grams, states, arcs,
megabytes on disk, seconds, and the peak memory of a process that does nothing else. The graph does
not depend on the speech, so the senones are made up: a tree over the lexicon's phones that is split
by chance, from a seed.

usage: tools/bench/graph.py --text novels.txt.gz --lexicon cmudict.dict [--words 5000 10000 20000
           40000] [--min-count 2] [--senones 5000] [--json FILE]
"""

import argparse
import gzip
import multiprocessing
import shutil
import tempfile
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from tables import Table

from acoustic_kd.decoding.graph.compile import build_graph
from acoustic_kd.language.lexicon import SILENCE, read_lexicon
from acoustic_kd.language.ngrams import train_lm

LEFT_SHARE = (0.8, 0.5, 0.2)  # of a state's questions that are about the phone to the left
COLUMNS = {
    "words": "words|,", "ngrams": "n-grams|,", "states": "states|,", "arcs": "arcs|,",
    "megabytes": "MB|,", "seconds": "seconds|,", "peak_gib": "peak GiB|,",
}  # fmt: skip


@dataclass(frozen=True)
class MadeUpSenones:
    """The fields of a senone inventory that graphs need."""

    phones: tuple[str, ...]
    table: np.ndarray
    num_senones: int


def made_up_senones(phones: list[str], count: int, seed: int = 0) -> MadeUpSenones:
    """Rectangles of contexts, split by chance until there are `count`."""
    rng = np.random.default_rng(seed)
    everything = np.arange(len(phones) + 1)
    leaves = [
        (phone, state, everything, everything) for phone in everything[1:] for state in range(3)
    ]
    while len(leaves) < count - 3:
        chosen = int(rng.integers(len(leaves)))
        phone, state, *sides = leaves[chosen]
        side = int(rng.random() >= LEFT_SHARE[state])
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
    return MadeUpSenones((SILENCE, *phones), table, len(leaves) + 3)


def train(text: Path, lexicon_path: Path, size: int, min_count: int, out: Path) -> None:
    """The trigram of a vocabulary."""
    lexicon = read_lexicon(lexicon_path)
    with gzip.open(text, "rt", encoding="utf-8") as file:
        sentences = [line.upper().split() for line in file]
    counts = Counter(word for words in sentences for word in words if word in lexicon)
    vocabulary = [word for word, count in counts.most_common(size) if count > 1]
    train_lm(sentences, vocabulary, out, 3, [1, 1, min_count])


def build(lexicon_path: Path, senones: int, folder: Path) -> dict:
    """The graph, and what it cost."""
    lexicon = read_lexicon(lexicon_path)
    inventory = made_up_senones(lexicon.phones(), senones)
    return build_graph(lexicon, folder / "lm.arpa", inventory, folder)


def in_a_child(function, *arguments):
    """Call a function in a fresh process, whose peak memory is its own."""
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        return pool.apply(function, arguments)


def main() -> None:
    """Measure, print and write."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--text", type=Path, required=True)
    parser.add_argument("--lexicon", type=Path, required=True)
    parser.add_argument("--words", type=int, nargs="+", default=[5000, 10000, 20000, 40000])
    parser.add_argument("--min-count", type=int, default=2)
    parser.add_argument("--senones", type=int, default=5000)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    with Table(COLUMNS, options.json) as table, tempfile.TemporaryDirectory() as name:
        for size in options.words:
            folder = Path(name) / str(size)
            folder.mkdir()
            arpa = folder / "lm.arpa"
            in_a_child(train, options.text, options.lexicon, size, options.min_count, arpa)
            table.add(in_a_child(build, options.lexicon, options.senones, folder))
            shutil.rmtree(folder)


if __name__ == "__main__":
    main()
