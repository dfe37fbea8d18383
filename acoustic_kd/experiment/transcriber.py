"""A recogniser with the models of a finished experiment."""

from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import TypedDict

import numpy as np

from acoustic_kd.decoding.search import Decoder, SearchSettings
from acoustic_kd.experiment.experiment import Experiment
from acoustic_kd.experiment.models import AcousticScorer, find_system, speaker_space
from acoustic_kd.experiment.normalised import Normaliser
from acoustic_kd.experiment.outputs import graph_lexicon_path, inventory_of, stored_frames
from acoustic_kd.experiment.stages import DEFAULT_MODEL, open_experiment
from acoustic_kd.features.fbank import filter_edges, highest_hz
from acoustic_kd.features.normalise import Moments
from acoustic_kd.language.pieces import Joiner
from acoustic_kd.runtime.recognizer import Recognizer
from acoustic_kd.system.files import read_json

TRAIN_UTTERANCES = 100  # that show up to which frequency train holds sound


class _Weights(TypedDict):
    """The entries of `measurement.json` that are read."""

    lm_weight: float
    penalty: float


class Transcriber(Recognizer):
    """A recogniser with one system of a finished experiment.

    Args:
        model: `distilled/01`, `members/01` or `ensemble`.
    """

    def __init__(self, directory: Path, model: str = DEFAULT_MODEL) -> None:
        self.experiment = experiment = open_experiment(directory)
        config = experiment.config
        self.system = system = find_system(experiment, model)
        self.acoustics = AcousticScorer.of(experiment, system)
        experiment.verify("decode", f"{system.name}/measurement.json")
        measured = read_json(
            experiment.path("decode") / system.name / "measurement.json", _Weights, "a measurement"
        )
        experiment.verify("graph")
        is_global = config.features.normalise == "global"
        super().__init__(
            features=config.features,
            scorer=self.acoustics,
            decoder=Decoder(experiment.path("graph"), SearchSettings.of(config.decode)),
            weights=(measured["lm_weight"], measured["penalty"]),
            inventory=inventory_of(experiment),
            lexicon=graph_lexicon_path(experiment),
            join=Joiner.of(experiment.path("graph")),
            trained_hz=_trained_hz(experiment),
            train_moments=moments_of_train(experiment) if is_global else None,
            speaker_space=speaker_space(experiment),
        )


def _trained_hz(experiment: Experiment) -> float:
    """The frequency up to which train holds sound."""
    config = experiment.config.features
    train = experiment.path("features") / "train"
    if not train.is_dir():
        return float(filter_edges(config)[-1])
    some = [u.features for u in islice(stored_frames(train), TRAIN_UTTERANCES)]
    return highest_hz(np.concatenate(some), config)


def moments_of_train(experiment: Experiment) -> Moments:
    """The moments of all frames of train, without copies: those of global normalisation."""
    experiment.verify("features", "train/*")
    features = replace(experiment.config.features, normalise="global")
    as_global = replace(experiment, config=replace(experiment.config, features=features))
    return Normaliser(as_global, experiment.path("features"), "train").moments["", ""]
