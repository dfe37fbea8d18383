#!/usr/bin/env python3
"""Speed of writing and reading soft targets, beside its bounds.

For each encoding: frames per second of writing (windows, members, mean, encoding, statistics, check
sums, HDF5, SHA-256, manifest entry), beside the members' forward passes alone on the same blocks;
gigabytes per second of reading with every check, beside reading the same file plainly, both from
the page cache; and frames per second of decoding batches. The shard that is read has --read-mb or
more: the first block's predictions, repeated. The best of several passes counts.
"""

import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np
import torch

import bench
from acoustic_kd.features.frame_sequence import Classes
from acoustic_kd.features.frames import Frames
from acoustic_kd.settings import ModelConfig
from acoustic_kd.soft_targets.encoding import Encoding
from acoustic_kd.soft_targets.read import read_soft_targets
from acoustic_kd.soft_targets.write import BLOCK_FRAMES, Provenance, blocks_of, write_shard
from acoustic_kd.training.ensemble import Mean
from acoustic_kd.training.ensemble_predictions import Ensemble
from acoustic_kd.training.model import load_model, save_model, settings_of
from acoustic_kd.training.networks import build_network
from acoustic_kd.training.precision import logits_of, use_bfloat16
from acoustic_kd.training.windows import make_splicer

BINS, UTTERANCE_FRAMES = 40, 512
BATCH_FRAMES, DECODED_BATCHES = 512, 64
TEMPERATURE, PASSES = 2.0, 3
ENCODINGS = ("top-k-16", "top-p-16", "sampled-16", "dense-16", "top-k-8")
COLUMNS = {
    "encoding": "encoding", "written": "frames/s written|,.0f",
    "forward": "of the forward passes alone|,.0f", "write_share": "share|.2f",
    "frame_bytes": "bytes a frame|,.0f", "read": "GB/s read|.2f", "plain": "read plainly|.2f",
    "read_share": "share|.2f", "decoded": "frames/s decoded|,.0f",
}  # fmt: skip


def measure(
    *,
    classes: int = 2000,
    width: int = 512,
    layers: int = 4,
    members: int = 2,
    frames: int = 8192,
    kept: int = 20,
    encodings: Sequence[str] = ENCODINGS,
    read_mb: float = 16,
    memory_gb: float | None = None,
) -> Iterator[bench.Row]:
    """Yield a row for each encoding."""
    with tempfile.TemporaryDirectory() as folder:
        benchmark = Benchmark(Path(folder), classes, ModelConfig(layers, width), members, frames)
        for name in encodings:
            yield benchmark.row(name, kept, read_mb, memory_gb)


