"""What the training stages train: members, distilled models and their control, each with its
settings and data.
"""

import math
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TypeVar

from acoustic_kd.experiment.experiment import Experiment
from acoustic_kd.experiment.model_training import Data, Model
from acoustic_kd.experiment.models import (
    control_directory,
    distilled_directories,
    logs,
    member_directories,
)
from acoustic_kd.experiment.transfer_set import (
    control_shards,
    encoding_of,
    transfer_frames,
    transfer_shards,
)
from acoustic_kd.features.fbank import original_id
from acoustic_kd.features.frames import count_frames, read_frames, shard_paths
from acoustic_kd.settings import NEUTRAL, Config, ModelConfig, TrainConfig, shaping_settings
from acoustic_kd.system.steps import Step
from acoustic_kd.training.chunks import ShardedData, SoftTargetSource
from acoustic_kd.training.trainer import TrainingRun

Part = TypeVar("Part", ModelConfig, TrainConfig)


# Seeds of the distilled models and of their control, from `train.seed` on. No member has them: a
# distilled model must not start from a member's initial weights.
DISTILLED_SEEDS, CONTROL_SEED = 1000, 2000


def member_models(experiment: Experiment) -> list[Model]:
    """The members: they differ only by seed."""
    read = partial(read_member_data, experiment)
    numbered = enumerate(member_directories(experiment), start=1)
    return [_member(experiment, *one, read) for one in numbered]


def distilled_models(experiment: Experiment) -> list[Model]:
    """The distilled models and, if there is one, their control."""
    read = partial(read_transfer_data, experiment)
    numbered = enumerate(distilled_directories(experiment), start=1)
    models = [_distilled(experiment, *one, read) for one in numbered]
    if directory := control_directory(experiment):
        models.append(_control(experiment, directory))
    return models


def _member(
    experiment: Experiment, number: int, directory: Path, read: Callable[[], Data]
) -> Model:
    """A member of the ensemble."""
    config = experiment.config
    seed = config.train.seed + number - 1
    name, inputs = f"member {number}", ("frames",)
    return _hard(experiment, name, directory, seed, config.model, config.train, inputs, read)


def _distilled(
    experiment: Experiment, number: int, directory: Path, read: Callable[[], Data]
) -> Model:
    """A distilled model."""
    config = experiment.config
    seed = config.train.seed + DISTILLED_SEEDS + number - 1
    settings = shaping_settings(config, "model", "train", "distill") | {"train.seed": seed}
    # How many there are, and what the control is, do not shape a distilled model.
    for name in ("models", "hard_baseline", "hard_baseline_dropout"):
        settings.pop(f"distill.{name}")
    settings.pop("train.members")
    inputs = {"soft-targets": experiment.done("soft-targets")["digest"]}
    work = Step(f"distilled {number}", directory, settings, inputs, neutral=NEUTRAL)
    model, train = distilled_settings(config)
    weight = config.distill.hard_weight
    job = TrainingRun(work.name, seed, model, train, weight, work.digest, logs=logs(experiment))
    return Model(job, work, read)


def _control(experiment: Experiment, directory: Path) -> Model:
    """The control of the distilled models."""
    transfer = transfer_frames(experiment)["frames"] / count_frames(control_shards(experiment))
    model, train = control_settings(experiment.config, transfer)
    seed, read = train.seed + CONTROL_SEED, partial(read_control_data, experiment)
    inputs = ("frames", "copies") if experiment.config.features.transfer_vtlp_warps else ("frames",)
    return _hard(experiment, "control", directory, seed, model, train, inputs, read)


def _hard(
    experiment: Experiment,
    name: str,
    directory: Path,
    seed: int,
    model: ModelConfig,
    train: TrainConfig,
    inputs: tuple[str, ...],
    read: Callable[[], Data],
) -> Model:
    """A model that learns the hard targets of train; `inputs` are the stages it learns from."""
    config = replace(experiment.config, model=model, train=train)
    settings = shaping_settings(config, "model", "train") | {"train.seed": seed}
    settings.pop("train.members")
    digests = {stage: experiment.done(stage)["digest"] for stage in inputs}
    work = Step(name, directory, settings, digests, neutral=NEUTRAL)
    job = TrainingRun(name, seed, model, train, 0.0, work.digest, logs=logs(experiment))
    return Model(job, work, read)


def distilled_settings(config: Config) -> tuple[ModelConfig, TrainConfig]:
    """Model and training settings of the distilled model: a member's, but for what is set."""

    def with_set(part: Part, *names: str) -> Part:
        found = {name: getattr(config.distill, name) for name in names}
        return replace(part, **{name: value for name, value in found.items() if value is not None})

    model = with_set(config.model, "layers", "width", "dropout")
    train = with_set(config.train, "epochs", "learning_rate", "schedule", "decay_below", "decay")
    return model, train


def control_settings(config: Config, transfer: float) -> tuple[ModelConfig, TrainConfig]:
    """Model and training settings of the control: the distilled model's, but for dropout.

    Hard targets need more dropout than soft ones. What is best for them was chosen with the
    members, so the control has the members' dropout unless `distill.hard_baseline_dropout` is set.

    Args:
        transfer: how many times as many frames as train the transfer set has; the control passes
            over train so much more often, if it is more than once.
    """
    model, train = distilled_settings(config)
    dropout = config.distill.hard_baseline_dropout
    model = replace(model, dropout=config.model.dropout if dropout is None else dropout)
    return model, replace(train, epochs=math.ceil(train.epochs * max(1.0, transfer)))


def read_member_data(experiment: Experiment) -> Data:
    """Train's frames and dev's."""
    store = experiment.path("frames")
    return ShardedData(shard_paths(store / "train")), read_frames(store / "dev")


def read_transfer_data(experiment: Experiment) -> Data:
    """The transfer set's frames with their soft targets, and dev's frames."""
    config, dev = experiment.config, read_frames(experiment.path("frames") / "dev")
    temperature, encoding = config.soft_targets.temperature, encoding_of(config)
    targets = SoftTargetSource(experiment.path("soft-targets"), temperature, encoding)
    shards = transfer_shards(experiment)
    return ShardedData(shards, targets, original=drawn_copies(config)), dev


def read_control_data(experiment: Experiment) -> Data:
    """What is transcribed of all that distilled models may learn from, and dev's frames."""
    dev = read_frames(experiment.path("frames") / "dev")
    return ShardedData(control_shards(experiment), original=drawn_copies(experiment.config)), dev


def drawn_copies(config: Config) -> Callable[[str], str] | None:
    """How the originals of copies are found, where each epoch draws one copy of each utterance."""
    return original_id if config.features.transfer_vtlp_warps else None
