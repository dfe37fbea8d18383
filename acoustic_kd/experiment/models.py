"""The systems of an experiment: its members, their ensemble, the distilled models, the control."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from acoustic_kd.alignment.senones import read_statistics
from acoustic_kd.experiment.experiment import Experiment
from acoustic_kd.experiment.kaldi_targets import classes_of
from acoustic_kd.experiment.outputs import INVENTORY, SPEAKER_SPACE, STATISTICS
from acoustic_kd.features.fmllr import SpeakerSpace, read_speaker_space
from acoustic_kd.settings import all_settings, shapes
from acoustic_kd.system.errors import UserError
from acoustic_kd.training.ensemble import Mean, mean_of
from acoustic_kd.training.ensemble_predictions import Ensemble
from acoustic_kd.training.model import DESCRIPTION, AcousticModel, load_model, read_description
from acoustic_kd.training.precision import logits_of, use_bfloat16
from acoustic_kd.training.specialists import SUBSETS, Specialists
from acoustic_kd.training.tracking import TrackedRun
from acoustic_kd.training.windows import make_splicer


@dataclass(frozen=True)
class System:
    """One model, or an ensemble of them.

    Attributes:
        kind: baseline, control, ensemble or distilled; for a further shape with its name, as
            `distilled small`.
        directories: of the models; their predictions are averaged.
        specialists: directories of the models that refine the mean.
    """

    name: str
    kind: str
    directories: tuple[Path, ...]
    specialists: tuple[Path, ...] = ()


CPU = torch.device("cpu")
PLAIN_MEAN = Mean(1.0)


def systems(experiment: Experiment) -> list[System]:
    """Every system of the results: members, control, ensemble, distilled models, other shapes."""
    members = member_directories(experiment)
    found = [System(f"member-{n:02d}", "baseline", (d,)) for n, d in enumerate(members, start=1)]
    for shape in shapes(experiment.config):
        kind, tag = (f" {shape}", f"-{shape}") if shape else ("", "")
        if control := control_directory(experiment, shape):
            found.append(System(f"control{tag}", f"control{kind}", (control,)))
        if not shape:
            found.append(ensemble_system(experiment))
        for n, directory in enumerate(distilled_directories(experiment, shape), start=1):
            found.append(System(f"distilled{tag}-{n:02d}", f"distilled{kind}", (directory,)))
    return found


def ensemble_system(experiment: Experiment) -> System:
    """The members and, where there are any, the specialists."""
    members = tuple(member_directories(experiment))
    return System("ensemble", "ensemble", members, tuple(specialist_directories(experiment)))


def find_system(experiment: Experiment, model: str) -> System:
    """The system of a user's name for it: `distilled/01`, `members/01` or `ensemble`."""
    named = {
        system.directories[0].relative_to(experiment.directory).as_posix()
        if len(system.directories) == 1 and system.kind != "ensemble"
        else system.kind: system
        for system in systems(experiment)
    }
    if model not in named:
        raise UserError(f"--model is '{model}'; {experiment.directory} has {', '.join(named)}")
    return named[model]


