"""The tool that compares two experiments' alignments."""

import sys

import numpy as np
import pytest

import alignment_difference
from acoustic_kd.alignment.segmentation import Segmentation, write_segmentations
from acoustic_kd.corpora.utterances import Utterance, write_manifest
from acoustic_kd.language.lexicon import Lexicon, write_lexicon
from alignment_difference import compare, words_of

LEXICON = Lexicon({"A": (("X",), ("X", "Y")), "B": (("Y", "Z"), ("Z",))})


@pytest.mark.parametrize(
    ("phones", "sizes"),
    [("X Y Z", [1, 2]), ("X Z", [1, 1]), ("X Y Y Z", [2, 2]), ("X", None), ("X Z Z", None)],
)
def test_phones_are_parted_into_words(phones, sizes):
    found = words_of(phones.split(), ["A", "B"], LEXICON)
    assert found == sizes or (phones == "X Y Z" and found == [2, 1])


@pytest.fixture
def experiment(tmp_path):
    """experiment(name, segmentations) → its directory."""

    def make(name, segmentations):
        rows = [Utterance(n, "s", "/a.wav", "A B") for n in ("u", "v", "w")]
        write_manifest(tmp_path / name / "corpus" / "train.jsonl", rows)
        write_lexicon(tmp_path / name / "corpus" / "lexicon.txt", LEXICON)
        write_segmentations(tmp_path / name / "align" / "train.jsonl", segmentations)
        return tmp_path / name

    return make


def segmentation(name, phones, *lengths):
    durations = np.array([[1, 1, length - 2] for length in lengths])
    return Segmentation(name, tuple(phones.split()), durations)


def test_differences_counted_by_hand(experiment):
    one = experiment(
        "one",
        [segmentation("u", "SIL X Z SIL", 10, 10, 10, 10), segmentation("v", "X Z", 9, 9)],
    )
    other = experiment(
        "other",
        [segmentation("u", "X SIL Z SIL", 18, 5, 7, 10), segmentation("w", "X Z", 9, 9)],
    )
    found = compare(one, other, "train")
    # A: 10 … 20 against 0 … 18; B: 20 … 30 against 23 … 30.
    assert found["utterances"] == 1 and found["only one has"] == 2
    for kind in ("word", "phone"):
        assert found[f"{kind} boundaries, median ms"] == 25
        assert found[f"{kind} boundaries, mean ms"] == (100 + 20 + 30 + 0) / 4
        assert found[f"{kind} boundaries within 20 ms, %"] == 50
    assert found["frames of the same phone, %"] == 100 * (8 + 7 + 10) / 40


def test_nothing_in_common(experiment, monkeypatch, capsys):
    paths = [experiment(n, [segmentation(n, "X Z", 9, 9)]) for n in ("u", "v")]
    monkeypatch.setattr(sys, "argv", ["alignment_difference", *map(str, paths)])
    assert alignment_difference.main() == 2
    error = capsys.readouterr().err
    assert error.startswith("alignment_difference: error: ") and error.count("\n") == 1
