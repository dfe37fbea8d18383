"""What words are spelled in."""

from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from acoustic_kd.errors import UserError
from acoustic_kd.units.graphemes import LEAST_SEEN, MOST, Alphabet, clusters, graphemes
from acoustic_kd.units.text import normalise_spelled


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
        ("世界", ["世", "界"]),
        ("안녕", ["안", "녕"]),
        ("4TH", ["4", "T", "H"]),
    ],
)
def test_where_words_are_cut(word, parts):
    assert clusters(word) == parts and "".join(parts) == word


@pytest.mark.parametrize(
    "word", ["", "'", "5%", "<UNK>", "[NOISE]", "A_B", "☃", "A\x00", "A\ue000"]
)
def test_what_nobody_can_say(word):
    assert clusters(word) == []


def test_what_is_silent_is_not_said():
    assert [graphemes(part) for part in clusters("O'-B'")] == [("O",), ("B",)]
    assert graphemes("한") == ("ᄒ", "ᅡ", "ᆫ") and graphemes("가") == ("ᄀ", "ᅡ")


@settings(max_examples=300, deadline=None)
@given(st.text(max_size=30))
def test_parts_make_the_word_and_have_sounds(text):
    for word in normalise_spelled(text).split():
        parts = clusters(word)
        assert not parts or "".join(parts) == word
        for part in parts:
            assert graphemes(part) and all(
                sound and not sound.isspace() for sound in graphemes(part)
            )


# --- alphabets ----------------------------------------------------------------------------------


def test_rare_letters_are_said_as_those_they_derive_from():
    often = {"ECHO": 10 * LEAST_SEEN, "ÖL": LEAST_SEEN, "CAFÉ": 1, "ZØ": 1}
    alphabet = Alphabet(Counter(often))
    assert alphabet.spell("CAFÉ") == ("C", "A", "F", "E")
    assert alphabet.spell("ÖL") == ("Ö", "L")  # frequent enough
    assert alphabet.spell("ZØ") == ("Z", "Ø")  # rare, and derives from none
    assert alphabet.spell("ECHÔ") == ("E", "C", "H", "O")  # not in train
    assert alphabet.spell("МИР") is None and alphabet.spell("ŁE") is None
    assert alphabet.own == set("ECHOÖLAFZØ")
    assert alphabet.spelled(["МИР", "OLÉ", "ECHO", "5%"]) == {
        "OLÉ": (("O", "L", "E"),),
        "ECHO": (("E", "C", "H", "O"),),
    }


def test_an_alphabet_needs_letters_but_not_too_many():
    with pytest.raises(UserError, match="no word of the transcripts has letters"):
        Alphabet(Counter({"<UNK>": 3}))
    han = "".join(map(chr, range(0x4E00, 0x4E00 + MOST + 1)))
    with pytest.raises(UserError, match=f"{MOST + 1} different letters, .* at most {MOST}"):
        Alphabet(Counter({han: 1}))
    assert len(Alphabet(Counter({han[1:]: 1})).own) == MOST
    hangul = "".join(map(chr, range(0xAC00, 0xD7A4)))  # 11,172 syllables of 67 letters
    assert len(Alphabet(Counter({hangul: 1})).own) == 67
