"""A small model and data on which training takes a fraction of a second."""

import numpy as np
import torch
from safetensors.torch import load_file

from acoustic_kd.features.frames import Classes, Frames
from acoustic_kd.settings import ModelConfig, TrainConfig
from acoustic_kd.soft_targets.encoding import Encoding
from acoustic_kd.soft_targets.targets import encode_in_memory
from acoustic_kd.training.processes import make_accelerator
from acoustic_kd.training.schedule import TrainingRun
from acoustic_kd.training.trainer import Trainer

MODEL = ModelConfig(layers=2, width=32, dropout=0.2, left_frames=2, right_frames=1)
TRAIN = TrainConfig(epochs=3, batch_frames=50, learning_rate=3e-3, bfloat16=False)


def make_frames(count=601, classes=5, seed=0):  # the last batch of 50 holds one frame
    """Frames whose class shows in their features; utterances of many lengths."""
    rng = np.random.default_rng(seed)
    targets = rng.integers(0, classes, count)
    centres = np.random.default_rng(99).normal(0, 1, (classes, 6))
    features = centres[targets] + rng.normal(0, 0.7, (count, 6))
    cuts = np.sort(rng.choice(np.arange(1, count), 20, replace=False))
    offsets = np.concatenate([[0], cuts, [count]])
    return Frames(
        torch.from_numpy(features.astype(np.float16)),
        torch.from_numpy(targets),
        [f"u{n}" for n in range(21)],
        offsets,
        Classes(classes, "h"),
    )


def soft_targets(frames, kept=3, temperature=2.0, encoding=None):
    truth = torch.nn.functional.one_hot(frames.targets, frames.classes.count)
    p = torch.softmax(4 * truth.float() / temperature, -1)
    return encode_in_memory(p, encoding or Encoding("top-k", kept), temperature)


def trainer(folder, soft=False, train=TRAIN, digest="d", seed=1, dev=True, augment=None):
    frames = make_frames()
    job = TrainingRun("test", seed, MODEL, train, 0.5, digest)
    targets = soft_targets(frames) if soft else None
    held_out = make_frames(200, seed=7) if dev else None
    return Trainer(job, folder, frames, held_out, targets, make_accelerator(), augment)


def weights(folder):
    return {
        name: t.numpy().tobytes() for name, t in load_file(folder / "model.safetensors").items()
    }
