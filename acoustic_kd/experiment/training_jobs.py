"""The models that the training stages train: members, distilled models and their control, each
with its settings and data.
"""

import math
from collections.abc import Callable, Iterable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch

from acoustic_kd.alignment.senones import read_inventory
from acoustic_kd.experiment.experiment import Experiment
from acoustic_kd.experiment.model_training import Data, Model
from acoustic_kd.experiment.models import (
    control_directory,
    distilled_directories,
    member_directories,
    tracked_run,
)
from acoustic_kd.experiment.outputs import (
    conversion_path,
    inventory_of,
    read_aligned,
    tree_path,
)
from acoustic_kd.experiment.transfer_set import (
    control_shards,
    encoding_of,
    member_shards,
    transfer_frames,
    transfer_shards,
)
from acoustic_kd.features.copies import original_id, targets_of_copy, train_copies
from acoustic_kd.features.frames import count_frames, read_frames, read_index
from acoustic_kd.settings import (
    NEUTRAL,
    SHAPE_SETTINGS,
    Config,
    ModelConfig,
    TrainConfig,
    all_models,
    member_models,
    shapes,
    shaping_settings,
)
from acoustic_kd.system.steps import Step
from acoustic_kd.training.checkpoint import CHECKPOINT
from acoustic_kd.training.chunks import Relabelling, ShardedData, SoftTargetSource
from acoustic_kd.training.networks import build_network, check_network, check_window
from acoustic_kd.training.precision import use_bfloat16
from acoustic_kd.training.schedule import TrainingRun
from acoustic_kd.training.trees import convert

# Seeds of models that are no members, from `train.seed` on. No member has them: a
# distilled model must not start from a member's initial weights.
DISTILLED_SEEDS, CONTROL_SEED, SPECIALIST_SEEDS = 1000, 2000, 3000

# Settings of how many models there are, and of other models than the one that is trained.
OF_OTHER_MODELS = (
    *("train.members", "train.member_models"),
    *("distill.models", "distill.shapes", "distill.hard_baseline", "distill.hard_baseline_dropout"),
)


# Settings of the copies that members train on; they do not depend on those for distilled models.
COPY_SETTINGS = ("features.vtlp_warps", "features.tempos", "features.mp3_kbits")


def _settings(config: Config, *groups: str) -> dict[str, Any]:
    """The settings of some groups that shape a single model."""
    chosen = shaping_settings(config, *groups).items()
    return {name: value for name, value in chosen if name not in OF_OTHER_MODELS}


def members(experiment: Experiment) -> list[Model]:
    """The members: they differ by seed, and by the settings of `train.member_models`."""
    config, trained = experiment.config, []
    trees = {model.tree for model in member_models(config)}
    # Consecutive models with the same function read the data once.
    read = {tree: partial(read_member_data, experiment, tree) for tree in trees}
    models = zip(member_directories(experiment), member_models(config), strict=True)
    for number, (directory, model) in enumerate(models, start=1):
        seed = config.train.seed + number - 1
        train = replace(config.train, seed=seed)
        step = hard_target_step(experiment, f"member {number}", directory, model, train)
        run = training_run_of(experiment, step, model, train, 0.0)
        if model.tree > 1:
            matrix = conversion_path(experiment, model.tree)
            finish = partial(convert, model, matrix, inventory_of(experiment).classes)
            run = replace(run, finish=finish)
        trained.append(Model(run, step, read[model.tree]))
    return trained


def distilled_models(experiment: Experiment) -> list[Model]:
    """The distilled models of every shape and, with `distill.hard_baseline`, their controls."""
    read = partial(read_transfer_data, experiment)
    models = []
    for shape in shapes(experiment.config):
        for number, directory in enumerate(distilled_directories(experiment, shape), start=1):
            models.append(_distilled(experiment, shape, number, directory, read))
        if control := control_directory(experiment, shape):
            models.append(_control(experiment, shape, control))
    return models


def _distilled(
    experiment: Experiment, shape: str, number: int, directory: Path, read: Callable[[], Data]
) -> Model:
    config = experiment.config
    model = shapes(config)[shape]
    seed = config.train.seed + DISTILLED_SEEDS + number - 1
    train = replace(distilled_training(config), seed=seed)
    settings = _settings(config, "model", "train", "distill") | {"train.seed": seed}
    if shape:
        settings |= _settings(replace(config, model=model), "model")
        settings |= {f"distill.{name}": None for name in SHAPE_SETTINGS}
    inputs = {"soft-targets": experiment.done("soft-targets")["digest"]}
    name = f"distilled {shape} {number}" if shape else f"distilled {number}"
    step = Step(name, directory, settings, inputs, neutral=NEUTRAL, scratch=CHECKPOINT)
    weight = config.distill.hard_weight
    training_run = training_run_of(experiment, step, model, train, weight)
    return Model(replace(training_run, loss=config.distill.loss), step, read)


def _control(experiment: Experiment, shape: str, directory: Path) -> Model:
    transfer = transfer_frames(experiment)["frames"] / count_frames(control_shards(experiment))
    model, train = control_settings(experiment.config, transfer, shape)
    train = replace(train, seed=train.seed + CONTROL_SEED)
    more = ("copies",) if experiment.config.features.has_copies else ()
    step = hard_target_step(experiment, f"control {shape}".rstrip(), directory, model, train, more)
    training_run = training_run_of(experiment, step, model, train, 0.0)
    return Model(training_run, step, partial(read_control_data, experiment))


