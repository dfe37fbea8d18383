#!/usr/bin/env python3
"""Cost of the phonetic decision tree by amount of speech.

For an eighth, a quarter, half and all of an experiment's train utterances: hours, triphone states
seen, processor seconds of collecting their statistics (also per hour of speech) and of growing the
tree, senones, and the peak memory of a process that does nothing else.
"""

import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import bench
from acoustic_kd.alignment.segmentation import read_segmentations
from acoustic_kd.alignment.tree import Statistics, build_tree
from acoustic_kd.decoding.graph.compile import peak_memory
from acoustic_kd.experiment.outputs import stored_frames
from acoustic_kd.features.fbank import SHIFT_SECONDS
from acoustic_kd.language.lexicon import SILENCE, read_lexicon

COLUMNS = {
    "hours": "hours|.2f", "contexts": "triphone states|,", "gathering": "gathering, s|.2f",
    "an_hour": "an hour, s|.2f", "growing": "growing, s|.2f", "senones": "senones|,",
    "peak_gib": "peak GiB|.2f",
}  # fmt: skip


def measure(
    experiment: Path,
    *,
    shares: Sequence[float] = (0.125, 0.25, 0.5, 1.0),
    leaves: int = 1500,
    min_frames: int = 60,
) -> Iterator[bench.Row]:
    """Yield a row for each share of the utterances."""
    for share in shares:
        yield bench.in_new_process(grow, experiment, share, leaves, min_frames)


def grow(experiment: Path, share: float, leaves: int, min_frames: int) -> bench.Row:
    """Grow the tree from a share of the aligned utterances."""
    segmentations = {s.id: s for s in read_segmentations(experiment / "align" / "train.jsonl")}
    phones = read_lexicon(experiment / "corpus" / "lexicon.txt").phones()
    statistics = Statistics((SILENCE, *phones))
    stored = stored_frames(experiment / "frames" / "train")
    aligned = [u for u in stored if u.id in segmentations]
    aligned = aligned[: round(share * len(aligned))]
    begin = time.process_time()
    for utterance in aligned:
        statistics.add(segmentations[utterance.id], utterance.features)
    collected = time.process_time()
    inventory = build_tree(statistics, leaves, min_frames)
    end = time.process_time()
    hours = sum(len(u.features) for u in aligned) * SHIFT_SECONDS / 3600
    return {
        "hours": hours,
        "contexts": len(statistics.keys),
        "gathering": collected - begin,
        "an_hour": (collected - begin) / hours,
        "growing": end - collected,
        "senones": inventory.num_senones,
        "peak_gib": peak_memory() / 2**30,
    }


if __name__ == "__main__":
    bench.main(measure, COLUMNS)
