#!/usr/bin/env python3
"""How the cost of the phonetic decision tree grows with the speech it is grown from.

An eighth of an experiment's train utterances, a quarter, a half, all of them: hours, triphone
states seen, processor seconds of gathering their statistics (also for an hour of speech) and of
growing the tree, senones, and the peak memory of a process that does nothing else.

usage: tools/bench/tree.py EXP_DIR [--shares 0.125 0.25 0.5 1] [--leaves 1500] [--json FILE]
"""

import argparse
import multiprocessing
import time
from itertools import islice
from pathlib import Path

from tables import Table

from acoustic_kd.alignment.segmentation import read_segmentations
from acoustic_kd.alignment.tree import Statistics, build_tree
from acoustic_kd.decoding.graph.compile import peak_memory
from acoustic_kd.features.fbank import SHIFT_SECONDS
from acoustic_kd.features.frames import read_utterances, shard_paths
from acoustic_kd.language.lexicon import SILENCE, read_lexicon

COLUMNS = {
    "hours": "hours|.2f", "contexts": "triphone states|,", "gathering": "gathering, s|.2f",
    "an_hour": "an hour, s|.2f", "growing": "growing, s|.2f", "senones": "senones|,",
    "peak_gib": "peak GiB|.2f",
}  # fmt: skip


def measure(experiment: Path, share: float, leaves: int, min_frames: int) -> dict:
    """One share of the utterances."""
    segmentations = {s.id: s for s in read_segmentations(experiment / "align" / "train.jsonl")}
    statistics = Statistics(
        (SILENCE, *read_lexicon(experiment / "corpus" / "lexicon.txt").phones())
    )
    stored = (u for p in shard_paths(experiment / "frames" / "train") for u in read_utterances(p))
    heard = [u for u in stored if u.id in segmentations]
    heard = list(islice(heard, round(share * len(heard))))
    begun = time.process_time()
    for utterance in heard:
        statistics.add(segmentations[utterance.id], utterance.features)
    gathered = time.process_time()
    inventory = build_tree(statistics, leaves, min_frames)
    ended = time.process_time()
    hours = sum(len(u.features) for u in heard) * SHIFT_SECONDS / 3600
    return {
        "hours": hours,
        "contexts": len(statistics.keys),
        "gathering": gathered - begun,
        "an_hour": (gathered - begun) / hours,
        "growing": ended - gathered,
        "senones": inventory.num_senones,
        "peak_gib": peak_memory() / 2**30,
    }


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("experiment", type=Path, help="its stage 'frames' is done")
    parser.add_argument("--shares", type=float, nargs="+", default=[0.125, 0.25, 0.5, 1.0])
    parser.add_argument("--leaves", type=int, default=1500)
    parser.add_argument("--min-frames", type=int, default=60)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    fresh = multiprocessing.get_context("spawn")
    with Table(COLUMNS, options.json) as table:
        for share in options.shares:
            arguments = options.experiment, share, options.leaves, options.min_frames
            with fresh.Pool(1) as pool:
                table.add(pool.apply(measure, arguments))


if __name__ == "__main__":
    main()
