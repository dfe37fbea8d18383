"""A small model and data on which training takes a fraction of a second."""

from dataclasses import replace

import numpy as np
import soft_stores
import torch
from safetensors.torch import load_file

from acoustic_kd.features.frame_sequence import Classes, FrameSequence
from acoustic_kd.features.frame_shard import shard_paths
from acoustic_kd.features.frames import Frames, write_store
from acoustic_kd.settings import ModelConfig, TrainConfig
from acoustic_kd.soft_targets.encoding import Encoding
from acoustic_kd.soft_targets.write import Provenance, write_shard
from acoustic_kd.system.memory import GIGABYTE
from acoustic_kd.training import trainer as trainer_module
from acoustic_kd.training.chunks import FRAME_OVERHEAD_BYTES, ShardedData, SoftTargetSource
from acoustic_kd.training.processes import make_accelerator
from acoustic_kd.training.schedule import TrainingRun
from acoustic_kd.training.trainer import Trainer

trainer_module.CHECKPOINT_SHARE = float("inf")  # checkpoints are tested here, not their cost

MODEL = ModelConfig(layers=2, width=32, dropout=0.2, left_frames=2, right_frames=1)
CONVOLUTIONS = replace(MODEL, kind="cnn", channels=4, width=16)
TRAIN = TrainConfig(epochs=3, batch_frames=50, learning_rate=3e-3, bfloat16=False)
TOP_3 = Encoding("top-k", 3)
SHARD_FRAMES, BLOCK_FRAMES = 150, 25  # about


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
    return soft_stores.encode_in_memory(p, encoding or Encoding("top-k", kept), temperature)


def trainer(
    folder, soft=False, train=TRAIN, digest="d", seed=1, dev=True, augment=None, data=None,
    model=None, network=None, **options,
):  # fmt: skip
    """A trainer of `data`: shards, or frames (None: `make_frames`).

    Args:
        soft: soft targets of frames, or whether to make them.
        network: the network to train instead of that of `model`.
        dev: dev frames, or whether to make them.
        options: further arguments of Trainer.
    """
    data = make_frames() if data is None else data
    training_run = TrainingRun("test", seed, model or MODEL, train, 0.5, digest)
    targets = soft_targets(data) if soft is True else soft or None
    held_out = make_frames(200, seed=7) if dev is True else dev or None
    accelerator = make_accelerator()
    options |= {"model": network}
    return Trainer(training_run, folder, data, held_out, targets, accelerator, augment, **options)


def weights(folder):
    tensors = load_file(folder / "model.safetensors")
    return {name: tensor.numpy().tobytes() for name, tensor in tensors.items()}


# --- in shards ----------------------------------------------------------------------------------


def write_shards(folder, labelled=True, seed=0, encoding=TOP_3):
    """`make_frames` in five shards, and soft targets of the same utterances in another order.

    Utterances and shards of soft targets have other names with another seed.
    """
    frames = make_frames(seed=seed)
    utterances = [
        FrameSequence(
            f"{seed}-{name}",
            frames.features[span].numpy(),
            frames.targets[span].numpy() if labelled else None,
        )
        for name, span in frames.spans()
    ]
    write_store(folder / "frames", utterances, frames.classes, SHARD_FRAMES)
    order = np.random.default_rng(1).permutation(len(utterances))
    for number, chosen in enumerate(np.array_split(order, 4)):
        lengths = [len(utterances[u].features) for u in chosen]
        shard = soft_stores.make_frames(lengths, frames.classes, [utterances[u].id for u in chosen])
        table = soft_stores.distributions(len(shard), frames.classes.count, number)
        path = folder / "soft" / f"shard-{10 * seed + number:05d}.h5"
        path.parent.mkdir(exist_ok=True)
        write_shard(path, shard, table.split(16), Provenance(2.0, ("m",)), encoding, 16)


def sharded(folder, soft=False):
    """The data of `write_shards`."""
    source = SoftTargetSource(folder / "soft", 2.0) if soft else None
    return ShardedData(shard_paths(folder / "frames"), source, BLOCK_FRAMES)


def in_chunks(data, divisor=3.0):
    """Settings with so little memory that an epoch is read in several chunks."""
    frames = data.sizes.sum() / divisor + data.sizes.max() + 1
    frame_bytes = 2 * (4 * 6 + FRAME_OVERHEAD_BYTES) + 3 * data._soft_bytes
    memory_gb = float(frames * frame_bytes / GIGABYTE)
    return replace(TRAIN, memory_gb=memory_gb, checkpoint_steps=3)
