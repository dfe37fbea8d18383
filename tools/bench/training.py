#!/usr/bin/env python3
"""How much of the matrix products' speed training reaches, for small nets and large.

For each net, frames per second of the training loop, those that the bare matrix products of its
forward and backward pass would allow, and the ratio of the two. The loop is the whole of it: frames
and soft targets of real shards, windows, loss, gradient, optimiser. The products are of the same
shapes and in the same type; they are measured before and after the loop, and the best counts on
either side. The peer is the loop that a tutorial has: a DataLoader over windows and dense soft
targets that were put together before, cross-entropy, KL divergence, AdamW. A GPU is used if there
is one.

With `--models N` only whole trainings of two epochs are timed: N models one after another, each
with all the threads, and N side by side in processes that share the threads.

usage: tools/bench/training.py [--nets 2x300:10 2x800:10 2x1200:10 4x512:700] [--batch 128]
           [--kept 20] [--steps 100] [--models N] [--threads 1] [--json FILE]

A net is LAYERSxWIDTH:CLASSES. With 10 classes its frames are as MNIST's: one of 784 values, dense
soft targets. Others are as speech: windows of 26 frames of 40 values, k classes kept. The paper's:

       tools/bench/training.py --nets 8x2560:5000 8x2560:14000 --batch 1024 --steps 4 --threads 2
"""

import tempfile
import time
from dataclasses import dataclass
from functools import partial
from itertools import pairwise
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812
from tables import Table, best_time, parser_of
from torch.utils.data import DataLoader, TensorDataset

from acoustic_kd.features.frames import Classes, FrameSequence, read_frames, write_store
from acoustic_kd.settings import ModelConfig, TrainConfig
from acoustic_kd.soft_targets.encoding import Encoding
from acoustic_kd.soft_targets.read import read_soft_targets
from acoustic_kd.soft_targets.write import Provenance, blocks_of, write_shard
from acoustic_kd.system.parallel import mapping, torch_threads
from acoustic_kd.training.model import build_model, make_splicer, use_bfloat16
from acoustic_kd.training.processes import make_accelerator
from acoustic_kd.training.schedule import TrainingRun
from acoustic_kd.training.trainer import Trainer

MNIST_CLASSES, UTTERANCE, TEMPERATURE = 10, 512, 2.0
EPOCHS = 3  # the first is not counted
COLUMNS = {
    "net": "net|", "batch": "batch|", "type": "type|", "speed": "frames/s|,.0f",
    "bound": "of the matrix products alone|,.0f", "share": "share|.2f",
    "plain": "of a tutorial's loop|,.0f", "gain": "gain|.2f",
}  # fmt: skip

MODELS_COLUMNS = {
    "net": "net|", "batch": "batch|", "type": "type|", "models": "models|",
    "turns": "one after another, s|.1f", "side": "side by side, s|.1f", "ratio": "ratio|.2f",
}  # fmt: skip


@dataclass(frozen=True)
class Net:
    """A shape of net, and the frames it sees."""

    layers: int
    width: int
    classes: int

    @classmethod
    def of(cls, text: str) -> "Net":
        """From LAYERSxWIDTH:CLASSES."""
        shape, _, classes = text.partition(":")
        layers, _, width = shape.partition("x")
        return cls(int(layers), int(width), int(classes))

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


def write_data(net: Net, frames: int, kept: int, folder: Path) -> None:
    """Shards of frames and of soft targets, of noise."""
    rng = np.random.default_rng(0)
    utterances = (
        FrameSequence(
            f"u{first}",
            rng.random((min(UTTERANCE, frames - first), net.bins), np.float32),
            rng.integers(net.classes, size=min(UTTERANCE, frames - first)),
        )
        for first in range(0, frames, UTTERANCE)
    )
    write_store(folder / "frames", utterances, Classes(net.classes, "bench"), frames)
    generator = torch.Generator().manual_seed(0)
    stored = read_frames(folder / "frames")
    predictions = (
        torch.softmax(4 * torch.randn(len(block), net.classes, generator=generator), -1)
        for block in blocks_of(frames)
    )
    (folder / "soft").mkdir()
    encoding = Encoding("dense") if net.is_mnist else Encoding("top-k", kept)
    origin = Provenance(TEMPERATURE, ("bench",))
    write_shard(folder / "soft" / "shard-00000.h5", stored, predictions, origin, encoding)


def loop_speed(net: Net, batch: int, folder: Path) -> float:
    """Frames per second of the training loop, the best of several epochs."""
    history = train(net, batch, folder, EPOCHS)
    return max(epoch["frames_per_second"] for epoch in history[1:])


