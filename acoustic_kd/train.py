"""The training loop, for members and distilled models alike: only their targets differ.

Every batch is the same on any number of processes: the order of frames follows from seed and
epoch, process r takes frames r, r + N, … of each batch, and a gradient is the sum over all the
batch's frames divided by their number. Dropout follows from seed, epoch, step and process. So
nothing but the checkpoint is needed to go on exactly where a killed run stopped.
"""

import json
import os
import time
from dataclasses import asdict, dataclass, field
from pathlib import Path

import torch
import torch.nn.functional as F  # noqa: N812
from accelerate import Accelerator
from torch import Tensor, nn

from acoustic_kd.config import ModelConfig, TrainConfig
from acoustic_kd.errors import UserError
from acoustic_kd.files import digest, write_jsonl
from acoustic_kd.frames import Frames
from acoustic_kd.losses import distillation_loss
from acoustic_kd.model import (
    build_model,
    count_parameters,
    load_tensors,
    make_splicer,
    save_model,
    save_tensors,
)
from acoustic_kd.parallel import progress
from acoustic_kd.soft_targets import SoftTargets

EVALUATION_BATCH = 8192


@dataclass(frozen=True)
class Job:
    """One model to train.

    Attributes:
        name: what the progress bar calls it.
        seed: of its initial weights, its order of frames and its dropout.
        hard_weight: of the hard targets beside soft ones; not used without soft targets.
        digest: of everything that shapes the result; a checkpoint of another one is refused.
    """

    name: str
    seed: int
    model: ModelConfig
    train: TrainConfig
    hard_weight: float
    digest: str


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