def hard_target_step(
    experiment: Experiment,
    name: str,
    directory: Path,
    model: ModelConfig,
    train: TrainConfig,
    more_inputs: tuple[str, ...] = (),
) -> Step:
    """The step of a model that trains on the hard targets of `frames`, with a seed of its own."""
    config = replace(experiment.config, model=model, train=train)
    settings = _settings(config, "model", "train", *COPY_SETTINGS)
    inputs = {stage: experiment.done(stage)["digest"] for stage in ("frames", *more_inputs)}
    return Step(name, directory, settings, inputs, neutral=NEUTRAL, scratch=CHECKPOINT)


def training_run_of(
    experiment: Experiment, step: Step, model: ModelConfig, train: TrainConfig, weight: float
) -> TrainingRun:
    name = "-".join(f"{word:0>2}" if word.isdigit() else word for word in step.name.split())
    group = step.directory.relative_to(experiment.directory).parts[0]
    tracked = tracked_run(experiment, name, group, model=model, train=train)
    return TrainingRun(step.name, train.seed, model, train, weight, step.digest, tracked=tracked)


def distilled_training(config: Config) -> TrainConfig:
    """The training settings of the distilled models: the members' where `distill` has none."""
    names = ("share", "epochs", "learning_rate", "schedule", "decay_below", "decay")
    values = {name: getattr(config.distill, name) for name in names}
    return replace(config.train, **{k: value for k, value in values.items() if value is not None})


def control_settings(
    config: Config, transfer: float, shape: str = ""
) -> tuple[ModelConfig, TrainConfig]:
    """Model and training settings of the control: the distilled model's, with another dropout.

    Hard targets need more dropout than soft ones, and the members' dropout was chosen for hard
    targets. So the control has it, unless `distill.hard_baseline_dropout` is set, or the shape has
    a dropout of its own.

    Args:
        transfer: frames of the transfer set per frame of train. Where it is above 1, the control
            has so many times more epochs.
        shape: its name.
    """
    model, train = shapes(config)[shape], distilled_training(config)
    dropout = config.distill.hard_baseline_dropout
    if dropout is None:
        own = ((config.distill.shapes or {}).get(shape) or {}).get("dropout")
        dropout = config.model.dropout if own is None else own
    model = replace(model, dropout=dropout)
    return model, replace(train, epochs=math.ceil(train.epochs * max(1.0, transfer)))


def check_own_networks(config: Config) -> None:
    """Try a batch with each network of the user's own, before anything long runs."""
    bfloat16 = use_bfloat16(config.train.bfloat16, torch.device("cpu"))
    sizes = config.features.mel_bins, config.senones.leaves
    for model in all_models(config):
        if model.class_ is not None:
            network = build_network(model, *sizes)
            check_network(network, model.class_, model, *sizes, bfloat16)


def check_windows(experiment: Experiment) -> None:
    """Refuse a window that is longer than every utterance of train, before members are trained."""
    config = experiment.config
    longest = max(read_index(experiment.path("frames") / "train").lengths.values(), default=0)
    for model in all_models(config):
        check_window(model, longest)


def tree_labels(experiment: Experiment, tree: int, splits: Iterable[str]) -> Relabelling:
    """Targets of another decision tree than the first, of some splits and their copies."""
    experiment.verify("senones", tree_path(experiment, tree).name)
    inventory = read_inventory(tree_path(experiment, tree))
    in_splits = (read_aligned(experiment, split) for split in splits)
    aligned = {name: s for of_split in in_splits for name, s in of_split.items()}

    def targets(name: str, stored: np.ndarray) -> np.ndarray:
        own = inventory.targets(aligned[original_id(name)]).astype(np.int64)
        of_copy = targets_of_copy(name, own, len(stored)) if name != original_id(name) else own
        return own if of_copy is None else of_copy

    return Relabelling(inventory.classes, targets)


def read_member_data(experiment: Experiment, tree: int = 1) -> Data:
    """The frames of train, those of its copies, and those of dev, with the senones of a tree."""
    labels = tree_labels(experiment, tree, ("train", "dev")) if tree > 1 else None
    return read_relabelled_data(experiment, labels)


def read_relabelled_data(
    experiment: Experiment, labels: Relabelling | None, balanced: bool = False
) -> Data:
    """The frames that members train on, and those of dev, with other targets.

    Args:
        labels: gives them; None: the targets that are stored.
        balanced: see `ShardedData`.
    """
    original = None
    if train_copies(experiment.config.features):
        experiment.done("copies")
        original = original_id
    dev = read_frames(experiment.path("frames") / "dev")
    if labels is not None:
        own = [labels.targets(name, dev.labels[span].numpy()) for name, span in dev.spans()]
        dev = replace(dev, targets=torch.from_numpy(np.concatenate(own)), classes=labels.classes)
    shards = member_shards(experiment)
    return ShardedData(shards, original=original, relabelling=labels, balanced=balanced), dev


def read_transfer_data(experiment: Experiment) -> Data:
    """The frames of the transfer set with their soft targets, and the frames of dev."""
    config, dev = experiment.config, read_frames(experiment.path("frames") / "dev")
    temperature, encoding = config.soft_targets.temperature, encoding_of(config)
    targets = SoftTargetSource(experiment.path("soft-targets"), temperature, encoding)
    original = original_id if config.features.has_copies else None
    return ShardedData(transfer_shards(experiment), targets, original=original), dev


def read_control_data(experiment: Experiment) -> Data:
    """The transcribed frames that distilled models may train on, and the frames of dev."""
    dev = read_frames(experiment.path("frames") / "dev")
    original = original_id if experiment.config.features.has_copies else None
    return ShardedData(control_shards(experiment), original=original), dev
