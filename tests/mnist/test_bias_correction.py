"""Corrections of biases: against a search by brute force, and what they promise of priors."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from acoustic_kd.mnist.bias_correction import MAX_SHIFT, best_shift, prior_shift, shifted


@st.composite
def labelled(draw, values: st.SearchStrategy[float]):
    """Logits [N, K], labels [N] and some of the K classes, not all."""
    count, kinds = draw(st.integers(1, 8)), draw(st.integers(2, 5))
    logits = draw(st.lists(values, min_size=count * kinds, max_size=count * kinds))
    labels = draw(st.lists(st.integers(0, kinds - 1), min_size=count, max_size=count))
    classes = draw(st.sets(st.integers(0, kinds - 1), min_size=1, max_size=kinds - 1))
    return torch.tensor(logits).view(count, kinds), torch.tensor(labels), tuple(sorted(classes))


def errors(logits, labels, classes, shift):
    return int((shifted(logits, classes, shift).argmax(-1) != labels).sum())


def intervals(logits, classes):
    """The middles of all intervals of shifts within which no image changes its class."""
    inside = np.isin(np.arange(logits.shape[1]), classes)
    values = logits.double().numpy()
    margins = sorted(set(values[:, ~inside].max(1) - values[:, inside].max(1)))
    edges = np.array([-MAX_SHIFT, *margins, MAX_SHIFT])
    return (edges[1:] + edges[:-1]) / 2


# Fractions of powers of two, so that sums are exact; few of them, so that many are equal.
MANY = st.integers(-800, 800).map(lambda n: n / 32)
FEW = st.integers(-2, 2).map(float)


@given(labelled(MANY) | labelled(FEW))
def test_no_shift_has_fewer_errors_than_the_best(case):
    logits, labels, classes = case
    shift = best_shift(logits, labels, classes)
    middles = intervals(logits, classes)
    counts = [errors(logits, labels, classes, middle) for middle in middles]
    assert errors(logits, labels, classes, shift) == min(counts)
    best = [m for m, count in zip(middles, counts, strict=True) if count == min(counts)]
    # In the middle of an interval, and of all such the nearest to no shift at all.
    assert shift in best and abs(shift) == min(np.abs(best))


def test_a_shift_short_of_the_largest_is_found_though_its_interval_goes_beyond():
    logits, labels = torch.tensor([[0.0, 90.0], [0.0, 150.0]]), torch.tensor([0, 1])
    assert errors(logits, labels, (0,), 95.0) == 0
    assert errors(logits, labels, (0,), best_shift(logits, labels, (0,))) == 0


def mean_mass(logits, classes, shift, temperature):
    """Of some classes at a temperature, in float64."""
    moved = logits.double().numpy().copy()
    moved[:, list(classes)] += shift
    moved = np.exp((moved - moved.max(1, keepdims=True)) / temperature)
    return (moved[:, list(classes)].sum(1) / moved.sum(1)).mean()


@given(
    seed=st.integers(0, 1000),
    spread=st.floats(0.1, 5),
    classes=st.sampled_from([(3,), (7, 8), tuple(range(9))]),
    prior=st.floats(0.01, 0.99),
    temperature=st.floats(1, 8),
)
def test_after_the_shift_the_mean_probability_is_the_prior(
    seed, spread, classes, prior, temperature
):
    logits = spread * torch.randn(50, 10, generator=torch.Generator().manual_seed(seed))
    shift = prior_shift(logits, classes, prior, temperature)
    assert mean_mass(logits, classes, shift, temperature) == pytest.approx(prior, abs=1e-3)
    # In either precision it is the same shift.
    assert prior_shift(logits.double(), classes, prior, temperature) == pytest.approx(
        shift, abs=1e-3
    )


def test_some_logits_move_and_the_input_stays():
    logits = torch.randn(5, 10)
    before = logits.clone()
    moved = shifted(logits, (0, 9), 1.5)
    best_shift(logits, torch.arange(5), (3,))
    prior_shift(logits, (3,), 0.1, 2.0)
    assert torch.equal(logits, before)
    assert torch.equal(moved[:, 1:9], before[:, 1:9])
    assert torch.equal(moved[:, [0, 9]], before[:, [0, 9]] + 1.5)
