"""The stages that train: members, their soft targets, the distilled models and their control."""

import math
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TypeVar

import torch

from acoustic_kd.chunks import SoftStore, Stored
from acoustic_kd.config import Config, ModelConfig, TrainConfig
from acoustic_kd.ensemble import Mean
from acoustic_kd.errors import UserError
from acoustic_kd.features import original_id
from acoustic_kd.frames import count_frames, read_frames, shard_paths
from acoustic_kd.model import make_splicer
from acoustic_kd.parallel import ahead
from acoustic_kd.precision import use_bfloat16
from acoustic_kd.processes import make_accelerator, wait
from acoustic_kd.soft_targets.manifest import Entry, is_finished
from acoustic_kd.soft_targets.write import Origin, blocks_of, write_shard
from acoustic_kd.stages.experiment import Experiment, select
from acoustic_kd.stages.outside import write_outside
from acoustic_kd.stages.training import Data, Model, train_models
from acoustic_kd.stages.transfer import (
    control_shards,
    encoding_of,
    soft_target_shards,
    transfer_frames,
    transfer_shards,
)
from acoustic_kd.streaming import Ensemble
from acoustic_kd.train import Job
from acoustic_kd.work import Work

Part = TypeVar("Part", ModelConfig, TrainConfig)


def member_directories(experiment: Experiment) -> list[Path]:
    """Where the members lie, by number."""
    count = experiment.config.train.members
    return [experiment.path("train") / f"{n:02d}" for n in range(1, count + 1)]


def distilled_directories(experiment: Experiment) -> list[Path]:
    """Where the distilled models lie, by number."""
    count = experiment.config.distill.models
    return [experiment.path("distill") / f"{n:02d}" for n in range(1, count + 1)]


def control_directory(experiment: Experiment) -> Path | None:
    """Where the control lies: hard targets alone, the distilled models' shape and budget."""
    wanted = experiment.config.distill.hard_baseline
    return experiment.path("distill") / "control" if wanted else None


def logs(experiment: Experiment) -> Path:
    """Where a tracker keeps the metrics of all models side by side; no stage's own, no output."""
    return experiment.directory / "logs"


# Seeds of the distilled models and of their control, from `train.seed` on. No member has them: a
# distilled model must not start from a member's initial weights.
DISTILLED_SEEDS, CONTROL_SEED = 1000, 2000


def run_train(experiment: Experiment) -> None:
    """Train the members: they differ only by seed."""
    read = partial(read_member_data, experiment)
    numbered = enumerate(member_directories(experiment), start=1)
    train_models(experiment, [_member(experiment, *one, read) for one in numbered])


def run_distill(experiment: Experiment) -> None:
    """Train fresh models on the soft targets of the transfer set, and their control without."""
    transfer_shards(experiment)  # refused before anything is begun
    train_models(experiment, distilled_models(experiment))


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
    settings = select(config, ("model", "train", "distill")) | {"train.seed": seed}
    # How many there are, and what the control is, do not shape a distilled model.
    for name in ("models", "hard_baseline", "hard_baseline_dropout"):
        settings.pop(f"distill.{name}")
    settings.pop("train.members")
    inputs = {"soft-targets": experiment.done("soft-targets")["digest"]}
    work = Work(f"distilled {number}", directory, settings, inputs)
    model, train = distilled_settings(config)
    weight = config.distill.hard_weight
    job = Job(work.name, seed, model, train, weight, work.digest, logs=logs(experiment))
    return Model(job, work, read)


def _control(experiment: Experiment, directory: Path) -> Model:
    """The control of the distilled models."""
    transfer = transfer_frames(experiment)["frames"] / count_frames(control_shards(experiment))
    model, train = control_settings(experiment.config, transfer)
    seed, read = train.seed + CONTROL_SEED, partial(read_control_data, experiment)
    inputs = ("frames", "copies") if experiment.config.features.transfer_warps else ("frames",)
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
    settings = select(config, ("model", "train")) | {"train.seed": seed}
    settings.pop("train.members")
    digests = {stage: experiment.done(stage)["digest"] for stage in inputs}
    work = Work(name, directory, settings, digests)
    job = Job(name, seed, model, train, 0.0, work.digest, logs=logs(experiment))
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
    return Stored(shard_paths(store / "train")), read_frames(store / "dev")


