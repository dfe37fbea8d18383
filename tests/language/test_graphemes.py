"""What words are spelled in."""

from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from acoustic_kd.language.graphemes import (
    MAX_UNITS,
    MIN_COUNT,
    RAREST_ONE_IN,
    Alphabet,
    clusters,
    graphemes,
)
from acoustic_kd.language.normalise import normalise_spelled
from acoustic_kd.system.errors import UserError


@pytest.mark.parametrize(
    ("word", "parts"),
    [
        ("DON'T", ["D", "O", "N", "'T"]),
        ("'TIS", ["'T", "I", "S"]),
        ("DOGS'", ["D", "O", "G", "S'"]),
        ("U.S", ["U", ".S"]),
        ("НА́Ш", ["Н", "А́", "Ш"]),  # an accent that no letter is composed with
        ("हिन्दी", ["ह", "ि", "न्", "द", "ी"]),  # vowels sound, the virama takes one away
        ("ครับ", ["ค", "ร", "ั", "บ"]),
        ("ก่", ["ก", "่"]),  # a tone
        ("שָׁלוֹם", ["ש", "ָ", "ׁ", "ל", "ו", "ֹ", "ם"]),
        ("می\u200cخواهم", ["م", "ی", "\u200cخ", "و", "ا", "ه", "م"]),
        ("র\u200d\u09cdয", ["র\u200d\u09cd", "য"]),  # a joiner before the mark
        ("世界", ["世", "界"]),
        ("안녕", ["안", "녕"]),
        ("4TH", ["4", "T", "H"]),
    ],
)
def test_where_words_are_cut(word, parts):
    assert clusters(word) == parts and "".join(parts) == word


@pytest.mark.parametrize(
    "word", ["", "'", "5%", "<UNK>", "[NOISE]", "A_B", "☃", "A\x00", "A\ue000", "\u0301A"]
)
def test_words_without_a_pronunciation(word):
    assert clusters(word) == []


def test_silent_characters_are_no_graphemes():
    assert [graphemes(part) for part in clusters("O'-B'")] == [("O",), ("B",)]
    assert graphemes("한") == ("ᄒ", "ᅡ", "ᆫ") and graphemes("가") == ("ᄀ", "ᅡ")


@settings(max_examples=150)
@given(st.text(max_size=30))
def test_parts_make_the_word_and_have_sounds(text):
    for word in normalise_spelled(text).split():
        parts = clusters(word)
        assert not parts or "".join(parts) == word
        for sounds in map(graphemes, parts):
            assert sounds and all(sound and not sound.isspace() for sound in sounds)


# --- alphabets ----------------------------------------------------------------------------------


def test_base_letters_stand_for_rare_letters():
    often = {"ECHO": 10 * MIN_COUNT, "ÖL": MIN_COUNT, "CAFÉ": 1, "ZØ": 1}
    alphabet = Alphabet(Counter(often), positions=False)
    assert alphabet.spell("CAFÉ") == ("C", "A", "F", "E")
    assert alphabet.spell("ÖL") == ("Ö", "L")  # frequent enough
    assert alphabet.spell("ZØ") == ("Z", "Ø")  # rare, and derives from none
    assert alphabet.spell("ECHÔ") == ("E", "C", "H", "O")  # not in train
    assert alphabet.spell("МИР") is None and alphabet.spell("ŁE") is None
    assert alphabet.units == set("ECHOÖLAFZØ")
    assert alphabet.spell_all(["МИР", "OLÉ", "5%"]) == {"OLÉ": (("O", "L", "E"),)}


def test_an_alphabet_needs_letters_but_not_too_many():
    with pytest.raises(UserError, match="no word of the transcripts has letters"):
        Alphabet(Counter({"<UNK>": 3}))
    han = "".join(map(chr, range(0x4E00, 0x4E00 + MAX_UNITS + 1)))
    with pytest.raises(UserError, match=f"{MAX_UNITS + 1} different letters.*most {MAX_UNITS}"):
        Alphabet(Counter({han: 1}))
    assert len(Alphabet(Counter({han[1:]: 1})).units) == MAX_UNITS
    hangul = "".join(map(chr, range(0xAC00, 0xD7A4)))  # 11,172 syllables of 67 letters
    assert len(Alphabet(Counter({hangul: 1})).units) == 67


