"""What the corpus stage takes for a change of its input."""

import dataclasses
import os

import numpy as np
import pytest
import soundfile

from acoustic_kd.config import Config, CorpusConfig
from acoustic_kd.stages.prepare import corpus_sources


@pytest.fixture
def kaldi_dir(tmp_path):
    """A Kaldi data directory whose sound files lie elsewhere."""
    audio = tmp_path / "audio"
    audio.mkdir()
    data = tmp_path / "data"
    for split, speakers in (("train", "ab"), ("dev", "c"), ("test", "d")):
        (data / split).mkdir(parents=True)
        for name in ("wav.scp", "text"):
            (data / split / name).write_text("")
        for speaker in speakers:
            path = audio / f"{speaker}.wav"
            soundfile.write(path, np.zeros(16000, np.int16), 16000)
            with (data / split / "wav.scp").open("a") as scp:
                scp.write(f"{speaker} {path}\n")
            with (data / split / "text").open("a") as text:
                text.write(f"{speaker} GO\n")
    return data


def sources(folder):
    corpus = CorpusConfig(name="kaldi_dir", data_dir=str(folder))
    return corpus_sources(dataclasses.replace(Config(), corpus=corpus))


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


def test_sound_outside_the_folder_changed_or_went(kaldi_dir):
    before = sources(kaldi_dir)
    sound = kaldi_dir.parent / "audio" / "a.wav"
    os.utime(sound, (1, 1))
    changed = sources(kaldi_dir)
    sound.unlink()
    assert len({str(found) for found in (before, changed, sources(kaldi_dir))}) == 3
