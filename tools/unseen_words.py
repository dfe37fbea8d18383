#!/usr/bin/env python3
"""How many test words that no text had came out right: what an open vocabulary is worth.

For finished experiments, such as one with words and others with pieces of several sizes
(docs/lexicon-and-lm.md). A word is new if neither the train transcripts nor --text has it.

usage: tools/unseen_words.py EXP_DIR … [--text FILE] [--system NAME]
"""

import argparse
import sys
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path

import kaldialign

from acoustic_kd.corpora.utterances import read_manifest
from acoustic_kd.decoding.scoring import Transcripts, read_transcripts
from acoustic_kd.experiment.stages import open_experiment
from acoustic_kd.experiment.words import normaliser
from acoustic_kd.language.text import TextFile
from acoustic_kd.system.errors import UserError

NOTHING = "***"


@dataclass(frozen=True)
class Unseen:
    """Of one test set.

    Attributes:
        words, errors: all of the references, and word errors.
        new, right: new words in the references, and how many of them came out.
        made: new words that came out, rightly or not.
    """

    words: int
    errors: int
    new: int
    right: int
    made: int


def count(references: Transcripts, found: Transcripts, known: Collection[str]) -> Unseen:
    """Count, word aligned with word."""
    pairs = [
        pair
        for name, reference in references.items()
        for pair in kaldialign.align(list(reference), list(found[name]), NOTHING)
    ]
    new = [(said, heard) for said, heard in pairs if said != NOTHING and said not in known]
    return Unseen(
        words=sum(said != NOTHING for said, _ in pairs),
        errors=sum(said != heard for said, heard in pairs),
        new=len(new),
        right=sum(said == heard for said, heard in new),
        made=sum(heard != NOTHING and heard not in known for _, heard in pairs),
    )


def of_experiment(folder: Path, system: str, text: Collection[str]) -> Unseen:
    """Count in the test transcripts of one system of an experiment."""
    train, test = (
        read_manifest(folder / "corpus" / f"{split}.jsonl") for split in ("train", "test")
    )
    known = {word for utterance in train for word in (utterance.text or "").split()}.union(text)
    found = read_transcripts(folder / "decode" / system / "test.txt")
    references = {u.id: (u.text or "").split() for u in test if u.id in found}
    return count(references, found, known)


def row(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("experiments", nargs="+", type=Path, metavar="EXP_DIR")
    parser.add_argument("--text", type=Path, help="what the language models have learnt from, too")
    parser.add_argument("--system", default="distilled-01", help="a folder of EXP_DIR/decode")
    options = parser.parse_args()
    titles = ("experiment", "WER", "new words", "of them right", "new words written")
    print(row(titles), row(["---"] * len(titles)), sep="\n")
    try:
        for folder in options.experiments:
            text: set[str] = set()
            if options.text:
                normalise = normaliser(open_experiment(folder, "graph").config)
                text = set(TextFile(options.text, "--text", normalise).counts())
            found = of_experiment(folder, options.system, text)
            new = f"{found.new} ({found.new / max(found.words, 1):.1%})"
            right = f"{found.right} ({found.right / max(found.new, 1):.0%})"
            wer = f"{found.errors / max(found.words, 1):.1%}"
            print(row([folder.name, wer, new, right, str(found.made)]))
    except UserError as error:
        print(f"{parser.prog}: error: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
