"""Figures of single frames: sums over utterances, against a loop over frames."""

import json
import math
import re

import numpy as np
import pytest

from acoustic_kd.alignment.senones import Leaf, SenoneInventory
from acoustic_kd.reports import frame_figures
from acoustic_kd.reports.frame_figures import FrameFigures, expected_calibration_error
from acoustic_kd.reports.frame_sections import confusion_picture, pooled

PHONES = ("SIL", "B", "P")
# Not in the order of the phones: two senones of P, one of SIL, two of B.
LEAVES = (("P", 0), ("SIL", 1), ("B", 2), ("P", 0), ("B", 1))
INVENTORY = SenoneInventory(PHONES, tuple(Leaf(*leaf, PHONES, PHONES) for leaf in LEAVES))
RNG = np.random.default_rng(3)


def utterance(frames):
    odds = np.exp(RNG.normal(0, 3, (frames, 5)))
    p = (odds / odds.sum(1, keepdims=True)).astype(np.float32)
    right = RNG.random(frames) < 0.5
    return p, np.where(right, p.argmax(1), RNG.integers(0, 5, frames))


UTTERANCES = {f"u{n}": utterance(frames) for n, frames in enumerate((1, 40, 7, 90))}


@pytest.fixture(scope="module")
def figures():
    found = FrameFigures(INVENTORY)
    for name, (p, targets) in UTTERANCES.items():
        found.add(name, np.zeros((len(p), 2), np.float32), p, targets, 0.25)
    return found


def frames():
    """Every frame: utterance, number, posterior, label."""
    for name, (p, targets) in UTTERANCES.items():
        for t, (row, target) in enumerate(zip(p, targets, strict=True)):
            yield name, t, row.astype(float), int(target)


def phone_of(senone):
    return INVENTORY.leaves[senone].phone


def test_the_sums_are_those_of_a_loop_over_the_frames(figures):
    found = json.loads(json.dumps(figures.as_json(), allow_nan=False))
    assert found["frames"] == 138
    assert found["right"] == sum(row.argmax() == target for *_, row, target in frames())
    surprise = [-math.log(row[target]) for *_, row, target in frames()]
    assert found["cross_entropy"] == pytest.approx(sum(surprise) / 138, rel=1e-5)
    assert found["real_time_factor"] == pytest.approx(1.0 / 1.38)
    for phone in PHONES:
        own = [(row, target) for *_, row, target in frames() if phone_of(target) == phone]
        row = found["phones"][phone]
        assert row["frames"] == len(own)
        assert row["right"] == sum(p.argmax() == target for p, target in own)
        for other in PHONES:
            taken = sum(phone_of(p.argmax()) == other for p, _ in own)
            assert row["taken_for"].get(other, 0) == taken
            here = [n for n in range(5) if phone_of(n) == other]
            mass = np.mean([p[here].sum() for p, _ in own])
            assert row["mass"].get(other, 0) == pytest.approx(mass, abs=1e-3)
        assert list(row["mass"].values()) == sorted(row["mass"].values(), reverse=True)


def test_the_bins_and_the_expected_calibration_error(figures):
    bins = figures.as_json()["bins"]
    assert len(bins) == frame_figures.NUM_BINS
    error = 0.0
    for number, found in enumerate(bins):
        here = [
            (row.max(), row.argmax() == target)
            for *_, row, target in frames()
            if number <= row.astype(np.float32).max() * frame_figures.NUM_BINS < number + 1
        ]
        assert found["frames"] == len(here) and found["right"] == sum(r for _, r in here)
        assert found["confidence"] == pytest.approx(sum(p for p, _ in here), rel=1e-5)
        if here:
            gap = np.mean([r for _, r in here]) - np.mean([p for p, _ in here])
            error += len(here) / 138 * abs(gap)
    assert expected_calibration_error(bins) == pytest.approx(error, rel=1e-5)


def test_certainty_is_in_the_last_bin_and_impossible_labels_are_finite():
    found = FrameFigures(INVENTORY)
    sure = np.eye(5, dtype=np.float32)[[0, 0]]
    found.add("u", np.zeros((2, 1)), sure, np.array([0, 1]))
    bins = found.as_json()["bins"]
    assert (bins[-1]["frames"], bins[-1]["right"], bins[-1]["confidence"]) == (2, 1, 2.0)
    assert expected_calibration_error(bins) == pytest.approx(0.5)
    assert found.as_json()["cross_entropy"] == pytest.approx(-math.log(1e-10) / 2)


