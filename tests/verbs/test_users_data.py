"""The stages on a user's own data: sound files, transcripts and ids that cannot be used."""

import json
from pathlib import Path

import numpy as np
import pytest
import soundfile
from tiny_recipe import kaldi_data
from variants import SHARE, take_away, utterances_without_transcripts


@pytest.fixture
def data(finished_recipe, tmp_path):
    """Kaldi data directories of the tiny recipe's speech, and an experiment without output."""
    return kaldi_data(finished_recipe, tmp_path)


def path_of(data, name, split="train"):
    return Path(data.options[1]) / split / name


def ids_of(data, split="train"):
    return [line.split()[0] for line in path_of(data, "wav.scp", split).read_text().splitlines()]


def excluded(data, stage):
    lines = (data.directory / stage / "excluded.jsonl").read_text().splitlines()
    return [json.loads(line) for line in lines]


SPOILERS = {
    "no such sound file": lambda path: path.unlink(),
    "truncated": lambda path: path.write_bytes(path.read_bytes()[:-2000]),
    "damaged or not a sound file": lambda path: path.write_bytes(b""),
    "has no samples": lambda path: soundfile.write(path, np.zeros(0), 16000),
    "shorter than one window": lambda path: soundfile.write(path, np.zeros(399), 16000),
}


@pytest.mark.parametrize("reason", SPOILERS)
def test_a_sound_file_that_cannot_be_used_is_left_out_and_named(data, outcome, reason):
    name = ids_of(data)[0]
    path = path_of(data, f"{name}.wav")
    SPOILERS[reason](path)
    assert data("corpus") == 0
    status, output, error = outcome(data, "features")
    assert (status, error) == (0, "")
    assert "1 utterances left out, listed in" in output and "excluded.jsonl" in output
    (row,) = excluded(data, "features")
    assert (row["id"], row["split"]) == (name, "train")
    assert reason in row["reason"] and str(path) in row["reason"]


def test_too_many_unusable_sound_files_end_the_run(data, refusal):
    names = ids_of(data)
    for name in names[:2]:
        path_of(data, f"{name}.wav").unlink()
    assert data("corpus") == 0
    error = refusal(data, "features")
    assert f"train: 2 of {len(names)} utterances cannot be used, more than 5%" in error
    assert names[0] in error
    assert not (data.directory / "features" / "done.json").exists()


@pytest.mark.parametrize(
    ("rate", "channels", "message"),
    [(8000, 1, "8000 Hz, but 16000 Hz is needed"), (16000, 2, "2 channels")],
)
def test_a_sound_file_of_the_wrong_kind_ends_the_run(data, refusal, rate, channels, message):
    path = path_of(data, f"{ids_of(data)[0]}.wav")
    soundfile.write(path, np.zeros((rate, channels)), rate)
    assert data("corpus") == 0
    error = refusal(data, "features")
    assert f"{path}: " in error and message in error


def test_a_word_without_pronunciation_costs_its_utterance_alone(data, outcome):
    name = ids_of(data)[0]
    text = path_of(data, "text")
    text.write_text(text.read_text().replace(f"{name} ", f"{name} XYZZY ", 1))
    status, output, _ = outcome(data, "corpus")
    assert status == 0 and "1 words are not in the lexicon: XYZZY" in output
    data.run(["features", "align"])
    (row,) = excluded(data, "align")
    assert (row["id"], row["split"]) == (name, "train")
    assert row["reason"] == "word 'XYZZY' is not in the lexicon"
    data.run(["senones", "frames"])


def test_data_that_changed_is_read_again(data, outcome, refusal):
    data.run(["corpus", "features"])
    scp = path_of(data, "wav.scp")
    scp.write_text("".join(scp.read_text().splitlines(keepends=True)[1:]))
    status, output, _ = outcome(data, "corpus")
    assert status == 0 and "up to date" not in output
    assert "'features' was made from an older 'corpus'" in refusal(data, "align")
    data.run(["features"])
    assert excluded(data, "features") == []


# --- refused ------------------------------------------------------------------------------------


def append(data, split, name, line):
    with path_of(data, name, split).open("a") as file:
        file.write(f"{line}\n")


def twice_in_a_split(data):
    append(data, "train", "wav.scp", f"{ids_of(data)[0]} x.wav")


def twice_in_the_corpus(data):
    name = ids_of(data)[0]
    for file, value in {"wav.scp": f"train/{name}.wav", "text": "YES", "utt2spk": "anna"}.items():
        append(data, "test", file, f"{name} {value}")


def one_speaker_left(data):
    take_away(Path(data.options[1]), utterances_without_transcripts(data))


def no_folder_given(data):
    data.options = ()


def untranscribed(text):
    """A folder of speech without transcripts, by the text of its wav.scp."""

    def spoil(data):
        folder = Path(data.options[1]) / "more"
        folder.mkdir()
        if text is not None:
            name = ids_of(data, "test")[0]
            sound = path_of(data, f"{name}.wav", "test")
            (folder / "wav.scp").write_text(text.format(name=name, sound=sound))

    return spoil


MORE = "corpus.untranscribed={data}/more"


@pytest.mark.parametrize(
    ("spoil", "setting", "message"),
    [
        (twice_in_a_split, "", "{data}/train/wav.scp:21: duplicate id '{first}'"),
        (twice_in_the_corpus, "", "utterance id '{first}' is used twice"),
        (no_folder_given, "", "give --data-dir DIR"),
        (one_speaker_left, SHARE, "give at least 2 speakers, or corpus.untranscribed_share=0"),
        (untranscribed(None), MORE, "{data}/more/wav.scp: no such file; list the speech"),
        (untranscribed(""), MORE, "{data}/more/wav.scp: lists no speech"),
        (untranscribed("a sph2pipe a.sph |\n"), MORE, "is a command, and commands are not run"),
        (untranscribed("{name} {sound}\n"), MORE, "utterance id '{test}' is used twice, by "),
        # Nothing is trained in vain for it.
        (lambda data: None, "distill.transfer_set=untranscribed",
         "setting 'distill.transfer_set' is untranscribed, but corpus 'kaldi_dir' has no speech"),
    ],
)  # fmt: skip
def test_a_corpus_that_is_refused(data, refusal, spoil, setting, message):
    facts = {"data": data.options[1], "first": ids_of(data)[0], "test": ids_of(data, "test")[0]}
    spoil(data)
    error = refusal(data, "corpus", *([setting.format(**facts)] if setting else []))
    assert message.format(**facts) in error
    assert not list(data.directory.rglob("*.jsonl"))


def test_a_data_folder_that_is_missing(data, refusal):
    data.options = ("--data-dir", "/nowhere")
    assert "/nowhere: no such folder" in refusal(data, "corpus")


def test_unusable_sound_without_transcripts_counts_by_itself(data, refusal):
    one_speaker_left(data)
    for name in ids_of(data, "untranscribed")[:2]:
        path_of(data, f"{name}.wav").unlink()
    assert data("corpus") == 0
    error = refusal(data, "features")
    assert "untranscribed: 2 of 10 utterances cannot be used, more than 5%" in error
