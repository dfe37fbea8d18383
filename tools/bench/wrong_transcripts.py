#!/usr/bin/env python3
"""How well a flat start tells wrong transcripts: scores of utterances with others' transcripts.

Of an experiment aligned with align.method=flat, each utterance of a split is scored with its own
transcript, with that of another of about as many words, and with its first word alone. What counts
as an outlier is judged by the scores of train, as in the align stage.

usage: tools/bench/wrong_transcripts.py EXP_DIR [--split dev] [--utterances 100]
"""

import argparse
from itertools import islice
from pathlib import Path

import numpy as np
import torch

from acoustic_kd.alignment.gmm_aligner import FlatAligner, lowest_score, read_iteration
from acoustic_kd.alignment.segmentation import AlignmentFailure
from acoustic_kd.alignment.senones import monophones
from acoustic_kd.alignment.tree import cepstra
from acoustic_kd.alignment.viterbi import Transcripts
from acoustic_kd.corpora.utterances import SPLITS, read_manifest
from acoustic_kd.experiment.outputs import normalised
from acoustic_kd.experiment.stages import open_experiment
from acoustic_kd.experiment.words import spoken_words
from acoustic_kd.language.lexicon import SILENCE, read_lexicon
from acoustic_kd.system.files import read_jsonl


def aligner_of(directory: Path) -> FlatAligner:
    """The one that aligned an experiment."""
    corpus = directory / "corpus"
    splits = {split: read_manifest(corpus / f"{split}.jsonl") for split in SPLITS}
    lexicon = read_lexicon(corpus / "lexicon.txt").restricted_to(set(spoken_words(splits)))
    found = read_iteration(directory / "align" / "flat" / "model.safetensors")
    inventory = monophones((SILENCE, *lexicon.phones()))
    return FlatAligner(found.mixtures, Transcripts(lexicon, inventory, found.durations))


def another(name: str, texts: dict[str, list[str]], number: int) -> list[str]:
    """The transcript of another utterance, of as many words give or take one."""
    own = texts[name]
    alike = [t for t in texts.values() if t != own and abs(len(t) - len(own)) <= 1]
    return alike[7 * number % len(alike)] if alike else []


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("experiment", type=Path, metavar="EXP_DIR")
    parser.add_argument("--split", default="dev")
    parser.add_argument("--utterances", type=int, default=100)
    options = parser.parse_args()
    torch.set_num_threads(1)
    directory, split = options.experiment, options.split
    experiment, aligner = open_experiment(directory, "align"), aligner_of(directory)
    manifest = read_manifest(directory / "corpus" / f"{split}.jsonl")
    texts = {u.id: u.text.split() for u in manifest if u.text}
    rows = read_jsonl(directory / "align" / "flat" / "scores.jsonl")
    train = np.array([row["score"] for row in rows if row["split"] == "train"])
    scores: dict[str, list[float]] = {"its own": [], "another's": [], "its first word": []}
    frames = (u for u in normalised(experiment, split) if u.id in texts)
    for number, utterance in enumerate(islice(frames, options.utterances)):
        own, heard = texts[utterance.id], cepstra(utterance.features)
        said = [own, another(utterance.id, texts, number), own[:1] if len(own) > 3 else []]
        for found, words in zip(scores.values(), said, strict=True):
            try:
                path, _, loglikes = aligner.align(words, heard)
                found.append(aligner.score(path, loglikes))
            except AlignmentFailure:  # no such transcript, or it is too long
                continue
    spreads = experiment.config.align.outlier_threshold or 6.0
    print(f"{'transcript':<16}{'utterances':>11}{'outliers':>10}{'median score':>14}")
    for name, found in scores.items():
        outliers = np.array(found) < lowest_score(train, spreads)
        median = np.median(found) if found else np.nan
        print(f"{name:<16}{len(found):>11}{np.count_nonzero(outliers):>10}{median:>14.2f}")


if __name__ == "__main__":
    main()
