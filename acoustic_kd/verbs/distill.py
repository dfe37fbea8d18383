"""The distill stage: the distilled models and their control."""

from acoustic_kd.experiment.experiment import Experiment
from acoustic_kd.experiment.model_training import train_models
from acoustic_kd.experiment.training_jobs import check_windows, distilled_models
from acoustic_kd.experiment.transfer_set import transfer_shards


def run(experiment: Experiment) -> None:
    """Train new models on the soft targets of the transfer set, and their control without them."""
    transfer_shards(experiment)  # an error of the transfer set stops the stage before training
    check_windows(experiment)
    train_models(experiment, distilled_models(experiment))
