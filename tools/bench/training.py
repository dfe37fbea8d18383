#!/usr/bin/env python3
"""Speed of training beside the matrix products alone and beside a tutorial's loop.

For each network: frames per second of the whole training loop (frames and soft targets from shards,
windows, loss, gradient, optimiser); of the matrix products of its forward and backward passes alone
(the same shapes and type, measured before and after the loop, the best counts); and of a tutorial's
loop: a DataLoader over windows and dense soft targets prepared beforehand, cross-entropy, KL
divergence, AdamW. A GPU is used if there is one.

A network is LAYERSxWIDTH:CLASSES. With 10 classes its frames are MNIST's: 784 values, dense soft
targets. Others are speech: windows of 26 frames of 40 values, k classes kept. The paper's networks:

       tools/bench/training.py --nets 8x2560:5000 8x2560:14000 --batch 1024 --steps 4 --threads 2
"""

import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812
from torch.utils.data import DataLoader, TensorDataset

import bench
from acoustic_kd.features.frame_sequence import Classes, FrameSequence
from acoustic_kd.features.frames import read_frames, write_store
from acoustic_kd.settings import ModelConfig, TrainConfig
from acoustic_kd.soft_targets.encoding import Encoding
from acoustic_kd.soft_targets.read import read_soft_targets
from acoustic_kd.soft_targets.write import Provenance, blocks_of, write_shard
from acoustic_kd.training.networks import build_network
from acoustic_kd.training.precision import use_bfloat16
from acoustic_kd.training.processes import make_accelerator
from acoustic_kd.training.schedule import TrainingRun
from acoustic_kd.training.trainer import Trainer
from acoustic_kd.training.windows import make_splicer

MNIST_CLASSES, UTTERANCE_FRAMES, TEMPERATURE = 10, 512, 2.0
EPOCHS = 3  # the first is a warm-up
NETS = ("2x300:10", "2x800:10", "2x1200:10", "4x512:700")
COLUMNS = {
    "net": "net", "batch": "batch", "type": "type", "speed": "frames/s|,.0f",
    "bound": "of the matrix products alone|,.0f", "share": "share|.2f",
    "plain": "of a tutorial's loop|,.0f", "gain": "gain|.2f",
}  # fmt: skip


def measure(
    *, nets: Sequence[str] = NETS, batch: int = 128, steps: int = 100, kept: int = 20
) -> Iterator[bench.Row]:
    """Yield a row for each network; `steps` are those of an epoch."""
    for text in nets:
        with tempfile.TemporaryDirectory() as name:
            net = Net.parse(text, batch, Path(name))
            net.write_data(steps, kept)
            bounds = [product_speed(net)]
            speed = max(epoch["frames_per_second"] for epoch in net.train(EPOCHS)[1:])
            bounds.append(product_speed(net))
            plain = plain_speed(net)
        row = {"net": text, "batch": batch, "type": net.type_name, "speed": speed}
        row |= {"bound": max(bounds), "share": speed / max(bounds)}
        yield row | {"plain": plain, "gain": speed / plain}


