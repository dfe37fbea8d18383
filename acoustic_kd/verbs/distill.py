"""The distill stage: the distilled models and their control."""

from acoustic_kd.experiment.experiment import Experiment
from acoustic_kd.experiment.model_training import train_models
from acoustic_kd.experiment.training_jobs import distilled_models
from acoustic_kd.experiment.transfer_set import transfer_shards


def run(experiment: Experiment) -> None:
    """Train fresh models on the soft targets of the transfer set, and their control without."""
    transfer_shards(experiment)  # refused before anything is begun
    train_models(experiment, distilled_models(experiment))
