"""The fused loss against the readable one and against finite differences."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from acoustic_kd.features.frames import NO_TARGET
from acoustic_kd.system import memory as memory
from acoustic_kd.training.losses import distillation_loss, fused_loss


def draw(frames=7, classes=11, seed=0, scale=3.0, dtype=torch.float64):
    generator = torch.Generator().manual_seed(seed)
    logits = torch.randn(frames, classes, generator=generator, dtype=dtype) * scale
    p = torch.softmax(torch.randn(frames, classes, generator=generator, dtype=dtype) * scale, -1)
    hard = torch.randint(classes, (frames,), generator=generator)
    return logits.requires_grad_(), p, hard


def both(loss, logits):
    """Value and gradient."""
    return loss.detach(), torch.autograd.grad(loss, logits)[0]


def filled_up(classes, p, counts):
    """Rows with only `counts` entries: what follows is the first class with probability 0."""
    steps = torch.arange(classes.shape[-1])
    kept = steps < counts[:, None]
    return torch.where(kept, classes, classes[:, :1]), p * kept


@settings(max_examples=80)
@given(
    seed=st.integers(0, 10_000),
    classes=st.integers(2, 30),
    share=st.floats(0, 1),
    temperature=st.sampled_from([1.0, 2.0, 20.0]),
    scale=st.floats(0.1, 30),
    hard_weight=st.sampled_from([0.0, 0.5, 3.0]),
    ragged=st.booleans(),
)
def test_it_is_the_distillation_loss(seed, classes, share, temperature, scale, hard_weight, ragged):
    logits, p, hard = draw(9, classes, seed, scale)
    top = p.topk(1 + int(share * (classes - 1)), -1)
    kept, values = top.indices, top.values
    if ragged and 1 < kept.shape[-1] < classes:  # with k = K there is no tail
        generator = torch.Generator().manual_seed(seed)
        counts = torch.randint(1, kept.shape[-1], (9,), generator=generator)
        kept, values = filled_up(kept, values, counts)
    expected = distillation_loss(logits, values, hard, temperature, hard_weight, kept).sum()
    found = fused_loss(logits, hard, hard_weight, values, temperature, kept)
    for one, other in zip(both(found, logits), both(expected, logits), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-6, atol=1e-8)


@pytest.mark.parametrize("kept", [None, 4, 11])
def test_its_gradient_is_that_of_finite_differences(kept):
    logits, p, hard = draw(frames=3)
    classes = None
    if kept is not None:
        p, classes = p.topk(kept, -1)
    _, gradient = both(fused_loss(logits, hard, 0.5, p, 2.0, classes), logits)
    for place in [(0, 0), (1, int(hard[1])), (2, 10)]:
        step = torch.zeros_like(logits)
        step[place] = 1e-5
        up, down = (
            fused_loss(logits.detach() + sign * step, hard, 0.5, p, 2.0, classes)
            for sign in (1, -1)
        )
        assert float(up - down) / 2e-5 == pytest.approx(float(gradient[place]), rel=1e-6, abs=1e-8)


def test_without_soft_targets_it_is_cross_entropy():
    logits, _, hard = draw()
    expected = torch.nn.functional.cross_entropy(logits, hard, reduction="sum")
    for one, other in zip(
        both(fused_loss(logits, hard), logits), both(expected, logits), strict=True
    ):
        torch.testing.assert_close(one, other)


def test_frames_without_a_transcript_have_no_hard_term():
    logits, p, hard = draw()
    known = torch.tensor([True, False, True, True, False, False, True])
    soft_alone = fused_loss(logits, None, 0.5, p, 2.0)
    hard_alone = 0.5 * torch.nn.functional.cross_entropy(
        logits[known], hard[known], reduction="sum"
    )
    found = fused_loss(logits, hard.masked_fill(~known, NO_TARGET), 0.5, p, 2.0)
    torch.testing.assert_close(found, soft_alone + hard_alone)
    found, expected = (
        both(loss, logits)[1] for loss in (found, fused_loss(logits, None, 0.5, p, 2.0))
    )
    torch.testing.assert_close(found[~known], expected[~known])


def test_sampled_targets_may_have_drawn_every_class():
    logits, p, hard = draw(classes=3)
    classes = torch.arange(3).expand(7, 3)
    padded = torch.cat([classes, classes[:, :1]], -1)[:, :4]
    found = fused_loss(logits, hard, 0.5, torch.cat([p, 0 * p[:, :1]], -1), 2.0, padded)
    expected = distillation_loss(logits, p, hard, 2.0, 0.5).sum()
    for one, other in zip(both(found, logits), both(expected, logits), strict=True):
        torch.testing.assert_close(one, other)


@pytest.mark.parametrize("certain", [50.0, 200.0, 2e4])
def test_a_certain_prediction_stays_finite_in_float32(certain):
    """Of a kept class, and of one that is not: the mass of the other side underflows."""
    for sure in (0, 4):
        logits = torch.zeros(1, 6)
        logits[0, sure] = certain
        logits.requires_grad_()
        classes, p = torch.tensor([[0, 1]]), torch.tensor([[0.6, 0.3]])
        value, gradient = both(fused_loss(logits, None, 0, p, 1.0, classes), logits)
        precise = logits.detach().double().requires_grad_()
        expected, slope = both(
            distillation_loss(precise, p.double(), None, 1.0, 0, classes).sum(), precise
        )
        torch.testing.assert_close(value.double(), expected, rtol=1e-5, atol=1e-5)
        torch.testing.assert_close(gradient.double(), slope, rtol=1e-4, atol=1e-6)


def test_it_does_not_depend_on_how_many_rows_are_taken_at_once(monkeypatch):
    logits, p, hard = draw(frames=23)
    p, classes = p.topk(4, -1)
    whole = both(fused_loss(logits, hard, 0.5, p, 2.0, classes), logits)
    monkeypatch.setattr(memory, "CPU_BLOCK_NUMBERS", 30)  # two rows
    parts = both(fused_loss(logits, hard, 0.5, p, 2.0, classes), logits)
    for one, other in zip(parts, whole, strict=True):
        torch.testing.assert_close(one, other)


def test_bfloat16_logits_have_the_loss_of_their_values():
    logits, p, hard = draw(dtype=torch.float32)
    p, classes = p.topk(4, -1)
    low = logits.detach().bfloat16().requires_grad_()
    high = low.detach().float().requires_grad_()
    found, gradient = both(fused_loss(low, hard, 0.5, p, 2.0, classes), low)
    expected, slope = both(fused_loss(high, hard, 0.5, p, 2.0, classes), high)
    assert found.dtype == torch.float32 and gradient.dtype == torch.bfloat16
    torch.testing.assert_close(found, expected)
    torch.testing.assert_close(gradient, slope.bfloat16())


def test_no_frames_have_no_loss():
    logits = torch.zeros(0, 5, requires_grad=True)
    value, gradient = both(fused_loss(logits, torch.zeros(0, dtype=torch.int64)), logits)
    assert value == 0 and gradient.shape == (0, 5)


def test_it_is_differentiated_once():
    logits, p, hard = draw()
    loss = fused_loss(logits, hard, 0.5, p, 2.0)
    loss.backward(retain_graph=True)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        loss.backward()
