"""The training loop, for members and distilled models alike: only their targets differ.

Every batch is the same on any number of processes: the order of frames follows from seed and
epoch, process r takes frames r, r + N, … of each batch, and a gradient is the sum over all the
batch's frames divided by their number. Dropout follows from seed, epoch, step and process. So
nothing but the checkpoint is needed to go on exactly where a killed run stopped.
"""

import math
import os
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path

import torch
import torch.nn.functional as F  # noqa: N812
from accelerate import Accelerator
from torch import Tensor

from acoustic_kd.checkpoint import (
    load_checkpoint,
    optimizer_tensors,
    restore_optimizer,
    save_checkpoint,
)
from acoustic_kd.config import ModelConfig, TrainConfig
from acoustic_kd.errors import UserError
from acoustic_kd.files import digest, write_jsonl
from acoustic_kd.frames import Frames
from acoustic_kd.losses import distillation_loss
from acoustic_kd.model import (
    build_model,
    count_parameters,
    limit_norms,
    make_splicer,
    save_model,
)
from acoustic_kd.parallel import progress
from acoustic_kd.precision import logits_of, use_bfloat16
from acoustic_kd.soft_targets.targets import SoftTargets

EVALUATION_BATCH = 8192
CHECKPOINT_SECONDS = 10  # at the ends of epochs no more often than this


@dataclass(frozen=True)
class Job:
    """One model to train.

    Attributes:
        name: what the progress bar calls it.
        seed: of its initial weights, its order of frames and its dropout.
        hard_weight: of the hard targets beside soft ones; not used without soft targets.
        digest: of everything that shapes the result; a checkpoint of another one is refused.
        report: a line on the terminal every so many epochs.
    """

    name: str
    seed: int
    model: ModelConfig
    train: TrainConfig
    hard_weight: float
    digest: str
    report: int = 1


@dataclass
class State:
    """How far training has come; saved with every checkpoint."""

    epoch: int = 0
    step: int = 0  # within the epoch
    rate: float = 0.0
    decaying: bool = False
    loss: float = 0.0  # summed over the epoch's frames so far
    seconds: float = 0.0
    best: float = -1.0  # dev frame accuracy, percent
    history: list[dict] = field(default_factory=list)


def seed_of(*parts: int | str) -> int:
    """A 63-bit seed from numbers and names; different parts give unrelated seeds."""
    return int(digest(list(parts))[:15], 16)


def seed_generator(device: torch.device, seed: int) -> None:
    """Seed the generator that random numbers on `device` come from.

    `torch.manual_seed` seeds every device's, and for one that is not in use keeps a stack trace a
    call: more work than a step of a small net, and ever more memory.
    """
    if device.type == "cuda":
        torch.cuda.manual_seed(seed)
    elif device.type == "cpu":
        torch.default_generator.manual_seed(seed)
    else:
        torch.manual_seed(seed)


