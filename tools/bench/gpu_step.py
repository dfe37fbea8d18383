#!/usr/bin/env python3
"""How near a training step on a GPU comes to what the GPU can do: at most five minutes.

Everything is measured in one run: the GPU's matrix products, memory and launches, the products of
the network alone, whole steps of the trainer, the parts of a step, soft targets of an ensemble, and
what stops the steps: checkpoints and the order of an epoch. `bound` is the least time that the
products, or else the bytes, of a row take; `share` is bound / ms. In rows of what stops the steps,
ms is the time of the steps, and `bound` that of the stop. Where a row has an aim, the column
`holds` says whether it is reached; the exit status is 2 if one is not.

--tiny measures small sizes on any machine, to test the script itself; aims do not count.
"""

import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.profiler import ProfilerActivity, profile

import bench
from acoustic_kd.features.frame_sequence import Classes
from acoustic_kd.features.frames import Frames
from acoustic_kd.settings import ModelConfig, TrainConfig
from acoustic_kd.soft_targets.encoding import Encoding, SparseTargets, encode
from acoustic_kd.soft_targets.targets import SoftTargets, as_soft_targets
from acoustic_kd.system.errors import UserError
from acoustic_kd.training.batches import WHOLE_SHARE, plan_epoch
from acoustic_kd.training.ensemble import Mean
from acoustic_kd.training.losses import distillation_loss, fused_loss
from acoustic_kd.training.networks import build_network
from acoustic_kd.training.precision import forward, logits_of
from acoustic_kd.training.processes import make_accelerator
from acoustic_kd.training.schedule import TrainingRun
from acoustic_kd.training.trainer import Trainer

KEPT, TEMPERATURE, FEATURES, MEMBERS = 20, 2.0, 40, 10
STEP_SHARE = {1024: 0.4, 8192: 0.65}  # aims, by the frames of a batch
SOFT_SHARE, STOP_SHARE, HOST_SHARE = 0.75, 0.02, 0.7  # aims
HOST_STEPS = 3  # so few that the queue of launches does not fill up, which would stop the host
COLUMNS = {
    "what": "", "ms": "ms|,.3f", "bound": "bound, ms|,.3f", "share": "share|.2f",
    "aim": "aim", "holds": "holds", "more": "",
}  # fmt: skip


@dataclass(frozen=True)
class Sizes:
    """What is measured: a network, batches, frames in memory, and frames of an epoch's order."""

    layers: int = 8
    width: int = 2560
    classes: int = 14_000
    batches: tuple[int, ...] = (1024, 4096, 8192, 16_384)
    frames: int = 1_000_000
    ordered: int = 10_000_000
    warm: int = 20
    steps: int = 50

    @property
    def model(self) -> ModelConfig:
        return ModelConfig(self.layers, self.width, 0.1)

    @property
    def pairs(self) -> list[tuple[int, int]]:
        """Units into and out of each layer."""
        window = self.model.left_frames + 1 + self.model.right_frames
        return list(pairwise([window * FEATURES, *[self.width] * self.layers, self.classes]))


TINY = Sizes(2, 32, 60, (64, 128), 2000, 5000, 1, 2)


@dataclass
class Machine:
    """The device, and what it can do.

    Attributes:
        flops: of a second, in products of large bfloat16 matrices.
        bytes: of a second, read and written, in a copy.
    """

    device: torch.device
    flops: float = 0.0
    bytes: float = 0.0

    def seconds(self, action: Callable[[], object], repeats: int = 20) -> float:
        """Seconds of one call on the device, the best of three measurements."""
        action()
        if self.device.type != "cuda":
            return bench.best_time(action, 3, 0.0)
        times = []
        for _ in range(3):
            first, last = (torch.cuda.Event(enable_timing=True) for _ in range(2))
            first.record()
            for _ in range(repeats):
                action()
            last.record()
            torch.cuda.synchronize()
            times.append(first.elapsed_time(last) / 1e3 / repeats)
        return min(times)

    def measure(self, tiny: bool) -> Iterator[bench.Row]:
        """Measure the device."""
        size = 128 if tiny else 8192
        a, b = (torch.randn(size, size, device=self.device).bfloat16() for _ in range(2))
        seconds = self.seconds(lambda: a @ b)
        self.flops = 2 * size**3 / seconds
        yield row(f"bfloat16 product, {size}³", seconds, more=f"{self.flops / 1e12:,.1f} TFLOP/s")
        source = torch.empty(10**6 if tiny else 2 * 10**9, dtype=torch.uint8, device=self.device)
        target = torch.empty_like(source)
        seconds = self.seconds(lambda: target.copy_(source))
        self.bytes = 2 * source.nbytes / seconds
        yield row("copy", seconds, more=f"{self.bytes / 1e12:,.3f} TB/s read and written")
        one = torch.zeros(1, device=self.device)
        yield row("launch of a kernel", self.seconds(lambda: one.add_(1), 10_000))


