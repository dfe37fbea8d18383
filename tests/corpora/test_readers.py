"""Readers of corpora in a folder: what they have in common, and what is special to each."""

import gzip
import json
import re
from dataclasses import replace
from functools import partial
from pathlib import Path

import fsspec
import numpy as np
import pytest
import soundfile
from hypothesis import given, settings
from hypothesis import strategies as st

from acoustic_kd.corpora import an4, kaldi_dir, lhotse, librispeech, manifest
from acoustic_kd.corpora.load import data_dir, load
from acoustic_kd.corpora.utterances import Exclusion, Utterance, check_ids
from acoustic_kd.features.audio import AudioError, read_audio
from acoustic_kd.settings import CorpusConfig
from acoustic_kd.system.errors import UserError

RECORDING = {
    **{"sampling_rate": 16000, "num_samples": 32000, "duration": 2.0, "channel_ids": [0]},
    **{"id": "r", "sources": [{"type": "file", "channels": [0], "source": "audio/r.flac"}]},
}
SUPERVISION = {
    **{"recording_id": "r", "start": 0.0, "duration": 2.0, "channel": 0, "language": "English"},
    **{"id": "anna-1-0000", "text": "hello  there", "speaker": "anna"},
}
BEN = {"id": "ben-1-0000", "text": "go's on", "speaker": "ben"}
CUT = {
    **{"id": "anna-1-0000-7", "start": 0.0, "duration": 2.0, "channel": 0, "type": "MonoCut"},
    **{"supervisions": [SUPERVISION], "recording": RECORDING, "custom": {"snr": 3}},
}
BENS_CUT = CUT | {"id": "ben-1-0000-8", "supervisions": [SUPERVISION | BEN]}
CUTS = "train/x_cuts.jsonl"
ROW = {"audio_filepath": "audio/r.flac", "text": "hello  there", "speaker": "anna"}
BENS_ROW = {"text": "go's on", "speaker": "ben", "duration": 2.0, "offset": 1}
RECORDINGS, SUPERVISIONS = "train/x_recordings_train.jsonl.gz", "train/supervisions.jsonl"


def rows(*values):
    return "".join(json.dumps(value) + "\n" for value in values)


# Every text file of the same two utterances as each reader expects them.
AN4_IDS = "an4_clstk/anna/anna-1-0000\n\nan4_clstk/ben/ben-1-0000\n"
AN4_TEXT = "<s> hello   THERE </s> (anna-1-0000)\n\nGO'S ON (ben-1-0000)\n"
SPEAKERS = "anna-1-0000 anna\nben-1-0000\tben\n"
WORDS = "anna-1-0000 hello  there\nben-1-0000\tgo's on \n"
FILES = {
    "an4": {f"etc/an4_{s}.fileids": AN4_IDS for s in ("train", "test")}
    | {f"etc/an4_{s}.transcription": AN4_TEXT for s in ("train", "test")},
    "kaldi_dir": {
        "train/wav.scp": "r audio/r.wav\nq /abs/q.flac\n",
        "train/segments": "anna-1-0000 r 0.0 1.25\nben-1-0000 r 1.25 -1\n",
        "train/utt2spk": SPEAKERS,
        "train/text": WORDS,
        "test/wav.scp": "t t.wav\n",
    },
    "kaldi_feats": {
        "train/feats.scp": "anna-1-0000 a.ark:5\nben-1-0000 a.ark:9\n",
        "train/utt2spk": SPEAKERS,
        "train/text": WORDS,
        "test/feats.scp": "t a.ark:5\n",
    },
    "lhotse": {
        RECORDINGS: rows(RECORDING),
        SUPERVISIONS: rows(SUPERVISION, SUPERVISION | BEN),
    },
    "lhotse cuts": {CUTS: rows(CUT, BENS_CUT)},
    "manifest": {
        "train.jsonl": rows(ROW | {"id": "anna-1-0000"}, ROW | BENS_ROW | {"id": "ben-1-0000"}),
    },
    "librispeech": {
        "train-clean-5/anna/1/anna-1.trans.txt": "anna-1-0000 HELLO  there\n",
        "train-clean-5/ben/1/ben-1.trans.txt": "ben-1-0000 GO'S ON \n",
    },
}
EMPTY_FILES = {
    "an4": [f"wav/an4_clstk/{s}/{s}-1-0000.raw" for s in ("anna", "ben")],
    "kaldi_feats": ["train/a.ark", "test/a.ark"],
    "librispeech": [f"train-clean-5/{s}/1/{s}-1-0000.flac" for s in ("anna", "ben")],
}
READERS = {
    "an4": an4.read,
    "kaldi_dir": kaldi_dir.read,
    "kaldi_feats": partial(kaldi_dir.read, listing=kaldi_dir.FEATURES),
    "lhotse": lhotse.read,
    "lhotse cuts": lhotse.read,
    "manifest": manifest.read,
    "librispeech": partial(librispeech.read, CorpusConfig(name="librispeech")),
}
ALL_FILES = [(name, file) for name, files in FILES.items() for file in files]


