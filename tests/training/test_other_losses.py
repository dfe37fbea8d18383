"""The losses beside the paper's, against their equations in float64."""

import pytest
import torch

from acoustic_kd.features.frame_sequence import NO_TARGET
from acoustic_kd.settings import load_config
from acoustic_kd.system.errors import UserError
from acoustic_kd.training.losses import fused_loss
from acoustic_kd.training.other_losses import other_loss

DIVERGENCES = ["reverse", "jensen-shannon"]


def draw(frames=7, classes=11, seed=0):
    """Logits of a model and of its teacher, and hard targets."""
    generator = torch.Generator().manual_seed(seed)
    logits, teacher = torch.randn(2, frames, classes, generator=generator, dtype=torch.float64)
    hard = torch.randint(classes, (frames,), generator=generator)
    return logits.requires_grad_(), teacher, hard


def divergence(name, p, q):
    """By the definition, class by class."""
    kl = lambda a, b: (a * (a / b).log()).sum()  # noqa: E731
    if name == "reverse":
        return kl(q, p)
    m = (p + q) / 2
    return 2 * (kl(p, m) + kl(q, m))


@pytest.mark.parametrize("temperature", [1.0, 2.0, 5.0])
@pytest.mark.parametrize("name", DIVERGENCES)
def test_divergences_follow_their_equations(name, temperature):
    logits, teacher, _ = draw()
    p, q = ((t / temperature).softmax(-1) for t in (teacher, logits))
    expected = temperature**2 * divergence(name, p, q)
    torch.testing.assert_close(other_loss(name, logits, p, None, temperature, 0.0), expected)


@pytest.mark.parametrize("name", DIVERGENCES)
def test_classes_that_are_not_kept_form_one_bucket(name):
    logits, teacher, _ = draw()
    p, q = teacher.softmax(-1), logits.softmax(-1)
    kept, classes = p.topk(4)
    q_kept = q.gather(-1, classes)
    p_all, q_all = (torch.cat([x, 1 - x.sum(-1, keepdim=True)], -1) for x in (kept, q_kept))
    expected = divergence(name, p_all, q_all)
    torch.testing.assert_close(other_loss(name, logits, kept, None, 1.0, 0.0, classes), expected)


@pytest.mark.parametrize("name", DIVERGENCES)
def test_near_the_soft_targets_the_gradient_is_that_of_cross_entropy(name):
    logits, _, _ = draw()
    p = (logits.detach() + 1e-4 * draw(seed=1)[1]).softmax(-1)
    found = torch.autograd.grad(other_loss(name, logits, p, None, 1.0, 0.0), logits)[0]
    expected = torch.autograd.grad(fused_loss(logits, p, None, 1.0, 0.0), logits)[0]
    torch.testing.assert_close(found, expected, rtol=2e-3, atol=1e-8)


def test_matching_logits_is_the_limit_of_high_temperatures():
    """Paper equation 4, for logits of any mean."""
    logits, teacher, _ = draw()
    temperature = 1e4
    p = (teacher / temperature).softmax(-1)
    found = torch.autograd.grad(other_loss("logits", logits, p, None, temperature, 0.0), logits)[0]
    z, v = (t - t.mean(-1, keepdim=True) for t in (logits.detach(), teacher))
    torch.testing.assert_close(found, (z - v) / z.shape[-1], rtol=1e-6, atol=1e-9)
    paper = torch.autograd.grad(fused_loss(logits, p, None, temperature, 0.0), logits)[0]
    torch.testing.assert_close(found, paper, rtol=1e-2, atol=1e-4)


@pytest.mark.parametrize("name", [*DIVERGENCES, "logits"])
def test_hard_targets_add_their_term(name):
    logits, teacher, hard = draw()
    hard[2] = NO_TARGET
    p = teacher.softmax(-1)
    alone = other_loss(name, logits, p, None, 1.0, 0.5)
    both = other_loss(name, logits, p, hard, 1.0, 0.5)
    torch.testing.assert_close(both - alone, fused_loss(logits, None, hard, hard_weight=0.5))


def test_soft_targets_that_do_not_fit_are_refused():
    overrides = ["distill.loss=logits", "soft_targets.encoding=top-k"]
    with pytest.raises(UserError, match="must be dense with distill.loss=logits"):
        load_config(None, overrides)
