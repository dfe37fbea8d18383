"""Adaptation to a speaker: what is learnt, from which frames, and what stays."""

from dataclasses import replace

import pytest
import torch
from tiny_training import CONVOLUTIONS, MODEL, make_frames
from torch import nn

from acoustic_kd.features.frame_sequence import NO_TARGET
from acoustic_kd.training.adaptation import adapt, scales_and_shifts
from acoustic_kd.training.model import AcousticModel
from acoustic_kd.training.networks import build_network
from acoustic_kd.training.precision import logits_of
from acoustic_kd.training.windows import make_splicer

BATCH_NORM = replace(MODEL, batch_norm=True, residual=True)


def model_and_frames(config):
    torch.manual_seed(0)
    frames = make_frames(300)
    model = AcousticModel(
        build_network(config, 6, 5), config, {"classes": 5, "dimension": 6}
    ).eval()
    return model, make_splicer(config, frames.features, frames.offsets, False), frames.labels


def loss(model, splicer, labels):
    logits = logits_of(model, splicer(torch.arange(len(labels))), False)
    return torch.nn.functional.cross_entropy(logits, labels).item()


@pytest.mark.parametrize("config", [MODEL, BATCH_NORM, CONVOLUTIONS], ids=["dnn", "norm", "cnn"])
def test_only_scales_and_shifts_change_and_the_targets_fit_better(config):
    model, splicer, labels = model_and_frames(config)
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    adapted = adapt(model, splicer, labels, 5, 1e-2, False)
    assert loss(adapted, splicer, labels) < loss(model, splicer, labels) - 0.01
    assert not torch.equal(adapted.network.scale, torch.ones(6))
    after = adapted.network.network.state_dict()
    for name, tensor in model.network.state_dict().items():
        assert torch.equal(tensor, before[f"network.{name}"])
        learnt = name in dict(model.network.named_parameters()) and tensor.dim() == 1
        changed = not torch.equal(after[name], tensor)
        assert changed == (learnt and name != "output.bias"), name


def test_it_learns_from_frames_with_a_target_alone_and_always_the_same():
    model, splicer, labels = model_and_frames(CONVOLUTIONS)
    some = torch.where(torch.arange(len(labels)) % 3 == 0, labels, NO_TARGET)
    first, second = (adapt(model, splicer, some, 2, 1e-2, False).state_dict() for _ in range(2))
    assert all(torch.equal(first[name], second[name]) for name in first)
    without = adapt(model, splicer, torch.full_like(labels, NO_TARGET), 2, 1e-2, False)
    assert loss(without, splicer, labels) == loss(model, splicer, labels)
    assert not torch.equal(first["network.network.stem_norm.bias"], model.network.stem_norm.bias)


def test_vectors_are_learnt_unless_frozen_or_the_biases_of_the_outputs():
    """Also where a hidden layer has as many units as there are classes, and once if shared."""
    layers = nn.Linear(6, 5), nn.BatchNorm1d(5), nn.PReLU(), nn.Linear(5, 5)
    hidden, norm, slope, _ = layers
    network = nn.Sequential(*layers)
    network.again, network.frozen = norm, nn.Parameter(torch.ones(5), requires_grad=False)
    learnt = scales_and_shifts(nn.ModuleList([network]), 5)
    expected = [hidden.bias, norm.weight, norm.bias, slope.weight]
    assert list(map(id, learnt)) == list(map(id, expected))


class Strict(nn.Module):
    """A network that wants its windows in one precision, and has neither norm nor biases."""

    def __init__(self, dtype):
        super().__init__()
        self.dtype, self.output = dtype, nn.Linear(3 * 6, 5, bias=False)

    def forward(self, windows):
        assert windows.dtype == self.dtype
        return self.output(windows.flatten(1))


@pytest.mark.parametrize("bfloat16", [False, True])
def test_a_network_of_the_users_own_keeps_its_precision(bfloat16):
    frames = make_frames(300)
    config = replace(MODEL, left_frames=1, right_frames=1)
    network = Strict(torch.bfloat16 if bfloat16 else torch.float32)
    model = AcousticModel(network, config, {"classes": 5, "dimension": 6}).eval()
    splicer = make_splicer(config, frames.features, frames.offsets, bfloat16)
    adapted = adapt(model, splicer, frames.labels, 1, 1e-2, bfloat16).network
    assert not torch.equal(adapted.shift, torch.zeros(6))
    assert torch.equal(adapted.network.output.weight, network.output.weight)