def put(root, file, content: str | bytes):
    path = root / file
    path.parent.mkdir(parents=True, exist_ok=True)
    content = content.encode() if isinstance(content, str) else content
    path.write_bytes(gzip.compress(content) if file.endswith(".gz") else content)
    return root


@pytest.fixture
def write(tmp_path):
    """write("lhotse") makes the files of a good corpus; returns their folder."""

    def write(name, change=lambda text: text):
        for file in EMPTY_FILES.get(name, []):
            put(tmp_path, file, "")
        for file, text in FILES[name].items():
            put(tmp_path, file, change(text))
        return tmp_path

    return write


@pytest.mark.parametrize("change", [str, lambda text: "\ufeff" + text.replace("\n", "\r\n")])
@pytest.mark.parametrize("name", READERS)
def test_good_files_also_with_a_byte_order_mark_and_carriage_returns(write, name, change):
    corpus = READERS[name](write(name, change))
    assert [(u.id, u.speaker, u.text) for u in corpus.splits["train"]] == [
        ("anna-1-0000", "anna", "HELLO THERE"),
        ("ben-1-0000", "ben", "GO'S ON"),
    ]
    assert not corpus.excluded


# --- faults -------------------------------------------------------------------------------------


def refuse(name, root, message):
    with pytest.raises(UserError, match=message) as caught:
        READERS[name](root)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(("name", "file"), ALL_FILES)
def test_not_utf8(write, name, file):
    root, text = write(name), FILES[name][file].encode()
    put(root, file, text + b"\xff\n")
    line = text.count(b"\n") + 1
    refuse(name, root, f"^{root / file}:{line}: byte 0xff is not UTF-8; convert the file$")


@pytest.mark.parametrize(("name", "file"), [x for x in ALL_FILES if "fileids" not in x[1]])
def test_a_duplicate_id(write, name, file):
    root, text = write(name), FILES[name][file]
    put(root, file, text + text)
    line = text.count("\n") + 1
    refuse(name, root, f"^{root / file}:{line}: duplicate id '[^ ]+'; keep one of the lines$")


OPTIONAL = ("segments", "utt2spk", "text", "trans.txt")
MISSING = {
    "an4": "cannot be read",
    "kaldi_dir": "no such file; expected Kaldi data directories",
    "kaldi_feats": "no such file; expected Kaldi data directories",
    "lhotse": r"expected one manifest \*",
    "lhotse cuts": r"expected one manifest \*recordings\*.jsonl.gz in it, or one of cuts$",
    "manifest": r"no manifest in it; expected .*/train.jsonl$",
}


@pytest.mark.parametrize(("name", "file"), [x for x in ALL_FILES if not x[1].endswith(OPTIONAL)])
def test_a_missing_file(write, name, file):
    root = write(name)
    (root / file).unlink()
    path = root / file if name in ("an4", "kaldi_dir", "kaldi_feats") else (root / file).parent
    refuse(name, root, f"^{path}: {MISSING[name]}")


def changed(row, *values):
    return [rows(row | value) for value in values]


