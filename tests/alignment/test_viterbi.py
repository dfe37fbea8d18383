"""Words in a segmentation: no word has a silence, and variants are distinguished and counted."""

import math

import numpy as np
import pytest

from acoustic_kd.alignment import viterbi as align
from acoustic_kd.alignment.segmentation import Segmentation
from acoustic_kd.alignment.senones import monophones
from acoustic_kd.alignment.spoken_words import pronunciation_costs, word_spans
from acoustic_kd.alignment.viterbi import align_words
from acoustic_kd.language.lexicon import Lexicon

LEXICON = Lexicon({
    "ab": (("A", "B"),), "a": (("A",), ("A", "C")), "cb": (("C", "B"), ("B",)),
})  # fmt: skip


def segmented(text):
    """Each phone takes three frames, a silence six."""
    phones = tuple(text.split())
    frames = np.array([[2, 2, 2] if phone == "SIL" else [1, 1, 1] for phone in phones])
    return Segmentation("u", phones, frames)


@pytest.mark.parametrize(
    ("phones", "words", "spans"),
    [
        ("SIL A B SIL SIL C B A SIL", "ab cb a", [(6, 12), (24, 30), (30, 33)]),
        ("A B", "ab", [(0, 6)]),
        # A longer variant after a shorter one with the same beginning.
        ("A C SIL B", "a cb", [(0, 6), (12, 15)]),
        ("A SIL C B", "a cb", [(0, 3), (9, 15)]),
        # Other phones, a pause within the word, one phone more.
        ("A B", "cb", None),
        ("A SIL B", "ab", None),
        ("A B A", "ab", None),
    ],
)
def test_spans_of_words(phones, words, spans):
    assert word_spans(segmented(phones), words.split(), LEXICON) == spans


def test_an_ambiguous_phone_is_in_one_of_the_words():
    spans = word_spans(segmented("A C B"), ["a", "cb"], LEXICON)
    assert spans in ([(0, 3), (3, 9)], [(0, 6), (6, 9)])


def test_a_pronunciation_costs_the_more_the_rarer_it_is():
    """-ln((n + 1) / (N + 1)); words that nobody says, or says in one way alone, cost nothing."""
    spoken = [
        (segmented(phones), words.split())
        for phones, words in [
            ("SIL A B SIL A", "ab a"),
            ("A A SIL A C A B", "a a a ab"),
            ("A A", "cb"),  # other phones
            ("A", "new"),  # a word that the lexicon lacks
        ]
    ]
    costs = pronunciation_costs(spoken, LEXICON)
    expected = {("ab", ("A", "B")): 0, ("a", ("A",)): 0, ("a", ("A", "C")): math.log(4 / 2)}
    assert costs == pytest.approx(expected)
    assert pronunciation_costs(spoken[2:], LEXICON) == {}


def test_words_are_aligned_and_contexts_are_found_once(monkeypatch):
    """Finding the contexts of many phones takes longer than recognising a piece."""
    contexts_of, calls = align.contexts_of, []
    monkeypatch.setattr(align, "contexts_of", lambda of: calls.append(of) or contexts_of(of))
    inventory = monophones(("SIL", "A", "B", "C"))
    transcripts = align.Transcripts(LEXICON, inventory)
    labels = inventory.targets(segmented("SIL A B SIL C B"))
    loglikes = np.where(np.arange(inventory.num_senones) == labels[:, None], -0.1, -9.0)
    for _ in range(2):
        assert align_words(["ab", "cb"], loglikes, transcripts) == [(6, 12), (18, 24)]
    for frames in (0, 5):
        assert align_words(["ab", "cb"], loglikes[:frames], transcripts) is None
    assert len(calls) == 1