def row(
    what: str,
    seconds: float,
    bound: float | None = None,
    aim: float | None = None,
    more: str = "",
    at_most: bool = False,
) -> bench.Row:
    """A row of the table; `aim` is the least share, or the largest (`at_most`)."""
    share = None if bound is None else bound / seconds
    holds = None
    if aim is not None and share is not None:
        holds = "yes" if (share <= aim if at_most else share >= aim) else "NO"
    shown = None if aim is None else f"{'≤' if at_most else '≥'} {aim:g}"
    bound_ms = None if bound is None else 1e3 * bound
    return {"what": what, "ms": 1e3 * seconds, "bound": bound_ms, "share": share, "aim": shown,
            "holds": holds, "more": more}  # fmt: skip


def measure(*, tiny: bool = False) -> Iterator[bench.Row]:
    """Yield the rows; the exit status tells whether all aims are reached."""
    device = make_accelerator().device
    if not tiny and device.type != "cuda":
        raise UserError("this benchmark needs an NVIDIA or AMD GPU; --tiny tests it without one")
    machine, sizes, missed = Machine(device), TINY if tiny else Sizes(), []
    for measured in _rows(machine, sizes, tiny):
        if measured["holds"] == "NO":
            missed.append(measured["what"])
        yield measured
    if missed and not tiny:
        raise UserError(f"{len(missed)} aims are missed: {', '.join(missed)}")


def _rows(machine: Machine, sizes: Sizes, tiny: bool) -> Iterator[bench.Row]:
    yield from machine.measure(tiny)
    frames, soft = random_data(sizes)
    with tempfile.TemporaryDirectory() as folder:
        for batch in sizes.batches:
            trainer = make_trainer(sizes, batch, frames, soft, Path(folder))
            yield from measure_step(machine, sizes, batch, trainer)
            if batch == sizes.batches[-2]:
                yield from measure_parts(machine, sizes, batch, trainer)
                yield from measure_stops(machine, sizes, batch, trainer)
    yield from measure_soft_targets(machine, sizes)
    yield correctness(machine, sizes)


