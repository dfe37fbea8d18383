"""The stage that makes copies of the transfer set: the same speech, changed a little.

Members do not learn from copies. The ensemble predicts each of them, and in each epoch a distilled
model, and the control, learns from one copy of each utterance. docs/transfer-set.md
"""

import shutil

import numpy as np

from acoustic_kd.audio import read_audio
from acoustic_kd.config import FeatureConfig
from acoustic_kd.corpora.manifest import Utterance, read_manifest
from acoustic_kd.features import copy_id, log_mels, random_noise, with_speed
from acoustic_kd.frames import Utterance as Frames
from acoustic_kd.frames import read_index, read_utterances, shard_paths, write_store
from acoustic_kd.parallel import map_stream, progress
from acoustic_kd.stages.experiment import Experiment
from acoustic_kd.stages.prepare import normalised_store
from acoustic_kd.stages.transfer import LEARNT, all_splits

RAW = "features"  # the folder of features before normalisation; removed at the end

_config: FeatureConfig


def _start(config: FeatureConfig) -> None:
    global _config
    _config = config


def run_copies(experiment: Experiment) -> None:
    """Write the normalised frames of the copies; each has the targets of its original."""
    if not experiment.config.features.has_copies:
        print("  none: features.transfer_warps is []")
        return
    for split in all_splits(experiment):
        if split in LEARNT:
            frames = _write_copies(experiment, split)
            print(f"  {split}: {frames} frames")
    shutil.rmtree(experiment.path("copies") / RAW)


def _write_copies(experiment: Experiment, split: str) -> int:
    """Write the copies of a split; returns the number of their frames."""
    config, out = experiment.config, experiment.path("copies")
    originals = experiment.path("frames") / split
    classes, shard_frames = read_index(originals).classes, config.frames.shard_frames
    manifest = read_manifest(experiment.path("corpus") / f"{split}.jsonl")
    utterances = {utterance.id: utterance for utterance in manifest}
    items = (
        (utterances[one.id], one.targets)
        for path in shard_paths(originals)
        for one in read_utterances(path)
        if one.id in utterances  # no copy of `features.train_warps`
    )
    work = map_stream(
        _copies, items, f"copies of {split}", len(utterances), 0, _start, (config.features,)
    )
    raw = out / RAW / split
    write_store(raw, (copy for copies in work for copy in copies), classes, shard_frames, "float32")
    speakers = {name: one.speaker for name, one in utterances.items()}
    method, source = config.features.normalise, out / RAW / "train"
    store = normalised_store(method, raw if method != "global" else source, raw, speakers)
    frames = progress(store, f"frames of {split}'s copies", unit="utt")
    return write_store(out / split, frames, classes, shard_frames)


def _copies(item: tuple[Utterance, np.ndarray | None]) -> list[Frames]:
    """The copies of one utterance with their targets, before normalisation."""
    utterance, targets = item
    samples = read_audio(utterance, _config.sample_rate)
    warps = _config.transfer_warps
    found = [
        Frames(copy_id(utterance.id, warp), features, targets)
        for warp, features in zip(warps, log_mels(samples, _config, warps), strict=True)
    ]
    for decibels in _config.transfer_noise:
        noisy = samples + random_noise(utterance.id, samples, decibels)
        name = f"{utterance.id}#noise{decibels:g}"
        found.append(Frames(name, log_mels(noisy, _config, (1.0,))[0], targets))
    for speed in _config.transfer_speeds:
        features = log_mels(with_speed(samples, speed), _config, (1.0,))[0]
        name = f"{utterance.id}#speed{speed:g}"
        found.append(Frames(name, features, _at_speed(targets, speed, len(features))))
    return found


def _at_speed(targets: np.ndarray | None, speed: float, frames: int) -> np.ndarray | None:
    """The targets of `frames` frames of an utterance that is spoken at `speed` times its speed."""
    if targets is None:
        return None
    centre = (np.arange(frames) + 1.25) * speed - 1.25  # a window's centre is 1.25 frames in
    return targets[np.clip(np.rint(centre).astype(int), 0, len(targets) - 1)]
