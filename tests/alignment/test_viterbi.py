"""Words in a segmentation: no word has a silence, and variants are distinguished."""

import numpy as np

from acoustic_kd.alignment import viterbi as align
from acoustic_kd.alignment.segmentation import Segmentation
from acoustic_kd.alignment.senones import monophones
from acoustic_kd.alignment.viterbi import align_words, word_spans
from acoustic_kd.language.lexicon import Lexicon

LEXICON = Lexicon({
    "ab": (("A", "B"),), "a": (("A",), ("A", "C")), "cb": (("C", "B"), ("B",)),
})  # fmt: skip


def segmented(text):
    """Each phone takes three frames, a silence six."""
    phones = tuple(text.split())
    frames = np.array([[2, 2, 2] if phone == "SIL" else [1, 1, 1] for phone in phones])
    return Segmentation("u", phones, frames)


def test_silences_are_between_words():
    found = word_spans(segmented("SIL A B SIL SIL C B A SIL"), ["ab", "cb", "a"], LEXICON)
    assert found == [(6, 12), (24, 30), (30, 33)]
    assert word_spans(segmented("A B"), ["ab"], LEXICON) == [(0, 6)]


def test_a_longer_variant_is_found_after_a_shorter_one_with_the_same_beginning():
    assert word_spans(segmented("A C B"), ["a", "cb"], LEXICON) in ([(0, 3), (3, 9)],
                                                                  [(0, 6), (6, 9)])  # fmt: skip
    assert word_spans(segmented("A C SIL B"), ["a", "cb"], LEXICON) == [(0, 6), (12, 15)]
    assert word_spans(segmented("A SIL C B"), ["a", "cb"], LEXICON) == [(0, 3), (9, 15)]


def test_other_phones_are_not_words():
    assert word_spans(segmented("A B"), ["cb"], LEXICON) is None
    assert word_spans(segmented("A SIL B"), ["ab"], LEXICON) is None
    assert word_spans(segmented("A B A"), ["ab"], LEXICON) is None


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
    assert align_words(["ab", "cb"], loglikes[:5], transcripts) is None
    assert len(calls) == 1
