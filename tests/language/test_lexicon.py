"""Pronouncing dictionaries in CMU's format."""

import unicodedata

import pytest
from cmu import cmu_lexicon
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from acoustic_kd.language.lexicon import Lexicon, read_lexicon, write_lexicon
from acoustic_kd.system.errors import UserError


@pytest.fixture
def read(tmp_path):
    """read(text) → the lexicon of a file with this text."""

    def read(text: str | bytes):
        path = tmp_path / "words.dict"
        path.write_bytes(text.encode() if isinstance(text, str) else text)
        return read_lexicon(path)

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
    assert "A" in read(b";;; D\xc9J\xc0\nA AH # \xc0\n")  # comments in Latin-1, as CMU's own


def test_what_is_written_exactly_is_read_exactly(tmp_path):
    """Nothing that CMU's format has a meaning for is taken from units in other scripts."""
    words = ("ıI", "straße", "A(2)", "C#", "#D", ";;;", "мир", "S0", "ทํา")
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
        (b"A EY\nCAF\xc9 K AH F EY\n", r"words\.dict:2: byte 0xc9 is not UTF-8; convert the file"),
        ("A EY\nB b sil\n", r"words\.dict:2: word 'B' has the phone SIL, which is silence"),
    ],
)
def test_malformed(read, text, message):
    with pytest.raises(UserError, match=message):
        read(text)


PHONES = ("AA", "B", "EY", "K", "R", "T")
LEXICA = st.dictionaries(
    st.text("ABCDÉ'", min_size=1, max_size=5),
    st.lists(st.lists(st.sampled_from(PHONES), min_size=1, max_size=4), min_size=1, max_size=3),
    min_size=12,
    max_size=20,
)


def numbered(word: str, place: int, form: str) -> str:
    return word + (form.format(place + 1, "abc"[place]) if place else "")


DIALECTS = {  # of a word, its phones, the place of the pronunciation, a random number
    "CMU": lambda w, p, n, x: f"{numbered(w.lower(), n, '({0})')}  {' '.join(p)} # comment",
    "letters": lambda w, p, n, x: f"{numbered(w, n, '({1})')} {' '.join(p)}",
    "underlines": lambda w, p, n, x: f"{numbered(w, n, '_{0}')} {' '.join(p)}",
    "LibriSpeech": lambda w, p, n, x: f"{w}\t{' '.join(p)}",
    "lexiconp": lambda w, p, n, x: f"{w} {x / 9:.3g} {' '.join(p)}",
    "silprob": lambda w, p, n, x: f"{w} {x:.2f} 0.5 1.5e-2 .7 {' '.join(p)}",
    "MFA": lambda w, p, n, x: f"{w.lower()}\t1\t{x}\t0.0\t1\t{' '.join(p)}",
    "MFA in part": lambda w, p, n, x: f"{w}\t{'' if w == 'A' else f'{x}.0'} {' '.join(p)}",
    "Phonetisaurus": lambda w, p, n, x: f"{w}\t{x}.2000\t{' '.join(p)}",
    "G2P": lambda w, p, n, x: f"{w}\t{n + 1}/3\t0.{x}\t{' '.join(p)}",
    "counts": lambda w, p, n, x: f"{w} {x} {' '.join(p)}",
    "numbers of variants behind": lambda w, p, n, x: f"{w} {' '.join(p)} {n + 1}",
    "logarithms": lambda w, p, n, x: f"{w} \u2212{x}.5 {' '.join(p)}",
    "hexadecimal": lambda w, p, n, x: f"{w} 0x{10 + x:x} {' '.join(p)}",
    "weights behind": lambda w, p, n, x: f"{w} {' '.join(p)} -{x},5",
    "HTK": lambda w, p, n, x: f"{w} [{w}] {' '.join(p)} sp" if x else f"{w} {' '.join(p)} sp",
    "decomposed": lambda w, p, n, x: unicodedata.normalize("NFD", f"{w}\u00ad {' '.join(p)}"),
    "apostrophes": lambda w, p, n, x: f"\u200e{w}\u00a0{' '.join(p)}".replace("'", "\u2019"),
}


