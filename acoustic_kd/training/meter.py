"""What a run shows while it trains: loss, learning rate and speed, by steps and by epochs."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from accelerate import Accelerator
from torch import Tensor

from acoustic_kd.system.errors import UserError
from acoustic_kd.system.parallel import progress
from acoustic_kd.training.precision import sum_dtype
from acoustic_kd.training.schedule import State, TrainingRun, warmed_up
from acoustic_kd.training.tracking import Tracker


class Meter:
    """Sums loss and time of an epoch, and shows them: a progress bar, lines, the tracker.

    The loss stays on the device, because reading it makes the device wait.
    """

    def __init__(
        self, training_run: TrainingRun, state: State, accelerator: Accelerator, tracker: Tracker
    ) -> None:
        self._run, self._state = training_run, state
        self._accelerator, self._tracker = accelerator, tracker

    @contextmanager
    def epoch(self, frames: int) -> Iterator[None]:
        """Show a progress bar of an epoch of so many frames within the block."""
        state, config = self._state, self._run.train
        title = f"{self._run.name} epoch {state.epoch + 1}/{config.epochs}"
        done = state.step * config.batch_frames
        self._restart()
        self._logged, self._frames = (state.loss, state.seconds), 0
        options: dict[str, Any] = {"unit": "frame", "unit_scale": True, "leave": False}
        with progress((), title, frames, initial=done, **options) as self._bar:
            yield

    def add(self, loss: Tensor, frames: int, steps: int) -> None:
        """Add a step, one of the epoch's `steps`.

        Args:
            loss: summed over the frames of this process.
            frames: of the batch, of all processes.
        """
        self._loss += loss
        self._frames += frames
        self._bar.update(frames)
        if self._state.step % self._run.train.log_steps == 0:
            self._log(steps)

    def update_state(self) -> None:
        """Move the sums into the state; all processes must do so together."""
        self._state.loss += float(self._accelerator.reduce(self._loss, "sum"))
        self._state.seconds += time.monotonic() - self._begun
        self._restart()

    def log_epoch(self, frames: int, dev: tuple[float, float] | None) -> None:
        """Add the row of an epoch to the metrics, and show it.

        Args:
            dev: cross-entropy and frame accuracy (percent).

        Raises:
            UserError: the loss is not finite.
        """
        state, run = self._state, self._run
        loss, epoch = state.loss / frames, state.epoch + 1
        if not loss < float("inf"):
            raise UserError(
                f"{run.name}: the loss is {loss} in epoch {epoch}; "
                f"lower train.learning_rate (now {run.train.learning_rate:g})"
            )
        speed = round(frames / max(state.seconds, 1e-9))
        row = {"epoch": epoch, "learning_rate": self._rate, "train_loss": loss}
        if dev is not None:
            row["dev_loss"], row["dev_frame_accuracy"] = dev
        row["frames_per_second"] = speed
        state.history.append(row)
        self._tracker.log(row, state.total_steps)
        if self._accelerator.is_main_process and epoch % run.report == 0:
            accuracy = "" if dev is None else f"dev frame accuracy {dev[1]:.2f} %, "
            text = f"epoch {epoch}, loss {loss:.4f}, {accuracy}{speed} frames/s"
            print(f"  {run.name}: {text}", flush=True)

    def _log(self, steps: int) -> None:
        """Log the frames since the last log; all processes must do so together."""
        state, run = self._state, self._run
        loss_sum = state.loss + float(self._accelerator.reduce(self._loss, "sum"))
        seconds = state.seconds + time.monotonic() - self._begun
        loss = (loss_sum - self._logged[0]) / self._frames
        speed = round(self._frames / max(seconds - self._logged[1], 1e-9))
        self._logged, self._frames = (loss_sum, seconds), 0
        values = {"train_step_loss": loss, "learning_rate": self._rate, "frames_per_second": speed}
        self._tracker.log(values, state.total_steps)
        if self._bar.disable and self._accelerator.is_main_process and run.report == 1:
            text = f"epoch {state.epoch + 1}/{run.train.epochs}, step {state.step:,}/{steps:,}"
            text += f", loss {loss:.4f}, rate {self._rate:.2g}, {speed:,} frames/s"
            print(f"  {run.name}: {text}", flush=True)

    @property
    def _rate(self) -> float:
        """The learning rate of the latest step."""
        return warmed_up(self._state, self._run.train, self._state.total_steps)

    def _restart(self) -> None:
        device = self._accelerator.device
        self._loss = torch.zeros((), dtype=sum_dtype(device), device=device)
        self._begun = time.monotonic()
