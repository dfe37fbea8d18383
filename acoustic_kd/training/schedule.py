"""How far training has come, and the learning rate that follows from it."""

import math
from dataclasses import dataclass, field
from typing import Any

from acoustic_kd.settings import TrainConfig


@dataclass
class State:
    """How far training has come; saved with every checkpoint."""

    epoch: int = 0
    step: int = 0  # within the epoch
    rate: float = 0.0  # of the latest step
    annealing: bool = False
    loss: float = 0.0  # summed over the epoch's frames so far
    seconds: float = 0.0
    best: float = -1.0  # dev frame accuracy, percent
    chunks: int = 0  # that an epoch is divided into; 0: not settled yet
    history: list[dict[str, Any]] = field(default_factory=list)


def rate_of_step(state: State, config: TrainConfig, steps: int) -> float:
    """The learning rate of the step that is to be made, of `steps` an epoch."""
    if config.schedule == "dev":  # the same until the epoch ends
        return state.rate
    done = state.epoch * steps + state.step
    return config.learning_rate * (1 + math.cos(math.pi * done / (config.epochs * steps))) / 2


def update_from_dev(state: State, config: TrainConfig) -> bool:
    """Cool once dev stops gaining; whether the epoch that has just been recorded is the best."""
    accuracies: list[float] = [row["dev_frame_accuracy"] for row in state.history]
    best = accuracies[-1] > state.best
    state.best = max(state.best, accuracies[-1])
    gain = accuracies[-1] - (accuracies[-2] if len(accuracies) > 1 else -100)
    state.annealing = state.annealing or gain < config.decay_below
    if state.annealing:
        state.rate *= config.decay
    return best


def is_finished(state: State, config: TrainConfig) -> bool:
    """Whether there is nothing left to train."""
    if state.epoch >= config.epochs:
        return True
    return config.schedule == "dev" and state.rate < config.stop_rate * config.learning_rate