FIRST = [
    ("an4", "etc/an4_train.transcription", ["<s> YES </s>"], "expected 'WORDS "),
    ("kaldi_dir", "train/wav.scp", ["r"], "expected 'recording-id path', found 'r' alone"),
    ("kaldi_dir", "train/wav.scp", ["r sph2pipe r |", "r |cat r"], "'.*' is a command, .* not run"),
    ("kaldi_dir", "train/wav.scp", ["\nr r.wav"], "empty line; remove it"),
    ("kaldi_dir", "train/utt2spk", ["a", "a anna maria"], "expected 'utterance-id speaker', found"),
    ("kaldi_dir", "train/segments", ["a r 0", "a r zero 1"], "expected 'utterance-id recording-id"),
    ("kaldi_dir", "train/segments", ["a r 0 1 1", "a r 0 1 0 0"], "expected 'utterance-id "),
    ("kaldi_dir", "train/wav.scp", ["r raw.ark:12"], "'raw.ark:12' is a place in an archive of so"),
    ("kaldi_dir", "train/segments", ["a c 0 1"], "recording 'c' is not in "),
    ("kaldi_dir", "train/segments", ["a r 2 1", "a r -3 -1", "a r nan 1", "a r 0 inf"],
     "segment from .* to .* s has no sound"),
    ("kaldi_dir", "untranscribed/wav.scp", ["a"], "expected 'recording-id path'"),
    ("kaldi_dir", "untranscribed/wav.scp", ["a |cat a.wav"], "'.*' is a command"),
    *(("kaldi_dir", "train/text", [f"a GO{chr(code)}ON"],
       rf"control character U\+{code:04X}; remove it")
      for code in (0x00, 0x0B, 0x1C, 0x85, 0x2028)),
    ("kaldi_feats", "train/feats.scp", ["a", "a a.ark:2[]"], "expected 'utterance-id path:offset'"),
    ("kaldi_feats", "train/feats.scp", ["a none.ark:2"], "none.ark: no such file"),
    ("lhotse", RECORDINGS,
     changed(RECORDING, {"sources": []}, {"sources": [{"type": "command", "source": "rm"}]}),
     "expected one source of type 'file'"),
    ("lhotse", RECORDINGS, changed(RECORDING, {"sources": [{"type": "file"}]}), "the source has"),
    ("lhotse", RECORDINGS, changed(RECORDING, {"transforms": [{"name": "Speed"}]}), "transforms"),
    ("lhotse", RECORDINGS, changed(RECORDING, {"duration": "2"}), "'duration' is missing"),
    ("lhotse", RECORDINGS, [*changed(RECORDING, {"id": None}), "[1]"], "'id' is missing"),
    ("lhotse", SUPERVISIONS, changed(SUPERVISION, {"recording_id": "q"}), "recording 'q' is in"),
    ("lhotse", SUPERVISIONS, changed(SUPERVISION, {"start": -1}, {"duration": 0}), "segment from "),
    ("lhotse", SUPERVISIONS, changed(SUPERVISION, {"start": None}), "'start' is"),
    ("lhotse", SUPERVISIONS, changed(SUPERVISION, {"start": 10**400}, {"duration": float("nan")}),
     "'(start|duration)' is"),
    ("lhotse", SUPERVISIONS, changed(SUPERVISION, {"text": ["GO"]}), "'text' is missing or of a w"),
    ("lhotse", SUPERVISIONS, ["{", "[" * 100_000, '{"id": "a",}'], "not valid JSON"),
    ("lhotse", SUPERVISIONS, changed(SUPERVISION, {"text": "OV\ud800EN"}, {"id": "\udfff"}),
     r"not text: half of a character, \\ud"),
    ("lhotse", RECORDINGS,
     changed(RECORDING, {"sources": [{"type": "file", "channels": [0, 1], "source": "r.flac"}]}),
     "2 channels; save each to a file of its own"),
    ("lhotse cuts", CUTS, changed(CUT, {"type": "MixedCut", "tracks": []}, {"type": "MultiCut"}),
     "'anna-1-0000-7' is a M.*Cut, and only MonoCuts are read; save its sound with CutSet.save_"),
    ("lhotse cuts", CUTS, [rows({"type": "PaddingCut", "id": "p", "duration": 1.0})],
     "'p' is a PaddingCut, and"),
    ("lhotse cuts", CUTS, changed(CUT, {"recording": None}),
     "cut 'anna-1-0000-7' has no recording; make cuts of recordings, not of features"),
    ("lhotse cuts", CUTS, changed(CUT, {"recording": RECORDING | {"sources": [{"type": "shar"}]}}),
     "expected one source of type 'file'"),
    ("lhotse cuts", CUTS, changed(CUT, {"recording": RECORDING | {"transforms": [{}]}}),
     "transforms are not supported"),
    ("lhotse cuts", CUTS, changed(CUT, {"recording": {}}, {"recording": []}), "'id' is missing or"),
    ("lhotse cuts", CUTS, changed(CUT, {"supervisions": {}}), "'supervisions' is missing or of a"),
    ("lhotse cuts", CUTS, changed(CUT, {"supervisions": [3]}), "'id' is missing or of a"),
    ("lhotse cuts", CUTS, changed(CUT, {"start": -1.0}), "segment from "),
    ("lhotse cuts", CUTS, ["[]", "7", "null"], "'id' is missing or of a wrong type"),
    ("manifest", "train.jsonl", changed(ROW, {"audio_filepath": ["a"]}, {"audio_filepath": None}),
     "'audio_filepath' is missing or of a wrong type"),
    ("manifest", "train.jsonl", ["{}", "[]", "1"], "'audio_filepath' is missing"),
    ("manifest", "train.jsonl", changed(ROW, {"text": None}, {"text": 7}), "'text' is missing or"),
    ("manifest", "train.jsonl", [rows({"audio_filepath": "a.wav"})], "'text' is missing or"),
    ("manifest", "train.jsonl", changed(ROW, {"speaker": 1.5}, {"speaker": True}), "'speaker' is"),
    ("manifest", "train.jsonl",
     changed(ROW, {"offset": "1"}, {"offset": float("nan")}, {"offset": 10**400}), "'offset' is"),
    ("manifest", "train.jsonl", changed(ROW, {"offset": -1}, {"duration": 0}, {"duration": -2.5}),
     "segment from .* s has no sound in it"),
    ("manifest", "train.jsonl", changed(ROW, {"text": "\udc80"}), r"not text: half of a character"),
    ("manifest", "train.jsonl", ["[\n{}]", "{", "["], "not valid JSON; write one object a line"),
    ("manifest", "train.jsonl", changed(ROW, {"audio_filepath": "a\0"}), "the path has the charac"),
    ("manifest", "untranscribed.json.gz", ["{}"], "'audio_filepath' is missing"),
]  # fmt: skip