def test_examples_are_right_frames_sure_of_the_label_that_leave_most_to_other_phones(figures):
    sure = np.float32(frame_figures.MIN_EXAMPLE_PROBABILITY)
    for number, phone in enumerate(PHONES):
        best = None
        for name, t, row, target in frames():
            if phone_of(target) != phone or row.argmax() != target:
                continue
            others = sum(row[n] for n in range(5) if phone_of(n) != phone)
            interest = others + (row[target].astype(np.float32) >= sure)
            if best is None or interest > best[0] + 1e-6:
                best = interest, name, t, target
        example = figures.examples[number]
        assert (example.utterance, example.frame, example.senone) == best[1:]


def test_a_phone_that_is_never_right_has_no_example_and_an_absent_one_no_row():
    found = FrameFigures(INVENTORY)
    found.add("u", np.zeros((1, 1)), np.eye(5, dtype=np.float32)[:1], np.array([2]))
    assert found.examples == {} and list(found.as_json()["phones"]) == ["B"]
    empty = FrameFigures(INVENTORY).as_json()
    assert (empty["frames"], empty["cross_entropy"], empty["real_time_factor"]) == (0, 0.0, 0.0)
    assert expected_calibration_error(empty["bins"]) == 0.0


def test_examples_are_shown_with_their_tempered_predictions(figures):
    def predict(example, temperature):
        p = UTTERANCES[example.utterance][0][example.frame] ** (1 / temperature)
        return p / p.sum()

    rows = figures.example_predictions(predict, (1.0, 4.0))
    assert [row["phone"] for row in rows] == list(PHONES)
    for number, row in enumerate(rows):
        example = figures.examples[number]
        assert row["senone"] == INVENTORY.names()[example.senone]
        assert len(row["senones"]) == min(frame_figures.MAX_EXAMPLE_SENONES, 5)
        expected = predict(example, 4.0)
        for name, (at_one, at_four) in row["senones"].items():
            senone = int(name.rpartition(".")[2])
            assert at_four == pytest.approx(expected[senone], rel=1e-3)
            assert at_one == pytest.approx(predict(example, 1.0)[senone], rel=1e-3)
        assert next(iter(row["senones"])) == row["senone"]  # the label is the most probable


def test_the_most_confused_phones_come_first():
    def phone(frames, taken, mass):
        return {"frames": frames, "right": 0, "taken_for": taken, "mass": mass}

    picture = confusion_picture(
        {
            "phones": {
                "B": phone(100, {"B": 60, "P": 40}, {"B": 0.5, "P": 0.3, "D": 0.2}),
                "S": phone(100, {"S": 100}, {"S": 0.75, "Z": 0.25}),
                "ZH": phone(3, {"S": 3}, {"S": 1.0}),  # too few frames to tell
            }
        }
    )
    found = [text for text in re.findall(r">([^<]+)</text>", picture.svg) if ", " in text]
    assert [pair for pair in found if "%" not in pair] == ["B, P", "S, Z", "B, D"]
    assert confusion_picture({"phones": {"S": phone(100, {"S": 100}, {"S": 1.0})}}) is None


def test_figures_of_several_models_are_pooled():
    def figures(right, surprise):
        bins = [{"frames": 10, "right": right, "confidence": 5.0}]
        phones = {"B": {"frames": 10, "right": right, "taken_for": {}, "mass": {}}}
        return {
            "frames": 10, "right": right, "cross_entropy": surprise, "real_time_factor": 0.5,
            "bins": bins, "phones": phones,
        }  # fmt: skip

    found = pooled([figures(4, 1.0), figures(6, 2.0)])
    assert (found["frames"], found["right"], found["cross_entropy"]) == (20, 10, 1.5)
    assert found["bins"] == [{"frames": 20, "right": 10, "confidence": 10.0}]
    assert found["phones"]["B"] == {"frames": 20, "right": 10}
