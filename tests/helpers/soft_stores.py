"""Small stores of soft targets to test with."""

from pathlib import Path

import numpy as np
import torch

from acoustic_kd.features.frame_sequence import Classes
from acoustic_kd.features.frames import Frames
from acoustic_kd.settings import choices
from acoustic_kd.soft_targets.encoding import Encoding, encode
from acoustic_kd.soft_targets.manifest import is_finished
from acoustic_kd.soft_targets.targets import as_soft_targets
from acoustic_kd.soft_targets.write import Provenance, write_shard

CLASSES = Classes(9, "inventory-a")
PROVENANCE = Provenance(2.0, ("m1", "m2"))
ENCODINGS = choices("soft_targets.encoding")
ALL = [Encoding(name, 4, 0.9, bits) for name in ENCODINGS for bits in (16, 8)]
NAMES = [f"{encoding.name}-{encoding.bits}" for encoding in ALL]
SHARDS = (("a", 4), ("b", 7), ("c", 1)), (("d", 9),), (("e", 2), ("f", 6))
FRAMES = sum(length for shard in SHARDS for _, length in shard)


def make_frames(lengths=(4, 7, 1), classes=CLASSES, names=("a", "b", "c")):
    total = sum(lengths)
    offsets = np.concatenate([[0], np.cumsum(lengths)])
    return Frames(torch.zeros(total, 2), None, list(names), offsets, classes)


def distributions(total, count=9, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.softmax(3 * torch.randn(total, count, generator=generator), -1)


def encode_in_memory(table, encoding, temperature):
    """The soft targets of predictions [T, K] that are not stored."""
    encoding = encoding.of(table.shape[-1])
    return as_soft_targets(encode(table, encoding), encoding, temperature)


def decoded(table, encoding):
    """The classes (None: all) and probabilities of encoded predictions."""
    return encode_in_memory(table, encoding, 2.0).batch(torch.arange(len(table)))


def dense(classes, probabilities, count=9):
    """Soft targets of all classes [B, K]."""
    if classes is None:
        return probabilities
    return probabilities.new_zeros(len(classes), count).scatter_add(1, classes, probabilities)


def all_frames():
    """The frames of all shards of `write_store`."""
    names, lengths = zip(*(utterance for shard in SHARDS for utterance in shard), strict=True)
    return make_frames(lengths, names=names)


def write_store(
    directory: Path,
    encoding: Encoding,
    provenance: Provenance = PROVENANCE,
    block: int = 5,
    shards=None,
) -> torch.Tensor:
    """Write the shards that are not there yet; returns the predictions [T, K]."""
    table, first = distributions(FRAMES), 0
    for number, shard in enumerate(SHARDS):
        names, lengths = zip(*shard, strict=True)
        path = Path(directory) / f"shard-{number:05d}.h5"
        if (shards is None or number in shards) and not is_finished(path):
            frames = make_frames(lengths, names=names)
            predictions = table[first : first + len(frames)].split(block)
            write_shard(path, frames, predictions, provenance, encoding, block)
        first += sum(lengths)
    return table


def contents(directory: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(Path(directory).iterdir())}


LONG_SHARDS, LONG_FRAMES = 8, 2000


def write_long_store(directory: Path) -> None:
    """Shards that take a while, those that are not there yet."""
    table = distributions(LONG_FRAMES, 200)
    for number in range(LONG_SHARDS):
        path = Path(directory) / f"shard-{number:05d}.h5"
        if not is_finished(path):
            frames = make_frames((LONG_FRAMES,), Classes(200, "inventory-b"), (f"u{number}",))
            blocks = table.roll(number, 0).split(500)
            write_shard(path, frames, blocks, PROVENANCE, Encoding("sampled", 20), 500)
