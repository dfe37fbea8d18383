"""Which changes of its input make the corpus stage stale."""

import dataclasses
import json
import os
import shutil

import numpy as np
import pytest
import soundfile
from tiny_recipe import TinyRecipe

from acoustic_kd.settings import Config, CorpusConfig
from acoustic_kd.verbs.corpus import corpus_sources


@pytest.fixture
def kaldi_dir(tmp_path):
    """A Kaldi data directory whose sound files lie elsewhere."""
    audio, data = tmp_path / "audio", tmp_path / "data"
    audio.mkdir()
    for split, speakers in (("train", "ab"), ("dev", "c"), ("test", "d")):
        folder = data / split
        folder.mkdir(parents=True)
        for speaker in speakers:
            soundfile.write(audio / f"{speaker}.wav", np.zeros(16000, np.int16), 16000)
        (folder / "wav.scp").write_text("".join(f"{s} {audio}/{s}.wav\n" for s in speakers))
        (folder / "text").write_text("".join(f"{s} GO\n" for s in speakers))
    return data


def sources(folder, **changes):
    corpus = CorpusConfig(name="kaldi_dir", data_dir=str(folder))
    corpus = dataclasses.replace(corpus, **changes)
    return corpus_sources(dataclasses.replace(Config(), corpus=corpus))


def replace_sound(sound):
    """Another recording in as many bytes, not a second later."""
    was = sound.stat()
    soundfile.write(sound, np.full(16000, 7, np.int16), 16000)
    os.utime(sound, ns=(was.st_atime_ns, was.st_mtime_ns))
    assert sound.stat().st_size == was.st_size


def test_sound_copied_or_downloaded_anew(kaldi_dir):
    before = sources(kaldi_dir)
    audio = kaldi_dir.parent / "audio"
    for sound in audio.iterdir():
        shutil.copyfile(sound, sound.with_suffix(".new"))
        sound.with_suffix(".new").replace(sound)
        os.utime(sound, (1, 1))
    assert sources(kaldi_dir) == before


@pytest.mark.parametrize("size", [1, 100, 1 << 14, (1 << 14) + 1, 1 << 15, 50_001])
def test_sound_files_of_any_size_are_known_by_their_ends(kaldi_dir, size):
    sound, found = kaldi_dir.parent / "audio" / "a.wav", []
    for content in {bytes(size), b"x" + bytes(size - 1), bytes(size - 1) + b"x", bytes(size + 1)}:
        sound.write_bytes(content)
        found.append(sources(kaldi_dir)["data"])
    assert len(set(found)) == len(found)


def test_nothing_changed(kaldi_dir, monkeypatch):
    before = sources(kaldi_dir)
    (kaldi_dir / "notes.txt").write_text("not part of the corpus")
    assert sources(kaldi_dir) == before
    monkeypatch.chdir(kaldi_dir)
    assert sources("../data") == before


def test_a_transcript_changed(kaldi_dir):
    before = sources(kaldi_dir)
    (kaldi_dir / "test" / "text").write_text("d STOP\n")
    assert sources(kaldi_dir) != before


def test_sound_outside_the_folder_changed_or_vanished(kaldi_dir):
    before = sources(kaldi_dir)
    sound = kaldi_dir.parent / "audio" / "a.wav"
    replace_sound(sound)
    changed = sources(kaldi_dir)
    sound.unlink()
    assert len({str(found) for found in (before, changed, sources(kaldi_dir))}) == 3


DEMO = {"name": "demo", "data_dir": None}


@pytest.mark.parametrize(
    ("folder", "corpus"),
    [("data/untranscribed", {}), ("more", {}), ("more", DEMO)],
    ids=["in the corpus", "beside it", "beside the demo"],
)
def test_speech_without_transcripts_counts_and_its_text_does_not(
    kaldi_dir, monkeypatch, folder, corpus
):
    more, sound = kaldi_dir.parent / folder, kaldi_dir.parent / "audio" / "x.wav"
    found = [sources(kaldi_dir, **corpus)]
    more.mkdir()
    soundfile.write(sound, np.zeros(16000, np.int16), 16000)
    (more / "wav.scp").write_text(f"x {sound}\n")
    monkeypatch.chdir(more)
    paths = [str(more), "."] if folder == "more" else [None, None]
    given, again = (corpus | {"untranscribed": path} for path in paths)
    found.append(sources(kaldi_dir, **given))
    (more / "text").write_bytes(b"\xff never read")
    assert sources(kaldi_dir, **given) == sources(kaldi_dir, **again) == found[1]
    (more / "utt2spk").write_text("x anna\n")
    found.append(sources(kaldi_dir, **given))
    replace_sound(sound)
    found.append(sources(kaldi_dir, **given))
    assert len(set(map(str, found))) == 4