class Benchmark:
    """Random members and frames, and what is measured on them."""

    def __init__(
        self, folder: Path, classes: int, model: ModelConfig, members: int, num_frames: int
    ) -> None:
        self.folder, self.classes, self.model = folder, classes, model
        self.device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        self.low = use_bfloat16(None, self.device)
        self.members = [self.make_member(number) for number in range(members)]
        self.frames = frames = self.random_frames(num_frames, BINS)
        windows = make_splicer(self.model, frames.features, frames.offsets, self.low)
        self.windows = windows.to(self.device)

    def make_member(self, number: int) -> Path:
        """Write an untrained model whose logits spread so that few classes have most mass."""
        torch.manual_seed(number)
        folder = self.folder / f"{number}"
        model = build_network(self.model, BINS, self.classes)
        torch.nn.init.normal_(model.output.weight, std=4 / self.model.width**0.5)
        description = {"model": settings_of(self.model), "dimension": BINS, "digest": f"{number}"}
        save_model(folder, model, description | {"classes": self.classes})
        return folder

    def random_frames(self, total: int, bins: int) -> Frames:
        """Frames of noise."""
        offsets = np.append(np.arange(0, total, UTTERANCE_FRAMES), total)
        ids = [f"u{number}" for number in range(len(offsets) - 1)]
        features = torch.randn(total, bins, generator=torch.Generator().manual_seed(0))
        return Frames(features, None, ids, offsets, Classes(self.classes, "bench"))

    def row(self, name: str, kept: int, read_mb: float, memory_gb: float | None) -> bench.Row:
        """Measure an encoding; returns its row of the table."""
        kind, _, bits = name.rpartition("-")
        encoding = Encoding(kind, kept, bits=int(bits))
        short, long = self.folder / name, self.folder / f"{name}-long"
        passes = [
            (self.time_forward(), self.time_writing(encoding, short, memory_gb))
            for _ in range(PASSES)
        ]
        forward, write = (min(column) for column in zip(*passes, strict=True))
        total, size = len(self.frames), (short / "shard-00000.h5").stat().st_size
        blocks = max(1, round(read_mb * 1e6 / (size / total) / BLOCK_FRAMES))
        frames = self.write_long_shard(encoding, long, blocks)
        times = [self.time_reading(long, frames) for _ in range(2 * PASSES)]
        read, plain, decode = (min(column) for column in zip(*times, strict=True))
        read_bytes = (long / "shard-00000.h5").stat().st_size
        return {
            "encoding": name,
            "written": total / write,
            "forward": total / forward,
            "write_share": forward / write,
            "frame_bytes": size / total,
            "read": read_bytes / read / 1e9,
            "plain": read_bytes / plain / 1e9,
            "read_share": plain / read,
            "decoded": 1 / decode,
        }

    def time_forward(self) -> float:
        """Seconds of the members' forward passes."""
        kind = torch.bfloat16 if self.low else torch.float32
        members = [load_model(folder).to(self.device, kind) for folder in self.members]

        @torch.inference_mode()
        def forward() -> None:
            for numbers in blocks_of(len(self.frames)):
                windows = self.windows(numbers.to(self.device))
                for member in members:
                    logits_of(member, windows, self.low)

        return self.seconds(forward)

    def time_writing(self, encoding: Encoding, store: Path, memory_gb: float | None) -> float:
        """Seconds of writing a shard; the members are loaded beforehand."""
        ensemble = self.ensemble(memory_gb)
        next(ensemble.predictions(self.frames, blocks_of(len(self.frames))))
        origin = Provenance(TEMPERATURE, ensemble.digests)

        def write() -> None:
            predictions = ensemble.predictions(self.frames, blocks_of(len(self.frames)))
            write_shard(store / "shard-00000.h5", self.frames, predictions, origin, encoding)

        return self.seconds(write)

    def ensemble(self, memory_gb: float | None = None) -> Ensemble:
        """The members' ensemble on the device."""
        return Ensemble(self.members, Mean(TEMPERATURE), self.device, self.low, memory_gb)

    def write_long_shard(self, encoding: Encoding, store: Path, blocks: int) -> Frames:
        """Write the shard that is read; returns its frames."""
        frames = self.random_frames(blocks * BLOCK_FRAMES, 1)
        ensemble = self.ensemble()
        numbers = torch.arange(BLOCK_FRAMES) % len(self.frames)
        (block,) = ensemble.predictions(self.frames, [numbers])
        origin = Provenance(TEMPERATURE, ensemble.digests)
        predictions = (block for _ in range(blocks))
        write_shard(store / "shard-00000.h5", frames, predictions, origin, encoding)
        return frames

    def time_reading(self, store: Path, frames: Frames) -> tuple[float, float, float]:
        """Seconds of reading a store, of reading its bytes plainly, of decoding a frame."""
        plain = self.seconds((store / "shard-00000.h5").read_bytes)
        read = self.seconds(lambda: read_soft_targets(store, frames, TEMPERATURE))
        soft = read_soft_targets(store, frames, TEMPERATURE).to(self.device)
        order = torch.randperm(len(soft), generator=torch.Generator().manual_seed(1))
        batches = order.to(self.device).split(BATCH_FRAMES)[:DECODED_BATCHES]
        decode = self.seconds(lambda: [soft.batch(batch) for batch in batches])
        return read, plain, decode / sum(map(len, batches))

    def seconds(self, action: Callable[[], object]) -> float:
        """Seconds of one call, the device's work included."""
        begin = time.perf_counter()
        action()
        if self.device.type == "cuda":
            torch.cuda.synchronize()
        return time.perf_counter() - begin


if __name__ == "__main__":
    bench.main(measure, COLUMNS)
