"""The same sound and the same speakers in two splits."""

import shutil
from itertools import combinations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from acoustic_kd.corpora.overlap import (
    check_sound,
    said_twice,
    shared_speakers,
    shared_speakers_text,
)
from acoustic_kd.corpora.utterances import Utterance
from acoustic_kd.system.errors import UserError

ALL = ("train", "dev", "test", "untranscribed")


def said(name, audio, *span, speaker="s"):
    return Utterance(name, speaker, str(audio), "GO", *span)


@pytest.fixture
def sound(tmp_path):
    path = tmp_path / "a.wav"
    path.write_bytes(bytes(range(256)) * 300)
    return path


def copied(path):
    return shutil.copy(path, path.with_name("copy.wav"))


def linked(path):
    link = path.with_name("link.wav")
    link.symlink_to(path)
    return link


@pytest.mark.parametrize("other", [str, copied, linked])
@pytest.mark.parametrize("splits", list(combinations(ALL, 2)))
def test_the_same_sound_in_two_splits_is_refused_unless_models_learn_from_both(
    sound, other, splits
):
    first, second = splits
    both = {first: [said("x", sound)], second: [said("y", other(sound))]}
    if splits == ("train", "untranscribed"):
        assert "'y' of untranscribed and 'x' of train" in check_sound(both)[0]
        return
    message = f"'y' of {second} and 'x' of {first}, .*a.wav.* keep each sound in one split"
    with pytest.raises(UserError, match=message):
        check_sound(both)


def test_the_same_sound_twice_in_a_split_is_noted(sound):
    twice = [said("x", sound), said("y", sound, 0.5, 1.0), said("z", sound)]
    (note,) = said_twice({"train": twice, "test": []})
    assert note.startswith("train: 1 utterances are the same sound as another, first 'x' and 'z'")


def test_what_is_not_the_same_sound(sound):
    longer, middle, empty = (sound.with_name(name) for name in ("b.wav", "c.wav", "d.wav"))
    longer.write_bytes(sound.read_bytes() + b"x")
    content = bytearray(sound.read_bytes())
    content[len(content) // 2] ^= 1  # between the ends, which alone are compared first
    middle.write_bytes(content)
    empty.write_bytes(b"")
    shutil.copy(empty, empty.with_name("e.wav"))
    train = [said("a", sound), said("a2", sound), said("d", empty), said("n", "/none.wav")]
    test = [said("b", longer), said("c", middle), said("e", empty.with_name("e.wav"))]
    assert check_sound({"train": train, "test": test}) == []


SPAN = st.tuples(st.integers(0, 20), st.integers(1, 8)).map(lambda s: (s[0], s[0] + s[1]))


@settings(max_examples=40)
@given(st.lists(st.tuples(st.sampled_from(ALL[:3]), SPAN), max_size=7))
def test_segments_are_refused_exactly_if_two_of_different_splits_overlap(segments):
    splits = {split: [] for split in ALL[:3]}
    for number, (split, (start, end)) in enumerate(segments):
        splits[split].append(said(f"u{number}", "/r.wav", float(start), float(end)))
    overlap = any(
        a != b and min(x[1], y[1]) > max(x[0], y[0]) for (a, x), (b, y) in combinations(segments, 2)
    )
    if overlap:
        with pytest.raises(UserError, match="the same sound is in two splits"):
            check_sound(splits)
    else:
        assert check_sound(splits) == []


@pytest.mark.parametrize(
    ("places", "same"),
    [
        (("a.wav:7", "a.wav:7"), True),
        (("a.wav:7[0:50]", "a.wav:7[30:90]"), True),
        (("a.wav:7[0:50]", "a.wav:7[51:90]"), False),
        (("a.wav:7", "a.wav:9"), False),
    ],
)
def test_features_are_the_same_at_one_place_of_an_archive(sound, places, same):
    train, test = (f"{sound.parent}/{place}" for place in places)
    splits = {"train": [said("x", train)], "test": [said("y", test)]}
    if not same:
        assert check_sound(splits) == []
        return
    with pytest.raises(UserError, match="'y' of test and 'x' of train"):
        check_sound(splits)


def test_shared_speakers_are_counted():
    splits = {
        "train": [said("a", "/a", speaker="anna"), said("b", "/b", speaker="ben")],
        "dev": [said("c", "/c", speaker="cleo")],
        "test": [said("d", "/d", speaker="anna"), said("e", "/e", speaker="eve")],
        "untranscribed": [said("f", "/f", speaker="cleo")],
    }
    rows = shared_speakers(splits)
    assert [shared_speakers_text(row) for row in rows] == [
        "1 of 1 dev speakers are in untranscribed",
        "1 of 2 test speakers are in train",
    ]
    assert rows[1] == {"split": "test", "speakers": 2, "shared": 1, "in": "train"}
    own = {split: [said(split, "/x", speaker=split)] for split in ("train", "dev", "test")}
    assert shared_speakers(own) == []