@pytest.mark.parametrize("dialect", DIALECTS)
@settings(max_examples=5, phases=[Phase.generate])
@given(lexicon=LEXICA, numbers=st.lists(st.integers(0, 9), min_size=60, max_size=60))
def test_every_dialect_is_the_same_lexicon(tmp_path_factory, dialect, lexicon, numbers):
    rows = [(w, p, n) for w, prons in lexicon.items() for n, p in enumerate(prons)]
    path = tmp_path_factory.mktemp("lexicon") / "words.dict"
    lines = [DIALECTS[dialect](*row, x) for row, x in zip(rows, numbers, strict=False)]
    path.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
    expected = {w: tuple(dict.fromkeys(map(tuple, prons))) for w, prons in lexicon.items()}
    assert read_lexicon(path).entries == expected


WORDS = "abcdefghijklmno"


@pytest.mark.parametrize(
    ("text", "phones"),
    [
        ("deux d 2\nneuf n 9 f\nun 9~\neux 2\n", {"2", "9", "9~"}),  # SAMPA
        ("".join(f"{w} m a {n % 4 + 1}\n" for n, w in enumerate(WORDS)), {"1", "2", "3", "4"}),
        ("".join(f"{w} m a 55 m a 21 m\n" for w in WORDS), {"55", "21"}),  # tones
        (
            "".join(f"{w} 0.5 {'2' if n == 4 else 'm'} @\n" for n, w in enumerate(WORDS[:9])),
            {"2", "@"},
        ),
    ],
)
def test_numbers_that_are_phones(read, text, phones):
    assert phones < set(read(text).phones())


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "read 1 r iy d\nread 2 r eh d\na ey\n",
            ":1: word 'read' has the number 1 among its phones",
        ),
        ("a ey\nroute66 r uw t 66\n", ":2: word 'route66' has the number 66 among its phones"),
        ("a ey 0.5 b 0.2 k\n", ":1: word 'a' has the number 0.5 among its phones"),
        ("a 0.5\nb 0.5 b\n", ":1: word 'a' has the number 0.5 among its phones"),
        ("".join(f"{w} r iy d\n" for w in WORDS) + "a 3 ey\n", ":16: word 'a' has the number 3"),
        ("".join(f"{w} r iy 1 d\n" for w in WORDS), ":1: word 'a' has the number 1"),  # stress
        ("a . ey\nb b . iy\n", r":1: word 'a' has \. among its phones"),
        ("a -> ey\n", ":1: word 'a' has -> among its phones"),
        (
            "".join(f"w{n} b{n}aa\n" for n in range(30)),
            ":1: 'b0aa', the first phone of word 'w0', is in no other line",
        ),
        ("a ey [noise]\n", r":1: word 'a' has \[noise\] among its phones"),
        ("a /ey/\nb /b iy/\n", ":1: pronunciations are between / and /"),
        ("".join(f"{w}a, b iy\n" for w in WORDS), ":1: word 'aa,' has , in it, as most words have"),
        ("".join(f"{w}\tb iy\n" for w in WORDS) + "new york\tn uw\n", ":16: 'new york' is 2 words"),
        ("a ey\nfar\u200bfrom f\n", r":2: U\+200B inside a word"),
        ("a ey\ngard\ufffdn g\n", r":2: U\+FFFD inside a word"),
    ],
)
def test_fields_that_are_no_phones_are_named(read, text, message):
    with pytest.raises(UserError, match=rf"words\.dict{message}"):
        read(text)


def test_real_dictionaries(shared_data):
    hello = ("HH", "AH", "L", "OW"), ("HH", "EH", "L", "OW")
    assert len(cmu_lexicon().entries) > 100_000 and cmu_lexicon()["HELLO"] == hello
    an4 = read_lexicon(shared_data / "an4/etc/an4.dic")
    assert len(an4.phones()) <= 40 and "RUBOUT" in an4
