"""The frames stage: frame shards, normalised and labelled with senones."""

from collections.abc import Iterable, Iterator

import numpy as np

from acoustic_kd.corpora.utterances import SPLITS, UNTRANSCRIBED
from acoustic_kd.experiment.experiment import Experiment
from acoustic_kd.experiment.kaldi_targets import PdfLabels, takes_pdfs
from acoustic_kd.experiment.outputs import STATISTICS, inventory_of, normalised, read_aligned
from acoustic_kd.experiment.transfer_set import all_splits
from acoustic_kd.features.fbank import original_id
from acoustic_kd.features.frames import Classes, write_store
from acoustic_kd.features.frames import FrameSequence as Frames
from acoustic_kd.system.files import write_json
from acoustic_kd.system.parallel import progress


class SenoneLabels:
    """The senones of a split's frames.

    Attributes:
        classes: number and hash of the senones.
    """

    def __init__(self, experiment: Experiment, split: str) -> None:
        self._inventory = inventory_of(experiment)
        self._segmentations = read_aligned(experiment, split)
        self.classes = self._inventory.classes

    def __contains__(self, name: str) -> bool:
        return name in self._segmentations

    def __iter__(self) -> Iterator[str]:
        return iter(self._segmentations)

    def targets(self, name: str) -> np.ndarray:
        """The senone of every frame, int32 [T]."""
        return self._inventory.targets(self._segmentations[name])

    def visits(self, name: str) -> tuple[np.ndarray, np.ndarray]:
        """The senones an utterance passes through, int32 [N], and frames in each, int64."""
        return self._inventory.visits(self._segmentations[name])


def run(experiment: Experiment) -> None:
    """Write the normalised frames, with their senones if transcribed; count senones."""
    kind = PdfLabels if takes_pdfs(experiment.config) else SenoneLabels
    for split in SPLITS:
        labels = kind(experiment, split)
        aligned = list(labels)
        # A whole test split may lack labels: it then serves for posteriors alone.
        frames = _with_progress(experiment, split)
        if aligned:
            frames = _labelled(frames, labels)
        total = _write(experiment, split, frames, labels.classes)
        print(f"  {split}: {total} frames of {len(aligned) or 'unaligned'} utterances")
        if split == "train":
            statistics = _statistics(labels.classes, map(labels.visits, aligned))
            write_json(experiment.path("frames") / STATISTICS, statistics)
    if UNTRANSCRIBED in all_splits(experiment):
        total = _write(
            experiment, UNTRANSCRIBED, _with_progress(experiment, UNTRANSCRIBED), labels.classes
        )
        print(f"  {UNTRANSCRIBED}: {total} frames")


def _with_progress(experiment: Experiment, split: str) -> Iterator[Frames]:
    """The normalised frames of a split, with a progress bar."""
    yield from progress(normalised(experiment, split), f"frames {split}", unit="utt")


def _write(
    experiment: Experiment, store: str, utterances: Iterable[Frames], classes: Classes
) -> int:
    """Write a store of frames; returns the number of frames."""
    shard_frames = experiment.config.frames.shard_frames
    return write_store(experiment.path("frames") / store, utterances, classes, shard_frames)


def _labelled(utterances: Iterable[Frames], labels: SenoneLabels | PdfLabels) -> Iterator[Frames]:
    """The aligned utterances with their senones; a copy has the senones of its original."""
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
