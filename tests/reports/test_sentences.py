"""Decoded sentences: errors are marked, and sentences are chosen by what differs."""

from hypothesis import given
from hypothesis import strategies as st

from acoustic_kd.reports.sentences import differing_sentences, mark_errors

WORDS = st.lists(st.sampled_from(["A", "B", "C", "D"]), max_size=8)


@given(WORDS, WORDS)
def test_marked_words_are_the_hypothesis_and_the_reference(reference, hypothesis):
    marked = mark_errors(reference, hypothesis)
    assert [word for mark, word in marked if mark != "deleted"] == hypothesis
    # A substituted word stands in the place of one of the reference.
    expected = [word if mark != "substituted" else None for mark, word in marked]
    expected = [w for w, (mark, _) in zip(expected, marked, strict=True) if mark != "inserted"]
    assert len(expected) == len(reference)
    assert all(w in (None, said) for w, said in zip(expected, reference, strict=True))
    if reference == hypothesis:
        assert {mark for mark, _ in marked} <= {""}


def test_sentences_where_systems_differ_are_counted_and_shown():
    references = {"u1": ["A", "B"], "u2": ["A"], "u3": ["C"], "u4": ["D"]}
    first = {"u1": ["B"], "u2": ["A"], "u3": ["X"], "u4": ["D"]}
    second = {"u1": ["A", "B"], "u2": ["A", "A"], "u3": ["Y"], "u4": ["D"]}
    transcripts = {"m": first, "d": second}
    note, *parts = differing_sentences(references, transcripts, "m", "d", ("m", "d"))
    assert "3 of 4 test utterances: d has fewer errors in 1, more in 1, as many in 1." in note.text
    shown = [part for part in parts if part.kind == "sentence"]
    assert [sentence.utterance for sentence in shown] == ["u1", "u2", "u3"]
    assert shown[0].systems["m"] == [("deleted", "A"), ("", "B")]
    assert shown[1].systems["d"].count(("inserted", "A")) == 1
    assert shown[2].systems["d"] == [("substituted", "Y")]
