"""The train stage: the ensemble's members."""

from acoustic_kd.experiment.experiment import Experiment
from acoustic_kd.experiment.model_training import train_models
from acoustic_kd.experiment.training_jobs import check_windows, members


def run(experiment: Experiment) -> None:
    """Train the members of the ensemble."""
    check_windows(experiment)
    train_models(experiment, members(experiment))
