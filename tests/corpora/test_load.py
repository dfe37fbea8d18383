"""What every corpus passes through: splits by speaker, speech without transcripts, refusals."""

import random
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from acoustic_kd.corpora.load import CORPORA, Reader, load
from acoustic_kd.corpora.utterances import Corpus, Utterance
from acoustic_kd.settings import CorpusConfig
from acoustic_kd.system.errors import UserError


def utterance(number: int, speaker: str = "s", **changes) -> Utterance:
    return replace(Utterance(f"u{number:04d}", speaker, f"/{number}.wav", "YES"), **changes)


GIVEN = {"train": [utterance(1)], "dev": [utterance(2)], "test": [utterance(3)]}
TEN_SPEAKERS = [utterance(number, f"s{number % 10}") for number in range(50)]
CONFIG = CorpusConfig(name="fake", data_dir=".", dev_share=0.2)


def load_fake(splits, **changes):
    """The splits that `load` makes of a corpus with these splits."""
    with pytest.MonkeyPatch.context() as monkeypatch:
        monkeypatch.setitem(CORPORA, "fake", Reader(lambda *_: Corpus(dict(splits))))
        return load(replace(CONFIG, **changes), Path()).splits


def speakers(utterances) -> set[str]:
    return {utterance.speaker for utterance in utterances}


def load_speakers(total, **changes):
    """The splits of a corpus of so many speakers, each with two utterances."""
    spoken = [Utterance(f"{s}-{n}", str(s), "/x", "GO") for s in range(total) for n in range(2)]
    return load_fake({"train": spoken}, **changes)


def check_disjoint(splits, total):
    assert list(splits) == ["train", "dev", "test"]
    spoken = [speaker for split in splits.values() for speaker in speakers(split)]
    assert sorted(spoken) == sorted(map(str, range(total))) and all(splits.values())


@given(st.integers(1, 8), st.integers(1, 8), st.integers(3, 12), st.integers(0, 3))
def test_numbers_of_speakers(tests, devs, total, seed):
    chosen = {"test_speakers": tests, "dev_speakers": devs, "seed": seed}
    if tests + devs >= total:
        with pytest.raises(UserError, match=r"corpus\.(test|dev)_speakers' is \d+; it must be les"):
            load_speakers(total, **chosen)
        return
    splits = load_speakers(total, **chosen)
    assert len(speakers(splits["test"])) == tests and len(speakers(splits["dev"])) == devs
    check_disjoint(splits, total)


@given(st.integers(3, 12), st.floats(0.01, 0.99), st.floats(0.01, 0.99))
def test_shares_of_speakers(total, tests, devs):
    try:
        splits = load_speakers(total, test_share=tests, dev_share=devs)
    except UserError as error:
        assert "give at least 2 speakers, or a dev split that comes" in str(error)
        return
    check_disjoint(splits, total)
    assert abs(len(splits["test"]) - tests * 2 * total) <= 2


@given(st.integers(4, 12), st.integers(2, 12), st.integers(0, 3))
def test_folds_test_on_every_speaker_once(total, folds, seed):
    if folds > total:
        message = f"corpus.folds' is {folds}; it must be at most .* {total}"
        with pytest.raises(UserError, match=message):
            load_speakers(total, folds=folds, dev_speakers=1)
        return
    tested = []
    for fold in range(folds):
        splits = load_speakers(total, folds=folds, fold=fold, dev_speakers=1, seed=seed)
        check_disjoint(splits, total)
        tested += sorted(speakers(splits["test"]))
    assert sorted(tested) == sorted(map(str, range(total)))


def test_folds_join_the_splits_of_the_corpus():
    train, more = TEN_SPEAKERS[:30], TEN_SPEAKERS[30:]
    given = {"train": train, "dev": more[:10], "test": more[10:]}
    folds = [load_fake(given, folds=5, fold=n, dev_speakers=1) for n in range(5)]
    assert folds == [
        load_fake({"train": TEN_SPEAKERS}, folds=5, fold=n, dev_speakers=1) for n in range(5)
    ]
    assert sorted(u.id for fold in folds for u in fold["test"]) == [u.id for u in TEN_SPEAKERS]


def test_dev_is_split_off_or_that_of_the_corpus_and_splits_are_sorted():
    shuffled = random.Random(1).sample(TEN_SPEAKERS, 50)
    splits = load_fake({"train": shuffled, "test": [utterance(100, "t")]})
    assert list(splits) == ["train", "dev", "test"] and len(splits["dev"]) == 10
    for utterances in splits.values():
        assert utterances == sorted(utterances, key=lambda u: u.id)
    assert load_fake(GIVEN) == GIVEN


