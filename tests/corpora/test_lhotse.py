"""Manifests of lhotse: what is read, and how each mistake is named."""

import gzip
import json
from dataclasses import replace

import numpy as np
import pytest
import soundfile

from acoustic_kd.corpora import lhotse as lhotse
from acoustic_kd.corpora.load import load
from acoustic_kd.corpora.utterances import Exclusion, Utterance
from acoustic_kd.features.audio import read_audio
from acoustic_kd.settings import CorpusConfig
from acoustic_kd.system.errors import UserError

RECORDING = {
    "id": "r",
    "sources": [{"type": "file", "channels": [0], "source": "audio/r.flac"}],
    "sampling_rate": 16000,
    "num_samples": 32000,
    "duration": 2.0,
    "channel_ids": [0],
}
SUPERVISION = {
    **{"id": "a", "recording_id": "r", "start": 0.0, "duration": 2.0, "channel": 0},
    **{"text": "hello there", "language": "English", "speaker": "anna"},
}


def lines(rows):
    return "".join(json.dumps(row) + "\n" for row in rows)


def write(root, split, recordings, supervisions):
    folder = root / split
    folder.mkdir(exist_ok=True)
    packed = gzip.compress(lines(recordings).encode())
    (folder / f"x_recordings_{split}.jsonl.gz").write_bytes(packed)
    (folder / "supervisions.jsonl").write_text(lines(supervisions))
    return root


def test_whole_recordings_and_segments(tmp_path):
    part = SUPERVISION | {"id": "b", "start": 0.5, "duration": 1.0, "speaker": None}
    rest = SUPERVISION | {"id": "c", "start": 1.5, "duration": 0.50001}
    silent = SUPERVISION | {"id": "d", "text": " "}
    write(tmp_path, "train", [RECORDING], [SUPERVISION, part, rest, silent])
    audio = str(tmp_path / "audio/r.flac")
    corpus = lhotse.read(tmp_path)
    assert corpus.splits == {
        "train": [
            Utterance("a", "anna", audio, "HELLO THERE"),
            Utterance("b", "b", audio, "HELLO THERE", 0.5, 1.5),
            Utterance("c", "anna", audio, "HELLO THERE", 1.5),
        ]
    }
    where = tmp_path / "train" / "supervisions.jsonl"
    assert corpus.excluded == [Exclusion("d", "train", f"{where}:4: no words")]
    (tmp_path / "audio").mkdir()
    soundfile.write(audio, np.linspace(-0.5, 0.5, 32000, dtype=np.float32), 16000)
    lengths = [len(read_audio(u, 16000)) for u in corpus.splits["train"]]
    assert lengths == [32000, 16000, 8000]


def test_splits_of_its_own_or_by_speaker(tmp_path):
    spoken = [SUPERVISION | {"id": s, "speaker": s} for s in "abcdef"]
    write(tmp_path, "train", [RECORDING], spoken)
    config = CorpusConfig("lhotse", str(tmp_path), test_speakers=2, dev_speakers=1)
    assert [len(u) for u in load(config, tmp_path).splits.values()] == [3, 1, 2]
    write(tmp_path, "test", [RECORDING], [SUPERVISION | {"id": "t", "speaker": "t"}])
    unheard = SUPERVISION | {"id": "u", "text": "never read"}
    write(tmp_path, "untranscribed", [RECORDING], [unheard])
    splits = load(replace(config, dev_speakers=None), tmp_path).splits
    assert [u.id for u in splits["test"]] == ["t"]
    assert [(u.id, u.text) for u in splits["untranscribed"]] == [("u", None)]


@pytest.mark.parametrize(
    ("recording", "supervision", "complaint"),
    [
        ({"sources": []}, {}, "recordings.*:1: expected one source of type 'file'"),
        ({"sources": [{"type": "command", "source": "rm"}]}, {}, "expected one source of type"),
        ({"sources": [{"type": "file"}]}, {}, "the source has no path"),
        ({"transforms": [{"name": "Speed"}]}, {}, "recordings.*:1: transforms are not supported"),
        ({"duration": "2"}, {}, "recordings.*:1: 'duration' is missing or of a wrong type"),
        ({"id": None}, {}, "recordings.*:1: 'id' is missing"),
        ({}, {"recording_id": "q"}, "supervisions.jsonl:1: recording 'q' is in no recordings"),
        ({}, {"start": -1}, "supervisions.jsonl:1: segment from -1.0 to 1.0 s has no sound"),
        ({}, {"duration": 0}, "supervisions.jsonl:1: segment from 0.0 to 0.0 s has no sound"),
        ({}, {"start": None}, "supervisions.jsonl:1: 'start' is missing"),
    ],
)
def test_a_line_that_is_refused(tmp_path, recording, supervision, complaint):
    write(tmp_path, "train", [RECORDING | recording], [SUPERVISION | supervision])
    with pytest.raises(UserError, match=complaint) as caught:
        lhotse.read(tmp_path)
    assert str(caught.value).startswith(str(tmp_path)) and "\n" not in str(caught.value)


def test_manifests_that_are_refused(tmp_path):
    with pytest.raises(UserError, match=r"train: expected one manifest \*recordings\*.jsonl.gz"):
        lhotse.read(tmp_path)
    write(tmp_path, "train", [RECORDING], [SUPERVISION, SUPERVISION])
    with pytest.raises(
        UserError, match="supervisions.jsonl:2: duplicate id 'a'; keep one of the lines"
    ):
        lhotse.read(tmp_path)
    path = tmp_path / "train" / "supervisions.jsonl"
    for content, complaint in ((b"[1]", "'id' is missing"), (b"{", "not valid JSON")):
        path.write_bytes(content)
        with pytest.raises(UserError, match=f"{path}:1: {complaint}"):
            lhotse.read(tmp_path)
    path.write_bytes(b"\xff")
    with pytest.raises(UserError, match=f"{path}:1: byte 0xff is not UTF-8"):
        lhotse.read(tmp_path)
    packed = tmp_path / "train" / "x_recordings_train.jsonl.gz"
    packed.write_bytes(packed.read_bytes()[:-9])
    with pytest.raises(UserError, match=f"{packed}: damaged .gz file"):
        lhotse.read(tmp_path)
    (tmp_path / "train" / "recordings.jsonl").write_text("")
    with pytest.raises(UserError, match="not recordings.jsonl and x_recordings_train.jsonl.gz"):
        lhotse.read(tmp_path)
