"""Manifests, splitting by speaker, and the checks every corpus passes through."""

import random
from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from acoustic_kd.corpora.load import CORPORA, Reader, load
from acoustic_kd.corpora.utterances import (
    Corpus,
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
from acoustic_kd.settings import CorpusConfig
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


def config(**changes) -> CorpusConfig:
    return replace(CorpusConfig(name="fake", data_dir=".", dev_share=0.2), **changes)


def register(monkeypatch, **splits) -> None:
    monkeypatch.setitem(CORPORA, "fake", Reader(lambda *_: Corpus(dict(splits))))


def test_load_splits_dev_off_and_sorts(monkeypatch, tmp_path):
    train = [utterance(number, f"s{number % 10}") for number in range(50)]
    random.Random(1).shuffle(train)
    register(monkeypatch, train=train, test=[utterance(100, "t")])
    corpus = load(config(), tmp_path)
    assert list(corpus.splits) == ["train", "dev", "test"]
    assert len(corpus.splits["dev"]) == 10
    for utterances in corpus.splits.values():
        assert utterances == sorted(utterances, key=lambda u: u.id)


def test_load_keeps_the_dev_split_of_the_corpus(monkeypatch, tmp_path):
    register(monkeypatch, train=[utterance(1)], dev=[utterance(2)], test=[utterance(3)])
    assert load(config(), tmp_path).splits["dev"] == [utterance(2)]


def test_load_refuses_one_id_in_two_splits(monkeypatch, tmp_path):
    register(monkeypatch, train=[utterance(1)], dev=[utterance(2)], test=[utterance(1)])
    with pytest.raises(UserError, match="'u0001' is used twice"):
        load(config(), tmp_path)


def test_load_refuses_an_empty_split(monkeypatch, tmp_path):
    register(monkeypatch, train=[utterance(1)], dev=[utterance(2)], test=[])
    with pytest.raises(UserError, match="test: no utterances"):
        load(config(), tmp_path)


@given(share=st.floats(0.01, 0.99), seed=st.integers(0, 9))
def test_load_takes_transcripts_away_by_speaker(share, seed):
    train = [utterance(number, f"s{number % 10}") for number in range(50)]
    splits = {"train": train, "dev": [utterance(90, "d")], "test": [utterance(100, "t")]}
    with pytest.MonkeyPatch.context() as monkeypatch:
        register(monkeypatch, **splits)
        found = load(config(untranscribed_share=share, seed=seed), Path()).splits
    assert list(found) == ["train", "dev", "test", "untranscribed"]
    kept, moved = found["train"], found["untranscribed"]
    assert {u.text for u in moved} == {None} and {u.text for u in kept} == {"YES"}
    assert not {u.speaker for u in kept} & {u.speaker for u in moved}
    assert sorted([*kept, *(replace(u, text="YES") for u in moved)], key=lambda u: u.id) == train
    assert abs(len(moved) - share * 50) <= 5
    assert (found["dev"], found["test"]) == (splits["dev"], splits["test"])


def test_dev_is_split_off_before_transcripts_are_taken_away(monkeypatch, tmp_path):
    train = [utterance(number, f"s{number % 10}") for number in range(50)]
    register(monkeypatch, train=train, test=[utterance(100, "t")])
    without, found = (
        load(config(untranscribed_share=share), tmp_path).splits for share in (0.0, 0.5)
    )
    assert found["dev"] == without["dev"] and "untranscribed" not in without
    assert len(found["train"]) + len(found["untranscribed"]) == len(without["train"]) == 40


def test_too_few_speakers_to_take_transcripts_away(monkeypatch, tmp_path):
    register(monkeypatch, train=[utterance(1)], dev=[utterance(2)], test=[utterance(3)])
    with pytest.raises(UserError, match="or corpus.untranscribed_share=0"):
        load(config(untranscribed_share=0.5), tmp_path)


def test_load_adds_a_folder_of_speech_without_transcripts(monkeypatch, tmp_path):
    folder = tmp_path / "more"
    folder.mkdir()
    (folder / "wav.scp").write_text("x /x.wav\nu0009 /9.wav\n")
    (folder / "text").write_text("x WORDS\nu0009 WORDS\n")
    more = [Utterance("u0009", "u0009", "/9.wav", None), Utterance("x", "x", "/x.wav", None)]
    spoken = {"train": [utterance(1)], "dev": [utterance(2)], "test": [utterance(3)]}
    register(monkeypatch, **spoken)
    assert load(config(untranscribed=str(folder)), tmp_path).splits["untranscribed"] == more
    # Beside the corpus's own, and once where it is the same.
    mine = utterance(4, text=None)
    register(monkeypatch, **spoken, untranscribed=[mine, more[1]])
    found = load(config(untranscribed=str(folder)), tmp_path).splits
    assert found["untranscribed"] == [mine, *more]
    for split in spoken:
        register(monkeypatch, **spoken | {split: [replace(mine, id="x")]})
        with pytest.raises(UserError, match=r"'x' is used twice, by /4\.wav and by /x\.wav"):
            load(config(untranscribed=str(folder)), tmp_path)
    with pytest.raises(UserError, match="nowhere: no such folder; corpus.untranscribed must be"):
        load(config(untranscribed=str(tmp_path / "nowhere")), tmp_path)


def test_unknown_corpus_names_the_known_ones(tmp_path):
    known = "an4, demo, kaldi_dir, kaldi_feats, lhotse, librispeech"
    with pytest.raises(UserError, match=f"unknown corpus 'an5'; known: {known}"):
        load(config(name="an5"), tmp_path)


def test_no_data_dir_says_how_to_give_one(tmp_path, monkeypatch):
    monkeypatch.delenv("ACOUSTIC_KD_DATA", raising=False)
    with pytest.raises(UserError, match="give --data-dir DIR or set ACOUSTIC_KD_DATA"):
        load(config(name="an4", data_dir=None), tmp_path)
    with pytest.raises(UserError, match="nowhere: no such folder"):
        load(config(name="an4", data_dir=tmp_path / "nowhere"), tmp_path)
