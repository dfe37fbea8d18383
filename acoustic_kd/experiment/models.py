"""The systems of an experiment: its members, their ensemble, the distilled models, the control."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from acoustic_kd.experiment.experiment import Experiment
from acoustic_kd.experiment.outputs import read_statistics
from acoustic_kd.settings import ModelConfig
from acoustic_kd.system.errors import UserError
from acoustic_kd.training.ensemble import posteriors
from acoustic_kd.training.model import AcousticModel, load_model, use_bfloat16


@dataclass(frozen=True)
class System:
    """One model, or an ensemble of them.

    Attributes:
        kind: one of KINDS.
        directories: of the models whose predictions are averaged.
    """

    name: str
    kind: str
    directories: tuple[Path, ...]


CPU = torch.device("cpu")


def systems(experiment: Experiment) -> list[System]:
    """Every system that is measured: members, control, ensemble, distilled models."""
    members, distilled = member_directories(experiment), distilled_directories(experiment)
    control = control_directory(experiment)
    return [
        *(System(f"member-{n:02d}", "baseline", (d,)) for n, d in enumerate(members, start=1)),
        *([System("control", "control", (control,))] if control else []),
        System("ensemble", "ensemble", tuple(members)),
        *(
            System(f"distilled-{n:02d}", "distilled", (d,))
            for n, d in enumerate(distilled, start=1)
        ),
    ]


def find_system(experiment: Experiment, model: str) -> System:
    """What a user calls `distilled/01`, `members/01` or `ensemble`."""
    found = {
        system.directories[0].relative_to(experiment.directory).as_posix()
        if len(system.directories) == 1 and system.kind != "ensemble"
        else system.kind: system
        for system in systems(experiment)
    }
    if model not in found:
        raise UserError(f"--model is '{model}'; {experiment.directory} has {', '.join(found)}")
    return found[model]


@dataclass(frozen=True)
class Recogniser:
    """The acoustic side of one system: models, their windows, and the senones' priors.

    Attributes:
        models: in evaluation mode.
        config: theirs; it says how wide their windows are.
        log_prior, durations: [K], as `read_statistics` gives them.
        bfloat16: whether matrices are multiplied in bfloat16, as when it was measured.
    """

    models: list[AcousticModel]
    config: ModelConfig
    log_prior: np.ndarray
    durations: np.ndarray
    bfloat16: bool

    @classmethod
    def of(cls, experiment: Experiment, system: System) -> "Recogniser":
        """Read a system."""
        low = use_bfloat16(experiment.config.train.bfloat16, CPU)
        return cls.read(system.directories, experiment.path("frames"), low)

    @classmethod
    def read(
        cls, directories: Sequence[Path], frames: Path, bfloat16: bool = False
    ) -> "Recogniser":
        """Read one model, or several that are averaged.

        Args:
            directories: theirs.
            frames: what the frames stage wrote of the senones that they know.
        """
        loaded = [load_model(directory) for directory in directories]
        config = ModelConfig(**loaded[0][1]["model"])
        return cls([model for model, _ in loaded], config, *read_statistics(frames), bfloat16)

    def posteriors(
        self, features: np.ndarray, piece: slice | None = None, temperature: float = 1.0
    ) -> np.ndarray:
        """The senones' posteriors [T', K] for a piece of a recording's frames.

        Args:
            features: [T, D] of the whole recording, normalised: windows reach beyond the piece.
            piece: None: the whole.
            temperature: of the predictions; 1: posteriors proper.
        """
        if piece is None:
            return posteriors(self.models, self.config, features, self.bfloat16, temperature)
        first = max(0, piece.start - self.config.left_frames)
        around = features[first : piece.stop + self.config.right_frames]
        found = posteriors(self.models, self.config, around, self.bfloat16, temperature)
        return found[piece.start - first : piece.stop - first]


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