@dataclass(frozen=True)
class AcousticScorer:
    """The acoustic side of one system: models, their windows, and the senones' priors.

    Attributes:
        models: in evaluation mode, each with its own window.
        log_prior, durations: [K], as `read_statistics` gives them.
        bfloat16: whether matrices are multiplied in bfloat16.
        specialists: refine the mean of the models; None: there are none.
    """

    models: list[AcousticModel]
    log_prior: np.ndarray
    durations: np.ndarray
    bfloat16: bool
    specialists: Specialists | None = None

    @classmethod
    def of(cls, experiment: Experiment, system: System) -> "AcousticScorer":
        """Read a system of an experiment, whose classes its models must have."""
        bfloat16 = use_bfloat16(experiment.config.train.bfloat16, CPU)
        experiment.verify("frames", STATISTICS)
        scorer = cls.read(system.directories, experiment.path("frames"), bfloat16)
        classes = classes_of(experiment)
        for directory in system.directories:
            _, description = read_description(directory, "inventory")
            found = description["inventory"], description["classes"]
            if found != (classes.inventory, classes.count):
                raise UserError(
                    f"{directory / DESCRIPTION}: the model has other classes than "
                    f"{experiment.directory / INVENTORY}; train it in this experiment"
                )
        return replace(scorer, specialists=read_specialists(experiment, system, CPU))

    @classmethod
    def read(
        cls, directories: Sequence[Path], frames: Path, bfloat16: bool = False
    ) -> "AcousticScorer":
        """Read one model, or several to average.

        Args:
            directories: of the models.
            frames: output of the frames stage for their senones.
        """
        models = [load_model(directory) for directory in directories]
        first = models[0].description
        for directory, model in zip(directories, models, strict=True):
            for what in ("dimension", "classes"):
                if model.description[what] != first[what]:
                    raise UserError(
                        f"{directory / DESCRIPTION}: {what} is {model.description[what]}, but "
                        f"{first[what]} in {directories[0]}; train both on the same frames"
                    )
        log_prior, durations = read_statistics(frames / STATISTICS)
        if len(log_prior) != first["classes"]:
            raise UserError(
                f"{frames / STATISTICS}: has {len(log_prior)} senones, but {directories[0]} has "
                f"{first['classes']}; run the stage frames again"
            )
        return cls(models, log_prior, durations, bfloat16)

    @property
    def window(self) -> tuple[int, int]:
        """The frames before and after a frame that its posteriors depend on."""
        specialists = [] if self.specialists is None else self.specialists.models
        configs = [model.config for model in (*self.models, *specialists)]
        return max(c.left_frames for c in configs), max(c.right_frames for c in configs)

    @torch.inference_mode()
    def posteriors(self, features: np.ndarray, temperature: float = 1.0) -> np.ndarray:
        """The senones' posteriors [T, K], at a temperature, for normalised frames [T, D]."""
        frames, offsets = torch.arange(len(features)), np.array([0, len(features)])
        first, bfloat16 = self.models[0].config, self.bfloat16
        splicer = make_splicer(first, torch.from_numpy(features), offsets, bfloat16)
        logits = (logits_of(m, splicer.around(frames, m.config), bfloat16) for m in self.models)
        if self.specialists is None:
            return mean_of(logits, temperature).numpy()
        return self.specialists.refine(mean_of(logits, 1.0), frames, splicer, temperature).numpy()


def speaker_space(experiment: Experiment) -> SpeakerSpace | None:
    """The Gaussians that speakers' transforms are found for; None: speakers have none."""
    if not experiment.config.frames.speaker_cepstra:
        return None
    experiment.verify("frames", SPEAKER_SPACE)
    path = experiment.path("frames") / SPEAKER_SPACE
    return read_speaker_space(path, classes_of(experiment).count)


def member_directories(experiment: Experiment) -> list[Path]:
    """The directories of the members, by number."""
    count = experiment.config.train.members
    return [experiment.path("train") / f"{n:02d}" for n in range(1, count + 1)]


def specialist_directories(experiment: Experiment) -> list[Path]:
    """The directories of the specialists, by number."""
    folder = experiment.path("train") / "specialists"
    return [folder / f"{n:02d}" for n in range(1, experiment.config.specialists.count + 1)]


def subsets_path(experiment: Experiment) -> Path:
    """The file of the specialists' subsets of classes."""
    return experiment.path("train") / "specialists" / "subsets" / SUBSETS


def read_specialists(
    experiment: Experiment, system: System, device: torch.device
) -> Specialists | None:
    """The trained specialists of a system; None if it has none."""
    if not system.specialists:
        return None
    bfloat16 = use_bfloat16(experiment.config.train.bfloat16, device)
    return Specialists(system.specialists, subsets_path(experiment), device, bfloat16)


def read_ensemble(
    experiment: Experiment,
    system: System,
    device: torch.device = CPU,
    mean: Mean = PLAIN_MEAN,
    memory_gb: float | None = None,
) -> Ensemble:
    """The models of a system, ready to predict."""
    specialists = read_specialists(experiment, system, device)
    bfloat16 = use_bfloat16(experiment.config.train.bfloat16, device)
    return Ensemble(system.directories, mean, device, bfloat16, memory_gb, specialists)


def distilled_directories(experiment: Experiment, shape: str = "") -> list[Path]:
    """The directories of the distilled models of a shape, by number."""
    count = experiment.config.distill.models
    return [experiment.path("distill") / shape / f"{n:02d}" for n in range(1, count + 1)]


def control_directory(experiment: Experiment, shape: str = "") -> Path | None:
    """The directory of the control of a shape; None if `distill.hard_baseline` is false."""
    wanted = experiment.config.distill.hard_baseline
    return experiment.path("distill") / shape / "control" if wanted else None


def tracked_run(experiment: Experiment, name: str, group: str = "", **own: Any) -> TrackedRun:
    """A run of `train.tracker`; `own`: groups of settings that differ from the experiment's."""
    project = experiment.directory.resolve().name
    settings = all_settings(replace(experiment.config, **own))
    return TrackedRun(project, name, group, settings, experiment.directory / "logs")
