"""Both forms of the loss against the paper's equations, in float64.

`LOSSES` are the readable form and the fused one: what holds for the loss is tested for each.
"""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn.functional import cross_entropy

from acoustic_kd.features.frame_sequence import NO_TARGET
from acoustic_kd.soft_targets.encoding import SparseTargets
from acoustic_kd.system import memory
from acoustic_kd.training.losses import (
    DistillationLoss,
    distillation_loss,
    fused_loss,
    sparse_soft_cross_entropy,
)

TEMPERATURES = [1.0, 2.0, 4.0, 5.0, 20.0]


def readable(logits, soft, hard, temperature, weight=0.5, classes=None):
    return distillation_loss(logits, soft, hard, temperature, weight, classes).sum()


def fused(logits, soft, hard, temperature, weight=0.5, classes=None):
    return fused_loss(logits, soft, hard, temperature, weight, classes)


LOSSES = pytest.mark.parametrize("loss", [readable, fused])


def draw(frames=7, classes=11, seed=0, scale=3.0, dtype=torch.float64):
    """Logits of a model and of its teacher, and hard targets."""
    generator = torch.Generator().manual_seed(seed)
    logits, teacher = (
        torch.randn(frames, classes, generator=generator, dtype=dtype) * scale for _ in range(2)
    )
    hard = torch.randint(classes, (frames,), generator=generator)
    return logits.requires_grad_(), teacher, hard


def value_and_gradient(loss, logits):
    return loss.detach(), torch.autograd.grad(loss, logits)[0]


def assert_same_loss(actual, expected, logits, **tolerance):
    """Two losses have the same value and gradient."""
    results = (value_and_gradient(loss, logits) for loss in (actual, expected))
    torch.testing.assert_close(*results, **tolerance)


# --- the equations ------------------------------------------------------------------------------


@LOSSES
@pytest.mark.parametrize("temperature", TEMPERATURES)
def test_gradient_of_the_soft_term_is_q_minus_p_over_t(loss, temperature):
    """Paper equation 2: dC/dz_i = (q_i - p_i) / T, here times the factor T²."""
    logits, teacher, _ = draw()
    p = torch.softmax(teacher / temperature, -1)
    q = torch.softmax(logits.detach() / temperature, -1)
    _, actual = value_and_gradient(loss(logits, p, None, temperature), logits)
    torch.testing.assert_close(actual, temperature**2 * (q - p) / temperature, rtol=0, atol=1e-12)


@LOSSES
@pytest.mark.parametrize("sparse", [False, True])
def test_at_high_temperature_the_gradient_matches_logits(loss, sparse):
    """Paper equation 4: with zero-mean logits it tends to (z_i - v_i) / (N T²), times T²."""
    logits, teacher, _ = draw(classes=7)
    teacher = teacher - teacher.mean(-1, keepdim=True)
    centred = logits.detach() - logits.detach().mean(-1, keepdim=True)
    p, classes = torch.softmax(teacher / 1e5, -1), None
    if sparse:
        p, classes = p.topk(7, -1)
    _, actual = value_and_gradient(loss(logits, p, None, 1e5, classes=classes), logits)
    torch.testing.assert_close(actual, (centred - teacher) / 7, rtol=1e-3, atol=1e-4)


@LOSSES
@pytest.mark.parametrize("temperature", TEMPERATURES)
def test_value_against_an_independent_computation(loss, temperature):
    """The whole loss, from exponentials in NumPy."""
    logits, teacher, hard = draw(seed=3)
    z, v = logits.detach().numpy(), teacher.numpy()
    p, q = np.exp(v / temperature), np.exp(z / temperature)
    p, q = p / p.sum(1, keepdims=True), q / q.sum(1, keepdims=True)
    q1 = np.exp(z) / np.exp(z).sum(1, keepdims=True)
    expected = -(temperature**2) * (p * np.log(q)).sum(1) - 0.5 * np.log(q1[np.arange(7), hard])
    actual = loss(logits, torch.from_numpy(p), hard, temperature)
    np.testing.assert_allclose(actual.item(), expected.sum(), rtol=1e-12)


