"""The stage that makes copies of the speech that models are trained on (`features/copies.py`).

In each epoch a model trains on one copy of each utterance, or on the utterance itself. Members do
not learn from the copies of `features.transfer_vtlp_warps`. docs/corpora.md
"""

import shutil
from collections.abc import Sequence
from contextlib import closing
from functools import partial
from pathlib import Path

from acoustic_kd.corpora.utterances import Utterance
from acoustic_kd.experiment.experiment import Experiment
from acoustic_kd.experiment.normalised import Normaliser
from acoustic_kd.experiment.outputs import TRANSFORMS, UNLABELLED, read_split, stored_frames
from acoustic_kd.experiment.transfer_set import TRAINING_SPLITS, all_splits, copies_by_store
from acoustic_kd.features.audio import read_audio
from acoustic_kd.features.copies import Copy, copies_of, is_warped, original_id, targets_of_copy
from acoustic_kd.features.fmllr import Transform, read_transforms
from acoustic_kd.features.frame_sequence import FrameSequence as Frames
from acoustic_kd.features.frames import read_index, write_store
from acoustic_kd.settings import FeatureConfig
from acoustic_kd.system.parallel import map_ordered, progress

UNNORMALISED = "unnormalised"  # a folder of the stage, removed at its end


def run(experiment: Experiment) -> None:
    """Write the normalised frames of the copies; each has the targets of its original."""
    stores = copies_by_store(experiment.config)
    if not stores:
        print("  none, by the settings of features")
        return
    for prefix, copies in stores.items():
        unnormalised = experiment.path("copies") / UNNORMALISED / (prefix or "train")
        for split in all_splits(experiment):
            if split in TRAINING_SPLITS:
                _write_unnormalised(experiment, unnormalised, split, copies)
                frames = _write_normalised(experiment, unnormalised, split, f"{prefix}{split}")
                print(f"  {prefix}{split}: {frames} frames, {len(copies)} copies")
    shutil.rmtree(experiment.path("copies") / UNNORMALISED)


def _write_unnormalised(
    experiment: Experiment, folder: Path, split: str, copies: Sequence[Copy]
) -> None:
    """Write the copies of every utterance of a split that has features."""
    config = experiment.config
    heard = set(read_index(experiment.path("features") / split).ids)
    items = [u for u in read_split(experiment, split) if u.id in heard]
    work = map_ordered(partial(_copies, config.features, copies), items, f"copies of {split}")
    with closing(work):
        frames = (copy for made in work for copy in made)
        write_store(folder / split, frames, UNLABELLED, config.frames.shard_frames, "float32")


def _copies(config: FeatureConfig, copies: Sequence[Copy], utterance: Utterance) -> list[Frames]:
    """The copies of one utterance, before normalisation."""
    made = copies_of(read_audio(utterance, config.sample_rate), config, copies)
    return [
        Frames(copy.id_of(utterance.id), frames, None)
        for copy, frames in zip(copies, made, strict=True)
    ]


def _write_normalised(experiment: Experiment, unnormalised: Path, split: str, name: str) -> int:
    """Write the copies of a split's utterances that have frames; returns the number of frames.

    Copies at the speaker's own vocal tract length have the speaker's transform. The others have
    none, so that models know frames without it, too: those of a first decoding.
    """
    originals = experiment.path("frames") / split
    transforms, speakers = dict[str, Transform](), dict[str, str]()
    if split == "train" and experiment.config.frames.speaker_cepstra:
        experiment.verify("frames", TRANSFORMS)
        transforms = read_transforms(experiment.path("frames") / TRANSFORMS)
        speakers = {u.id: u.speaker for u in read_split(experiment, split)}
    targets = {u.id: u.targets for u in stored_frames(originals)}
    frames = Normaliser(experiment, unnormalised, split).frames()
    store = progress(frames, f"frames of {split}", unit="utt")

    def copy(c: Frames) -> Frames:
        original, features = original_id(c.id), c.features
        if transforms and not is_warped(c.id):
            features = transforms[speakers[original]](features)
        return Frames(c.id, features, targets_of_copy(c.id, targets[original], len(features)))

    copies = (copy(c) for c in store if original_id(c.id) in targets)
    classes, shard_frames = read_index(originals).classes, experiment.config.frames.shard_frames
    return write_store(experiment.path("copies") / name, copies, classes, shard_frames)