class Trainer:
    """Trains one model on frames with hard targets, or with soft ones beside them."""

    def __init__(
        self,
        job: Job,
        directory: Path,
        train: Frames,
        dev: Frames | None,
        soft: SoftTargets | None,
        accelerator: Accelerator,
        augment: Callable[[Tensor], Tensor] | None = None,
    ) -> None:
        """
        Args:
            directory: where the checkpoint, the metrics and in the end the model go.
            train: the transfer set; targets may be unknown or absent if `soft` is given.
            dev: transcribed frames that steer the learning rate and choose the best epoch; a
                schedule that is fixed beforehand does without.
            soft: soft targets of `train`, or None to learn the hard ones.
            augment: windows [B, W·D] → windows [B, W·D], changed at random by PyTorch's generator;
                for training alone.
        """
        if soft is None and not train.transcribed:
            raise UserError("training without soft targets needs transcribed frames")
        if dev is None and job.train.schedule == "dev":
            raise UserError("train.schedule=dev needs dev frames, and there are none")
        if dev is not None and not dev.transcribed:
            raise UserError("the dev frames have no targets; they steer the learning rate")
        self.job, self.directory, self.accelerator = job, Path(directory), accelerator
        self.checkpoint = self.directory / "checkpoint.safetensors"
        device = accelerator.device
        torch.manual_seed(seed_of("weights", job.seed))
        model = build_model(job.model, train.features.shape[1], train.classes.count)
        self.parameters = count_parameters(model)
        optimizer = torch.optim.AdamW(
            model.parameters(), job.train.learning_rate, weight_decay=job.train.weight_decay,
            fused=True,
        )  # fmt: skip
        if accelerator.num_processes > 1:
            self.model, self.optimizer = accelerator.prepare(model, optimizer)
            self._backward = accelerator.backward
        else:  # Accelerate would look for optional packages in every step
            self.model, self.optimizer = model.to(device), optimizer
            self._backward = Tensor.backward
        self.bfloat16 = use_bfloat16(job.train.bfloat16, device)
        self.train_windows, self.dev_windows = (
            f and make_splicer(job.model, f.features, f.offsets, self.bfloat16).to(device)
            for f in (train, dev)
        )
        self.augment = augment
        self.hard = None if train.targets is None else train.targets.to(device)
        self.dev_targets = dev and dev.targets.to(device)
        self.soft = None if soft is None else soft.to(device)
        self.classes = train.classes
        self.dimension = train.features.shape[1]
        self.state = State(rate=job.train.learning_rate)
        self.best_weights: dict[str, Tensor] = {}
        self.saved = time.monotonic()

    def run(self) -> list[dict]:
        """Train to the end, from the checkpoint if there is one; returns the metrics by epoch."""
        self._resume()
        self.accelerator.wait_for_everyone()  # before the first one deletes what others look for
        while not self._finished():
            self._epoch()
            if time.monotonic() - self.saved > CHECKPOINT_SECONDS:
                self._save()
        if self.accelerator.is_main_process:
            write_jsonl(self.directory / "metrics.jsonl", self.state.history)
            model = self.accelerator.unwrap_model(self.model)
            model.load_state_dict(self.best_weights)
            save_model(self.directory, model, self._description())
            self.checkpoint.unlink(missing_ok=True)
        self.accelerator.wait_for_everyone()
        return self.state.history

    def _finished(self) -> bool:
        config, state = self.job.train, self.state
        if state.epoch >= config.epochs:
            return True
        return config.schedule == "dev" and state.rate < config.stop_rate * config.learning_rate

    def _epoch(self) -> None:
        state, config = self.state, self.job.train
        total = len(self.train_windows.first)
        generator = torch.Generator().manual_seed(seed_of("order", self.job.seed, state.epoch))
        order = torch.randperm(total, generator=generator)
        starts = range(state.step * config.batch_frames, total, config.batch_frames)
        rank, world = self.accelerator.process_index, self.accelerator.num_processes
        steps = config.epochs * math.ceil(total / config.batch_frames)
        self.model.train()
        title = f"{self.job.name} epoch {state.epoch + 1}/{config.epochs}"
        bar = progress(
            (), title, total, unit="frame", unit_scale=True, initial=starts.start, leave=False
        )
        loss_sum = torch.zeros((), dtype=torch.float64, device=self.accelerator.device)
        begun = time.monotonic()
        for start in starts:
            batch = order[start : start + config.batch_frames]
            seed = seed_of("dropout", self.job.seed, state.epoch, state.step, rank)
            seed_generator(self.accelerator.device, seed)
            mine = batch[rank::world].to(self.accelerator.device)
            if config.schedule == "cosine":
                done = state.epoch * math.ceil(total / config.batch_frames) + state.step
                state.rate = config.learning_rate * (1 + math.cos(math.pi * done / steps)) / 2
            for group in self.optimizer.param_groups:
                group["lr"] = state.rate
            loss = self._loss(mine)
            # Processes' gradients are averaged, so each scales up by their number.
            self._backward(loss * (world / len(batch)))
            self.optimizer.step()
            self.optimizer.zero_grad()
            if config.max_norm is not None:
                limit_norms(self.accelerator.unwrap_model(self.model), config.max_norm)
            loss_sum += loss.detach()
            state.step += 1
            bar.update(len(batch))
            if state.step % config.checkpoint_steps == 0:
                self._note(loss_sum, begun)
                loss_sum.zero_()
                begun = time.monotonic()
                self._save()
        bar.close()
        self._note(loss_sum, begun)
        self._close_epoch(total)

    def _note(self, loss_sum: Tensor, begun: float) -> None:
        self.state.loss += float(self.accelerator.reduce(loss_sum, "sum"))
        self.state.seconds += time.monotonic() - begun

    def _loss(self, frames: Tensor) -> Tensor:
        """The loss summed over frames with numbers `frames`, int64 [B]; float32."""
        windows = self.train_windows(frames)
        if self.augment is not None:
            windows = self.augment(windows)
        logits = logits_of(self.model, windows, self.bfloat16)
        hard = None if self.hard is None else self.hard[frames]
        if self.soft is None:
            return F.cross_entropy(logits, hard, reduction="sum")
        classes, probabilities = self.soft.batch(frames)
        return distillation_loss(
            logits, probabilities, hard, self.soft.temperature, self.job.hard_weight, classes
        ).sum()

    def _close_epoch(self, total: int) -> None:
        """Record; measure on dev, keep the best weights and set the next epoch's rate."""
        state, config = self.state, self.job.train
        train_loss = state.loss / total
        if not train_loss < float("inf"):
            raise UserError(
                f"{self.job.name}: the loss is {train_loss} in epoch {state.epoch + 1}; "
                f"lower train.learning_rate (now {config.learning_rate:g})"
            )
        row = {"epoch": state.epoch + 1, "learning_rate": state.rate, "train_loss": train_loss}
        if self.dev_windows is not None:
            row["dev_loss"], row["dev_frame_accuracy"] = self.evaluate()
        row["frames_per_second"] = round(total / max(state.seconds, 1e-9))
        state.history.append(row)
        if config.schedule == "dev":
            self._follow_dev()
        elif row["epoch"] == config.epochs:
            self.best_weights = self._weights()
        state.epoch, state.step, state.loss, state.seconds = state.epoch + 1, 0, 0.0, 0.0
        if self.accelerator.is_main_process and state.epoch % self.job.report == 0:
            dev = f"dev frame accuracy {row.get('dev_frame_accuracy', 0):.2f} %, "
            print(
                f"  {self.job.name}: epoch {state.epoch}, loss {train_loss:.4f}, "
                f"{dev if self.dev_windows is not None else ''}"
                f"{row['frames_per_second']} frames/s",
                flush=True,
            )

    def _follow_dev(self) -> None:
        """Keep the weights if they are the best on dev; cool once dev stops gaining."""
        state, config = self.state, self.job.train
        accuracies = [row["dev_frame_accuracy"] for row in state.history]
        if accuracies[-1] > state.best:
            state.best = accuracies[-1]
            self.best_weights = self._weights()
        gain = accuracies[-1] - (accuracies[-2] if len(accuracies) > 1 else -100)
        state.decaying = state.decaying or gain < config.decay_below
        if state.decaying:
            state.rate *= config.decay

    def _weights(self) -> dict[str, Tensor]:
        """A copy of the model's weights."""
        state = self.accelerator.unwrap_model(self.model).state_dict()
        return {name: tensor.detach().cpu().clone() for name, tensor in state.items()}

    def evaluate(self) -> tuple[float, float]:
        """Cross-entropy and frame accuracy (percent) on dev; each frame counts once."""
        model = self.accelerator.unwrap_model(self.model).eval()
        rank, world = self.accelerator.process_index, self.accelerator.num_processes
        total = len(self.dev_targets)
        sums = torch.zeros(2, dtype=torch.float64, device=self.accelerator.device)
        with torch.inference_mode():
            mine = torch.arange(total, device=self.accelerator.device)[rank::world]
            for frames in mine.split(EVALUATION_BATCH):
                logits = logits_of(model, self.dev_windows(frames), self.bfloat16)
                targets = self.dev_targets[frames]
                sums[0] += F.cross_entropy(logits, targets, reduction="sum")
                sums[1] += (logits.argmax(-1) == targets).sum()
        loss, correct = self.accelerator.reduce(sums, "sum").tolist()
        return loss / total, 100 * correct / total

    def _description(self) -> dict:
        return {
            "name": self.job.name,
            "model": asdict(self.job.model),
            "dimension": self.dimension,
            "classes": self.classes.count,
            "inventory": self.classes.inventory,
            "parameters": self.parameters,
            "seed": self.job.seed,
            "bfloat16": self.bfloat16,
            "best_dev_frame_accuracy": self.state.best if self.state.best >= 0 else None,
            "digest": self.job.digest,
        }

    def _save(self) -> None:
        self.saved = time.monotonic()
        if not self.accelerator.is_main_process:
            return
        parts = {
            "model": self.accelerator.unwrap_model(self.model).state_dict(),
            "best": self.best_weights,
            "optimizer": optimizer_tensors(self.optimizer),
        }
        save_checkpoint(self.checkpoint, asdict(self.state), self.job.digest, parts)
        write_jsonl(self.directory / "metrics.jsonl", self.state.history)

    def _resume(self) -> None:
        found = load_checkpoint(self.checkpoint, self.job.digest)
        if found is None:
            return
        state, parts = found
        self.state = State(**state)
        self.accelerator.unwrap_model(self.model).load_state_dict(parts["model"])
        self.best_weights = parts.get("best", {})
        restore_optimizer(self.optimizer, parts["optimizer"])


def make_accelerator() -> Accelerator:
    """The processes of this run.

    Raises:
        UserError: Accelerate sees another number of them than the launcher started.
    """
    # Precision is the loop's own affair, whatever the launcher's settings say.
    accelerator = Accelerator(mixed_precision="no", cpu=not torch.accelerator.is_available())
    started = int(os.environ.get("WORLD_SIZE", "1"))
    if accelerator.num_processes != started:
        raise UserError(
            f"{started} processes were started but Accelerate joins {accelerator.num_processes}; "
            "look at 'accelerate env' and at variables named ACCELERATE_…"
        )
    return accelerator