@dataclass(frozen=True)
class Net:
    """The shape of a network, its batch size and its training data.

    Attributes:
        folder: where its frames, soft targets and models are.
    """

    layers: int
    width: int
    classes: int
    batch: int
    folder: Path

    @classmethod
    def parse(cls, text: str, batch: int, folder: Path) -> "Net":
        """Read LAYERSxWIDTH:CLASSES."""
        shape, _, classes = text.partition(":")
        layers, _, width = shape.partition("x")
        return cls(int(layers), int(width), int(classes), batch, folder)

    @property
    def is_mnist(self) -> bool:
        return self.classes == MNIST_CLASSES

    @property
    def bins(self) -> int:
        return 784 if self.is_mnist else 40

    @property
    def model(self) -> ModelConfig:
        left, right = (0, 0) if self.is_mnist else (20, 5)
        return ModelConfig(self.layers, self.width, 0.0, 0.0, left, right)

    @property
    def sizes(self) -> list[int]:
        """Units of every layer, from the inputs to the classes."""
        window = self.model.left_frames + 1 + self.model.right_frames
        return [window * self.bins, *[self.width] * self.layers, self.classes]

    @property
    def device(self) -> torch.device:
        return make_accelerator().device

    @property
    def kind(self) -> torch.dtype:
        """The type of the matrix products."""
        return torch.bfloat16 if use_bfloat16(None, self.device) else torch.float32

    @property
    def type_name(self) -> str:
        return str(self.kind).removeprefix("torch.")

    def write_data(self, steps: int, kept: int) -> None:
        """Write random frames and soft targets for an epoch of `steps`."""
        frames = steps * self.batch
        rng = np.random.default_rng(0)
        lengths = (
            (n, min(UTTERANCE_FRAMES, frames - n)) for n in range(0, frames, UTTERANCE_FRAMES)
        )
        utterances = (
            FrameSequence(
                f"u{first}",
                rng.random((length, self.bins), np.float32),
                rng.integers(self.classes, size=length),
            )
            for first, length in lengths
        )
        write_store(self.folder / "frames", utterances, Classes(self.classes, "bench"), frames)
        generator = torch.Generator().manual_seed(0)
        predictions = (
            torch.softmax(4 * torch.randn(len(block), self.classes, generator=generator), -1)
            for block in blocks_of(frames)
        )
        (self.folder / "soft").mkdir()
        encoding = Encoding("dense") if self.is_mnist else Encoding("top-k", kept)
        shard, origin = self.folder / "soft" / "shard-00000.h5", Provenance(TEMPERATURE, ("bench",))
        write_shard(shard, read_frames(self.folder / "frames"), predictions, origin, encoding)

    def train(self, epochs: int, number: int = 1) -> list[dict]:
        """Train model `number`; returns its metrics by epoch."""
        frames = read_frames(self.folder / "frames")
        soft = read_soft_targets(self.folder / "soft", frames, TEMPERATURE)
        settings = TrainConfig(epochs=epochs, batch_frames=self.batch, schedule="cosine")
        job = TrainingRun(f"{self}", number, self.model, settings, 0.5, "bench", report=1000)
        directory = self.folder / f"{number:02d}"
        return Trainer(job, directory, frames, None, soft, make_accelerator()).run()


def product_speed(net: Net) -> float:
    """Frames per second of the matrix products alone."""
    seconds, options = 0.0, {"dtype": net.kind, "device": net.device}
    for number, (fan_in, fan_out) in enumerate(pairwise(net.sizes)):
        x = torch.rand(net.batch, fan_in, **options)
        w = torch.rand(fan_out, fan_in, **options)
        g = torch.rand(net.batch, fan_out, **options)
        seconds += bench.best_time(lambda x=x, w=w: x @ w.T)
        seconds += bench.best_time(lambda x=x, g=g: g.T @ x)
        if number:  # the gradient with respect to the inputs is not needed
            seconds += bench.best_time(lambda w=w, g=g: g @ w)
    return net.batch / seconds


def plain_speed(net: Net) -> float:
    """Frames per second of a tutorial's loop, the best of several epochs."""
    device, kind = net.device, net.kind
    frames = read_frames(net.folder / "frames")
    soft = read_soft_targets(net.folder / "soft", frames, TEMPERATURE)
    numbers = torch.arange(len(frames))
    splice = make_splicer(net.model, frames.features, frames.offsets, False)
    windows = torch.cat([splice(part) for part in numbers.split(net.batch)]).float()
    classes, dense = soft.batch(numbers)
    dense = dense.half()
    if classes is not None:
        dense = torch.zeros(len(frames), net.classes).half().scatter_(-1, classes, dense)
    items = TensorDataset(windows, frames.labels, dense)
    loader = DataLoader(items, net.batch, shuffle=True, pin_memory=device.type == "cuda")
    model = build_network(net.model, net.bins, net.classes).to(device)
    optimizer = torch.optim.AdamW(model.parameters())
    speeds = []
    for _ in range(EPOCHS):
        begin = time.perf_counter()
        for inputs, labels, targets in loader:
            with torch.autocast(device.type, kind, enabled=kind != torch.float32):
                logits = model(inputs.to(device))
            hard = F.cross_entropy(logits.float(), labels.to(device))
            log_q = torch.log_softmax(logits.float() / TEMPERATURE, -1)
            distance = F.kl_div(log_q, targets.to(device).float(), reduction="batchmean")
            optimizer.zero_grad()
            (0.5 * hard + TEMPERATURE**2 * distance).backward()
            optimizer.step()
        if device.type == "cuda":
            torch.cuda.synchronize()
        speeds.append(len(frames) / (time.perf_counter() - begin))
    return max(speeds[1:])


if __name__ == "__main__":
    bench.main(measure, COLUMNS)
