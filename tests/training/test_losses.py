"""The loss against the paper's equations, in float64."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from acoustic_kd.features.frames import NO_TARGET
from acoustic_kd.training.losses import (
    distillation_loss,
    soft_cross_entropy,
    sparse_soft_cross_entropy,
)

TEMPERATURES = [1.0, 2.0, 5.0, 20.0]


def draw(frames=5, classes=11, seed=0, scale=3.0):
    generator = torch.Generator().manual_seed(seed)
    logits = torch.randn(frames, classes, generator=generator, dtype=torch.float64) * scale
    teacher = torch.randn(frames, classes, generator=generator, dtype=torch.float64) * scale
    return logits.requires_grad_(), teacher


def gradient(loss, logits):
    return torch.autograd.grad(loss.sum(), logits)[0]


@pytest.mark.parametrize("temperature", TEMPERATURES)
def test_gradient_of_the_soft_term_is_q_minus_p_over_t(temperature):
    """Paper equation 2: dC/dz_i = (q_i - p_i) / T, here times the factor T²."""
    logits, teacher = draw()
    p = torch.softmax(teacher / temperature, -1)
    q = torch.softmax(logits.detach() / temperature, -1)
    found = gradient(soft_cross_entropy(logits, p, temperature), logits)
    torch.testing.assert_close(found, temperature**2 * (q - p) / temperature, rtol=0, atol=1e-12)


@pytest.mark.parametrize("sparse", [False, True])
def test_at_high_temperature_the_gradient_matches_logits(sparse):
    """Paper equation 4: with zero-mean logits it tends to (z_i - v_i) / (N T²), times T²."""
    logits, teacher = draw(classes=7)
    teacher = teacher - teacher.mean(-1, keepdim=True)
    centred = logits.detach() - logits.detach().mean(-1, keepdim=True)
    temperature = 1e5
    p = torch.softmax(teacher / temperature, -1)
    if sparse:
        top = p.topk(7, -1)
        loss = sparse_soft_cross_entropy(logits, top.indices, top.values, temperature)
    else:
        loss = soft_cross_entropy(logits, p, temperature)
    expected = (centred - teacher) / 7
    torch.testing.assert_close(gradient(loss, logits), expected, rtol=1e-3, atol=1e-4)


def test_t_squared_keeps_the_size_of_gradients():
    """What it is for: the soft term's gradient hardly shrinks as the temperature rises."""
    logits, teacher = draw(scale=0.5)
    sizes = [
        gradient(soft_cross_entropy(logits, torch.softmax(teacher / t, -1), t), logits).norm()
        for t in (5.0, 50.0, 500.0)
    ]
    assert sizes[1] / sizes[2] == pytest.approx(1, abs=0.02)
    assert sizes[0] / sizes[2] == pytest.approx(1, abs=0.2)


@pytest.mark.parametrize("temperature", TEMPERATURES)
def test_value_against_an_independent_computation(temperature):
    """The whole loss, from exponentials in NumPy."""
    logits, teacher = draw(seed=3)
    hard = np.array([0, 3, 10, 5, 5])
    z, v = logits.detach().numpy(), teacher.numpy()
    p, q = np.exp(v / temperature), np.exp(z / temperature)
    p, q = p / p.sum(1, keepdims=True), q / q.sum(1, keepdims=True)
    q1 = np.exp(z) / np.exp(z).sum(1, keepdims=True)
    expected = -(temperature**2) * (p * np.log(q)).sum(1) - 0.5 * np.log(q1[np.arange(5), hard])
    found = distillation_loss(
        logits, torch.from_numpy(p), torch.from_numpy(hard), temperature, hard_weight=0.5
    )
    np.testing.assert_allclose(found.detach().numpy(), expected, rtol=1e-12)


