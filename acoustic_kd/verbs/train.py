"""The train stage: the ensemble's members."""

from acoustic_kd.experiment.experiment import Experiment
from acoustic_kd.experiment.model_training import train_models
from acoustic_kd.experiment.specialists import train_specialists
from acoustic_kd.experiment.training_jobs import check_windows, members


def run(experiment: Experiment) -> None:
    """Train the members of the ensemble, then the specialists."""
    check_windows(experiment)
    train_models(experiment, members(experiment))
    # A run with a share may have to wait for other members, so one without trains specialists.
    if experiment.config.specialists.count and experiment.share is None:
        train_specialists(experiment)