@pytest.mark.parametrize(
    ("name", "file", "text", "message"),
    [(name, file, text, message) for name, file, texts, message in FIRST for text in texts],
)
def test_a_malformed_first_line(write, name, file, text, message):
    root = put(write(name), file, text + "\n")
    refuse(name, root, f"^{root / file}:1: {message}")


@pytest.mark.parametrize(
    ("name", "file", "text", "message"),
    [
        ("kaldi_dir", "train/utt2spk", "anna-1-0000 anna\n",
         "utt2spk: no speaker of utterance 'ben-1-0000'; add a line for it"),
        ("kaldi_dir", "untranscribed/text", "",
         r"untranscribed/wav\.scp: no such file; list the speech without transcripts in it"),
        ("kaldi_dir", "untranscribed/wav.scp", "",
         r"untranscribed/wav\.scp: lists no speech; fill it, or remove the folder"),
        ("kaldi_dir", "train/text/of", "", "train/text: cannot be read"),
        ("kaldi_dir", "train/utt2spk/of", "", "train/utt2spk: cannot be read"),
        ("kaldi_dir", "dev", "", "dev/wav.scp: no such file; expected Kaldi data directories"),
        ("kaldi_dir", "untranscribed", "", "untranscribed/wav.scp: no such file; list the speech"),
        ("lhotse", "train/recordings.jsonl", "",
         "not recordings.jsonl and x_recordings_train.jsonl.gz"),
        ("lhotse cuts", "cuts_train-clean-5.jsonl", "",
         "train: expected one manifest .cuts.* not x_cuts.jsonl and cuts_train-clean-5.jsonl"),
        ("lhotse cuts", "test/cuts_of_no_use.txt", "",
         "test: expected one manifest .recordings.*.jsonl.gz in it, or one of cuts"),
    ],
)  # fmt: skip
def test_a_file_that_does_not_fit_the_others(write, name, file, text, message):
    root = write(name)
    if (root / file).parent.is_file():  # a folder in the place of a file
        (root / file).parent.unlink()
    refuse(name, put(root, file, text), message)


LEFT_OUT = {
    "an4": ("etc/an4_train.transcription", "GO (x-1)\n", "not in .*an4_train.fileids"),
    "kaldi_dir": ("train/text", "x-1\u00a0GO\n", "no sound: not in .*train/segments"),
    "kaldi_feats": ("train/text", "x-1 GO\n", "no sound: not in .*train/feats.scp"),
    "librispeech": ("train-clean-5/anna/1/anna-1.trans.txt", "x-1\tGO\n", "no audio: .*x-1.flac"),
}


@pytest.mark.parametrize("name", LEFT_OUT)
def test_a_transcript_without_sound_is_excluded(write, name):
    file, line, reason = LEFT_OUT[name]
    root = put(write(name), file, FILES[name][file] + line)
    (exclusion,) = READERS[name](root).excluded
    assert (exclusion.id, exclusion.split) == ("x-1", "train")
    assert re.fullmatch(reason, exclusion.reason)


def test_what_is_not_read_is_noted(write):
    root = write("kaldi_dir")
    put(root, "train/segments", "anna-1-0000 r 0.0 1.25\n")
    put(root, "valid/wav.scp", "v v.wav\n")
    assert kaldi_dir.read(root).notes == [
        f"{root}/train/wav.scp: 1 ids are not used, first 'q': not in {root}/train/segments",
        f"{root}/train/utt2spk: 1 ids are not used, first 'ben-1-0000': no such utterance",
        f"not read: valid in {root}; the names of splits are train, dev, test, untranscribed",
    ]
    (root / "train/wav.scp").unlink()
    refuse("kaldi_dir", root, r"train/wav.scp: no such file; .* \(others there: valid\)")