@LOSSES
@pytest.mark.parametrize("classes", [10, 1000])
def test_a_uniform_prediction_costs_ln_k_in_each_term_of_each_frame(loss, classes):
    """The classic bug divides one of the terms by K; a frame without transcript has one term."""
    logits = torch.zeros(3, classes, dtype=torch.float64)
    p = torch.softmax(torch.randn(3, classes, dtype=torch.float64), -1)
    actual = loss(logits, p, torch.tensor([5, NO_TARGET, 0]), 1.0, 0.5)
    assert actual.item() == pytest.approx(4 * np.log(classes), rel=1e-14)


# --- sparse soft targets ------------------------------------------------------------------------


@settings(max_examples=60)
@given(
    seed=st.integers(0, 10_000), kept=st.integers(1, 10), temperature=st.sampled_from([1.0, 4.0])
)
def test_the_tail_is_one_bucket(seed, kept, temperature):
    """Sparse = cross-entropy over the k kept classes and one class that is all the others."""
    logits, teacher, _ = draw(5, seed=seed)
    p = torch.softmax(teacher / temperature, -1)
    q = torch.softmax(logits / temperature, -1)
    top = p.topk(kept, -1)
    actual = sparse_soft_cross_entropy(logits, top.indices, top.values, temperature)
    q_kept = q.gather(-1, top.indices)
    rest = -(1 - top.values.sum(-1)) * (1 - q_kept.sum(-1)).log()
    expected = temperature**2 * (rest - (top.values * q_kept.log()).sum(-1))
    torch.testing.assert_close(actual, expected, rtol=1e-6, atol=1e-9)
    # The loss is least where the prediction has the right mass in each bucket.
    assert float(value_and_gradient(actual.sum(), logits)[1].sum().abs()) < 1e-9


