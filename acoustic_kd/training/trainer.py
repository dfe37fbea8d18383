"""The training loop, for members and distilled models alike: only their targets differ.

Every batch is the same on any number of processes: the order of frames follows from seed and
epoch (`chunks`), process r takes frames r, r + N, … of each batch, and a gradient is the sum over
all the batch's frames divided by their number. Dropout follows from seed, epoch, step and process.
So nothing but the checkpoint is needed to go on exactly where a killed run stopped.
"""

import time
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F  # noqa: N812
from accelerate import Accelerator
from torch import Tensor

from acoustic_kd.features.frames import Frames
from acoustic_kd.settings import ModelConfig, TrainConfig
from acoustic_kd.soft_targets.targets import SoftTargets
from acoustic_kd.system.errors import UserError
from acoustic_kd.system.files import write_jsonl
from acoustic_kd.system.memory import memory_budget
from acoustic_kd.system.parallel import progress
from acoustic_kd.system.seeds import seed_generator, seed_of
from acoustic_kd.system.signals import Stopped, defer_sigterm
from acoustic_kd.training.batches import share_of_process
from acoustic_kd.training.checkpoint import (
    load_checkpoint,
    optimizer_tensors,
    restore_optimizer,
    save_checkpoint,
)
from acoustic_kd.training.chunks import InMemoryData, ShardedData
from acoustic_kd.training.loader import DataLoader
from acoustic_kd.training.losses import fused_loss
from acoustic_kd.training.model import (
    build_model,
    count_parameters,
    forward,
    limit_norms,
    logits_of,
    save_model,
    use_bfloat16,
)
from acoustic_kd.training.processes import Track, make_accelerator, report_lost_processes, tracking
from acoustic_kd.training.schedule import State, is_finished, rate_of_step, update_from_dev

EVALUATION_BATCH = 8192
CHECKPOINT_SECONDS = 10  # at the ends of epochs no more often than this
ASKED_STEPS = 4  # processes ask one another so often whether one of them has been asked to end


@dataclass(frozen=True)
class TrainingRun:
    """One model to train.

    Attributes:
        name: what the progress bar calls it.
        seed: of its initial weights, its order of frames and its dropout.
        hard_weight: of the hard targets beside soft ones; not used without soft targets.
        digest: of everything that shapes the result; a checkpoint of another one is refused.
        report: a line on the terminal every so many epochs.
        logs: where `train.tracker` writes.
    """

    name: str
    seed: int
    model: ModelConfig
    train: TrainConfig
    hard_weight: float = 0.5
    digest: str = ""
    report: int = 1
    logs: Path = Path("logs")