def test_what_is_not_read_of_lhotse_is_noted(write):
    root = put(write("lhotse"), RECORDINGS, rows(RECORDING, RECORDING | {"id": "q"}))
    put(root, "eval/supervisions.jsonl", "")
    first, second = lhotse.read(root).notes
    assert first == "train: 1 recordings have no supervision, first 'q'"
    assert second.startswith(f"not read: eval in {root};")


IDS = st.lists(st.sampled_from("abcdefgh"), unique=True)


@settings(max_examples=25)
@given(IDS, IDS, st.none() | IDS, st.none() | IDS)
def test_every_id_of_a_kaldi_folder_is_kept_or_named(
    tmp_path_factory, texts, sounds, parts, speakers
):
    """Whatever ids its files have, in whatever order."""
    folder = tmp_path_factory.mktemp("ids")
    put(folder, "test/wav.scp", "t t.wav\n")
    put(folder, "train/wav.scp", "".join(f"{key} {key}.wav\n" for key in sounds))
    put(folder, "train/text", "".join(f"{key} GO\n" for key in texts))
    if parts is not None:
        put(folder, "train/segments", "".join(f"{key} {key} 0 1\n" for key in parts))
    if speakers is not None:
        put(folder, "train/utt2spk", "".join(f"{key} anna\n" for key in speakers))
    spoken = sounds if parts is None else parts
    if not set(spoken) <= set(sounds) or not set(spoken) <= set(
        spoken if speakers is None else speakers
    ):
        refuse("kaldi_dir", folder, "is not in .*wav.scp|no speaker of utterance")
        return
    corpus = kaldi_dir.read(folder)
    kept, excluded = ({u.id for u in us} for us in (corpus.splits["train"], corpus.excluded))
    assert kept == set(spoken) & set(texts) and excluded == set(spoken) ^ set(texts)
    noted = " ".join(corpus.notes)
    assert ("wav.scp" in noted) == bool(set(sounds) - set(spoken))
    assert ("utt2spk" in noted) == bool(set(speakers or ()) - set(spoken))


def test_a_folder_of_something_else(tmp_path):
    refuse("an4", tmp_path, r"not an AN4 folder; expected .*an4_train\.fileids")


