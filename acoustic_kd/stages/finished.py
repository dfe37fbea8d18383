"""An experiment that is finished, found again by its directory alone.

The records of its stages hold every setting that shaped it, so no settings file is needed.
"""

from pathlib import Path
from typing import Any

from acoustic_kd.config import Config
from acoustic_kd.errors import UserError
from acoustic_kd.settings import from_flat
from acoustic_kd.stages import STAGES
from acoustic_kd.stages.experiment import Experiment
from acoustic_kd.stages.pdfs import check_has_tree
from acoustic_kd.work import read_done

DEFAULT_MODEL = "distilled/01"


def open_experiment(directory: Path, needed: str = "decode") -> Experiment:
    """The experiment in a directory, with the settings that it was made with.

    Args:
        needed: the stage that must be done, and those before it that it needs.

    Raises:
        UserError: there is none, a stage is not done or out of date, its classes are Kaldi's and it
            cannot decode, or a version of this program with other settings made it.
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
    if needed == "decode":
        check_has_tree(experiment)  # else it would be asked to run what cannot be
    experiment.done(needed)
    return experiment