class Trainer:
    """Trains one model on frames with hard targets, or with soft ones beside them."""

    def __init__(
        self,
        job: TrainingRun,
        directory: Path,
        train: Frames | ShardedData,
        dev: Frames | None = None,
        soft: SoftTargets | None = None,
        accelerator: Accelerator | None = None,
        augment: Callable[[Tensor], Tensor] | None = None,
        original: Callable[[str], str] | None = None,
        sharers: int = 1,
    ) -> None:
        """
        Args:
            directory: where the checkpoint, the metrics and in the end the model go.
            train: the transfer set, in memory, or in shards with their soft targets if there are
                any; hard targets may be unknown or absent where there are soft ones.
            dev: transcribed frames that steer the learning rate and choose the best epoch; a
                schedule that is fixed beforehand does without.
            soft: soft targets of `train` in memory, or None to learn the hard ones.
            accelerator: the processes of this run; None: it is asked for here.
            augment: windows [B, W·D] → windows [B, W·D], changed at random by PyTorch's generator;
                for training alone.
            original: of a transfer set in memory, id → id of the utterance that it is a copy of,
                itself if of none. Each epoch then draws one copy of each utterance. None: every
                epoch has all frames.
            sharers: processes that train other models at the same time, and this one; they share
                the free memory alike.
        """
        if isinstance(train, ShardedData) and original is not None:
            raise ValueError("original is for frames in memory; Stored has an argument of its own")
        data = train if isinstance(train, ShardedData) else InMemoryData(train, soft, original)
        if not data.learnable:
            raise UserError("training without soft targets needs transcribed frames")
        if dev is None and job.train.schedule == "dev":
            raise UserError("train.schedule=dev needs dev frames, and there are none")
        if dev is not None and not dev.transcribed:
            raise UserError("the dev frames have no targets; they steer the learning rate")
        accelerator = accelerator or make_accelerator()
        self.job, self.directory, self.accelerator = job, Path(directory), accelerator
        self.checkpoint = self.directory / "checkpoint.safetensors"
        device = accelerator.device
        torch.manual_seed(seed_of("weights", job.seed))
        model = build_model(job.model, data.dimension, data.classes.count)
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
        part = share_of_process(
            accelerator.process_index, accelerator.num_processes, job.train.streams
        )
        self.feed = DataLoader(data, job.model, job.train, job.seed, device, self.bfloat16, part)
        self.dev_windows = None if dev is None else self.feed.windows_of(dev)
        self.dev_targets = None if dev is None else dev.labels.to(device)
        self.augment, self.sharers = augment, sharers
        self.dimension, self.classes = data.dimension, data.classes
        self.state = State(rate=job.train.learning_rate)
        self.best_weights: dict[str, Tensor] = {}
        self.saved = time.monotonic()
        size = 2 if self.bfloat16 else 4
        frame_bytes = 2 * size * data.classes.count  # of logits, and of their gradient
        self.part_frames = max(1, int(job.train.max_logits_mb * 1e6 / frame_bytes))

    def run(self) -> list[dict[str, Any]]:
        """Train to the end, from the checkpoint if there is one; returns the metrics by epoch.

        Raises:
            UserError: the loss diverges, or another process of this run is no more.
            Stopped: this process, or another one, was asked to end; all is saved.
        """
        with (
            defer_sigterm() as self._stop_requested,
            report_lost_processes(self.accelerator, self.job.name),
        ):
            self._resume()
            self._choose_num_chunks()
            self.accelerator.wait_for_everyone()  # before the first deletes what others look for
            left = range(self.state.epoch, self.job.train.epochs)
            reading, tracked = self.feed.reading(left, self.state.step), self._tracking()
            with reading, tracked as self._track:
                while not is_finished(self.state, self.job.train):
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

    def _tracking(self) -> AbstractContextManager[Track]:
        job = self.job
        return tracking(job.train.tracker, job.name.replace(" ", "-"), job.logs)

    def _epoch(self) -> None:
        state, config = self.state, self.job.train
        epoch = self.feed.plan(state.epoch)
        total, steps = epoch.frames, epoch.steps
        self.model.train()
        self._reset_counters()
        title = f"{self.job.name} epoch {state.epoch + 1}/{config.epochs}"
        done = state.step * config.batch_frames
        bar = progress((), title, total, unit="frame", unit_scale=True, initial=done, leave=False)
        for batch, size in self.feed.batches(epoch, state.step):
            self._step(batch, size, steps)
            bar.update(size)
            if self._stop(state.step == steps):
                self._add_counters()
                self._save()
                self.accelerator.wait_for_everyone()  # none leaves while others still need it
                raise Stopped
            if state.step % config.checkpoint_steps == 0:
                self._add_counters()
                self._save()
        bar.close()
        self._add_counters()
        self._close_epoch(total)

    def _choose_num_chunks(self) -> None:
        """Settle in how many chunks an epoch is read: as the checkpoint has it, else by memory."""
        if not self.state.chunks:
            config, device = self.job.train, self.accelerator.device
            # Gradients, two moments and the best weights are still to come, and the logits.
            later = 16 * self.parameters + 2 * int(1e6 * config.max_logits_mb)
            memory = memory_budget(device, config.memory_gb, later, self.sharers)
            asked = torch.tensor([self.feed.chunks_in(memory)], device=device)
            self.state.chunks = int(self.accelerator.gather(asked).max())
        self.feed.chunks = self.state.chunks
        if self.state.chunks > 1 and self.accelerator.is_main_process:
            print(f"  {self.job.name}: an epoch is read in {self.state.chunks} chunks", flush=True)

    def _step(self, batch: Tensor, size: int, steps: int) -> None:
        """One step, one of `steps` an epoch.

        Args:
            batch: int64, the frames that this process learns from, of `size` of all processes.
        """
        state, config, device = self.state, self.job.train, self.accelerator.device
        rank, world = self.accelerator.process_index, self.accelerator.num_processes
        seed_generator(device, seed_of("dropout", self.job.seed, state.epoch, state.step, rank))
        state.rate = rate_of_step(state, config, steps)
        for group in self.optimizer.param_groups:
            group["lr"] = state.rate
        parts = batch.to(device).split(self.part_frames)
        for number, part in enumerate(parts, start=1):
            # Gradients add up here; the processes exchange them once a step.
            alone = number < len(parts) and world > 1
            with self.accelerator.no_sync(self.model) if alone else nullcontext():
                loss = self._loss(part)
                # Processes' gradients are averaged, so each scales up by their number.
                self._backward(loss * (world / size))
            self.loss_sum += loss.detach()
        self.optimizer.step()
        self.optimizer.zero_grad()
        if config.max_norm is not None:
            limit_norms(self.accelerator.unwrap_model(self.model), config.max_norm)
        state.step += 1

    def _stop(self, last: bool) -> bool:
        """Whether a process was asked to end; all agree, at the same step.

        Args:
            last: whether the epoch's last step has been made.
        """
        if self.accelerator.num_processes == 1:
            return self._stop_requested()
        if self.state.step % ASKED_STEPS and not last:
            return False
        asked = torch.tensor(float(self._stop_requested()), device=self.accelerator.device)
        return bool(self.accelerator.reduce(asked, "sum"))

    def _reset_counters(self) -> None:
        """Begin to count loss and time, from a checkpoint or an epoch's beginning on."""
        self.loss_sum = torch.zeros((), dtype=torch.float64, device=self.accelerator.device)
        self.begun = time.monotonic()

    def _add_counters(self) -> None:
        self.state.loss += float(self.accelerator.reduce(self.loss_sum, "sum"))
        self.state.seconds += time.monotonic() - self.begun
        self._reset_counters()

    def _loss(self, frames: Tensor) -> Tensor:
        """The loss summed over frames with numbers `frames`, int64 [B]; float32."""
        windows = self.feed.windows(frames)
        if self.augment is not None:
            windows = self.augment(windows)
        logits = forward(self.model, windows, self.bfloat16)
        hard = None if self.feed.hard is None else self.feed.hard[frames]
        if self.feed.soft is None:
            return fused_loss(logits, hard)
        classes, probabilities = self.feed.soft.batch(frames)
        weight, temperature = self.job.hard_weight, self.feed.soft.temperature
        return fused_loss(logits, hard, weight, probabilities, temperature, classes)

    def _close_epoch(self, total: int) -> None:
        """Record; measure on dev, keep the best weights and set the next epoch's rate."""
        state, config = self.state, self.job.train
        train_loss = state.loss / total
        if not train_loss < float("inf"):
            raise UserError(
                f"{self.job.name}: the loss is {train_loss} in epoch {state.epoch + 1}; "
                f"lower train.learning_rate (now {config.learning_rate:g})"
            )
        row: dict[str, Any] = {"epoch": state.epoch + 1}
        row |= {"learning_rate": state.rate, "train_loss": train_loss}
        if self.dev_windows is not None:
            row["dev_loss"], row["dev_frame_accuracy"] = self.evaluate()
        row["frames_per_second"] = round(total / max(state.seconds, 1e-9))
        state.history.append(row)
        self._track({name: value for name, value in row.items() if name != "epoch"}, row["epoch"])
        if (
            update_from_dev(state, config)
            if config.schedule == "dev"
            else row["epoch"] == config.epochs
        ):
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

    def _weights(self) -> dict[str, Tensor]:
        """A copy of the model's weights."""
        state = self.accelerator.unwrap_model(self.model).state_dict()
        return {name: tensor.detach().cpu().clone() for name, tensor in state.items()}

    def evaluate(self) -> tuple[float, float]:
        """Cross-entropy and frame accuracy (percent) on dev; each frame counts once."""
        if self.dev_windows is None or self.dev_targets is None:
            raise ValueError("there are no dev frames")
        model = self.accelerator.unwrap_model(self.model).eval()
        rank, world = self.accelerator.process_index, self.accelerator.num_processes
        total = len(self.dev_targets)
        sums = torch.zeros(2, dtype=torch.float64, device=self.accelerator.device)
        with torch.inference_mode():
            mine = torch.arange(total, device=self.accelerator.device)[rank::world]
            for frames in mine.split(min(EVALUATION_BATCH, self.part_frames)):
                logits = logits_of(model, self.dev_windows(frames), self.bfloat16)
                targets = self.dev_targets[frames]
                sums[0] += F.cross_entropy(logits, targets, reduction="sum")
                sums[1] += (logits.argmax(-1) == targets).sum()
        loss, correct = self.accelerator.reduce(sums, "sum").tolist()
        return loss / total, 100 * correct / total

    def _description(self) -> dict[str, Any]:
        return {
            "name": self.job.name,
            "model": asdict(self.job.model),
            "dimension": self.dimension,
            "classes": self.classes.count,
            "inventory": self.classes.inventory,
            "parameters": self.parameters,
            "seed": self.job.seed,
            "bfloat16": self.bfloat16,
            "chunks": self.state.chunks,
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
