"""What much speech is said to cost."""

from dataclasses import replace
from itertools import product
from pathlib import Path

import pytest

import scale
from scale import Constants

PAPER = Constants()


def test_the_documentation_has_what_the_tool_prints():
    page = (Path(__file__).parents[2] / "docs" / "clusters.md").read_text()
    assert scale.pages(PAPER, [1_000, 60_000, 1_000_000], [8, 256]) in page


def test_the_papers_net_takes_half_a_gigaflop_a_frame():
    assert sum(PAPER.products) == 1040 * 2560 + 7 * 2560**2 + 2560 * 14_000
    flop = PAPER.train_seconds * PAPER.train_share * PAPER.tflops * 1e12
    assert flop == pytest.approx(0.5e9, rel=0.01)
    alone = replace(PAPER, members=1, predict_share=PAPER.train_share)
    assert alone.predict_seconds * 3 == pytest.approx(PAPER.train_seconds, rel=0.02)


@pytest.mark.parametrize("hours", [10, 1_000])
def test_one_gpu_takes_its_arithmetic(hours):
    took, bound = PAPER.train(hours, 1, 84)
    assert bound == "arithmetic"
    assert took == pytest.approx(10 * hours * 360_000 * PAPER.train_seconds / 3600)
    members, together, _ = PAPER.ensemble(hours, 1)
    assert members == pytest.approx(10 * took) and together == 1


@pytest.mark.parametrize(
    ("change", "bound"),
    [
        ({"batch": 64, "between": 1e9}, "launching"),
        ({"between": 1.0}, "exchange"),
        ({"storage": 0.1}, "reading"),
        ({"between": 1e9, "storage": 1e9}, "arithmetic"),
    ],
)
def test_what_is_slowest_bounds_a_step(change, bound):
    assert replace(PAPER, **change).train(1_000, 16, 84)[1] == bound


def test_more_gpus_are_never_slower_for_the_ensemble_and_costs_grow_straight():
    for few, more in ((1, 2), (8, 16), (128, 256)):
        assert PAPER.ensemble(1_000, more)[0] <= PAPER.ensemble(1_000, few)[0]
    for gpus, batch in product((8, 256), (1024, 8192)):
        constants = replace(PAPER, batch=batch)
        one, ten = constants.ensemble(100, gpus), constants.ensemble(1_000, gpus)
        assert ten[0] == pytest.approx(10 * one[0]) and ten[1:] == one[1:]


def test_members_beside_one_another_exchange_nothing():
    slow = replace(PAPER, inside=1e-3, between=1e-3)
    members, together, bound = slow.ensemble(1_000, 10)
    assert (together, bound) == (10, "arithmetic")
    assert members == pytest.approx(slow.train(1_000, 1, 840)[0])
