"""Segmentations: fitted to the number of frames, written and read back."""

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from acoustic_kd.alignment.segmentation import (
    STATES,
    Segmentation,
    read_segmentations,
    write_segmentations,
)
from acoustic_kd.system.errors import UserError

LENGTHS = st.lists(st.lists(st.integers(0, 9), min_size=3, max_size=3), min_size=1, max_size=8)


def segmentation(durations, name="u"):
    phones = tuple(f"P{n}" for n in range(len(durations)))
    return Segmentation(name, phones, np.array(durations, np.int64))


@settings(max_examples=200)
@given(durations=LENGTHS, frames=st.integers(0, 250))
def test_a_fitted_segmentation_has_just_these_frames(durations, frames):
    whole = segmentation(durations)
    fitted = whole.resized_to(frames)
    assert len(fitted) == frames
    assert fitted.durations.shape == (len(durations), STATES)
    assert fitted.durations.dtype == np.int64 and (fitted.durations >= 0).all()
    assert (fitted.id, fitted.phones) == (whole.id, whole.phones)
    # Nothing moves but the end: the state of every frame that both have is the same.
    state = np.arange(STATES * len(durations))
    before = np.repeat(state, whole.durations.ravel())
    after = np.repeat(state, fitted.durations.ravel())
    shared = min(frames, len(whole))
    np.testing.assert_array_equal(after[:shared], before[:shared])
    assert (after[shared:] == state[-1]).all()


@given(durations=LENGTHS)
def test_fitting_to_its_own_length_changes_nothing(durations):
    whole = segmentation(durations)
    np.testing.assert_array_equal(whole.resized_to(len(whole)).durations, whole.durations)


@settings(max_examples=25)
@given(table=st.lists(LENGTHS, max_size=5))
def test_round_trip(tmp_path_factory, table):
    path = tmp_path_factory.mktemp("align") / "train.jsonl"
    written = [segmentation(durations, f"ü-{n}") for n, durations in enumerate(table)]
    write_segmentations(path, written)
    found = read_segmentations(path)
    assert [(s.id, s.phones) for s in found] == [(s.id, s.phones) for s in written]
    for one, other in zip(found, written, strict=True):
        np.testing.assert_array_equal(one.durations, other.durations)


GOOD = {"id": "u", "phones": "SIL AH", "durations": [[1, 2, 3], [4, 5, 6]]}


@pytest.mark.parametrize(
    "row",
    [
        {"id": "u", "phones": "SIL AH"},
        GOOD | {"phones": "SIL"},
        GOOD | {"phones": 3},
        GOOD | {"phones": None},
        GOOD | {"durations": [[1, 2, 3], [4, 5]]},
        GOOD | {"durations": [[1, 2, 3], [4, 5, "x"]]},
        GOOD | {"durations": [[1, 2, 3], [4, 5, -6]]},
        {"id": "u", "phones": "", "durations": []},
        [GOOD],
        "SIL AH",
        7,
    ],
)
def test_a_malformed_line_is_named(tmp_path, row):
    path = tmp_path / "train.jsonl"
    path.write_text(json.dumps(GOOD) + "\n" + json.dumps(row) + "\n")
    with pytest.raises(UserError) as caught:
        read_segmentations(path)
    assert str(caught.value) == f"{path}:2: not a segmentation of an utterance"


def test_a_missing_file_and_a_line_that_is_no_json(tmp_path):
    with pytest.raises(UserError, match=r"no\.jsonl: cannot be read"):
        read_segmentations(tmp_path / "no.jsonl")
    (tmp_path / "bad.jsonl").write_text('{"id":\n')
    with pytest.raises(UserError, match=r"bad\.jsonl:1: not valid JSON"):
        read_segmentations(tmp_path / "bad.jsonl")
