"""An experiment that is finished, found again by its directory alone, and what it recognises with.

The records of its stages hold every setting that shaped it, so no settings file is needed.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from acoustic_kd.config import Config, ModelConfig
from acoustic_kd.ensemble import posteriors
from acoustic_kd.errors import UserError
from acoustic_kd.model import load_model
from acoustic_kd.precision import use_bfloat16
from acoustic_kd.report import System
from acoustic_kd.settings import from_flat
from acoustic_kd.stages import STAGES
from acoustic_kd.stages.experiment import Experiment
from acoustic_kd.stages.label import read_statistics
from acoustic_kd.stages.recognise import systems
from acoustic_kd.work import read_done

DEFAULT_MODEL = "distilled/01"
CPU = torch.device("cpu")


def open_experiment(directory: Path, needed: str = "decode") -> Experiment:
    """The experiment in a directory, with the settings that it was made with.

    Args:
        needed: the stage that must be done, and those before it that it needs.

    Raises:
        UserError: there is none, a stage is not done or out of date, or a version of this program
            with other settings made it.
    """
    directory = Path(directory)
    if not directory.is_dir():
        raise UserError(f"{directory}: no such experiment")
    settings: dict[str, Any] = {}
    for stage in STAGES.values():
        settings |= (read_done(directory / stage.folder) or {}).get("settings", {})
    settings.pop("format", None)
    try:
        config = from_flat(settings) if settings else Config()
    except UserError as error:
        raise UserError(f"{directory}: {error}; another version made it: run it again") from None
    experiment = Experiment(config, directory, STAGES)
    experiment.done(needed)
    return experiment


def find_system(experiment: Experiment, model: str) -> System:
    """What a user calls `distilled/01`, `members/01` or `ensemble`.

    Raises:
        UserError: there is none of that name.
    """
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

    models: list[nn.Module]
    config: ModelConfig
    log_prior: np.ndarray
    durations: np.ndarray
    bfloat16: bool

    @classmethod
    def of(cls, experiment: Experiment, system: System) -> "Recogniser":
        """Read a system.

        Raises:
            UserError: a file is missing or damaged.
        """
        models = [load_model(directory)[0] for directory in system.directories]
        low = use_bfloat16(experiment.config.train.bfloat16, CPU)
        priors = read_statistics(experiment.path("frames"))
        return cls(models, experiment.config.model, *priors, low)

    def posteriors(self, features: np.ndarray, piece: slice) -> np.ndarray:
        """The senones' posteriors [T', K] for a piece of a recording's frames.

        Args:
            features: [T, D] of the whole recording, normalised: windows reach beyond the piece.
        """
        first = max(0, piece.start - self.config.left_frames)
        around = features[first : piece.stop + self.config.right_frames]
        found = posteriors(self.models, self.config, around, self.bfloat16)
        return found[piece.start - first : piece.stop - first]