@settings(max_examples=60)
@given(
    seed=st.integers(0, 10_000),
    classes=st.integers(2, 40),
    temperature=st.sampled_from(TEMPERATURES),
    scale=st.floats(0.1, 40),
)
def test_sparse_with_all_classes_is_the_dense_loss(seed, classes, temperature, scale):
    logits, teacher = draw(classes=classes, seed=seed, scale=scale)
    p = torch.softmax(teacher / temperature, -1)
    order = torch.stack([torch.randperm(classes) for _ in range(len(p))])
    dense = soft_cross_entropy(logits, p, temperature)
    sparse = sparse_soft_cross_entropy(logits, order, p.gather(-1, order), temperature)
    torch.testing.assert_close(sparse, dense, rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(
        gradient(sparse, logits), gradient(dense, logits), rtol=1e-9, atol=1e-12
    )


@settings(max_examples=60)
@given(
    seed=st.integers(0, 10_000), kept=st.integers(1, 10), temperature=st.sampled_from([1.0, 4.0])
)
def test_the_tail_is_one_bucket(seed, kept, temperature):
    """Sparse = cross-entropy over the k kept classes and one class that is all the others."""
    logits, teacher = draw(seed=seed)
    p = torch.softmax(teacher / temperature, -1)
    q = torch.softmax(logits / temperature, -1)
    top = p.topk(kept, -1)
    found = sparse_soft_cross_entropy(logits, top.indices, top.values, temperature)
    q_kept = q.gather(-1, top.indices)
    rest = -(1 - top.values.sum(-1)) * (1 - q_kept.sum(-1)).log()
    expected = temperature**2 * (rest - (top.values * q_kept.log()).sum(-1))
    torch.testing.assert_close(found, expected, rtol=1e-6, atol=1e-9)
    # The loss is least where the prediction has the right mass in each bucket.
    assert float(gradient(found, logits).sum().abs()) < 1e-9


def test_the_tail_of_a_certain_prediction_stays_finite():
    logits = torch.zeros(1, 5, dtype=torch.float32)
    logits[0, 2] = 200.0
    logits.requires_grad_()
    loss = sparse_soft_cross_entropy(logits, torch.tensor([[2]]), torch.tensor([[0.9]]), 1.0)
    assert torch.isfinite(loss).all()
    assert torch.isfinite(gradient(loss, logits)).all()
    assert loss.item() == pytest.approx(0.1 * 200, rel=0.02)


def test_without_hard_targets_only_the_soft_term_is_left():
    logits, teacher = draw()
    p = torch.softmax(teacher / 2, -1)
    alone = soft_cross_entropy(logits, p, 2.0)
    torch.testing.assert_close(distillation_loss(logits, p, None, 2.0, 0.5), alone)


@settings(max_examples=60)
@given(
    seed=st.integers(0, 10_000),
    known=st.lists(st.booleans(), min_size=1, max_size=9),
    kept=st.integers(1, 11),
    weight=st.sampled_from([0.0, 0.5, 3.0]),
    temperature=st.sampled_from(TEMPERATURES),
)
def test_a_frame_without_transcript_has_the_soft_term_alone(seed, known, kept, weight, temperature):
    """In value and gradient, dense and sparse; the frames beside it notice nothing."""
    logits, teacher = draw(frames=len(known), seed=seed)
    top = torch.softmax(teacher / temperature, -1).topk(kept, -1)
    classes, soft = (top.indices, top.values) if kept < 11 else (None, teacher.softmax(-1))
    known = torch.tensor(known)
    hard = torch.randint(0, 11, (len(known),), generator=torch.Generator().manual_seed(seed))

    def loss(targets):
        return distillation_loss(logits, soft, targets, temperature, weight, classes)

    mixed, whole, alone = loss(hard.masked_fill(~known, NO_TARGET)), loss(hard), loss(None)
    expected = torch.where(known, whole, alone)
    assert torch.equal(mixed, expected)
    found, both = gradient(mixed, logits), gradient(whole, logits)
    neither = gradient(alone, logits)
    torch.testing.assert_close(
        found, torch.where(known[:, None], both, neither), rtol=1e-12, atol=1e-15
    )


def test_the_loss_of_a_mixed_batch_in_numbers():
    """A uniform prediction costs ln K in each term that there is."""
    logits = torch.zeros(3, 8, dtype=torch.float64)
    soft = torch.full((3, 8), 1 / 8, dtype=torch.float64)
    loss = distillation_loss(logits, soft, torch.tensor([5, NO_TARGET, 0]), 1.0, 0.5)
    expected = np.log(8) * np.array([1.5, 1.0, 1.5])
    np.testing.assert_allclose(loss.numpy(), expected, rtol=1e-14)


def test_both_terms_are_per_frame_and_do_not_depend_on_the_number_of_classes():
    """A uniform prediction costs ln K in either term; the classic bug divides one of them by K."""
    for classes in (10, 1000):
        logits = torch.zeros(3, classes, dtype=torch.float64)
        p = torch.softmax(torch.randn(3, classes, dtype=torch.float64), -1)
        hard = torch.zeros(3, dtype=torch.long)
        loss = distillation_loss(logits, p, hard, 1.0, 1.0)
        torch.testing.assert_close(loss, torch.full_like(loss, 2 * np.log(classes)))
