"""Segmentations: resized to a number of frames, written and read back."""

import json

import numpy as np
import pytest
from hypothesis import example, given, settings
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
@example(durations=[[1, 0, 2], [3, 0, 0]], frames=6)  # its own length
def test_a_resized_segmentation_has_just_these_frames(durations, frames):
    whole = segmentation(durations)
    resized = whole.resized_to(frames)
    assert len(resized) == frames
    assert resized.durations.shape == (len(durations), STATES)
    assert resized.durations.dtype == np.int64 and (resized.durations >= 0).all()
    assert (resized.id, resized.phones) == (whole.id, whole.phones)
    # Nothing moves but the end: the state of every frame that both have is the same.
    state = np.arange(STATES * len(durations))
    before = np.repeat(state, whole.durations.ravel())
    after = np.repeat(state, resized.durations.ravel())
    shared = min(frames, len(whole))
    np.testing.assert_array_equal(after[:shared], before[:shared])
    assert (after[shared:] == state[-1]).all()


@settings(max_examples=25)
@given(table=st.lists(LENGTHS, max_size=5))
def test_round_trip(tmp_path_factory, table):
    path = tmp_path_factory.mktemp("align") / "train.jsonl"
    written = [segmentation(durations, f"ü-{n}") for n, durations in enumerate(table)]
    write_segmentations(path, written)
    found = read_segmentations(path)
    assert [(s.id, s.phones) for s in found] == [(s.id, s.phones) for s in written]
    for read, given_ in zip(found, written, strict=True):
        np.testing.assert_array_equal(read.durations, given_.durations)


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
    assert str(caught.value).startswith(f"{path}:2: not a segmentation of an utterance")
