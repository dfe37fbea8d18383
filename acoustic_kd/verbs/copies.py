"""The stage that makes copies of the transfer set with vocal tract length perturbation (VTLP).

Members do not train on copies. The ensemble predicts each of them, and in each epoch a distilled
model, and the control, trains on one copy of each utterance. docs/corpora.md
"""

import shutil
from contextlib import closing
from functools import partial

from acoustic_kd.corpora.utterances import Utterance
from acoustic_kd.experiment.experiment import Experiment
from acoustic_kd.experiment.normalised import normalised_store
from acoustic_kd.experiment.outputs import UNLABELLED, read_split
from acoustic_kd.experiment.transfer_set import TRAINING_SPLITS, all_splits
from acoustic_kd.features.audio import read_audio
from acoustic_kd.features.fbank import log_mels, original_id, vtlp_id
from acoustic_kd.features.frame_shard import shard_paths
from acoustic_kd.features.frames import FrameSequence as Frames
from acoustic_kd.features.frames import read_index, read_utterances, write_store
from acoustic_kd.settings import FeatureConfig
from acoustic_kd.system.parallel import map_ordered, progress

UNNORMALISED = "unnormalised"  # a folder of the stage, removed at its end


def run(experiment: Experiment) -> None:
    """Write the normalised frames of the copies; each has the targets of its original."""
    if not experiment.config.features.transfer_vtlp_warps:
        print("  none: features.transfer_vtlp_warps is []")
        return
    for split in all_splits(experiment):
        if split in TRAINING_SPLITS:
            _write_unnormalised(experiment, split)
            print(f"  {split}: {_write_normalised(experiment, split)} frames")
    shutil.rmtree(experiment.path("copies") / UNNORMALISED)


def _write_unnormalised(experiment: Experiment, split: str) -> None:
    """Write the copies of every utterance of a split that has features."""
    config = experiment.config
    heard = set(read_index(experiment.path("features") / split).ids)
    items = [u for u in read_split(experiment, split) if u.id in heard]
    work = map_ordered(partial(_copies, config.features), items, f"copies of {split}")
    folder = experiment.path("copies") / UNNORMALISED / split
    with closing(work):
        copies = (copy for copies in work for copy in copies)
        write_store(folder, copies, UNLABELLED, config.frames.shard_frames, "float32")


def _copies(config: FeatureConfig, utterance: Utterance) -> list[Frames]:
    """The copies of one utterance, before normalisation."""
    warps = config.transfer_vtlp_warps
    features = log_mels(read_audio(utterance, config.sample_rate), config, warps)
    return [
        Frames(vtlp_id(utterance.id, warp), copy, None)
        for warp, copy in zip(warps, features, strict=True)
    ]


def _write_normalised(experiment: Experiment, split: str) -> int:
    """Write the copies of a split's utterances that have frames; returns the number of frames."""
    originals, out = experiment.path("frames") / split, experiment.path("copies")
    targets = {u.id: u.targets for path in shard_paths(originals) for u in read_utterances(path)}
    store = progress(
        normalised_store(experiment, out / UNNORMALISED, split), f"frames of {split}", unit="utt"
    )
    copies = (
        Frames(copy.id, copy.features, targets[original_id(copy.id)])
        for copy in store
        if original_id(copy.id) in targets
    )
    classes, shard_frames = read_index(originals).classes, experiment.config.frames.shard_frames
    return write_store(out / split, copies, classes, shard_frames)
