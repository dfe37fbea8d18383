"""The ensemble's means, against their definitions."""

import numpy as np
import pytest
import torch

from acoustic_kd.training.ensemble import mean_of

LOGITS = [
    3 * torch.randn(6, 5, dtype=torch.float64, generator=torch.manual_seed(n)) for n in range(3)
]


def softmax(z):
    e = np.exp(z - z.max(-1, keepdims=True))
    return e / e.sum(-1, keepdims=True)


@pytest.mark.parametrize("temperature", [0.5, 1.0, 20.0])
@pytest.mark.parametrize("weights", [None, (1, 0, 3)])
def test_arithmetic_and_geometric_means(temperature, weights):
    p = np.stack([softmax(z.numpy() / temperature) for z in LOGITS])
    geometric = np.exp(np.average(np.log(p), 0, weights))
    for mean, expected in (
        ("arithmetic", np.average(p, 0, weights)),
        ("geometric", geometric / geometric.sum(-1, keepdims=True)),
    ):
        found = mean_of(LOGITS, temperature, mean, weights).numpy()
        np.testing.assert_allclose(found, expected, rtol=1e-12)


def test_only_the_geometric_mean_can_be_tempered_afterwards():
    """The mean of logits serves any temperature; the mean of probabilities has lost it."""
    for mean, same in (("geometric", True), ("arithmetic", False)):
        again = softmax(np.log(mean_of(LOGITS, 1.0, mean).numpy()) / 4)
        assert np.allclose(again, mean_of(LOGITS, 4.0, mean).numpy()) is same


@pytest.mark.parametrize("mean", ["arithmetic", "geometric"])
def test_the_members_logits_stay_as_they_were(mean):
    before = [z.clone() for z in LOGITS]
    mean_of(LOGITS, 2.0, mean)
    assert all(torch.equal(a, b) for a, b in zip(before, LOGITS, strict=True))


def test_what_makes_no_mean():
    with pytest.raises(ValueError, match="at least one member"):
        mean_of([], 1.0)
    with pytest.raises(ValueError, match="expected arithmetic or geometric"):
        mean_of(LOGITS, 1.0, "harmonic")
