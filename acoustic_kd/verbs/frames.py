"""The frames stage: normalised frames with senones, in shards (format: features/frames.py)."""

from collections.abc import Iterable, Iterator
from dataclasses import replace

import numpy as np

from acoustic_kd.corpora.utterances import UNTRANSCRIBED
from acoustic_kd.experiment.experiment import Experiment
from acoustic_kd.experiment.kaldi_targets import pdf_labels, takes_pdfs
from acoustic_kd.experiment.normalised import Normaliser, normalised
from acoustic_kd.experiment.outputs import (
    SPEAKER_SPACE,
    STATISTICS,
    TRANSFORMS,
    FrameLabels,
    inventory_of,
    read_aligned,
    read_split,
)
from acoustic_kd.experiment.transfer_set import all_splits
from acoustic_kd.features.fmllr import Labelled, train_speaker_space, write_transforms
from acoustic_kd.features.frame_sequence import FrameSequence as Frames
from acoustic_kd.features.frames import write_store
from acoustic_kd.system.files import write_json
from acoustic_kd.system.parallel import progress


def run(experiment: Experiment) -> None:
    """Write the normalised frames, with their senones if transcribed; count senones."""
    read_labels = pdf_labels if takes_pdfs(experiment.config) else _senone_labels
    out, shard_frames = experiment.path("frames"), experiment.config.frames.shard_frames
    for split in all_splits(experiment):  # UNTRANSCRIBED is the last
        of = ""
        if split != UNTRANSCRIBED:
            labels = read_labels(experiment, split)
            of = f" of {len(labels.aligned) or 'unaligned'} utterances"
        bar = progress(normalised(experiment, split), f"frames {split}", unit="utt")
        # A whole test split may lack labels: it then serves for posteriors alone.
        frames = _labelled(bar, labels) if of and labels.aligned else bar
        if split == "train" and (cepstra := experiment.config.frames.speaker_cepstra):
            frames = _transformed(experiment, frames, labels, cepstra)
        total = write_store(out / split, frames, labels.classes, shard_frames)
        print(f"  {split}: {total} frames{of}")
        if split == "train":
            write_json(out / STATISTICS, _statistics(labels))


def _senone_labels(experiment: Experiment, split: str) -> FrameLabels:
    inventory = inventory_of(experiment)
    return FrameLabels(inventory.classes, read_aligned(experiment, split), inventory.visits)


def _labelled(utterances: Iterable[Frames], labels: FrameLabels) -> Iterator[Frames]:
    """The aligned utterances with their senones."""
    for u in utterances:
        if u.id in labels.aligned:
            yield Frames(u.id, u.features, labels.targets(u.id))


def _transformed(
    experiment: Experiment, frames: Iterable[Frames], labels: FrameLabels, cepstra: int
) -> Iterator[Frames]:
    """The frames of train with the transforms of their speakers, which are written, too."""
    speakers = {u.id: u.speaker for u in read_split(experiment, "train")}
    normaliser = Normaliser(experiment, experiment.path("features"), "train")

    def train() -> Iterator[Labelled]:
        bar = progress(normaliser.frames(), "transforms of speakers", unit="utt")
        for u in _labelled(bar, labels):
            yield Labelled(speakers[u.id], u.features, u.labels)

    space, transforms = train_speaker_space(train, labels.classes.count, cepstra)
    space.write(experiment.path("frames") / SPEAKER_SPACE)
    write_transforms(experiment.path("frames") / TRANSFORMS, transforms, space.dimension)
    for u in frames:
        yield replace(u, features=transforms[speakers[u.id]](u.features))


def _statistics(labels: FrameLabels) -> dict:
    """Frames and visits of each class, for priors and mean durations."""
    frames = np.zeros(labels.classes.count, np.int64)
    visits = np.zeros(labels.classes.count, np.int64)
    for senones, durations in map(labels.visits_of, labels.aligned.values()):
        np.add.at(frames, senones, durations)
        np.add.at(visits, senones, durations > 0)
    return {"frames": frames.tolist(), "visits": visits.tolist()}