@LOSSES
@pytest.mark.parametrize("certain", [50.0, 200.0, 2e4])
@pytest.mark.parametrize("predicted", [0, 4])
def test_a_certain_prediction_stays_finite_in_float32(loss, certain, predicted):
    """Of a kept class, and of another one: the mass of the other side underflows."""
    logits = torch.zeros(1, 6)
    logits[0, predicted] = certain
    classes, p = torch.tensor([[0, 1]]), torch.tensor([[0.6, 0.3]])
    (expected, slope), (value, gradient) = (
        value_and_gradient(form(z.requires_grad_(), soft, None, 1.0, 0, classes), z)
        for form, z, soft in ((readable, logits.double(), p.double()), (loss, logits, p))
    )
    torch.testing.assert_close(value.double(), expected, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(gradient.double(), slope, rtol=1e-4, atol=1e-6)


# --- frames without a transcript ----------------------------------------------------------------


@LOSSES
@settings(max_examples=40)
@given(
    seed=st.integers(0, 10_000),
    known=st.lists(st.booleans(), min_size=1, max_size=9),
    kept=st.integers(1, 11),
    weight=st.sampled_from([0.0, 0.5, 3.0]),
    temperature=st.sampled_from(TEMPERATURES),
)
def test_a_frame_without_transcript_has_the_soft_term_alone(
    loss, seed, known, kept, weight, temperature
):
    """In value and gradient, dense and sparse; the frames beside it notice nothing."""
    logits, teacher, hard = draw(frames=len(known), seed=seed)
    soft, classes = torch.softmax(teacher / temperature, -1), None
    if kept < 11:
        soft, classes = soft.topk(kept, -1)
    known = torch.tensor(known)
    mixed, whole, alone = (
        value_and_gradient(loss(logits, soft, targets, temperature, weight, classes), logits)
        for targets in (hard.masked_fill(~known, NO_TARGET), hard, None)
    )
    terms = weight * cross_entropy(logits.detach(), hard, reduction="none")
    torch.testing.assert_close(whole[0], alone[0] + terms.sum())
    torch.testing.assert_close(mixed[0], alone[0] + terms[known].sum())
    expected = torch.where(known[:, None], whole[1], alone[1])
    torch.testing.assert_close(mixed[1], expected, rtol=1e-12, atol=1e-15)


# --- the fused form -----------------------------------------------------------------------------


def pad(classes, p, counts):
    """Rows with only `counts` entries, padded with the first class and probability 0."""
    kept = torch.arange(classes.shape[-1]) < counts[:, None]
    return torch.where(kept, classes, classes[:, :1]), p * kept


@settings(max_examples=80)
@given(
    seed=st.integers(0, 10_000),
    classes=st.integers(2, 30),
    share=st.floats(0, 1),
    temperature=st.sampled_from([1.0, 2.0, 20.0]),
    scale=st.floats(0.1, 30),
    weight=st.sampled_from([0.0, 0.5, 3.0]),
    ragged=st.booleans(),
)
def test_the_fused_loss_is_the_readable_one(
    seed, classes, share, temperature, scale, weight, ragged
):
    logits, teacher, hard = draw(9, classes, seed, scale)
    p, kept = torch.softmax(teacher, -1).topk(1 + int(share * (classes - 1)), -1)
    if ragged and 1 < kept.shape[-1] < classes:  # with k = K there is no tail
        generator = torch.Generator().manual_seed(seed)
        kept, p = pad(kept, p, torch.randint(1, kept.shape[-1], (9,), generator=generator))
    forms = (form(logits, p, hard, temperature, weight, kept) for form in (fused, readable))
    assert_same_loss(*forms, logits, rtol=1e-6, atol=1e-8)


def test_without_soft_targets_it_is_cross_entropy():
    logits, _, hard = draw()
    expected = cross_entropy(logits, hard, reduction="sum")
    assert_same_loss(fused_loss(logits, None, hard), expected, logits)


def test_sampled_targets_may_have_drawn_every_class():
    logits, teacher, hard = draw(classes=3)
    p = torch.softmax(teacher, -1)
    padded = torch.tensor([0, 1, 2, 0]).expand(7, 4)
    actual = fused(logits, torch.cat([p, 0 * p[:, :1]], -1), hard, 2.0, classes=padded)
    assert_same_loss(actual, readable(logits, p, hard, 2.0), logits)


def test_it_does_not_depend_on_how_many_rows_are_taken_at_once(monkeypatch):
    logits, teacher, hard = draw(frames=23)
    p, classes = torch.softmax(teacher, -1).topk(4, -1)
    whole = fused(logits, p, hard, 2.0, classes=classes)
    monkeypatch.setattr(memory, "CPU_BLOCK_NUMBERS", 30)  # two rows
    assert_same_loss(fused(logits, p, hard, 2.0, classes=classes), whole, logits)


def test_bfloat16_logits_have_the_loss_of_their_values():
    logits, teacher, hard = draw(dtype=torch.float32)
    p, classes = torch.softmax(teacher, -1).topk(4, -1)
    low = logits.detach().bfloat16().requires_grad_()
    high = low.detach().float().requires_grad_()
    actual, gradient = value_and_gradient(fused(low, p, hard, 2.0, classes=classes), low)
    expected, slope = value_and_gradient(fused(high, p, hard, 2.0, classes=classes), high)
    assert actual.dtype == torch.float32 and gradient.dtype == torch.bfloat16
    torch.testing.assert_close(actual, expected)
    torch.testing.assert_close(gradient, slope.bfloat16())


def test_no_frames_have_no_loss():
    logits = torch.zeros(0, 5, requires_grad=True)
    loss = fused_loss(logits, None, torch.zeros(0, dtype=torch.int64))
    value, gradient = value_and_gradient(loss, logits)
    assert value == 0 and gradient.shape == (0, 5)


def test_it_is_differentiated_once():
    logits, teacher, hard = draw()
    loss = fused(logits, torch.softmax(teacher, -1), hard, 2.0)
    loss.backward(retain_graph=True)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        loss.backward()


# --- the module ---------------------------------------------------------------------------------


@pytest.mark.parametrize("kept", [None, 4])
@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
def test_the_module_is_the_equations_and_mean_divides_by_the_frames(reduction, kept):
    logits, teacher, hard = draw()
    hard[2] = NO_TARGET
    p, classes = torch.softmax(teacher / 3, -1), None
    if kept:
        p, classes = p.topk(kept, -1)
    each = distillation_loss(logits, p, hard, 3.0, 0.25, classes)
    expected = {"mean": each.sum() / 7, "sum": each.sum(), "none": each}[reduction]
    module = DistillationLoss(3.0, 0.25, reduction)
    actual = module(logits, p if classes is None else SparseTargets(classes, p), hard)
    assert actual.shape == expected.shape
    weights = torch.linspace(1, 2, expected.numel(), dtype=torch.float64).view(expected.shape)
    assert_same_loss((weights * actual).sum(), (weights * expected).sum(), logits)


@pytest.mark.parametrize("reduction", ["mean", "none"])
def test_any_negative_hard_target_is_none_at_all(reduction):
    logits, teacher, hard = draw()
    module, p = DistillationLoss(2.0, reduction=reduction), torch.softmax(teacher, -1)
    usual, ours = hard.clone(), hard.clone()
    usual[3], ours[3] = -100, NO_TARGET
    assert torch.equal(module(logits, p, usual), module(logits, p, ours))
    torch.testing.assert_close(module(logits, p, torch.full_like(hard, -1)), module(logits, p))


def test_each_frame_of_bfloat16_logits_has_the_loss_of_their_values():
    logits, teacher, hard = draw(dtype=torch.float32)
    low, p = logits.detach().bfloat16(), torch.softmax(teacher, -1)
    module = DistillationLoss(2.0, reduction="none")
    assert torch.equal(module(low, p, hard), module(low.float(), p, hard))


SOFT = torch.full((4, 3), 1 / 3)
PAIR = SparseTargets(torch.zeros(4, 2, dtype=torch.int64), torch.zeros(4, 2))
HARD = torch.zeros(4, dtype=torch.int64)


@pytest.mark.parametrize(
    ("logits", "soft", "hard", "message"),
    [
        (torch.zeros(3), SOFT, HARD, r"logits: .*float32 \[3\], expected floating \[frames"),
        (torch.zeros(4, 3).long(), SOFT, HARD, r"logits: torch.int64 \[4, 3\], expected floating"),
        (torch.zeros(4, 3), HARD, SOFT, r"soft targets: torch.int64 \[4\], .* floating \[4, 3\]"),
        (torch.zeros(4, 3), SOFT[:1], HARD, r"soft targets: .* \[1, 3\], .* floating \[4, 3\]"),
        (torch.zeros(4, 3), SOFT, SOFT, r"hard targets: .*float32 \[4, 3\], expected int64 \[4\]"),
        (torch.zeros(4, 3), SOFT, HARD.int(), r"hard targets: .*int32 \[4\], expected int64"),
        (torch.zeros(5, 3), PAIR, None, r"soft targets: .* \[4, 2\], expected floating \[5, 2\]"),
        (
            torch.zeros(4, 3), PAIR._replace(classes=HARD), None,
            r"classes of soft targets: .* \[4\], expected int64 \[4, 2\]",
        ),
    ],
)  # fmt: skip
def test_wrong_shapes_and_types_are_refused(logits, soft, hard, message):
    with pytest.raises(ValueError, match=message):
        DistillationLoss(2.0)(logits, soft, hard)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((0.0,), "temperature is 0.0 "),
        ((float("nan"),), "temperature is nan "),
        ((2.0, -1.0), "hard_weight -1.0"),
        ((2.0, 0.5, "batchmean"), "reduction is 'batchmean', expected 'mean', 'sum' or 'none'"),
    ],
)
def test_wrong_settings_of_the_module_are_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        DistillationLoss(*arguments)
