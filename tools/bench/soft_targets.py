#!/usr/bin/env python3
"""How near writing and reading soft targets come to what bounds them.

For each encoding: frames per second of writing (windows, members, mean, encoding, what is measured,
check sums, HDF5, SHA-256, the manifest entry), those of the members' forward passes alone on the
same frames in the same blocks, and the ratio of the two; gigabytes per second of reading (every
check made), those of reading the same file plainly, both from the cache, and the ratio; and frames
per second of decoding batches. What is read is a shard of `--read-mb` or more, the first block's
predictions over and over. All are measured in turn, several times; the best counts.

usage: tools/bench/soft_targets.py [--classes 2000] [--width 512] [--layers 4] [--members 2]
           [--frames 8192] [--kept 20] [--encodings top-k-16 top-p-16 sampled-16 dense-16 top-k-8]
           [--read-mb 16] [--memory-gb GB] [--threads 1]
           [--json FILE]
"""

import argparse
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from tables import Table, parser_of

from acoustic_kd.features.frames import Classes, Frames
from acoustic_kd.settings import ModelConfig
from acoustic_kd.soft_targets.encoding import Encoding
from acoustic_kd.soft_targets.read import read_soft_targets
from acoustic_kd.soft_targets.write import BLOCK_FRAMES, Provenance, blocks_of, write_shard
from acoustic_kd.training.ensemble import Mean
from acoustic_kd.training.ensemble_predictions import Ensemble
from acoustic_kd.training.model import (
    build_model,
    load_model,
    logits_of,
    make_splicer,
    save_model,
    use_bfloat16,
)

BINS, UTTERANCE = 40, 512  # features a frame, frames an utterance
TEMPERATURE, REPEATS = 2.0, 3
COLUMNS = {
    "encoding": "encoding|", "written": "frames/s written|,.0f",
    "forward": "of the forward passes alone|,.0f", "write_share": "share|.2f",
    "frame_bytes": "bytes a frame|,.0f", "read": "GB/s read|.2f", "plain": "read plainly|.2f",
    "read_share": "share|.2f", "decoded": "frames/s decoded|,.0f",
}  # fmt: skip
BATCH, DECODED = 512, 64  # frames of a batch, batches that are decoded


