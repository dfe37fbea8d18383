"""Manifests, splitting by speaker, and checks of ids and exclusions."""

from collections import Counter
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from acoustic_kd.corpora.utterances import (
    Exclusion,
    Utterance,
    check_excluded,
    check_ids,
    normalise_text,
    read_manifest,
    split_by_speaker,
    take_speakers,
    write_manifest,
)
from acoustic_kd.system.errors import UserError

WORDS = st.text(st.characters(exclude_categories=("C", "Z")), min_size=1, max_size=8)
SECONDS = st.none() | st.floats(0, 1e5)
UTTERANCES = st.builds(Utterance, WORDS, WORDS, WORDS, st.none() | WORDS, SECONDS, SECONDS)


def utterance(number: int, speaker: str = "s", **changes) -> Utterance:
    return replace(Utterance(f"u{number:04d}", speaker, f"/{number}.wav", "YES"), **changes)


@st.composite
def speech(draw) -> list[Utterance]:
    sizes = draw(st.lists(st.integers(1, 12), min_size=2, max_size=15))
    speakers = [f"s{index}" for index, size in enumerate(sizes) for _ in range(size)]
    return [utterance(number, speaker) for number, speaker in enumerate(speakers)]


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


@given(speech(), st.floats(0.01, 0.99), st.integers(0, 9), st.randoms(use_true_random=False))
def test_split_by_speaker(utterances, share, seed, rng):
    kept, split_off = split_by_speaker(utterances, share, seed)
    assert kept and split_off
    assert sorted(kept + split_off, key=lambda u: u.id) == utterances
    assert not {u.speaker for u in kept} & {u.speaker for u in split_off}
    largest = max(Counter(u.speaker for u in utterances).values())
    assert abs(len(split_off) - share * len(utterances)) <= largest

    shuffled = rng.sample(utterances, len(utterances))
    again = split_by_speaker(shuffled, share, seed)[1]
    assert {u.id for u in again} == {u.id for u in split_off}


def test_split_by_speaker_depends_on_the_seed():
    utterances = [utterance(number, f"s{number // 5}") for number in range(100)]
    chosen = {tuple(u.id for u in split_by_speaker(utterances, 0.2, seed)[1]) for seed in range(5)}
    assert len(chosen) > 1


def test_split_of_a_single_speaker_is_refused():
    with pytest.raises(UserError, match="give at least 2 speakers, or a dev split that comes"):
        split_by_speaker([utterance(1), utterance(2)], 0.5, 0)


def test_speakers_to_split_off_are_looked_at_once():
    """However many they are: each utterance is a speaker of its own where nobody says otherwise."""
    spoken = [utterance(number, f"s{number}") for number in range(6)]
    kept, split_off = take_speakers(spoken, iter(["s4", "s1"]))
    assert split_off == [spoken[1], spoken[4]] and len(kept) == 4


def test_duplicate_id_names_both_files():
    with pytest.raises(UserError, match=r"'u0001' is used twice, by /1\.wav and by /other\.wav"):
        check_ids([utterance(1), utterance(2), utterance(1, audio="/other.wav")])


@pytest.mark.parametrize("name", ["", "talk 1", " a", "a\u00a0b"])
def test_an_id_that_is_not_one_word_is_refused(name):
    """It would be cut in two where transcripts are read again."""
    with pytest.raises(UserError, match=rf"id '{name}' of /2\.wav is empty or has a space in it"):
        check_ids([utterance(1), utterance(2, id=name)])


def test_more_than_5_percent_excluded_is_refused():
    excluded = [Exclusion(f"u{number}", "train", "no audio") for number in range(6)]
    check_excluded("train", 95, excluded[:5])
    with pytest.raises(UserError, match=r"6 of 100 .* u0: no audio; u1: no audio; u2: no audio"):
        check_excluded("train", 94, excluded)


def test_normalise_text():
    assert normalise_text("  hello\tthere  World ") == "HELLO THERE WORLD"
