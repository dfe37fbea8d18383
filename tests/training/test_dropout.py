"""Dropout: the rate, the scale, and that masks follow the seed."""

import pytest
import torch

from acoustic_kd.training.model import Dropout


@pytest.mark.parametrize("rate", [0.1, 0.2, 0.5])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_rate_and_scale(rate, dtype):
    torch.manual_seed(0)
    units = torch.ones(1000, 999, dtype=dtype)
    found = Dropout(rate)(units)
    exact = round(256 * rate) / 256
    share = (found == 0).double().mean().item()
    # A million draws: five standard deviations of their mean.
    assert share == pytest.approx(exact, abs=5 * (exact * (1 - exact) / 999_000) ** 0.5)
    kept = found[found != 0]
    assert (kept == kept[0]).all() and kept[0].item() == pytest.approx(1 / (1 - exact), rel=0.01)


def test_no_pattern_along_rows_or_columns():
    torch.manual_seed(1)
    dropped = (Dropout(0.5)(torch.ones(2000, 512)) == 0).double()
    assert dropped.mean(0).std() == pytest.approx((0.25 / 2000) ** 0.5, rel=0.2)
    assert dropped.mean(1).std() == pytest.approx((0.25 / 512) ** 0.5, rel=0.2)


def test_masks_follow_the_seed_and_evaluation_changes_nothing():
    layer, units = Dropout(0.3), torch.randn(33, 7)
    torch.manual_seed(5)
    first = layer(units)
    torch.manual_seed(5)
    assert torch.equal(layer(units), first)
    assert not torch.equal(layer(units), first)
    assert layer.eval()(units) is units


def test_the_gradient_passes_where_units_passed():
    units = torch.randn(10, 10, requires_grad=True)
    found = Dropout(0.4)(units)
    found.sum().backward()
    assert torch.equal(units.grad == 0, found == 0)