def train(net: Net, batch: int, folder: Path, epochs: int, number: int = 1) -> list[dict]:
    """Train model `number` on the shards in `folder`; its metrics by epoch."""
    frames = read_frames(folder / "frames")
    soft = read_soft_targets(folder / "soft", frames, TEMPERATURE)
    settings = TrainConfig(epochs=epochs, batch_frames=batch, schedule="cosine")
    job = TrainingRun(f"{net}", number, net.model, settings, 0.5, "bench", report=1000)
    directory = folder / f"{number:02d}"
    return Trainer(job, directory, frames, None, soft, make_accelerator()).run()


def seconds_of_models(net: Net, batch: int, folder: Path, models: int, jobs: int) -> float:
    """Seconds of several trainings, so many at a time; the threads are divided among them."""
    threads, work = max(1, torch.get_num_threads() // jobs), partial(train, net, batch, folder, 2)
    with torch_threads(threads), mapping(models, jobs, torch.set_num_threads, (threads,)) as over:
        for _ in range(2):  # the first time warms up
            begun = time.perf_counter()
            list(over(work, range(models), "training"))
    return time.perf_counter() - begun


def plain_speed(net: Net, batch: int, folder: Path, kind: torch.dtype) -> float:
    """Frames per second of the loop that one would write first, the best of several epochs."""
    device = make_accelerator().device
    frames = read_frames(folder / "frames")
    soft = read_soft_targets(folder / "soft", frames, TEMPERATURE)
    numbers = torch.arange(len(frames))
    splice = make_splicer(net.model, frames.features, frames.offsets, False)
    windows = torch.cat([splice(part) for part in numbers.split(batch)]).float()
    classes, dense = soft.batch(numbers)
    dense = dense.half()
    if classes is not None:
        dense = torch.zeros(len(frames), net.classes).half().scatter_(-1, classes, dense)
    items = TensorDataset(windows, frames.labels, dense)
    loader = DataLoader(items, batch, shuffle=True, pin_memory=device.type == "cuda")
    model = build_model(net.model, net.bins, net.classes).to(device)
    optimizer = torch.optim.AdamW(model.parameters())
    speeds = []
    for _ in range(EPOCHS):
        begun = time.perf_counter()
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
        speeds.append(len(frames) / (time.perf_counter() - begun))
    return max(speeds[1:])


def bound(net: Net, batch: int, device: torch.device, kind: torch.dtype) -> float:
    """Frames per second of the matrix products alone."""
    seconds = 0.0
    for number, (fan_in, fan_out) in enumerate(pairwise(net.sizes)):
        x = torch.rand(batch, fan_in, dtype=kind, device=device)
        w = torch.rand(fan_out, fan_in, dtype=kind, device=device)
        g = torch.rand(batch, fan_out, dtype=kind, device=device)
        seconds += best_time(lambda x=x, w=w: x @ w.T)
        seconds += best_time(lambda x=x, g=g: g.T @ x)
        if number:  # nothing asks for the gradient by the frames themselves
            seconds += best_time(lambda w=w, g=g: g @ w)
    return batch / seconds


def measure(text: str, batch: int, steps: int, kept: int) -> dict:
    """A row of the table."""
    net, device = Net.of(text), make_accelerator().device
    kind = torch.bfloat16 if use_bfloat16(None, device) else torch.float32
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_data(net, batch * steps, kept, folder)
        limits = [bound(net, batch, device, kind)]
        speed = loop_speed(net, batch, folder)
        limits.append(bound(net, batch, device, kind))
        plain = plain_speed(net, batch, folder, kind)
    limit = max(limits)
    row = {"net": text, "batch": batch, "type": str(kind).removeprefix("torch.")}
    row |= {"speed": speed, "bound": limit, "share": speed / limit}
    return row | {"plain": plain, "gain": speed / plain}


def measure_models(text: str, batch: int, steps: int, kept: int, models: int) -> dict:
    """A row of the table of several models."""
    net, device = Net.of(text), make_accelerator().device
    kind = torch.bfloat16 if use_bfloat16(None, device) else torch.float32
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_data(net, batch * steps, kept, folder)
        turns, side = (seconds_of_models(net, batch, folder, models, n) for n in (1, models))
    row = {"net": text, "batch": batch, "type": str(kind).removeprefix("torch."), "models": models}
    return row | {"turns": turns, "side": side, "ratio": turns / side}


def main() -> None:
    """Print the table."""
    parser = parser_of(__doc__)
    parser.add_argument(
        "--nets", nargs="+", default=["2x300:10", "2x800:10", "2x1200:10", "4x512:700"]
    )
    parser.add_argument("--batch", type=int, default=128)
    parser.add_argument("--steps", type=int, default=100, help="an epoch")
    parser.add_argument("--kept", type=int, default=20)
    parser.add_argument("--models", type=int, help="trained one after another and side by side")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    with Table(MODELS_COLUMNS if options.models else COLUMNS, options.json) as table:
        for net in options.nets:
            arguments = net, options.batch, options.steps, options.kept
            if options.models:
                table.add(measure_models(*arguments, options.models))
            else:
                table.add(measure(*arguments))


if __name__ == "__main__":
    main()
