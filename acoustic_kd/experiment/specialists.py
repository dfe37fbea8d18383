"""The specialists of an experiment: their subsets of classes, and their training."""

import math
from collections.abc import Iterator
from dataclasses import asdict, replace
from functools import partial

import torch
from torch import Tensor

from acoustic_kd.alignment.senones import Occupancies
from acoustic_kd.experiment.experiment import Experiment
from acoustic_kd.experiment.kaldi_targets import classes_of
from acoustic_kd.experiment.model_training import Data, Model, train_models
from acoustic_kd.experiment.models import (
    ensemble_system,
    member_directories,
    read_ensemble,
    specialist_directories,
    subsets_path,
)
from acoustic_kd.experiment.outputs import STATISTICS
from acoustic_kd.experiment.training_jobs import (
    SPECIALIST_SEEDS,
    hard_target_step,
    read_relabelled_data,
    training_run_of,
)
from acoustic_kd.features.frame_shard import shard_paths
from acoustic_kd.features.frames import read_frames
from acoustic_kd.settings import NEUTRAL, member_models, shaping_settings
from acoustic_kd.soft_targets.predictions import BLOCK_FRAMES
from acoustic_kd.system.errors import UserError
from acoustic_kd.system.files import json_sha256, read_json, write_json
from acoustic_kd.system.steps import Step
from acoustic_kd.training.chunks import subset_labels
from acoustic_kd.training.model import read_description
from acoustic_kd.training.processes import make_accelerator, wait
from acoustic_kd.training.specialists import Subset, cluster, covariance, start_from

CLUSTERED_FRAMES = 200_000  # of train, at most, whose predictions are clustered


def train_specialists(experiment: Experiment) -> None:
    """Cluster the classes by the predictions of the finished members; train the specialists."""
    accelerator = make_accelerator()
    step = _subset_step(experiment)
    if accelerator.is_main_process and not step.is_current():
        with step.run():
            _write_subsets(experiment, accelerator.device)
    wait(accelerator, step.name)
    train_models(experiment, _specialists(experiment))


def _subset_step(experiment: Experiment) -> Step:
    inputs = {"frames": experiment.done("frames")["digest"]}
    for number, directory in enumerate(member_directories(experiment), start=1):
        inputs[f"member {number}"] = read_description(directory, "digest")[1]["digest"]
    settings = shaping_settings(experiment.config, "specialists.count", "specialists.classes")
    settings["train.seed"] = experiment.config.train.seed
    directory = subsets_path(experiment).parent
    return Step("subsets of specialists", directory, settings, inputs, neutral=NEUTRAL)


def _write_subsets(experiment: Experiment, device: torch.device) -> None:
    config, frames = experiment.config, experiment.path("frames")
    counts = read_json(frames / STATISTICS, Occupancies, "the frequencies of senones")["frames"]
    count, size = config.specialists.count, config.specialists.classes
    for name, value in (("count", count), ("classes", size)):
        if value >= len(counts):
            raise UserError(
                f"setting 'specialists.{name}' is {value}; it must be less than the number of "
                f"classes, {len(counts)}"
            )
    matrix = covariance(_predictions(experiment, device, sum(counts)))
    subsets = cluster(matrix.numpy(), count, size, config.train.seed)
    shares = [sum(counts[n] for n in subset) / sum(counts) for subset in subsets]
    for number, share in enumerate(shares, start=1):
        if not 0 < share < 1:
            raise UserError(
                f"specialist {number} covers all frames of train, or none; give another number of "
                "specialists.classes"
            )
    pairs = zip(subsets, shares, strict=True)
    write_json(subsets_path(experiment), [asdict(Subset(subset, share)) for subset, share in pairs])


def _predictions(experiment: Experiment, device: torch.device, frames: int) -> Iterator[Tensor]:
    """The members' mean predictions for some frames of train, spread over all of it."""
    members = replace(ensemble_system(experiment), specialists=())
    ensemble = read_ensemble(experiment, members, device)
    every = math.ceil(frames / CLUSTERED_FRAMES)
    for shard in shard_paths(experiment.path("frames") / "train"):
        here = read_frames([shard])
        blocks = torch.arange(0, len(here), every).split(BLOCK_FRAMES)
        yield from ensemble.predictions(here, blocks)


def _specialists(experiment: Experiment) -> list[Model]:
    config, generalist = experiment.config, member_directories(experiment)[0]
    directories = specialist_directories(experiment)
    subsets = read_json(subsets_path(experiment), list[Subset], "the subsets of specialists")
    own = {key: getattr(config.specialists, key) for key in ("epochs", "learning_rate")}
    train = replace(config.train, **{key: v for key, v in own.items() if v is not None})
    model, trained = member_models(config)[0], list[Model]()
    digest = read_description(generalist, "digest")[1]["digest"]
    for number, (directory, subset) in enumerate(zip(directories, subsets, strict=True), start=1):
        classes, name = subset.classes, f"specialist {number}"
        own_train = replace(train, seed=train.seed + SPECIALIST_SEEDS + number - 1)
        step = hard_target_step(experiment, name, directory, model, own_train)
        inputs = step.inputs | {"generalist": digest, "classes": json_sha256(classes)}
        step = replace(step, inputs=inputs)
        run = training_run_of(experiment, step, model, own_train, 0.0)
        run = replace(run, initialise=partial(start_from, generalist=generalist, classes=classes))
        trained.append(Model(run, step, partial(_read_data, experiment, classes)))
    return trained


def _read_data(experiment: Experiment, subset: list[int]) -> Data:
    """The members' frames and those of dev, with the classes of a specialist."""
    labels = subset_labels(classes_of(experiment), subset)
    return read_relabelled_data(experiment, labels, balanced=True)
