"""The benchmark of alignments: the difference of two experiments' alignments."""

import alignment
import numpy as np
import pytest

from acoustic_kd.alignment.segmentation import Segmentation, write_segmentations
from acoustic_kd.corpora.utterances import Utterance, write_manifest
from acoustic_kd.language.lexicon import Lexicon, write_lexicon
from acoustic_kd.system.errors import UserError

LEXICON = Lexicon({"A": (("X",), ("X", "Y")), "B": (("Y", "Z"), ("Z",))})


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
    first = experiment(
        "first",
        [segmentation("u", "SIL X Z SIL", 10, 10, 10, 10), segmentation("v", "X Z", 9, 9)],
    )
    second = experiment(
        "second",
        [segmentation("u", "X SIL Z SIL", 18, 5, 7, 10), segmentation("w", "X Z", 9, 9)],
    )
    figures = alignment.difference(first, second, "train")
    # A: 10 … 20 against 0 … 18; B: 20 … 30 against 23 … 30.
    assert figures["utterances"] == 1 and figures["in one experiment only"] == 2
    for kind in ("word", "phone"):
        assert figures[f"{kind} boundaries, median ms"] == 25
        assert figures[f"{kind} boundaries, mean ms"] == (100 + 20 + 30 + 0) / 4
        assert figures[f"{kind} boundaries within 20 ms, %"] == 50
    assert figures["frames of the same phone, %"] == 100 * (8 + 7 + 10) / 40


def test_nothing_in_common(experiment):
    first, second = (experiment(n, [segmentation(n, "X Z", 9, 9)]) for n in ("u", "v"))
    with pytest.raises(UserError, match="no utterance of train has as many frames"):
        next(alignment.measure(first, against=second))
