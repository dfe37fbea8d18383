"""The exported model in ONNX Runtime says what PyTorch says, for any number of frames."""

import sys

import numpy as np
import pytest
import torch

from acoustic_kd.decoding.search import MIN_PROBABILITY
from acoustic_kd.experiment import onnx_models
from acoustic_kd.experiment.models import AcousticScorer, find_system
from acoustic_kd.experiment.onnx_models import TRACED_FRAMES, LogPosteriors, write_onnx
from acoustic_kd.experiment.stages import open_experiment
from acoustic_kd.experiment.transcriber import Transcriber
from acoustic_kd.features.normalise import SILENCE_BELOW, SILENCE_LEVEL, Moments
from acoustic_kd.settings import ModelConfig
from acoustic_kd.training.model import AcousticModel
from acoustic_kd.training.networks import build_network
from acoustic_kd.verbs.bundle import bundle

onnx = pytest.importorskip("onnx", reason="needs acoustic-kd[onnx]")
onnxruntime = pytest.importorskip("onnxruntime", reason="needs acoustic-kd[onnx]")


def session_of(model_or_path):
    source = model_or_path if isinstance(model_or_path, str) else model_or_path.SerializeToString()
    return onnxruntime.InferenceSession(source, providers=["CPUExecutionProvider"])


@pytest.mark.parametrize(
    "configs",
    [
        [ModelConfig(2, 16, 0.2, 0.1, 3, 2)],
        [ModelConfig(2, 16, 0.2, 0.1, 3, 2, batch_norm=True, residual=True)],
        [ModelConfig(1, 8, 0.2, 0.1, 0, 4), ModelConfig(2, 16, 0.0, 0.0, 5, 0),
         ModelConfig(1, 8, 0.2, 0.0, 3, 3, kind="cnn", channels=2)],
    ],
    ids=["one model", "batch norm", "members of other kinds and windows"],
)  # fmt: skip
def test_windows_and_layers_are_those_of_the_model(configs):
    torch.manual_seed(0)
    networks = [build_network(config, 5, 11) for config in configs]
    models = [AcousticModel(n, c, {}).eval() for n, c in zip(networks, configs, strict=True)]
    scorer = AcousticScorer(models, np.zeros(11), np.ones(11), False)
    example = {"features": torch.zeros(TRACED_FRAMES, 5)}
    built = write_onnx(LogPosteriors(scorer.models), example, ["log_posteriors"])
    onnx.checker.check_model(built, full_check=True)
    session = session_of(built)
    for frames in (1, 2, 3, 40):
        features = np.random.default_rng(frames).standard_normal((frames, 5)).astype(np.float32)
        expected = np.log(scorer.posteriors(features) + MIN_PROBABILITY)
        (found,) = session.run(None, {"features": features})
        found = np.log(np.exp(found) + MIN_PROBABILITY)
        np.testing.assert_allclose(found, expected, atol=1e-4)


@pytest.mark.parametrize("model", ["distilled/01", "ensemble"])
def test_a_bundles_model_takes_frames_as_they_are(finished_recipe, tmp_path, model):
    bundle(finished_recipe.directory, tmp_path / "out", model)
    experiment = open_experiment(finished_recipe.directory)
    session = session_of(str(tmp_path / "out" / "model.onnx"))
    # The recording's log-mels, normalised inside, give what normalised frames give in PyTorch.
    log_mels = np.random.default_rng(0).normal(9, 3, (30, 40)).astype(np.float32)
    log_mels[5:8] = -15  # digital silence
    moments = Moments()
    moments.add(log_mels, 12.0)
    inputs = {"log_mels": log_mels, "mean": moments.mean, "deviation": moments.deviation}
    inputs = {key: value.astype(np.float32) for key, value in inputs.items()}
    inputs["silence"] = np.array(min(SILENCE_LEVEL, 12.0 - SILENCE_BELOW), np.float32)
    log_posteriors, scores = session.run(["log_posteriors", "log_likelihoods"], inputs)
    scorer = AcousticScorer.of(experiment, find_system(experiment, model))
    expected = scorer.posteriors(moments.normalise(log_mels, 12.0))
    tolerance = 0.02 if scorer.bfloat16 else 1e-5
    np.testing.assert_allclose(np.exp(log_posteriors), expected, atol=tolerance)
    scale, priors = 1 / Transcriber(finished_recipe.directory, model).weights[0], scorer.log_prior
    np.testing.assert_allclose(scores, scale * (log_posteriors - priors), atol=1e-4)


def negated(monkeypatch):
    right = onnx_models.LogPosteriors.forward
    monkeypatch.setattr(
        onnx_models.LogPosteriors, "forward", lambda self, features: -right(self, features)
    )


def branching(monkeypatch):
    """As a network of the user's own may be: Python that depends on numbers."""
    right = onnx_models.LogPosteriors.forward
    monkeypatch.setattr(
        onnx_models.LogPosteriors,
        "forward",
        lambda self, features: right(self, features) if features.sum() > 0 else features,
    )


def of_fixed_size(monkeypatch):
    """As a network of the user's own may be: PyTorch exports len() as a constant."""
    right = onnx_models.LogPosteriors.forward
    monkeypatch.setattr(
        onnx_models.LogPosteriors,
        "forward",
        lambda self, features: right(self, features) + torch.zeros(len(features), 1),
    )


def without(package):
    return lambda monkeypatch: monkeypatch.setitem(sys.modules, package, None)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (negated, "log posteriors differ"),
        (branching, "PyTorch cannot export this network to ONNX"),
        (of_fixed_size, "windows.shape[0], not len(windows)"),
        (without("onnx"), "pip install '/path/to/checkout[onnx]'\n"),
        (without("onnxscript"), "pip install '/path/to/checkout[onnx]'\n"),
        (lambda patch: patch.setattr(onnx_models, "MAX_FILE_BYTES", 1000),
         "one ONNX file holds 2.1"),
    ],
    ids=["other output", "branches", "fixed size", "no onnx", "no onnxscript", "too large"],
)  # fmt: skip
def test_a_refused_bundle_writes_nothing(
    finished_recipe, command_refusal, tmp_path, monkeypatch, change, message
):
    change(monkeypatch)
    out = tmp_path / "out"
    assert message in command_refusal("bundle", finished_recipe.directory, "--out", out)
    assert list(tmp_path.iterdir()) == []
