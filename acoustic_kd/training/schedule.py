"""A training run, how far it has come, and the learning rate that follows from that."""

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from torch import nn

from acoustic_kd.settings import ModelConfig, TrainConfig
from acoustic_kd.system.files import jsonl_rows
from acoustic_kd.training.tracking import TrackedRun


@dataclass(frozen=True)
class TrainingRun:
    """One model to train.

    Attributes:
        name: shown by the progress bar.
        seed: of its initial weights, its order of frames, dropout and masks.
        hard_weight: of the hard targets beside soft ones; not used without soft targets.
        digest: of everything that shapes the result; a checkpoint of another digest is refused.
        report: epochs between two lines on the terminal.
        tracked: the run of `train.tracker`; None: a run of the same name.
        initialise: gives the new network its first weights; None: random ones.
        finish: makes of the trained network and its description those that are kept; None: the
            same.
        loss: of soft targets, a name of `other_losses`; None: the paper's.
    """

    name: str
    seed: int
    model: ModelConfig
    train: TrainConfig
    hard_weight: float = 0.5
    digest: str = ""
    report: int = 1
    tracked: TrackedRun | None = None
    initialise: Callable[[nn.Module], None] | None = None
    finish: Callable[[nn.Module, dict[str, Any]], tuple[nn.Module, dict[str, Any]]] | None = None
    loss: str | None = None


def read_metrics(directory: Path) -> list[dict[str, Any]]:
    """The rows of `metrics.jsonl` of a model, one for each epoch."""
    rows = jsonl_rows(
        Path(directory) / "metrics.jsonl", dict[str, float], "the metrics of an epoch"
    )
    return [row for _, row in rows]


@dataclass
class State:
    """How far a run has come; saved with every checkpoint."""

    epoch: int = 0
    step: int = 0  # within the epoch
    total_steps: int = 0  # of all epochs
    rate: float = 0.0  # of the latest step, before the warm-up
    annealing: bool = False
    loss: float = 0.0  # summed over the epoch's frames so far
    seconds: float = 0.0
    best: float = -1.0  # dev frame accuracy, percent
    chunks: int = 0  # of an epoch; 0: not chosen yet
    history: list[dict[str, Any]] = field(default_factory=list)
    bfloat16: bool | None = None  # None: an older checkpoint does not tell
    machine: dict[str, Any] = field(default_factory=dict)  # other bits where one of these differs

    def end_epoch(self) -> None:
        """Begin the next epoch."""
        self.epoch, self.step, self.loss, self.seconds = self.epoch + 1, 0, 0.0, 0.0


def rate_of_step(state: State, config: TrainConfig, steps: int) -> float:
    """The learning rate of the next step, before the warm-up, where an epoch has `steps`."""
    if config.schedule == "dev":  # the same until the epoch ends
        return state.rate
    done = state.epoch * steps + state.step
    return config.learning_rate * cosine(done, config.epochs * steps)


def warmed_up(state: State, config: TrainConfig, step: int) -> float:
    """The learning rate of step number `step`, counted from 1 over all epochs: the schedule's rate,
    reduced during the warm-up.
    """
    return state.rate * min(1.0, step / max(1, config.warmup_steps))


def cosine(done: int, steps: int) -> float:
    """The share of the first learning rate, from 1 to 0, after `done` of all `steps`.

    Loshchilov and Hutter, *SGDR* (2017), equation 5, without restarts.
    """
    return (1 + math.cos(math.pi * done / steps)) / 2


def update_from_dev(state: State, config: TrainConfig) -> bool:
    """Lower the rate once dev accuracy stops gaining; whether the last epoch is the best."""
    accuracies: list[float] = [row["dev_frame_accuracy"] for row in state.history]
    best = accuracies[-1] > state.best
    state.best = max(state.best, accuracies[-1])
    gain = accuracies[-1] - (accuracies[-2] if len(accuracies) > 1 else -100)
    state.annealing = state.annealing or gain < config.decay_below
    if state.annealing:
        state.rate *= config.decay
    return best


def is_finished(state: State, config: TrainConfig) -> bool:
    """Whether all epochs are done, or the rate has fallen to its minimum."""
    if state.epoch >= config.epochs:
        return True
    return config.schedule == "dev" and state.rate < config.stop_rate * config.learning_rate
