"""Manifests, splitting by speaker, and checks of ids and exclusions."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from acoustic_kd.corpora.utterances import (
    Exclusion,
    Utterance,
    check_excluded,
    check_ids,
    read_manifest,
    split_by_speaker,
    take_speakers,
    write_manifest,
)
from acoustic_kd.system.errors import UserError

WORDS = st.text(st.characters(exclude_categories=("C", "Z")), min_size=1, max_size=8)
SECONDS = st.none() | st.floats(0, 1e5)
UTTERANCES = st.builds(Utterance, WORDS, WORDS, WORDS, st.none() | WORDS, SECONDS, SECONDS)


def utterance(number: int, speaker: str = "s") -> Utterance:
    return Utterance(f"u{number:04d}", speaker, f"/{number}.wav", "YES")


@given(st.lists(UTTERANCES, max_size=5))
def test_manifest_round_trip(tmp_path_factory, utterances):
    path = tmp_path_factory.mktemp("manifest") / "train.jsonl"
    write_manifest(path, utterances)
    assert read_manifest(path) == utterances


def test_manifest_with_a_foreign_line_names_it(tmp_path):
    path = tmp_path / "train.jsonl"
    path.write_text('{"id": "a", "speaker": "s", "audio": "/a", "text": null}\n{"key": 1}\n')
    with pytest.raises(UserError, match=r"train\.jsonl:2: not an utterance"):
        read_manifest(path)


SIZES = st.lists(st.integers(1, 12), min_size=2, max_size=15)


@given(SIZES, st.floats(0.01, 0.99), st.integers(0, 9), st.randoms(use_true_random=False))
def test_split_by_speaker(sizes, share, seed, rng):
    speakers = [f"s{index}" for index, size in enumerate(sizes) for _ in range(size)]
    utterances = [utterance(number, speaker) for number, speaker in enumerate(speakers)]
    kept, split_off = split_by_speaker(utterances, share, seed)
    assert kept and split_off
    assert sorted(kept + split_off, key=lambda u: u.id) == utterances
    assert not {u.speaker for u in kept} & {u.speaker for u in split_off}
    assert abs(len(split_off) - share * len(utterances)) <= max(sizes)
    shuffled = rng.sample(utterances, len(utterances))
    again = split_by_speaker(shuffled, share, seed)[1]
    assert {u.id for u in again} == {u.id for u in split_off}


def test_split_by_speaker_depends_on_the_seed():
    utterances = [utterance(number, f"s{number // 5}") for number in range(100)]
    chosen = {tuple(u.id for u in split_by_speaker(utterances, 0.2, seed)[1]) for seed in range(5)}
    assert len(chosen) > 1


def test_speakers_to_split_off_are_looked_at_once():
    """However many they are: each utterance is a speaker of its own where nobody says otherwise."""
    spoken = [utterance(number, f"s{number}") for number in range(6)]
    kept, split_off = take_speakers(spoken, iter(["s4", "s1"]))
    assert split_off == [spoken[1], spoken[4]] and len(kept) == 4


@pytest.mark.parametrize("name", ["", "talk 1", " a", "a\u00a0b"])
def test_an_id_that_is_not_one_word_is_refused(name):
    """It would be cut in two where transcripts are read again."""
    with pytest.raises(UserError, match=rf"id '{name}' of /2\.wav is empty or has a space in it"):
        check_ids([utterance(1), replace(utterance(2), id=name)])


@pytest.mark.parametrize(
    ("name", "problem"),
    [
        ("a#warp1", "has '#warp' in it"),
        ("a\x00b", r"character U\+0000"),
        ("a\u200bb", r"character U\+200B"),
        ("a\udcff", r"character U\+DCFF"),
    ],
)
def test_an_id_that_other_stages_take_for_another_is_refused(name, problem):
    with pytest.raises(UserError, match=f"{problem}.*; rename it"):
        check_ids([replace(utterance(1), id=name)])
    check_ids([replace(utterance(n), id=i) for n, i in enumerate(["a/b", "..", "#", "é" * 999])])


def test_ids_of_two_unicode_forms_and_files_of_no_form():
    ids = [replace(utterance(1), id="caf\u00e9"), replace(utterance(2), id="cafe\u0301")]
    with pytest.raises(UserError, match=r"is used twice, by /1\.wav and by /2\.wav"):
        check_ids(ids)
    with pytest.raises(UserError, match="has a sound file whose name is not UTF-8; rename it"):
        check_ids([replace(utterance(1), audio="/\udcff.wav")])


def test_more_than_5_percent_excluded_is_refused():
    excluded = [Exclusion(f"u{number}", "train", "no audio") for number in range(6)]
    check_excluded("train", 95, excluded[:5])
    with pytest.raises(UserError, match=r"6 of 100 .* u0: no audio; u1: no audio; u2: no audio"):
        check_excluded("train", 94, excluded)
    long = [Exclusion(f"u{number}", "train", "x" * 200) for number in range(6)]
    with pytest.raises(UserError, match=r"first: u0: x{200}; also u1; also u2\)"):
        check_excluded("train", 94, long)