def test_positional_units():
    often, rare = 2 * MIN_COUNT, MIN_COUNT - 1
    alphabet = Alphabet(Counter({"TEN": often, "NINE": often, "E": MIN_COUNT, "NET": rare}))
    assert alphabet.spell("TEN") == ("T", "E", "N_E")  # T is too rare anywhere but here
    assert alphabet.spell("NINE") == ("N_B", "I", "N", "E_E")
    assert alphabet.spell("E") == ("E_S",) and alphabet.spell("ET") == ("E", "T")
    # A letter of which nothing would remain is not set apart where it is rarest.
    assert Alphabet(Counter({"AB": often, "A": often + 1})).units == {"A", "A_S", "B"}
    # Nor is one that is said as another; the marks follow the letter that it is said as.
    accents = Alphabet(Counter({"ETE": often, "ÉTÉ": 1}))
    assert accents.spell("ÉTÉ") == accents.spell("ETE") == ("E", "T", "E_E")


def test_positions_are_rare_where_letters_are_many():
    words = Counter({"TENT": MIN_COUNT, "O": 2 * MIN_COUNT * RAREST_ONE_IN})
    assert Alphabet(words).units == {"T", "E", "N", "O"}


def test_an_alphabet_of_the_units_of_trained_models():
    words = Counter({"TEN": 2 * MIN_COUNT, "NINE": 2 * MIN_COUNT, "NÉE": 2 * MIN_COUNT})
    first = Alphabet(words)
    again = Alphabet.of(first.units)
    assert again.units == first.units and again.spell_all(words) == first.spell_all(words)
    assert again.spell("ÑE") == ("N_B", "E_E") and again.spell("BEE") is None
    begins = Alphabet.of({"J_B", "A", "A_E"})
    assert begins.spell("JA") == ("J_B", "A_E") and begins.spell("AJA") is None


def test_parts_of_words_are_spelled_by_their_position():
    alphabet = Alphabet(Counter({"NONON": MIN_COUNT, "NO": MIN_COUNT, "N": MIN_COUNT}))
    assert alphabet.units == {"N", "N_B", "N_E", "N_S", "O", "O_E"}
    assert alphabet.spell("NO", ends=False) == ("N_B", "O")
    assert alphabet.spell("NO", begins=False) == ("N", "O_E")
    assert alphabet.spell("N", begins=False, ends=False) == ("N",)
    assert alphabet.spell("N", ends=False) == ("N_B",)
    assert alphabet.spell("N", begins=False) == ("N_E",)


def test_only_the_most_frequent_positional_units_are_kept_of_too_many():
    letters = [chr(0x4E00 + n) for n in range(MAX_UNITS - 3)]
    words = Counter({letter + letter + letter: MIN_COUNT for letter in letters})
    words[letters[5] * 3] += 7
    alphabet = Alphabet(words)
    assert len(alphabet.units) == MAX_UNITS and alphabet.letters == set(letters)
    assert {letters[5] + "_B", letters[5] + "_E"} < alphabet.positional


LETTERS = st.text("ABÉ한글й", min_size=1, max_size=5)


@settings(max_examples=200)
@given(st.dictionaries(LETTERS, st.integers(1, 60), min_size=1, max_size=12), LETTERS)
def test_every_unit_is_frequent_or_the_only_one_of_its_letter(words, other):
    words = Counter({word.upper(): count for word, count in words.items()})
    alphabet, plain = Alphabet(words), Alphabet(words, positions=False)
    seen = Counter()
    for word, count in words.items():
        for unit in alphabet.spell(word):
            seen[unit] += count
    assert set(seen) == alphabet.units and not plain.positional
    for unit, count in seen.items():
        letter = unit.partition("_")[0]
        assert count >= MIN_COUNT or not any(u.startswith(f"{letter}_") for u in alphabet.units)
    for word in (*words, other.upper()):  # what has a spelling has it either way: the same letters
        said, bare = alphabet.spell(word), plain.spell(word)
        assert (said is None) == (bare is None)
        assert said is None or tuple(unit.partition("_")[0] for unit in said) == bare
