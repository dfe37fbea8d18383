"""Mixtures of Gaussians: densities, and mixtures estimated from frames of known states."""

import numpy as np
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.distributions import Normal

from acoustic_kd.alignment import gmm
from acoustic_kd.alignment.gmm import MIN_FRAMES, MIN_VARIANCE_SHARE, Mixtures

K, G, D = 3, 4, 5


def mixtures(seed=0, unused=()):
    rng = np.random.default_rng(seed)
    weights = rng.uniform(0.1, 1, (K, G))
    for state, gaussian in unused:
        weights[state, gaussian] = 0
    weights /= weights.sum(1, keepdims=True)
    return Mixtures(weights, rng.normal(0, 3, (K, G, D)), rng.uniform(0.3, 3, (K, G, D)))


@settings(max_examples=20)
@given(st.integers(0, 1000), st.sets(st.tuples(st.integers(0, K - 1), st.integers(1, G - 1))))
def test_densities_and_posteriors_are_those_of_normal_distributions(seed, unused):
    model, rng = mixtures(seed, unused), np.random.default_rng(seed + 1)
    frames, states = rng.normal(0, 3, (7, D)), rng.integers(0, K, 7)
    parts = Normal(torch.from_numpy(model.means), torch.from_numpy(model.variances).sqrt())
    density = parts.log_prob(torch.from_numpy(frames)[:, None, None]).sum(-1)
    joint = density + torch.from_numpy(model.weights).log()
    components = model.components(frames)
    expected = torch.logsumexp(joint, -1).numpy()
    np.testing.assert_allclose(gmm.log_likelihoods(components), expected, rtol=1e-4, atol=1e-3)
    posteriors = torch.softmax(joint, -1).numpy()[np.arange(7), states]
    share = gmm.responsibilities(components, states)
    np.testing.assert_allclose(share, posteriors, atol=1e-4)
    np.testing.assert_allclose(share.sum(1), 1)
    assert (share[model.weights[states] == 0] == 0).all()


@given(st.integers(0, 1000), st.integers(0, 60))
@settings(max_examples=20)
def test_sums_are_those_of_a_loop_over_frames(seed, count):
    rng = np.random.default_rng(seed)
    frames, states = rng.normal(0, 3, (count, D)), rng.integers(0, K, count)
    share = rng.uniform(0, 1, (count, G))
    expected = np.zeros((K, G, 1 + 2 * D))
    for frame, state, row in zip(frames, states, share, strict=True):
        expected[state] += row[:, None] * np.concatenate([[1], frame, frame**2])
    np.testing.assert_allclose(gmm.accumulate(frames, states, share, K), expected, atol=1e-9)


def test_one_gaussian_a_state_has_the_mean_and_variance_of_its_frames():
    rng = np.random.default_rng(1)
    states = np.repeat(np.arange(K), [500, 300, 200])
    frames = rng.normal(states[:, None], 1 + states[:, None], (1000, D))
    model = gmm.estimate(gmm.accumulate(frames, states, np.ones((1000, 1)), K))
    for state in range(K):
        of_state = frames[states == state]
        np.testing.assert_allclose(model.means[state, 0], of_state.mean(0))
        np.testing.assert_allclose(model.variances[state, 0], of_state.var(0))
    assert (model.weights == 1).all()


def test_iterations_never_lose_likelihood_and_find_the_parts_of_a_mixture():
    rng = np.random.default_rng(2)
    frames = np.concatenate([rng.normal(-3, 1, (400, D)), rng.normal(3, 1, (600, D))])
    states = np.zeros(1000, np.int64)
    moments = gmm.accumulate(frames, states, np.ones((1000, 1)), 1)
    model, previous = gmm.split(gmm.estimate(moments), moments), -np.inf
    for _ in range(15):
        components = model.components(frames)
        now = float(gmm.log_likelihoods(components).mean())
        assert now > previous - 1e-5
        previous = now
        share = gmm.responsibilities(components, states)
        model = gmm.estimate(gmm.accumulate(frames, states, share, 1), model)
    order = np.argsort(model.means[0, :, 0])
    np.testing.assert_allclose(model.weights[0, order], [0.4, 0.6], atol=1e-3)
    np.testing.assert_allclose(model.means[0, order], [[-3] * D, [3] * D], atol=0.3)


def test_few_frames():
    """A Gaussian of few frames is dropped, an empty state keeps its mixture, variance a floor."""
    many, few = 1000, int(MIN_FRAMES) - 1
    frames = np.concatenate([np.random.default_rng(3).normal(0, 1, (many, D)), np.ones((few, D))])
    states = np.repeat([0, 1], [many, few])
    share = np.stack([np.ones(many + few), np.zeros(many + few)], axis=1)
    moments = gmm.accumulate(frames, states, share, K)
    first = gmm.estimate(moments)
    np.testing.assert_array_equal(first.weights, [[1, 0]] * K)
    np.testing.assert_allclose(first.means[2, 0], frames.mean(0))
    previous = Mixtures(np.full((K, 2), 0.5), np.full((K, 2, D), 7.0), np.ones((K, 2, D)))
    again = gmm.estimate(moments, previous)
    for state in (1, 2):
        np.testing.assert_array_equal(again.means[state], previous.means[state])
        np.testing.assert_array_equal(again.weights[state], previous.weights[state])
    frames[:many] = 0.5
    one = np.ones((many + few, 1))
    same = gmm.estimate(gmm.accumulate(frames, np.zeros(many + few, int), one, 1))
    assert (same.variances > 0).all()
    frames[:many, 0] = np.linspace(-9, 9, many)
    states = np.repeat([0, 1], [500, many + few - 500])
    narrow = gmm.estimate(gmm.accumulate(frames, states, one, 2))
    assert (narrow.variances[:, 0, 1:] >= 0.99 * MIN_VARIANCE_SHARE * frames.var(0)[1:]).all()


def test_a_split_keeps_weights_and_splits_only_gaussians_with_frames_for_two():
    model = Mixtures(np.array([[1.0], [1.0]]), np.zeros((2, 1, D)), np.ones((2, 1, D)))
    moments = np.zeros((2, 1, 1 + 2 * D))
    moments[:, 0, 0] = [2 * MIN_FRAMES, 2 * MIN_FRAMES - 1]
    halves = gmm.split(model, moments)
    np.testing.assert_array_equal(halves.weights, [[0.5, 0.5], [1, 0]])
    assert (halves.means[0, 0] == -halves.means[0, 1]).all() and (halves.means[0, 0] > 0).all()
    assert (halves.means[1, 0] == 0).all()