class Trainer:
    """Trains one model on frames with hard targets, or with soft ones beside them."""

    def __init__(
        self,
        job: Job,
        directory: Path,
        train: Frames,
        dev: Frames,
        soft: SoftTargets | None,
        accelerator: Accelerator,
    ) -> None:
        """
        Args:
            directory: where the checkpoint, the metrics and in the end the model go.
            train: the transfer set; its targets may be absent if `soft` is given.
            dev: transcribed frames that steer the learning rate and choose the best epoch.
            soft: soft targets of `train`, or None to learn the hard ones.
        """
        if soft is None and train.targets is None:
            raise UserError("training without soft targets needs transcribed frames")
        if dev.targets is None:
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
        self.model, self.optimizer = accelerator.prepare(model, optimizer)
        self.train_windows, self.dev_windows = (
            make_splicer(job.model, f.features, f.offsets, job.train.bfloat16).to(device)
            for f in (train, dev)
        )
        self.hard = None if train.targets is None else train.targets.to(device)
        self.dev_targets = dev.targets.to(device)
        self.soft = soft
        if soft is not None:
            self.kept = soft.classes.to(device)
            self.probabilities = soft.probabilities.to(device)
        self.classes = train.classes
        self.dimension = train.features.shape[1]
        self.state = State(rate=job.train.learning_rate)
        self.best_weights: dict[str, Tensor] = {}

    def run(self) -> list[dict]:
        """Train to the end, from the checkpoint if there is one; returns the metrics by epoch."""
        self._resume()
        self.accelerator.wait_for_everyone()  # before the first one deletes what others look for
        while not self._finished():
            self._epoch()
            self._save()
            if self.accelerator.is_main_process:
                write_jsonl(self.directory / "metrics.jsonl", self.state.history)
        if self.accelerator.is_main_process:
            model = self.accelerator.unwrap_model(self.model)
            model.load_state_dict(self.best_weights)
            save_model(self.directory, model, self._description())
            self.checkpoint.unlink(missing_ok=True)
        self.accelerator.wait_for_everyone()
        return self.state.history

    def _finished(self) -> bool:
        config, state = self.job.train, self.state
        return state.epoch >= config.epochs or state.rate < config.stop_rate * config.learning_rate

    def _epoch(self) -> None:
        state, config = self.state, self.job.train
        total = len(self.train_windows.first)
        generator = torch.Generator().manual_seed(seed_of("order", self.job.seed, state.epoch))
        order = torch.randperm(total, generator=generator)
        starts = range(state.step * config.batch_frames, total, config.batch_frames)
        rank, world = self.accelerator.process_index, self.accelerator.num_processes
        for group in self.optimizer.param_groups:
            group["lr"] = state.rate
        self.model.train()
        title = f"{self.job.name} epoch {state.epoch + 1}/{config.epochs}"
        bar = progress(
            (), title, total, unit="frame", unit_scale=True, initial=starts.start, leave=False
        )
        loss_sum = torch.zeros((), dtype=torch.float64, device=self.accelerator.device)
        begun = time.monotonic()
        for start in starts:
            batch = order[start : start + config.batch_frames]
            torch.manual_seed(seed_of("dropout", self.job.seed, state.epoch, state.step, rank))
            mine = batch[rank::world].to(self.accelerator.device)
            loss = self._loss(mine)
            # Processes' gradients are averaged, so each scales up by their number.
            self.accelerator.backward(loss * (world / len(batch)))
            self.optimizer.step()
            self.optimizer.zero_grad()
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

    def _logits(self, model: nn.Module, windows: Tensor) -> Tensor:
        """float32 logits [B, K]; matrices are multiplied in bfloat16 where that is asked for."""
        low = self.job.train.bfloat16
        with torch.autocast(windows.device.type, torch.bfloat16, enabled=low):
            logits = model(windows)
        return logits.float()

    def _loss(self, frames: Tensor) -> Tensor:
        """The loss summed over frames with numbers `frames`, int64 [B]; float32."""
        logits = self._logits(self.model, self.train_windows(frames))
        hard = None if self.hard is None else self.hard[frames]
        if self.soft is None:
            return F.cross_entropy(logits, hard, reduction="sum")
        return distillation_loss(
            logits,
            self.probabilities[frames].float(),
            hard,
            self.soft.temperature,
            self.job.hard_weight,
            self.kept[frames].long(),
        ).sum()

    def _close_epoch(self, total: int) -> None:
        """Measure on dev, record, keep the best weights and set the next epoch's rate."""
        state, config = self.state, self.job.train
        train_loss = state.loss / total
        if not train_loss < float("inf"):
            raise UserError(
                f"{self.job.name}: the loss is {train_loss} in epoch {state.epoch + 1}; "
                f"lower train.learning_rate (now {state.rate:g})"
            )
        dev_loss, accuracy = self.evaluate()
        previous = state.history[-1]["dev_frame_accuracy"] if state.history else -100.0
        state.history.append(
            {
                "epoch": state.epoch + 1,
                "learning_rate": state.rate,
                "train_loss": train_loss,
                "dev_loss": dev_loss,
                "dev_frame_accuracy": accuracy,
                "frames_per_second": round(total / max(state.seconds, 1e-9)),
            }
        )
        if accuracy > state.best:
            state.best = accuracy
            self.best_weights = {
                name: tensor.detach().cpu().clone()
                for name, tensor in self.accelerator.unwrap_model(self.model).state_dict().items()
            }
        state.decaying = state.decaying or accuracy - previous < config.decay_below
        if state.decaying:
            state.rate *= config.decay
        state.epoch, state.step, state.loss, state.seconds = state.epoch + 1, 0, 0.0, 0.0
        if self.accelerator.is_main_process:
            print(
                f"  {self.job.name}: epoch {state.epoch}, loss {train_loss:.4f}, "
                f"dev frame accuracy {accuracy:.2f} %, "
                f"{state.history[-1]['frames_per_second']} frames/s",
                flush=True,
            )

    def evaluate(self) -> tuple[float, float]:
        """Cross-entropy and frame accuracy (percent) on dev; each frame counts once."""
        model = self.accelerator.unwrap_model(self.model).eval()
        rank, world = self.accelerator.process_index, self.accelerator.num_processes
        total = len(self.dev_targets)
        sums = torch.zeros(2, dtype=torch.float64, device=self.accelerator.device)
        with torch.inference_mode():
            mine = torch.arange(total, device=self.accelerator.device)[rank::world]
            for frames in mine.split(EVALUATION_BATCH):
                logits = self._logits(model, self.dev_windows(frames))
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
            "best_dev_frame_accuracy": self.state.best,
            "digest": self.job.digest,
        }

    def _save(self) -> None:
        if not self.accelerator.is_main_process:
            return
        model = self.accelerator.unwrap_model(self.model)
        tensors = {f"model.{name}": tensor for name, tensor in model.state_dict().items()}
        tensors |= {f"best.{name}": tensor for name, tensor in self.best_weights.items()}
        for number, values in self.optimizer.state_dict()["state"].items():
            tensors |= {f"optimizer.{number}.{key}": value for key, value in values.items()}
        state = json.dumps(asdict(self.state) | {"digest": self.job.digest})
        save_tensors(self.checkpoint, tensors, {"state": state})

    def _resume(self) -> None:
        if not self.checkpoint.exists():
            return
        tensors = load_tensors(self.checkpoint)
        state = _checkpoint_state(self.checkpoint)
        if state.pop("digest") != self.job.digest:
            raise UserError(
                f"{self.checkpoint}: belongs to other settings or data; delete it to start anew"
            )
        self.state = State(**state)
        parts: dict[str, dict[str, Tensor]] = {"model": {}, "best": {}, "optimizer": {}}
        for name, tensor in tensors.items():
            part, _, rest = name.partition(".")
            parts[part][rest] = tensor
        self.accelerator.unwrap_model(self.model).load_state_dict(parts["model"])
        self.best_weights = parts["best"]
        optimizer = self.optimizer.state_dict()
        optimizer["state"] = {}
        for name, tensor in parts["optimizer"].items():
            number, _, key = name.partition(".")
            optimizer["state"].setdefault(int(number), {})[key] = tensor
        self.optimizer.load_state_dict(optimizer)


def _checkpoint_state(path: Path) -> dict:
    from safetensors import safe_open

    with safe_open(path, "pt") as file:
        return json.loads(file.metadata()["state"])


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