class Bench:
    """Members and frames to predict, and what is measured on them."""

    def __init__(self, options: argparse.Namespace, folder: Path) -> None:
        self.options, self.folder = options, folder
        self.device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        self.low = use_bfloat16(None, self.device)
        self.model = ModelConfig(layers=options.layers, width=options.width)
        self.members = [self.member(number) for number in range(options.members)]
        self.frames = frames = self.some_frames(options.frames, BINS)
        windows = make_splicer(self.model, frames.features, frames.offsets, self.low)
        self.windows = windows.to(self.device)

    def some_frames(self, total: int, bins: int) -> Frames:
        """Frames of noise."""
        offsets = np.append(np.arange(0, total, UTTERANCE), total)
        ids = [f"u{number}" for number in range(len(offsets) - 1)]
        features = torch.randn(total, bins, generator=torch.Generator().manual_seed(0))
        return Frames(features, None, ids, offsets, Classes(self.options.classes, "bench"))

    def member(self, number: int) -> Path:
        """A fresh model; its logits are spread so that a few classes hold most of the mass."""
        torch.manual_seed(number)
        folder, model = (
            self.folder / f"{number}",
            build_model(self.model, BINS, self.options.classes),
        )
        torch.nn.init.normal_(model.output.weight, std=4 / self.options.width**0.5)
        described = {"model": vars(self.model), "dimension": BINS, "digest": f"{number}"}
        save_model(folder, model, described | {"classes": self.options.classes})
        return folder

    def forward(self) -> float:
        """Seconds of the members' forward passes."""
        kind = torch.bfloat16 if self.low else torch.float32
        members = [load_model(folder)[0].to(self.device, kind) for folder in self.members]

        @torch.inference_mode()
        def passes() -> None:
            for numbers in blocks_of(len(self.frames)):
                windows = self.windows(numbers.to(self.device))
                for member in members:
                    logits_of(member, windows, self.low)

        return self.seconds(passes)

    def writing(self, encoding: Encoding, store: Path) -> float:
        """Seconds of writing; the members are there beforehand."""
        mean, memory = Mean(TEMPERATURE), self.options.memory_gb
        ensemble = Ensemble(self.members, mean, self.device, self.low, memory)
        next(ensemble.predictions(self.windows, blocks_of(len(self.frames))))
        origin = Provenance(TEMPERATURE, ensemble.digests)

        def write() -> None:
            predictions = ensemble.predictions(self.windows, blocks_of(len(self.frames)))
            write_shard(store / "shard-00000.h5", self.frames, predictions, origin, encoding)

        return self.seconds(write)

    def seconds(self, action: Callable[[], object]) -> float:
        """Seconds of one call, on the device too."""
        begun = time.perf_counter()
        action()
        if self.device.type == "cuda":
            torch.cuda.synchronize()
        return time.perf_counter() - begun

    def long_shard(self, encoding: Encoding, store: Path, frame_bytes: float) -> Frames:
        """Write the shard that is read; returns its frames."""
        blocks = max(1, round(self.options.read_mb * 1e6 / frame_bytes / BLOCK_FRAMES))
        frames = self.some_frames(blocks * BLOCK_FRAMES, 1)
        ensemble = Ensemble(self.members, Mean(TEMPERATURE), self.device, self.low)
        block = torch.arange(BLOCK_FRAMES) % len(self.frames)
        (one,) = ensemble.predictions(self.windows, [block])
        origin = Provenance(TEMPERATURE, ensemble.digests)
        write_shard(
            store / "shard-00000.h5", frames, (one for _ in range(blocks)), origin, encoding
        )
        return frames

    def reading(self, store: Path, frames: Frames) -> tuple[float, float, float]:
        """Seconds of reading, of reading the bytes plainly, and of decoding in batches."""
        path = store / "shard-00000.h5"
        plain = self.seconds(path.read_bytes)
        read = self.seconds(lambda: read_soft_targets(store, frames, TEMPERATURE))
        soft = read_soft_targets(store, frames, TEMPERATURE).to(self.device)
        order = torch.randperm(len(soft), generator=torch.Generator().manual_seed(1))
        batches = order.to(self.device).split(BATCH)[:DECODED]
        decode = self.seconds(lambda: [soft.batch(batch) for batch in batches])
        return read, plain, decode / sum(map(len, batches))

    def row(self, name: str) -> dict:
        """The row of the table for an encoding."""
        kind, _, bits = name.rpartition("-")
        encoding = Encoding(kind, self.options.kept, bits=int(bits))
        short, long = self.folder / name, self.folder / f"{name}-long"
        written = [(self.forward(), self.writing(encoding, short)) for _ in range(REPEATS)]
        total, size = len(self.frames), (short / "shard-00000.h5").stat().st_size
        frames = self.long_shard(encoding, long, size / total)
        times = [self.reading(long, frames) for _ in range(2 * REPEATS)]
        forward, write = (min(column) for column in zip(*written, strict=True))
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


def main() -> None:
    """Print the table."""
    parser = parser_of(__doc__)
    parser.add_argument("--classes", type=int, default=2000)
    parser.add_argument("--width", type=int, default=512)
    parser.add_argument("--layers", type=int, default=4)
    parser.add_argument("--members", type=int, default=2)
    parser.add_argument("--frames", type=int, default=8192)
    parser.add_argument("--kept", type=int, default=20)
    parser.add_argument(
        "--encodings",
        nargs="+",
        default=["top-k-16", "top-p-16", "sampled-16", "dense-16", "top-k-8"],
    )
    parser.add_argument("--read-mb", type=float, default=16)
    parser.add_argument("--memory-gb", type=float)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    with tempfile.TemporaryDirectory() as folder, Table(COLUMNS, options.json) as table:
        bench = Bench(options, Path(folder))
        for name in options.encodings:
            table.add(bench.row(name))


if __name__ == "__main__":
    main()