@pytest.fixture
def recipe(kaldi_dir):
    """The corpus stage on this directory, whose sound files differ."""
    for number, sound in enumerate(sorted((kaldi_dir.parent / "audio").iterdir())):
        soundfile.write(sound, np.full(16000, number, np.int16), 16000)
    lexicon = kaldi_dir.parent / "lexicon.txt"
    lexicon.write_text("GO G OW\n")
    settings = ("corpus.name=kaldi_dir", f"align.lexicon={lexicon}")
    return TinyRecipe(kaldi_dir.parent / "exp", settings, ("--data-dir", str(kaldi_dir)))


def test_what_the_user_should_know_is_printed(recipe, kaldi_dir, outcome):
    for split in ("train", "test"):
        lines = (kaldi_dir / split / "text").read_text().splitlines()
        speakers = "".join(f"{line[0]} anna\n" for line in [*lines, "x"])
        (kaldi_dir / split / "utt2spk").write_text(speakers)
    status, output, error = outcome(recipe, "corpus")
    assert (status, error) == (0, "")
    assert output.splitlines()[3:-2] == [
        f"  {kaldi_dir}/train/utt2spk: 1 ids are not used, first 'x': no such utterance",
        f"  {kaldi_dir}/test/utt2spk: 1 ids are not used, first 'x': no such utterance",
        "  1 of 1 test speakers are in train",
    ]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda data: (data / "test/text").unlink(), "test: no transcripts; add the file 'text'"),
        (lambda data: shutil.copy(data.parent / "audio/a.wav", data.parent / "audio/d.wav"),
         "the same sound is in two splits: 'd' of test and 'a' of train"),
        (lambda data: shutil.rmtree(data.parent / "audio"), "train: 2 of 2 sound files do not exi"),
        (lambda data: (data / "test/text").write_text("d GO\ne GO\n"),
         "test: 1 of 2 utterances cannot be used"),
    ],
)  # fmt: skip
def test_a_corpus_that_spoils_results_is_refused(recipe, kaldi_dir, refusal, change, message):
    change(kaldi_dir)
    assert message in refusal(recipe, "corpus")
    assert not (recipe.directory / "corpus/done.json").exists()


def test_the_demo_reads_nothing_else(kaldi_dir):
    assert set(sources(kaldi_dir, **DEMO)) == {"lexicon"}


def test_transcripts_that_are_taken_away_do_not_count(kaldi_dir):
    share = {"untranscribed_share": 0.5}
    before = sources(kaldi_dir, **share)
    same = []
    for speaker in "ab":
        text = kaldi_dir / "train" / "text"
        old = text.read_text()
        text.write_text(old.replace(f"{speaker} GO", f"{speaker} NONSENSE"))
        same.append(sources(kaldi_dir, **share) == before)
        text.write_text(old)
    assert sorted(same) == [False, True]  # one of the two speakers has lost them


def test_a_manifest_alone_is_a_corpus(recipe, kaldi_dir, outcome, refusal):
    file = kaldi_dir.parent / "train.jsonl"
    rows = [{"audio_filepath": f"audio/{s}.wav", "text": "go", "duration": 1} for s in "abcd"]
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    recipe.settings = ("corpus.name=manifest", *recipe.settings[1:])
    recipe.options = ("--data-dir", str(file))
    status, output, error = outcome(recipe, "corpus")
    assert (status, error) == (0, "")
    assert "  test: split off train, by utterance, because no speakers are given\n" in output
    splits = ("train", "dev", "test")
    manifests = [(recipe.directory / f"corpus/{split}.jsonl").read_text() for split in splits]
    assert [text.count("\n") for text in manifests] == [2, 1, 1]
    file.write_text('{"audio_filepath": "audio/a.wav", "text": null}\n')
    assert refusal(recipe, "corpus").endswith(f"{file}:1: 'text' is missing or of a wrong type\n")
