"""Write soft targets, train a net, count its errors.

These functions run in worker processes; `load` reads the frames once in each.
"""

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn

from acoustic_kd.features.frames import Frames, read_frames
from acoustic_kd.mnist.bias_correction import best_shift, prior_shift, shifted
from acoustic_kd.mnist.data import SIDE
from acoustic_kd.mnist.variants import DIGITS, Teacher, Variant, VariantRun
from acoustic_kd.soft_targets.encoding import Encoding
from acoustic_kd.soft_targets.read import read_soft_targets
from acoustic_kd.soft_targets.targets import SoftTargets
from acoustic_kd.soft_targets.write import Provenance, blocks_of, write_shard
from acoustic_kd.system.files import write_json
from acoustic_kd.system.seeds import seed_of
from acoustic_kd.system.steps import Step
from acoustic_kd.training.ensemble import mean_of
from acoustic_kd.training.model import load_model
from acoustic_kd.training.precision import logits_of, use_bfloat16
from acoustic_kd.training.processes import make_accelerator
from acoustic_kd.training.schedule import TrainingRun
from acoustic_kd.training.trainer import Trainer
from acoustic_kd.training.windows import make_splicer

BATCH = 4096  # images predicted at once
SHARD = "shard-00000.h5"  # all soft targets of one teacher at a temperature

SplitFrames = dict[str, Frames]  # of "train" and "test"


def load(folder: Path) -> SplitFrames:
    """Read the frames that every net of this process is trained and measured on."""
    return {split: read_frames(folder / split) for split in ("train", "test")}


def jitter(pixels: int) -> Callable[[Tensor], Tensor]:
    """A function that moves each image of a batch [B, 1, 784] by up to `pixels`, at random.

    The pixels that move in are background. With 2, as in the paper, an image has 25 places.
    """

    def move(images: Tensor) -> Tensor:
        count = len(images)
        places = F.pad(images.view(count, SIDE, SIDE), (pixels,) * 4)
        places = places.unfold(1, SIDE, 1).unfold(2, SIDE, 1)  # [B, 5, 5, 28, 28], a view
        down, right = torch.randint(0, 2 * pixels + 1, (2, count), device=images.device)
        return places[torch.arange(count, device=images.device), down, right].view(images.shape)

    return move


def subset(frames: Frames, digits: tuple[int, ...]) -> Frames:
    """The images of some digits."""
    if set(digits) == set(range(DIGITS)):
        return frames
    return frames.select(torch.isin(frames.labels, torch.tensor(digits)).numpy())


def train_net(
    split_frames: SplitFrames, run: VariantRun, step: Step, soft: Path | None, report: int
) -> float:
    """Train one net and count its errors, unless it is up to date; returns the seconds it took.

    Args:
        soft: directory of its soft targets; None: hard targets.
        report: epochs between lines on the terminal.
    """
    begun = time.monotonic()
    if step.is_current():
        return 0.0
    variant = run.settings
    frames = subset(split_frames["train"], variant.digits)
    targets = None
    if soft is not None and run.temperature is not None:
        targets = read_soft_targets(soft, frames, run.temperature)
    # Each variant has seeds of its own: only the targets tie two nets together.
    seed = seed_of("mnist", run.variant, run.seed)
    training = TrainingRun(
        run.name, seed, variant.model, variant.train, variant.hard_weight, step.digest, report
    )
    augment = jitter(variant.jitter) if variant.jitter else None
    accelerator = make_accelerator()  # if that fails, the older net is still there
    with step.run():
        trainer = Trainer(training, step.directory, frames, None, targets, accelerator, augment)
        history = trainer.run()
        model = load_model(step.directory).to(trainer.accelerator.device)
        result = measure(split_frames, model, run, frames, targets)
        speeds = sorted(epoch["frames_per_second"] for epoch in history)
        result["frames_per_second"] = speeds[len(speeds) // 2]
        result["parameters"] = trainer.parameters
        result["train_loss"] = history[-1]["train_loss"]
        write_json(step.directory / "result.json", result)
    return time.monotonic() - begun


def write_soft_targets(
    split_frames: SplitFrames, teacher: Teacher, members: list[Step], steps: dict[float, Step]
) -> None:
    """Average the members' predictions for all train images, at each temperature.

    Args:
        members: the steps that train them.
        steps: temperature → the step that writes its soft targets.
    """
    missing = {t: step for t, step in steps.items() if not step.is_current()}
    if not missing:
        return
    frames = split_frames["train"]
    device = make_accelerator().device
    logits = [predict(load_model(m.directory).to(device), frames) for m in members]
    for temperature, step in missing.items():
        provenance = Provenance(temperature, tuple(m.digest for m in members), teacher.mean)
        means = (
            mean_of((member[numbers] for member in logits), temperature, teacher.mean)
            for numbers in blocks_of(len(frames))
        )
        with step.run():
            write_shard(step.directory / SHARD, frames, means, provenance, Encoding("dense"))


@torch.inference_mode()
def predict(model: nn.Module, frames: Frames) -> Tensor:
    """Logits float32 [N, K] of every image, on the CPU."""
    device = next(model.parameters()).device
    low = use_bfloat16(None, device)
    windows = make_splicer(Variant().model, frames.features, frames.offsets, low).to(device)
    numbers = torch.arange(len(frames), device=device)
    return torch.cat([logits_of(model, windows(n), low).cpu() for n in numbers.split(BATCH)])


def measure(
    split_frames: SplitFrames,
    model: nn.Module,
    run: VariantRun,
    transfer: Frames,
    soft: SoftTargets | None,
) -> dict[str, Any]:
    """A net's confusions on the test images, before and after its biases are corrected.

    Args:
        transfer: the images it was trained on.
        soft: its soft targets for them.
    """
    test = split_frames["test"]
    logits = predict(model, test)
    result: dict[str, Any] = {"confusion": confusion(logits, test.labels)}
    if run.settings.correct:
        shifts = bias_shifts(split_frames, run, logits, predict(model, transfer), soft)
        result["corrected"] = {
            method: {
                "shift": shift,
                "confusion": confusion(shifted(logits, run.settings.correct, shift), test.labels),
            }
            for method, shift in shifts.items()
        }
    return result


def bias_shifts(
    split_frames: SplitFrames,
    run: VariantRun,
    test: Tensor,
    transfer: Tensor,
    soft: SoftTargets | None,
) -> dict[str, float]:
    """Shifts of the biases of the classes `run.settings.correct`, by each method.

    Args:
        test: logits [N, K] of the test images.
        transfer: logits [T, K] of the transfer set.
        soft: soft targets of the transfer set.
    """
    classes = run.settings.correct
    labels = split_frames["train"].labels
    share = float(torch.isin(labels, torch.tensor(classes)).float().mean())
    shifts = {"prior": prior_shift(transfer, classes, share, run.temperature or 1.0)}
    if soft is not None:
        _, probabilities = soft.batch(torch.arange(len(soft)))
        # One teacher's predictions at temperature T give those at 1.
        teacher = (probabilities.log() * soft.temperature).softmax(-1)
        share = float(teacher[:, list(classes)].sum(-1).mean())
        shifts["teacher"] = prior_shift(transfer, classes, share, 1.0)
    return shifts | {"test": best_shift(test, split_frames["test"].labels, classes)}


def confusion(logits: Tensor, labels: Tensor) -> list[list[int]]:
    """Images of each class (rows) that are taken for each class (columns): [K][K]."""
    pairs = labels * DIGITS + logits.argmax(-1)
    return torch.bincount(pairs, minlength=DIGITS * DIGITS).view(DIGITS, DIGITS).tolist()
