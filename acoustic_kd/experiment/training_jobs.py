"""The models that the training stages train: members, distilled models and their control, each
with its settings and data.
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
    member_directories,
    tracked_run,
)
from acoustic_kd.experiment.transfer_set import (
    control_shards,
    encoding_of,
    transfer_frames,
    transfer_shards,
)
from acoustic_kd.features.fbank import original_id
from acoustic_kd.features.frame_shard import shard_paths
from acoustic_kd.features.frames import count_frames, read_frames
from acoustic_kd.settings import NEUTRAL, Config, ModelConfig, TrainConfig, shaping_settings
from acoustic_kd.system.steps import Step
from acoustic_kd.training.chunks import ShardedData, SoftTargetSource
from acoustic_kd.training.schedule import TrainingRun

Group = TypeVar("Group", ModelConfig, TrainConfig)

# Seeds of the distilled models and of their control, from `train.seed` on. No member has them: a
# distilled model must not start from a member's initial weights.
DISTILLED_SEEDS, CONTROL_SEED = 1000, 2000


def member_models(experiment: Experiment) -> list[Model]:
    """The members: they differ only by seed."""
    read = partial(read_member_data, experiment)
    directories = enumerate(member_directories(experiment), start=1)
    return [_member(experiment, number, directory, read) for number, directory in directories]


def distilled_models(experiment: Experiment) -> list[Model]:
    """The distilled models and, unless `distill.hard_baseline` is false, their control."""
    read = partial(read_transfer_data, experiment)
    directories = enumerate(distilled_directories(experiment), start=1)
    models = [_distilled(experiment, number, directory, read) for number, directory in directories]
    if directory := control_directory(experiment):
        models.append(_control(experiment, directory))
    return models


def _member(
    experiment: Experiment, number: int, directory: Path, read: Callable[[], Data]
) -> Model:
    config = experiment.config
    seed = config.train.seed + number - 1
    train = replace(config.train, seed=seed)
    step = _hard_target_step(experiment, f"member {number}", directory, config.model, train)
    return Model(_training_run(experiment, step, config.model, train, 0.0), step, read)


def _distilled(
    experiment: Experiment, number: int, directory: Path, read: Callable[[], Data]
) -> Model:
    config = experiment.config
    seed = config.train.seed + DISTILLED_SEEDS + number - 1
    settings = shaping_settings(config, "model", "train", "distill") | {"train.seed": seed}
    # The number of models and the settings of the control do not shape a distilled model.
    for name in ("models", "hard_baseline", "hard_baseline_dropout"):
        settings.pop(f"distill.{name}")
    settings.pop("train.members")
    inputs = {"soft-targets": experiment.done("soft-targets")["digest"]}
    step = Step(f"distilled {number}", directory, settings, inputs, neutral=NEUTRAL)
    model, train = distilled_settings(config)
    train, weight = replace(train, seed=seed), config.distill.hard_weight
    return Model(_training_run(experiment, step, model, train, weight), step, read)


def _control(experiment: Experiment, directory: Path) -> Model:
    transfer = transfer_frames(experiment)["frames"] / count_frames(control_shards(experiment))
    model, train = control_settings(experiment.config, transfer)
    train = replace(train, seed=train.seed + CONTROL_SEED)
    more = ("copies",) if experiment.config.features.transfer_vtlp_warps else ()
    step = _hard_target_step(experiment, "control", directory, model, train, more)
    training_run = _training_run(experiment, step, model, train, 0.0)
    return Model(training_run, step, partial(read_control_data, experiment))


def _hard_target_step(
    experiment: Experiment,
    name: str,
    directory: Path,
    model: ModelConfig,
    train: TrainConfig,
    more_inputs: tuple[str, ...] = (),
) -> Step:
    """The step of a model that trains on hard targets only.

    Args:
        train: with the model's own seed.
        more_inputs: stages that it reads beside `frames`.
    """
    config = replace(experiment.config, model=model, train=train)
    settings = shaping_settings(config, "model", "train")
    settings.pop("train.members")
    inputs = {stage: experiment.done(stage)["digest"] for stage in ("frames", *more_inputs)}
    return Step(name, directory, settings, inputs, neutral=NEUTRAL)


def _training_run(
    experiment: Experiment, step: Step, model: ModelConfig, train: TrainConfig, weight: float
) -> TrainingRun:
    kind, _, number = step.name.partition(" ")
    name = f"{kind}-{int(number):02d}" if number else kind
    tracked = tracked_run(experiment, name, step.directory.parent.name, model=model, train=train)
    return TrainingRun(step.name, train.seed, model, train, weight, step.digest, tracked=tracked)


def distilled_settings(config: Config) -> tuple[ModelConfig, TrainConfig]:
    """Model and training settings of the distilled model: a member's where `distill` has none."""

    def override(group: Group, *names: str) -> Group:
        values = {name: getattr(config.distill, name) for name in names}
        return replace(group, **{name: v for name, v in values.items() if v is not None})

    model = override(config.model, "layers", "width", "dropout")
    train = override(config.train, "epochs", "learning_rate", "schedule", "decay_below", "decay")
    return model, train


def control_settings(config: Config, transfer: float) -> tuple[ModelConfig, TrainConfig]:
    """Model and training settings of the control: the distilled model's, with another dropout.

    Hard targets need more dropout than soft ones, and the members' dropout was chosen for hard
    targets. So the control has it, unless `distill.hard_baseline_dropout` is set.

    Args:
        transfer: frames of the transfer set per frame of train. Where it is above 1, the control
            has so many times more epochs.
    """
    model, train = distilled_settings(config)
    dropout = config.distill.hard_baseline_dropout
    model = replace(model, dropout=config.model.dropout if dropout is None else dropout)
    return model, replace(train, epochs=math.ceil(train.epochs * max(1.0, transfer)))


def read_member_data(experiment: Experiment) -> Data:
    """The frames of train and of dev."""
    store = experiment.path("frames")
    return ShardedData(shard_paths(store / "train")), read_frames(store / "dev")


def read_transfer_data(experiment: Experiment) -> Data:
    """The frames of the transfer set with their soft targets, and the frames of dev."""
    config, dev = experiment.config, read_frames(experiment.path("frames") / "dev")
    temperature, encoding = config.soft_targets.temperature, encoding_of(config)
    targets = SoftTargetSource(experiment.path("soft-targets"), temperature, encoding)
    shards = transfer_shards(experiment)
    return ShardedData(shards, targets, original=copy_originals(config)), dev


def read_control_data(experiment: Experiment) -> Data:
    """The transcribed frames that distilled models may train on, and the frames of dev."""
    dev = read_frames(experiment.path("frames") / "dev")
    return ShardedData(control_shards(experiment), original=copy_originals(experiment.config)), dev


def copy_originals(config: Config) -> Callable[[str], str] | None:
    """id → id of the original, if each epoch draws one copy of each utterance; else None."""
    return original_id if config.features.transfer_vtlp_warps else None