@pytest.mark.parametrize(
    ("alone", "how"), [(False, "speaker"), (True, "utterance, because no speakers are given")]
)
def test_a_note_says_what_is_split_off(monkeypatch, alone, how):
    spoken = [replace(u, speaker=u.id) for u in TEN_SPEAKERS] if alone else TEN_SPEAKERS
    monkeypatch.setitem(CORPORA, "fake", Reader(lambda *_: Corpus({"train": list(spoken)})))
    notes = load(CONFIG, Path()).notes
    assert notes == [f"{split}: split off train, by {how}" for split in ("test", "dev")]


@given(share=st.floats(0.01, 0.99), seed=st.integers(0, 9))
def test_transcripts_are_taken_away_by_speaker_after_dev_is_split_off(share, seed):
    given = {"train": TEN_SPEAKERS, "test": [utterance(100, "t")]}
    before = load_fake(given, seed=seed)
    splits = load_fake(given, untranscribed_share=share, seed=seed)
    assert list(splits) == [*before, "untranscribed"]
    kept, moved = splits["train"], splits["untranscribed"]
    assert {u.text for u in moved} == {None} and {u.text for u in kept} == {"YES"}
    assert not speakers(kept) & speakers(moved)
    transcribed = [*kept, *(replace(u, text="YES") for u in moved)]
    assert sorted(transcribed, key=lambda u: u.id) == before["train"]
    assert abs(len(moved) - share * 40) <= 5
    assert (splits["dev"], splits["test"]) == (before["dev"], before["test"])


def test_a_folder_of_speech_without_transcripts_is_added(tmp_path):
    (tmp_path / "wav.scp").write_text("x /x.wav\nu0009 /9.wav\n")
    (tmp_path / "text").write_text("x WORDS\nu0009 WORDS\n")
    more = [Utterance("u0009", "u0009", "/9.wav", None), Utterance("x", "x", "/x.wav", None)]
    folder = {"untranscribed": str(tmp_path)}
    assert load_fake(GIVEN, **folder)["untranscribed"] == more
    # Beside the corpus's own, and once if it is the same.
    first = utterance(4, text=None)
    splits = load_fake(GIVEN | {"untranscribed": [first, more[1]]}, **folder)
    assert splits["untranscribed"] == [first, *more]
    for split in GIVEN:
        with pytest.raises(UserError, match=r"'x' is used twice, by /4\.wav and by /x\.wav"):
            load_fake(GIVEN | {split: [replace(first, id="x")]}, **folder)


@pytest.mark.parametrize(
    ("splits", "settings", "message"),
    [
        (GIVEN | {"test": [utterance(1)]}, {}, "'u0001' is used twice"),
        (GIVEN | {"test": []}, {}, "test: no utterances"),
        (GIVEN | {"test": [utterance(4, text="GO \ufffd")]}, {}, r"'u0004' has U\+FFFD in it"),
        (GIVEN | {"dev": [utterance(4, text="GO\x1bON")]}, {}, r"'u0004' has U\+001B in it"),
        (GIVEN, {"untranscribed_share": 0.5}, "2 speakers, or corpus.untranscribed_share=0"),
        (GIVEN, {"untranscribed": "/nowhere"}, "/nowhere: no such folder; corpus.untranscribed mu"),
        ({}, {"name": "an5"}, "unknown corpus 'an5'; known: an4, demo, fake, kaldi_dir, "),
        ({}, {"data_dir": None}, "give --data-dir DIR or set ACOUSTIC_KD_DATA"),
        ({}, {"data_dir": "/no\udcff"}, "/no.*: the name of this folder is not UTF-8; rename it"),
        ({}, {"name": "an4", "data_dir": "/nowhere"}, "/nowhere: no such folder"),
        ({}, {"name": "an4", "data_dir": __file__}, "test_load.py: no such folder; corpus 'an4'"),
        ({}, {"name": "manifest", "data_dir": "/nowhere"}, "/nowhere: no such file or folder"),
    ],
)
def test_refusals(monkeypatch, splits, settings, message):
    monkeypatch.delenv("ACOUSTIC_KD_DATA", raising=False)
    with pytest.raises(UserError, match=message):
        load_fake(splits, **settings)
