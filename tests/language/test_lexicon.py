"""Pronouncing dictionaries in CMU's format."""

import pytest
from cmu import cmu_lexicon

from acoustic_kd.language.lexicon import Lexicon, read_lexicon, write_lexicon
from acoustic_kd.system.errors import UserError


@pytest.fixture
def read(tmp_path):
    """read(text, …) → the lexicon of a file with this text."""

    def read(text: str | bytes, **more):
        path = tmp_path / "words.dict"
        path.write_bytes(text.encode() if isinstance(text, str) else text)
        return read_lexicon(path, **more)

    return read


def test_variants_stress_comments(read):
    lexicon = read(";;; CMU\nread  R IY1 D\nREAD(2) R EH1 D # past\n\nA AH0\nA(2) AH1\n")
    assert lexicon["READ"] == (("R", "IY", "D"), ("R", "EH", "D"))
    assert lexicon["A"] == (("AH",),)  # the variants differ in stress alone
    assert "READ" in lexicon and "read" not in lexicon
    assert lexicon.phones() == ["AH", "D", "EH", "IY", "R"]


@pytest.mark.parametrize(
    ("text", "phones"),
    [
        ("sasa s a S a\nshasha S a S a\n", ["S", "a", "s"]),  # SAMPA
        ("ma1 m a1\nma2 m a2\nma3 m a3\n", ["A1", "A2", "A3", "M"]),  # tones
        ("er1 er1\nao2 ao2\n", ["AO", "ER"]),
        ("er1 er1\nao3 ao3\n", ["AO3", "ER1"]),
        ("read r iy1 d\nnoise SPN\n", ["D", "IY", "R", "SPN"]),
        ("READ R IY1 D\nnew n uw1\nDEN D EH1 N\n", ["D", "EH", "IY", "N", "R", "UW"]),
        ("!SIL SIL\n<s> sil\nread r iy1 d\n", ["D", "IY", "R"]),
        ("a sil\nb s a S\n", ["S", "a", "s"]),
    ],
)
def test_phones_that_are_not_cmu_s_stay_apart(read, tmp_path, text, phones):
    lexicon = read(text)
    assert lexicon.phones() == phones
    for part in (lexicon, lexicon.restricted_to({min(lexicon.entries)})):  # alone it has no pair
        write_lexicon(tmp_path / "again", part)
        assert read_lexicon(tmp_path / "again") == part


def test_marks_encodings_and_case(read):
    assert read("\ufeffA AH\n").entries == {"A": (("AH",),)}
    assert "read" in read("read R IY D\n", upper=False)
    assert "A" in read(b";;; D\xc9J\xc0\nA AH # \xc0\n")  # comments in Latin-1, as CMU's own


def test_what_is_written_exactly_is_read_exactly(tmp_path):
    """Nothing that CMU's format has a meaning for is taken from units in other scripts."""
    words = ("ıI", "straße", "A(2)", "C#", ";;;", "мир", "S0", "ทํา")
    lexicon = Lexicon({word: (tuple(word),) for word in words})
    write_lexicon(tmp_path / "words", lexicon, exact=True)
    assert read_lexicon(tmp_path / "words") == lexicon
    assert list(read_lexicon(tmp_path / "words").entries) == list(words)


def test_restricted_to():
    lexicon = Lexicon({"B": (("B", "IY"),), "A": (("EY",),), "C": (("S", "IY"),)})
    assert list(lexicon.restricted_to({"B", "A", "UNKNOWN"}).entries) == ["A", "B"]
    assert lexicon.restricted_to({"A"}).phones() == ["EY"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("A EY\nWORD\n", r"words\.dict:2: word 'WORD' has no phones"),
        ("", "no words in it"),
        (";;; a comment alone\n", "no words in it"),
        ("!SIL SIL\n", "no words in it"),  # a word that is silence is left out
        ("A 1.0 EY\n", r"words\.dict:1: word 'A' has a probability, 1\.0, before its phones"),
        (b"A EY\nCAF\xc9 K AH F EY\n", r"words\.dict:2: byte 0xc9 is not UTF-8; convert the file"),
        ("A EY\nB b sil\n", r"words\.dict:2: word 'B' has the phone SIL, which is silence"),
    ],
)
def test_malformed(read, text, message):
    with pytest.raises(UserError, match=message):
        read(text)


def test_real_dictionaries(shared_data):
    hello = ("HH", "AH", "L", "OW"), ("HH", "EH", "L", "OW")
    assert len(cmu_lexicon().entries) > 100_000 and cmu_lexicon()["HELLO"] == hello
    an4 = read_lexicon(shared_data / "an4/etc/an4.dic")
    assert len(an4.phones()) <= 40 and "RUBOUT" in an4
