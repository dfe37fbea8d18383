"""The stages that name what is in a frame: the decision tree's senones, and frames with them."""

from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np

from acoustic_kd.alignment.segmentation import read_segmentations
from acoustic_kd.corpora.manifest import SPLITS, UNTRANSCRIBED
from acoustic_kd.features import original_id
from acoustic_kd.files import read_json, write_json
from acoustic_kd.frames import Classes, write_store
from acoustic_kd.frames import Utterance as Frames
from acoustic_kd.lexicon import SILENCE, read_lexicon
from acoustic_kd.parallel import progress
from acoustic_kd.senones import SenoneInventory, read_inventory
from acoustic_kd.stages.experiment import Experiment
from acoustic_kd.stages.pdfs import PdfLabels, run_pdf_senones
from acoustic_kd.stages.prepare import LEXICON, normalised, takes_pdfs
from acoustic_kd.stages.transfer import all_splits
from acoustic_kd.tree import Statistics, build_tree

STATISTICS = "statistics.json"

# --- senones ------------------------------------------------------------------------------------


def run_senones(experiment: Experiment) -> None:
    """Gather the statistics of the train split and grow the phonetic decision tree."""
    if takes_pdfs(experiment.config):
        return run_pdf_senones(experiment)
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


class SenoneLabels:
    """The senones of a split's frames.

    Attributes:
        classes: what they mean.
    """

    def __init__(self, experiment: Experiment, split: str) -> None:
        self._inventory = inventory_of(experiment)
        found = read_segmentations(experiment.path("align") / f"{split}.jsonl")
        self._found = {s.id: s for s in found}
        self.classes = self._inventory.classes

    def __contains__(self, name: str) -> bool:
        return name in self._found

    def __iter__(self) -> Iterator[str]:
        return iter(self._found)

    def targets(self, name: str) -> np.ndarray:
        """The senone of every frame, int32 [T]."""
        return self._inventory.targets(self._found[name])

    def visits(self, name: str) -> tuple[np.ndarray, np.ndarray]:
        """The senones an utterance passes through, int32 [N], and frames in each, int64."""
        return self._inventory.visits(self._found[name])


def run_frames(experiment: Experiment) -> None:
    """Write the normalised frames, where transcribed with the senone of each; count senones."""
    kind = PdfLabels if takes_pdfs(experiment.config) else SenoneLabels
    for split in SPLITS:
        labels = kind(experiment, split)
        aligned = list(labels)
        # A test split may be without labels as a whole: for posteriors alone.
        coming = _coming(experiment, split)
        heard = _labelled(coming, labels) if aligned else coming
        total = _write(experiment, split, heard, labels.classes)
        print(f"  {split}: {total} frames of {len(aligned) or 'unaligned'} utterances")
        if split == "train":
            statistics = _statistics(labels.classes, map(labels.visits, aligned))
            write_json(experiment.path("frames") / STATISTICS, statistics)
    if UNTRANSCRIBED in all_splits(experiment):
        total = _write(
            experiment, UNTRANSCRIBED, _coming(experiment, UNTRANSCRIBED), labels.classes
        )
        print(f"  {UNTRANSCRIBED}: {total} frames")


def _coming(experiment: Experiment, split: str) -> Iterator[Frames]:
    """The normalised frames of a split, with a progress bar."""
    yield from progress(normalised(experiment, split), f"frames {split}", unit="utt")


def _write(
    experiment: Experiment, store: str, utterances: Iterable[Frames], classes: Classes
) -> int:
    """Write a store of frames; returns how many."""
    shard_frames = experiment.config.frames.shard_frames
    return write_store(experiment.path("frames") / store, utterances, classes, shard_frames)


def _labelled(utterances: Iterable[Frames], labels: SenoneLabels | PdfLabels) -> Iterator[Frames]:
    """Those that are aligned, with their senones; a copy has the senones of its original."""
    for u in utterances:
        if original_id(u.id) in labels:
            yield Frames(u.id, u.features, labels.targets(original_id(u.id)))


def _statistics(classes: Classes, visits: Iterable[tuple[np.ndarray, np.ndarray]]) -> dict:
    """Frames and visits of each senone: priors and mean durations come from them."""
    frames = np.zeros(classes.count, np.int64)
    times = np.zeros(classes.count, np.int64)
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