def test_a_remote_folder_is_read(write, monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    root, system = write("an4"), fsspec.filesystem("memory")
    system.put(str(root), "/bucket/an4", recursive=True)
    there = data_dir(CorpusConfig(name="an4", data_dir="memory://bucket/an4"))
    here, there = (an4.read(folder).splits for folder in (root, there))
    system.rm("/bucket", recursive=True)
    for split, utterances in here.items():
        assert [replace(u, audio="") for u in there[split]] == [
            replace(u, audio="") for u in utterances
        ]
        for u, copy in zip(utterances, there[split], strict=True):
            assert Path(copy.audio).read_bytes() == Path(u.audio).read_bytes()


# --- AN4 ----------------------------------------------------------------------------------------


def test_real_an4(shared_data, tmp_path):
    corpus = an4.read(shared_data / "an4")
    train, test = corpus.splits["train"], corpus.splits["test"]
    assert (len(train), len(test), corpus.excluded) == (948, 130, [])
    assert [len({u.speaker for u in us}) for us in (train, test)] == [74, 10]
    assert (train[0].id, train[0].speaker, train[0].text) == ("an251-fash-b", "fash", "YES")
    assert sum(len(u.text.split()) for u in test) == 773
    assert not any("<" in u.text for u in train + test)
    assert 0.01 < np.abs(read_audio(train[0], 16000)).max() <= 1
    # From the folder above it, with a dev split.
    config = CorpusConfig(name="an4", data_dir=str(shared_data), dev_share=0.1)
    splits = load(config, tmp_path).splits
    assert len(splits["train"]) + len(splits["dev"]) == 948 and 80 <= len(splits["dev"]) <= 110
    assert not {u.speaker for u in splits["train"]} & {u.speaker for u in splits["dev"]}
    assert list(tmp_path.iterdir()) == []


def test_an4_is_raw_audio_and_lists_what_is_missing(write):
    root = write("an4")
    np.array([0, 256, -256, 32767], ">i2").tofile(root / EMPTY_FILES["an4"][0])
    samples = read_audio(an4.read(root).splits["train"][0], 16000)
    assert samples.tolist() == [0, 1 / 128, -1 / 128, 32767 / 32768]
    (root / EMPTY_FILES["an4"][1]).unlink()
    put(root, "etc/an4_test.transcription", "YES (ben-1-0000)\n")
    corpus = an4.read(root)
    assert [u.id for u in corpus.splits["train"]] == ["anna-1-0000"]
    no_audio, no_transcript, _ = corpus.excluded
    assert (no_audio.id, no_audio.split) == ("ben-1-0000", "train")
    assert no_audio.reason.startswith("no audio: ")
    assert no_transcript == Exclusion("anna-1-0000", "test", "no transcript")
    with pytest.raises(UserError, match=r"train: 1 of 2 utterances .* ben-1-0000: no audio"):
        load(CorpusConfig(name="an4", data_dir=str(root), dev_share=0.5), root)


# --- Kaldi data directories ---------------------------------------------------------------------


def test_kaldi_segments_and_optional_files(write):
    root = write("kaldi_dir")
    audio = str(root / "audio/r.wav")
    segments = [(u.audio, u.start, u.end) for u in kaldi_dir.read(root).splits["train"]]
    assert segments == [(audio, 0.0, 1.25), (audio, 1.25, None)]
    for file in ("segments", "utt2spk", "text"):
        (root / "train" / file).unlink()
    put(root, "dev/wav.scp", "d d.wav\n")
    corpus = kaldi_dir.read(root)
    assert list(corpus.splits) == ["train", "dev", "test"] and not corpus.excluded
    assert corpus.splits["train"] == [
        Utterance("r", "r", audio, None),
        Utterance("q", "q", "/abs/q.flac", None),
    ]
    corpus = kaldi_dir.read(put(root, "train/text", "r GO\u2019S ON\u0301\nq\n"))
    assert [u.text for u in corpus.splits["train"]] == ["GO'S O\u0143"]
    assert corpus.excluded == [Exclusion("q", "train", f"{root / 'train/text'}:2: no words")]


def test_kaldi_speech_without_transcripts(write):
    root = put(write("kaldi_dir"), "untranscribed/wav.scp", "x x.wav\ny /abs/y.flac\n")
    put(root, "untranscribed/utt2spk", "x anna\ny berta\n")
    put(root, "untranscribed/text", b"\xff\xfe never read")
    corpus = kaldi_dir.read(root)
    assert list(corpus.splits) == ["train", "test", "untranscribed"] and not corpus.excluded
    assert corpus.splits["untranscribed"] == [
        Utterance("x", "anna", str(root / "x.wav"), None),
        Utterance("y", "berta", "/abs/y.flac", None),
    ]
    put(root, "untranscribed/segments", "x-1 x 0.5 2\n")
    put(root, "untranscribed/utt2spk", "x-1 anna\n")
    segment = Utterance("x-1", "anna", str(root / "x.wav"), None, 0.5, 2.0)
    assert kaldi_dir.read_untranscribed(root / "untranscribed") == [segment]


# --- lhotse -------------------------------------------------------------------------------------


def test_lhotse_recordings_and_segments(write):
    first = SUPERVISION | {"id": "a"}
    part = first | {"id": "b", "start": 0.5, "duration": 1.0, "speaker": None}
    rest = first | {"id": "c", "start": 1.5, "duration": 0.50001}
    silent = first | {"id": "d", "text": " "}
    root = put(write("lhotse"), SUPERVISIONS, rows(first, part, rest, silent))
    audio, end = str(root / "audio/r.flac"), 2.0 + 0.5 / 16000
    corpus = lhotse.read(root)
    assert corpus.splits == {
        "train": [
            Utterance("a", "anna", audio, "HELLO THERE", None, end),
            Utterance("b", "b", audio, "HELLO THERE", 0.5, 1.5),
            Utterance("c", "anna", audio, "HELLO THERE", 1.5, end),
        ]
    }
    assert corpus.excluded == [Exclusion("d", "train", f"{root / SUPERVISIONS}:4: no words")]
    (root / "audio").mkdir()
    soundfile.write(audio, np.linspace(-0.5, 0.5, 32000, dtype=np.float32), 16000)
    lengths = [len(read_audio(u, 16000)) for u in corpus.splits["train"]]
    assert lengths == [32000, 16000, 8000]


def test_lhotse_sound_of_another_length_than_the_manifest_says(write):
    (whole,) = lhotse.read(root := write("lhotse")).splits["train"][:1]
    (root / "audio").mkdir()
    sound = np.linspace(-0.5, 0.5, 48000, dtype=np.float32)
    soundfile.write(whole.audio, sound, 16000)
    assert len(read_audio(whole, 16000)) == 32000
    soundfile.write(whole.audio, sound[:16000], 16000)
    with pytest.raises(AudioError, match=r"1\.00 s long, but segment 'anna.* to 2\.0"):
        read_audio(whole, 16000)


def test_lhotse_splits_are_folders(write):
    root = write("lhotse")
    for split in ("test", "untranscribed"):
        put(root, f"{split}/recordings.jsonl", rows(RECORDING))
        put(root, f"{split}/supervisions.jsonl", rows(SUPERVISION | {"id": split}))
    splits = lhotse.read(root).splits
    assert list(splits) == ["train", "test", "untranscribed"]
    assert [(u.id, u.text) for u in splits["test"]] == [("test", "HELLO THERE")]
    assert [(u.id, u.text) for u in splits["untranscribed"]] == [("untranscribed", None)]


def test_lhotse_cuts_give_the_utterances_of_their_supervisions(write):
    """Whether a cut is a whole recording, some of it, or one supervision."""
    parts = [
        SUPERVISION | {"id": "a", "start": 0.25, "duration": 0.5},
        SUPERVISION | {"id": "b", "start": 0.75, "duration": 1.25, "speaker": None},
    ]
    expected = lhotse.read(put(write("lhotse"), SUPERVISIONS, rows(*parts))).splits
    shifted = [part | {"start": part["start"] - 0.25} for part in parts]
    trimmed = [
        CUT | {k: part[k] for k in ("id", "start", "duration")}
        | {"supervisions": [part | {"start": 0.0}]}
        for part in parts
    ]  # fmt: skip
    for cuts in (
        [CUT | {"supervisions": parts}],
        [CUT | {"start": 0.25, "duration": 1.75, "supervisions": shifted}],
        trimmed,
    ):
        (root := write("lhotse cuts") / "other").mkdir(exist_ok=True)
        for split in ("train", "test", "untranscribed"):
            put(root, f"x_cuts_{split}-clean.jsonl.gz", rows(*cuts))
        corpus = lhotse.read(root)
        assert not corpus.excluded + corpus.notes
        assert list(corpus.splits) == ["train", "test", "untranscribed"]
        for split, found in corpus.splits.items():
            for one, other in zip(expected["train"], found, strict=True):
                text = None if split == "untranscribed" else one.text
                moved = replace(one, text=text, audio=str(root / "audio/r.flac"))
                assert other == moved


def test_a_supervision_beyond_its_cut_is_clipped_or_left_out(write):
    given = [(-0.0625, 0.5), (0.5, 0.5625), (-0.25, 0.75), (0.5, 0.75), (1.5, 0.5)]
    parts = [
        SUPERVISION | {"id": f"s{n}", "start": start, "duration": duration}
        for n, (start, duration) in enumerate(given)
    ]
    cut = CUT | {"start": 0.5, "duration": 1.0, "supervisions": parts}
    root = put(write("lhotse cuts"), CUTS, rows(cut))
    corpus = lhotse.read(root)
    assert [(u.id, u.start, u.end) for u in corpus.splits["train"]] == [
        ("s0", 0.5, 0.9375),
        ("s1", 1.0, 1.5),
    ]
    where = f"{root / CUTS}:1"
    assert corpus.excluded == [
        Exclusion(f"s{n}", "train", f"{where}: {lost:.2f} s of it are outside its cut")
        for n, lost in ((2, 0.25), (3, 0.25), (4, 1.0))
    ]


def test_lhotse_parts_beside_each_other_are_read_together(write):
    root = write("lhotse cuts") / "flat"
    for n, part in enumerate(("train-clean-100", "train-other-500", "dev_clean", "VALID")):
        own = [SUPERVISION | {"id": f"u{n}"}]
        put(root, f"cuts_{part}.jsonl.gz", rows(CUT | {"id": f"c{n}", "supervisions": own}))
    put(root, "supervisions_dev.jsonl", "")
    put(root, "._cuts_train.jsonl", b"\xff of another system")
    empty = CUT | {"id": "e", "supervisions": []}
    put(root, "cuts_test.jsonl", rows(CUT, empty))
    put(root, "cuts_untranscribed.jsonl", rows(empty))
    corpus = lhotse.read(root)
    assert {split: [u.id for u in us] for split, us in corpus.splits.items()} == {
        "train": ["u0", "u1"], "dev": ["u2"], "test": ["anna-1-0000"], "untranscribed": ["e"],
    }  # fmt: skip
    assert corpus.notes == [
        "dev: cuts_dev_clean.jsonl.gz is read, and not supervisions_dev.jsonl",
        "test: 1 cuts have no supervision, first 'e'",
        f"not read: cuts_VALID.jsonl.gz in {root}; the names of splits are train, dev, test, "
        "untranscribed",
    ]
    put(root, "cuts_train-all.jsonl.gz", rows(CUT | {"id": "c0"}))
    refuse("lhotse", root, "cuts_train-clean-100.jsonl.gz:1: duplicate id 'c0'")


def test_recordings_and_supervisions_beside_each_other(write):
    root = write("lhotse") / "flat"
    for n, part in enumerate(("train-clean-100", "train-other-500", "test-clean")):
        own = {"id": f"r{n}"}, {"id": f"u{n}", "recording_id": f"r{n}"}
        put(root, f"librispeech_recordings_{part}.jsonl.gz", rows(RECORDING | own[0]))
        put(root, f"librispeech_supervisions_{part}.jsonl.gz", rows(SUPERVISION | own[1]))
    splits = lhotse.read(root).splits
    assert {split: [u.id for u in us] for split, us in splits.items()} == {
        "train": ["u0", "u1"], "test": ["u2"],
    }  # fmt: skip


# --- JSON lines ---------------------------------------------------------------------------------


def test_a_manifest_alone_is_train(write):
    root = write("manifest")
    put(root, "test_manifest.json", rows(ROW))
    put(root, "untranscribed.jsonl.gz", rows({"audio_filepath": "a.wav", "text": None}))
    put(root, "valid.jsonl", "")
    corpus = manifest.read(root)
    assert [len(us) for us in corpus.splits.values()] == [2, 1, 1]
    assert corpus.splits["untranscribed"][0].text is None
    assert corpus.notes == [
        f"not read: valid.jsonl in {root}; the names of splits are train, dev, test, untranscribed"
    ]
    audio = str(root / "audio/r.flac")
    alone = manifest.read(root / "train.jsonl")
    assert alone.notes == [] and alone.splits == {
        "train": [
            Utterance("anna-1-0000", "anna", audio, "HELLO THERE"),
            Utterance("ben-1-0000", "ben", audio, "GO'S ON", 1.0, 3.0),
        ]
    }
    put(root, "train.jsonl", rows(ROW, ROW | {"audio_filepath": "b c#d.wav", "text": " "}))
    corpus = manifest.read(root / "train.jsonl")
    (first,), (silent,) = corpus.splits["train"], corpus.excluded
    assert re.fullmatch("r-[0-9a-f]{12}", first.id) and first.speaker == "anna"
    assert re.fullmatch("b_c_d-[0-9a-f]{12}", silent.id) and silent.reason.endswith(":2: no words")


ROWS = st.lists(
    st.fixed_dictionaries(
        {"audio_filepath": st.sampled_from(["a/1.wav", "b/1.wav", "1.wav", "é 1.wav"])},
        optional={
            "offset": st.none() | st.floats(0, 100) | st.integers(0, 3),
            "duration": st.none() | st.floats(0.01, 10),
            "speaker": st.none() | st.just("") | st.text("ab", min_size=1) | st.integers(0, 9),
            "text": st.sampled_from(["go", "GO  on", ""]),
        },
    ),
    min_size=1,
    max_size=6,
    unique_by=lambda row: (row["audio_filepath"], float(row.get("offset") or 0)),
)


@settings(max_examples=50)
@given(ROWS, st.randoms())
def test_an_id_depends_on_its_own_row_alone(tmp_path_factory, given_rows, random):
    """Not on its place, the other rows, the transcript or the duration."""
    path = tmp_path_factory.mktemp("rows") / "train.json"
    ids = {}
    for _ in range(3):
        chosen = random.sample(given_rows, random.randint(1, len(given_rows)))
        chosen = [row | {"text": "go", "duration": random.choice([None, 1.5])} for row in chosen]
        path.write_text(rows(*chosen))
        found = manifest.read(path).splits["train"]
        for row, utterance in zip(chosen, found, strict=True):
            place = (row["audio_filepath"], float(row.get("offset") or 0))
            assert ids.setdefault(place, utterance.id) == utterance.id
            assert utterance.start == (row.get("offset") or None)
            end = row["duration"] and place[1] + 1.5
            assert utterance.end == end
            given_speaker = row.get("speaker")
            missing = given_speaker in (None, "")
            assert utterance.speaker == (utterance.id if missing else str(given_speaker))
            check_ids([utterance])
    assert len(set(ids.values())) == len(ids)
    path.write_text(rows(given_rows[0] | {"text": "a"}, given_rows[0] | {"text": "b"}))
    refuse("manifest", path, "train.json:2: duplicate id '")


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.text(max_size=3), inner),
    max_leaves=4,
)


@settings(max_examples=100)
@given(st.sampled_from([("manifest", ROW), ("lhotse cuts", CUT)]), st.data())
def test_any_row_is_read_or_refused_in_one_line(tmp_path_factory, reader, data):
    name, row = reader
    key = data.draw(st.sampled_from([*row, "id", "offset", "duration", "type", None]))
    changed_row = data.draw(JSON) if key is None else row | {key: data.draw(JSON)}
    root = put(tmp_path_factory.mktemp("any"), "cuts_train.jsonl", rows(changed_row) + "\n")
    try:
        READERS[name](root)
    except UserError as error:
        assert str(error).startswith(f"{root / 'cuts_train.jsonl'}:1: ")
        assert "\n" not in str(error)
