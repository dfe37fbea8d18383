"""Which phones each letter stands for."""

from cmu import cmu_lexicon
from hypothesis import given, settings
from hypothesis import strategies as st

from acoustic_kd.language.g2p_alignment import Unit, align

WORDS = ["PHONE", "GRAPH", "FAX", "TAX", "TONE", "BONE", "BOX", "FOX", "TOP", "NAP", "HAT", "HOP"]


def cut(*texts: str) -> tuple[Unit, ...]:
    pairs = [text.split(":") for text in texts]
    return tuple(Unit(letters, tuple(phones.split())) for letters, phones in pairs)


def test_letters_find_their_phones():
    whole = cmu_lexicon()
    words = sorted({*sorted(whole.entries)[::180], *WORDS})
    cuts = dict(zip(words, align([(word, whole[word][0]) for word in words]), strict=True))
    assert cuts["HAT"] == cut("H:HH", "A:AE", "T:T")
    assert cuts["FAX"] == cut("F:F", "A:AE", "X:K S")
    assert cuts["GRAPH"] == cut("G:G", "R:R", "A:AE", "PH:F")
    assert cuts["PHONE"] == cut("PH:F", "O:OW", "NE:N")


def test_no_cut_fits_an_abbreviation():
    rows = [("WW", ["D", "AH", "B", "AH", "L"]), ("E", ["IY"]), ("", [])]
    assert align(rows) == [None, cut("E:IY"), None]
    assert align([]) == []


pronunciations = st.lists(
    st.tuples(
        st.text("abcdeé中", min_size=1, max_size=7),
        st.lists(st.sampled_from(["P", "T", "AA", "x:"]), max_size=9),
    ),
    max_size=12,
)


@settings(max_examples=50)
@given(pronunciations)
def test_units_spell_the_word_and_its_phones(rows):
    cuts = align(rows, iterations=2)
    assert cuts == align(rows, iterations=2)
    for (word, phones), units in zip(rows, cuts, strict=True):
        if len(phones) > 2 * len(word):
            assert units is None
        else:
            assert "".join(unit.letters for unit in units) == word
            assert [phone for unit in units for phone in unit.phones] == phones


def test_the_order_of_words_changes_nothing():
    rows = [(word, cmu_lexicon()[word][0]) for word in WORDS]
    assert align(rows[::-1]) == align(rows)[::-1]


def test_long_words_have_no_probability_of_zero():
    units, _ = align([("AB" * 40, ["AH"] * 80), ("AB", ["B"])])
    assert units is not None
