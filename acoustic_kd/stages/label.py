"""The stages that name what is in a frame: the decision tree's senones, and frames with them."""

from collections.abc import Iterable
from pathlib import Path

import numpy as np

from acoustic_kd.alignment.segmentation import read_segmentations
from acoustic_kd.corpora.manifest import SPLITS, UNTRANSCRIBED
from acoustic_kd.features import original_id
from acoustic_kd.files import read_json, write_json
from acoustic_kd.frames import Utterance as Frames
from acoustic_kd.frames import write_store
from acoustic_kd.lexicon import SILENCE, read_lexicon
from acoustic_kd.parallel import progress
from acoustic_kd.senones import SenoneInventory, read_inventory
from acoustic_kd.stages.experiment import Experiment
from acoustic_kd.stages.prepare import LEXICON, normalised
from acoustic_kd.stages.transfer import all_splits
from acoustic_kd.tree import Statistics, build_tree

STATISTICS = "statistics.json"

# --- senones ------------------------------------------------------------------------------------


def run_senones(experiment: Experiment) -> None:
    """Gather the statistics of the train split and grow the phonetic decision tree."""
    config = experiment.config.senones
    segmentations = {s.id: s for s in read_segmentations(experiment.path("align") / "train.jsonl")}
    lexicon = read_lexicon(experiment.path("corpus") / LEXICON)
    statistics = Statistics((SILENCE, *lexicon.phones()))
    frames = progress(normalised(experiment, "train"), "tree statistics", unit="utt")
    for utterance in frames:
        if utterance.id in segmentations:
            statistics.add(segmentations[utterance.id], utterance.features)
    inventory = build_tree(statistics, config.leaves, config.min_frames)
    inventory.write(experiment.path("senones") / "inventory.json")
    print(
        f"  {inventory.num_senones} senones from {len(statistics.keys)} triphone states seen of "
        f"{len(inventory.phones)} phones"
    )
    if inventory.num_senones < config.leaves:
        print(
            f"  (asked for {config.leaves}: at {config.min_frames} frames a leaf there is no data "
            "for more)"
        )


# --- frames -------------------------------------------------------------------------------------


def inventory_of(experiment: Experiment) -> SenoneInventory:
    """The experiment's senones."""
    return read_inventory(experiment.path("senones") / "inventory.json")


def run_frames(experiment: Experiment) -> None:
    """Write the normalised frames, where transcribed with the senone of each; count senones."""
    inventory, out = inventory_of(experiment), experiment.path("frames")
    shard_frames = experiment.config.frames.shard_frames
    for split in SPLITS:
        segmentations = {
            s.id: s for s in read_segmentations(experiment.path("align") / f"{split}.jsonl")
        }
        labelled = (
            Frames(u.id, u.features, inventory.targets(segmentations[original_id(u.id)]))
            for u in progress(normalised(experiment, split), f"frames {split}", unit="utt")
            if original_id(u.id) in segmentations
        )
        total = write_store(out / split, labelled, inventory.classes, shard_frames)
        print(f"  {split}: {total} frames of {len(segmentations)} utterances")
        if split == "train":
            visits = (inventory.visits(s) for s in segmentations.values())
            write_json(out / STATISTICS, _statistics(inventory, visits))
    if UNTRANSCRIBED in all_splits(experiment):
        heard = progress(normalised(experiment, UNTRANSCRIBED), "frames untranscribed", unit="utt")
        total = write_store(out / UNTRANSCRIBED, heard, inventory.classes, shard_frames)
        print(f"  {UNTRANSCRIBED}: {total} frames")


def _statistics(
    inventory: SenoneInventory, visits: Iterable[tuple[np.ndarray, np.ndarray]]
) -> dict:
    """Frames and visits of each senone: priors and mean durations come from them."""
    frames = np.zeros(inventory.num_senones, np.int64)
    times = np.zeros(inventory.num_senones, np.int64)
    for senones, durations in visits:
        np.add.at(frames, senones, durations)
        np.add.at(times, senones, durations > 0)
    return {"frames": frames.tolist(), "visits": times.tolist()}


def read_statistics(folder: Path) -> tuple[np.ndarray, np.ndarray]:
    """Log priors [K] and mean durations in frames [K] of the senones on the train split.

    A senone that was never seen counts as seen once, for one frame.

    Args:
        folder: what the frames stage wrote.
    """
    statistics = read_json(folder / STATISTICS)
    frames = np.maximum(np.array(statistics["frames"], np.float64), 1)
    visits = np.maximum(np.array(statistics["visits"], np.float64), 1)
    return np.log(frames / frames.sum()), frames / visits
