#!/usr/bin/env python3
"""What forced alignment with trained models costs: processor seconds a second of speech.

An experiment's first test utterances are aligned with its ensemble, or with the model that is
named; the transcripts' graphs, the predictions and the search are timed apart.

usage: tools/bench/alignment.py EXP_DIR [MODEL_DIR] [--utterances 100]
"""

import argparse
import time
from itertools import islice
from pathlib import Path

import torch

from acoustic_kd.alignment.senones import read_inventory
from acoustic_kd.alignment.viterbi import alignment_graph, force_align
from acoustic_kd.corpora.utterances import read_manifest
from acoustic_kd.experiment.aligning_models import find_models
from acoustic_kd.experiment.models import Recogniser
from acoustic_kd.features.fbank import SHIFT_SECONDS
from acoustic_kd.features.frames import read_utterances, shard_paths
from acoustic_kd.language.lexicon import read_lexicon
from acoustic_kd.training.ensemble import log_likelihoods


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("experiment", type=Path)
    parser.add_argument("model", nargs="?", help="one model's directory (default: the ensemble)")
    parser.add_argument("--utterances", type=int, default=100)
    options = parser.parse_args()
    torch.set_num_threads(1)
    found = find_models(options.model or str(options.experiment))
    recogniser = Recogniser.read(found.models, found.frames)
    inventory = read_inventory(found.inventory)
    lexicon = read_lexicon(options.experiment / "corpus" / "lexicon.txt")
    manifest = read_manifest(options.experiment / "corpus" / "test.jsonl")
    texts = {utterance.id: utterance.text.split() for utterance in manifest}
    shards = shard_paths(options.experiment / "frames" / "test")
    utterances = (u for path in shards for u in read_utterances(path))
    spent, speech = {"graph": 0.0, "predictions": 0.0, "search": 0.0}, 0.0
    for utterance in islice(utterances, options.utterances):
        times = [time.process_time()]
        graph = alignment_graph(lexicon, texts[utterance.id], inventory, recogniser.durations)
        times.append(time.process_time())
        posteriors = recogniser.posteriors(utterance.features)
        loglikes = log_likelihoods(posteriors, recogniser.log_prior)
        times.append(time.process_time())
        force_align(graph, loglikes)
        times.append(time.process_time())
        for name, before, after in zip(spent, times, times[1:], strict=False):
            spent[name] += after - before
        speech += SHIFT_SECONDS * len(utterance.features)
    print(f"{found.name}: {speech:.0f} s of speech, {inventory.num_senones} senones")
    for name, seconds in (spent | {"together": sum(spent.values())}).items():
        print(f"  {name:<12} {seconds / speech:.4f}")


if __name__ == "__main__":
    main()