def read_transfer_data(experiment: Experiment) -> Data:
    """The transfer set's frames with their soft targets, and dev's frames."""
    config, dev = experiment.config, read_frames(experiment.path("frames") / "dev")
    temperature, encoding = config.soft_targets.temperature, encoding_of(config)
    targets = SoftStore(experiment.path("soft-targets"), temperature, encoding)
    shards = transfer_shards(experiment)
    return Stored(shards, targets, original=drawn_copies(config)), dev


def read_control_data(experiment: Experiment) -> Data:
    """What is transcribed of all that distilled models may learn from, and dev's frames."""
    dev = read_frames(experiment.path("frames") / "dev")
    return Stored(control_shards(experiment), original=drawn_copies(experiment.config)), dev


def drawn_copies(config: Config) -> Callable[[str], str] | None:
    """How the originals of copies are found, where each epoch draws one copy of each utterance."""
    return original_id if config.features.transfer_warps else None


def run_soft_targets(experiment: Experiment) -> None:
    """Average the members' tempered predictions over all that may be a transfer set."""
    accelerator = make_accelerator()
    shards = soft_target_shards(experiment)
    rank, world = accelerator.process_index, accelerator.num_processes
    todo = []
    for shard, target in experiment.own(shards)[rank::world]:
        if is_finished(target):
            print(f"  {target.name}: there already")
        else:
            todo.append((shard, target))
    write_soft_targets(experiment, todo, accelerator.device)
    wait(accelerator, "soft targets")
    missing = [target.name for _, target in shards if not is_finished(target)]
    if experiment.share is None and missing:
        raise UserError(
            f"{experiment.path('soft-targets')}: {len(missing)} of {len(shards)} shards are "
            f"missing, {missing[0]} among them; run soft-targets again"
        )
    if experiment.share is not None and accelerator.is_main_process:
        rest = f"{len(missing)} are missing" if missing else "soft-targets without --shard ends it"
        print(f"  {len(shards) - len(missing)} of {len(shards)} shards are there; {rest}")


def write_soft_targets(
    experiment: Experiment, todo: list[tuple[Path, Path]], device: torch.device
) -> None:
    """Write some shards.

    Args:
        todo: each one's frame shard and where it goes.
        device: that the members predict on.
    """
    config, settings = experiment.config, experiment.config.soft_targets
    if settings.posteriors:
        for target, count, entry in write_outside(config, todo):
            _say_written(target, count, entry)
        return
    low = use_bfloat16(config.train.bfloat16, device)
    mean = Mean(settings.temperature, settings.mean, settings.weights)
    members = member_directories(experiment)
    ensemble = Ensemble(members, mean, device, low, settings.memory_gb)
    origin = Origin(settings.temperature, ensemble.digests, settings.mean, settings.weights)
    told = False
    # The next shard is read while the ensemble predicts this one.
    for target, frames in ahead((target, read_frames([shard])) for shard, target in todo):
        windows = make_splicer(config.model, frames.features, frames.offsets, low).to(device)
        predictions = ensemble.predictions(windows, blocks_of(len(frames)))
        entry = write_shard(target, frames, predictions, origin, encoding_of(config))
        if ensemble.plan and not (ensemble.plan.together or told):
            told = True
            print(f"  one member at a time in memory, {ensemble.plan.blocks} blocks through each")
        _say_written(target, len(frames), entry)


def _say_written(target: Path, frames: int, entry: Entry) -> None:
    print(
        f"  {target.name}: {frames} frames of {entry.bytes / frames:.1f} bytes, the "
        f"kept classes hold {100 * entry.measured['kept_mass']:.1f} % of the mass",
        flush=True,
    )
