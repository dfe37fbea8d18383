"""The features stage on a user's own data: sound files that cannot be used."""

from pathlib import Path

import numpy as np
import pytest
import soundfile
from tiny_recipe import kaldi_data
from variants import take_away, utterances_without_transcripts

from acoustic_kd.system.files import read_jsonl


@pytest.fixture
def data(finished_recipe, tmp_path):
    """Kaldi data directories of the tiny recipe's speech, and an experiment without output."""
    return kaldi_data(finished_recipe, tmp_path)


def path_of(data, name, split="train"):
    return Path(data.options[1]) / split / name


def ids_of(data, split="train"):
    return [line.split()[0] for line in path_of(data, "wav.scp", split).read_text().splitlines()]


RAMP = np.linspace(-0.5, 0.5, 9000)
SPOILERS = {
    "no such sound file": lambda path: path.unlink(),
    "truncated": lambda path: path.write_bytes(path.read_bytes()[:-2000]),
    "is an empty file": lambda path: path.write_bytes(b""),
    "no sound": lambda path: soundfile.write(path, np.full(9000, 0.1), 16000),
    "8000 Hz, but 16000 Hz is needed": lambda path: soundfile.write(path, RAMP, 8000),
    "2 channels, but one": lambda path: soundfile.write(path, np.stack([RAMP, RAMP], 1), 16000),
    "has no samples": lambda path: soundfile.write(path, np.zeros(0), 16000),
    "shorter than one window": lambda path: soundfile.write(path, RAMP[:399], 16000),
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
    (row,) = read_jsonl(data.directory / "features" / "excluded.jsonl")
    assert (row["id"], row["split"]) == (name, "train")
    assert reason in row["reason"] and str(path) in row["reason"]


@pytest.mark.parametrize(("split", "count"), [("train", 20), ("untranscribed", 10)])
def test_too_many_unusable_sound_files_of_a_split_end_the_run(data, refusal, split, count):
    if split == "untranscribed":
        take_away(Path(data.options[1]), utterances_without_transcripts(data))
    names = ids_of(data, split)
    for name in names[:2]:
        path_of(data, f"{name}.wav").unlink()
    assert data("corpus") == 0
    error = refusal(data, "features")
    assert f"{split}: 2 of {count} utterances cannot be used, more than 5%" in error
    assert names[0] in error
    assert not (data.directory / "features" / "done.json").exists()


def test_many_files_of_the_wrong_kind_are_summed_up(data, refusal):
    first, second, third = (path_of(data, f"{name}.wav") for name in ids_of(data)[:3])
    soundfile.write(first, RAMP, 8000)
    soundfile.write(second, RAMP, 8000)
    soundfile.write(third, np.stack([RAMP, RAMP], axis=1), 16000)
    assert data("corpus") == 0
    assert "all reasons: 2 × 8000 Hz, 1 × 2 channels" in refusal(data, "features")
    assert len(read_jsonl(data.directory / "features" / "excluded.jsonl")) == 3