def random_data(sizes: Sizes) -> tuple[Frames, SoftTargets]:
    """Frames and their soft targets, of noise."""
    rng, count = np.random.default_rng(0), sizes.frames
    offsets = np.append(np.arange(0, count, 500), count)
    features = torch.from_numpy(rng.standard_normal((count, FEATURES), np.float32)).half()
    targets = torch.from_numpy(rng.integers(sizes.classes, size=count))
    ids = [f"u{number}" for number in range(len(offsets) - 1)]
    frames = Frames(features, targets, ids, offsets, Classes(sizes.classes, "bench"))
    first = torch.from_numpy(rng.integers(sizes.classes, size=(count, 1)))
    classes = (first + torch.arange(KEPT)) % sizes.classes
    p = torch.from_numpy(rng.dirichlet(np.ones(KEPT + 1), min(count, 1000)).astype(np.float32))
    p = p[:, :KEPT].sort(-1, descending=True)[0].repeat(-(-count // len(p)), 1)[:count]
    encoding = Encoding("top-k", KEPT, bits=8).of(sizes.classes, sparse=True)
    encoded = encode(SparseTargets(classes, p), encoding)
    return frames, as_soft_targets(encoded, encoding, TEMPERATURE)


def make_trainer(
    sizes: Sizes, batch: int, frames: Frames, soft: SoftTargets, folder: Path
) -> Trainer:
    settings = TrainConfig(epochs=1, batch_frames=batch, schedule="cosine", bfloat16=True)
    run = TrainingRun("bench", 1, sizes.model, settings)
    return Trainer(run, folder, frames, None, soft, make_accelerator())


def product_seconds(machine: Machine, sizes: Sizes, batch: int, passes: int = 3) -> float:
    """Seconds of the network's products alone: forward, and backward to weights and inputs.

    Args:
        passes: 1 for the forward products alone.
    """
    seconds, options = 0.0, {"device": machine.device, "dtype": torch.bfloat16}
    for number, (inputs, outputs) in enumerate(sizes.pairs):
        x, w = torch.randn(batch, inputs, **options), torch.randn(outputs, inputs, **options)
        seconds += machine.seconds(lambda x=x, w=w: x @ w.T)
        if passes == 3:
            g = torch.randn(batch, outputs, **options)
            seconds += machine.seconds(lambda x=x, g=g: g.T @ x)
            if number:  # the gradient of the windows is not needed
                seconds += machine.seconds(lambda w=w, g=g: g @ w)
    return seconds


def measure_step(
    machine: Machine, sizes: Sizes, batch: int, trainer: Trainer
) -> Iterator[bench.Row]:
    """Whole steps: time on the device, of the host, and kernels."""
    cuda = machine.device.type == "cuda"
    numbers = torch.randint(sizes.frames, (batch,), device=machine.device)
    trainer.model.train()
    if cuda:
        torch.cuda.reset_peak_memory_stats()

    def step() -> object:
        return trainer._step(numbers, batch, 10**6)

    for _ in range(sizes.warm):
        step()
    bound = product_seconds(machine, sizes, batch)
    seconds = machine.seconds(step, sizes.steps)
    bound = (bound + product_seconds(machine, sizes, batch)) / 2
    begin = time.perf_counter()  # the device is idle
    for _ in range(HOST_STEPS):
        step()
    host = (time.perf_counter() - begin) / HOST_STEPS  # the device may still work
    kinds = [ProfilerActivity.CUDA if cuda else ProfilerActivity.CPU]
    with profile(activities=kinds) as profiled:
        step()
    kernels = len(profiled.events() or [])
    text = f"{batch / seconds:,.0f} frames/s, {kernels} kernels"
    if cuda:
        text += f", {torch.cuda.max_memory_allocated() / 2**30:.1f} GiB"
    yield row(f"step of {batch:,} frames", seconds, bound, STEP_SHARE.get(batch), text)
    yield row(f"… launched by the host, {batch:,}", seconds, host, HOST_SHARE, "", at_most=True)


def measure_parts(
    machine: Machine, sizes: Sizes, batch: int, trainer: Trainer
) -> Iterator[bench.Row]:
    """The parts of a step, beside the bytes that they must read and write."""
    numbers = torch.randint(sizes.frames, (batch,), device=machine.device)
    loader, model = trainer.loader, trainer.model
    soft, hard = loader.soft, loader.hard
    windows = loader.windows(numbers)
    seconds = machine.seconds(lambda: loader.windows(numbers))
    yield row("windows", seconds, 2 * windows.nbytes / machine.bytes)
    seconds = machine.seconds(lambda: soft.batch(numbers))
    read, written = batch * KEPT * (2 + 1), batch * KEPT * (8 + 4)  # classes and probabilities
    yield row("lookup of soft targets", seconds, (read + written) / machine.bytes)
    products = product_seconds(machine, sizes, batch, passes=1)
    with torch.no_grad():
        seconds = machine.seconds(lambda: forward(model, windows, True))
    yield row("forward pass", seconds, products)
    slope = torch.randn(batch, sizes.classes, device=machine.device).bfloat16()
    # The gradients stay for the optimizer.
    seconds = machine.seconds(lambda: forward(model, windows, True).backward(slope))
    products = product_seconds(machine, sizes, batch)
    yield row("forward and backward pass", seconds, products)
    logits = forward(model, windows, True).detach().requires_grad_()
    classes, p = soft.batch(numbers)

    def loss() -> None:
        logits.grad = None
        fused_loss(logits, p, hard[numbers], TEMPERATURE, 0.5, classes).backward()

    # The logits are read once forward and once backward, and the gradient is written.
    yield row("loss and its gradient", machine.seconds(loss), 3 * logits.nbytes / machine.bytes)
    weights = 4 * trainer.parameters  # read: weights, gradient, two moments; written: all but one
    yield row("optimizer", machine.seconds(trainer.optimizer.step), 7 * weights / machine.bytes)


def measure_stops(
    machine: Machine, sizes: Sizes, batch: int, trainer: Trainer
) -> Iterator[bench.Row]:
    """What the device waits for: a checkpoint, and the order of an epoch."""
    numbers = torch.randint(sizes.frames, (batch,), device=machine.device)
    step = machine.seconds(lambda: trainer._step(numbers, batch, 10**6), sizes.steps)
    begin = time.perf_counter()
    trainer._save()
    seconds = time.perf_counter() - begin
    size = trainer.checkpoint.stat().st_size
    every = trainer.training_run.train.checkpoint_steps * step
    text = f"{size / 1e9:.2f} GB, {size / seconds / 1e9:.2f} GB/s; bound: {every:.0f} s of steps"
    yield row("checkpoint", every, seconds, STOP_SHARE, text, at_most=True)
    begin = time.perf_counter()
    plan = plan_epoch(np.array([sizes.ordered]), 1, batch, 0, 0)
    next(plan.batches(0, WHOLE_SHARE))
    seconds = time.perf_counter() - begin
    text = f"{1e9 * seconds / sizes.ordered:.0f} ns a frame"
    epoch = step * sizes.ordered / batch
    yield row(f"order of {sizes.ordered:,} frames", epoch, seconds, STOP_SHARE, text, at_most=True)


def measure_soft_targets(machine: Machine, sizes: Sizes) -> Iterator[bench.Row]:
    """Soft targets of ten members of the same shape."""
    network = build_network(sizes.model, FEATURES, sizes.classes).to(machine.device).eval()
    network.bfloat16()
    mean, encoding = Mean(TEMPERATURE), Encoding("top-k", KEPT, bits=8).of(sizes.classes)
    for batch in sizes.batches[1::2]:
        window = sizes.pairs[0][0] // FEATURES
        windows = torch.randn(batch, window, FEATURES, device=machine.device).bfloat16()

        def write(windows: Tensor = windows) -> object:
            total: Any = None
            with torch.inference_mode():
                for member in range(MEMBERS):
                    total = mean.add(total, logits_of(network, windows, True), member)
                return encode(mean.finish(total, MEMBERS), encoding)

        bound = MEMBERS * product_seconds(machine, sizes, batch, passes=1)
        seconds = machine.seconds(write, 5)
        aim = SOFT_SHARE if batch == sizes.batches[-1] else None
        text = f"{batch / seconds:,.0f} frames/s"
        yield row(f"soft targets, {batch:,} frames", seconds, bound, aim, text)


def correctness(machine: Machine, sizes: Sizes) -> bench.Row:
    """The largest difference between the loss's gradient here and in float64; see `losses`."""
    generator = torch.Generator().manual_seed(0)
    logits, teacher = (3 * torch.randn(256, sizes.classes, generator=generator) for _ in range(2))
    p, classes = torch.softmax(teacher / TEMPERATURE, -1).topk(KEPT, -1)
    hard = torch.randint(sizes.classes, (256,), generator=generator)
    here = logits.to(machine.device, copy=True).requires_grad_()
    exact = logits.to(torch.float64).requires_grad_()
    on_device = [tensor.to(machine.device) for tensor in (p, hard, classes)]
    begin = time.perf_counter()
    fused_loss(here, on_device[0], on_device[1], TEMPERATURE, 0.5, on_device[2]).backward()
    seconds = time.perf_counter() - begin
    distillation_loss(exact, p.double(), hard, TEMPERATURE, 0.5, classes).sum().backward()
    error = float((here.grad.cpu().double() - exact.grad).abs().max())
    result = row("loss in float32 against float64", seconds, more=f"largest error {error:.1e}")
    return result | {"aim": "≤ 1e-05", "holds": "yes" if error <= 1e-5 else "NO"}


if __name__ == "__main__":
    bench.main(measure, COLUMNS)
