"""The train stage: the ensemble's members."""

from acoustic_kd.experiment.experiment import Experiment
from acoustic_kd.experiment.model_training import train_models
from acoustic_kd.experiment.training_jobs import member_models


def run(experiment: Experiment) -> None:
    """Train the members: they differ only by seed."""
    train_models(experiment, member_models(experiment))
