"""Transcripts as written → the words that are spelled: the one place where Unicode is normalised.

docs/lexicon-and-lm.md says what is done and why.
"""

import unicodedata

# Said by nothing, but part of how a word is written. Apostrophes stay wherever they are.
# Within a word; at its edges they are punctuation: stop, hyphens, middle dots, geresh, joiners.
INNER = ".-\u2010\u00b7\u2027\u05f3\u05f4\u200c\u200d"
APOSTROPHE = "'"
_CURLY = "\u2019\u2018\u02bc\u02bb"  # within a word apostrophes, around it quotation marks
# Punctuation that stands for something said, or marks what is no word: <unk>, [noise], 5%.
_KEPT = frozenset("#%&*@/\\_()[]{}<>")
# Typed for an apostrophe or a quotation mark; Unicode takes them for accents without a letter.
_AS_TYPED = {"\u00b4": "\u2019", "\u1ffd": "\u2019", "`": "\u2018", "\u1fef": "\u2018"}
# No sound, though Unicode calls them letters or marks: fillers, joiners, variants, tatweel.
_SHAPELESS = frozenset("\u0640\u034f\u115f\u1160\u17b4\u17b5\u3164\uffa0") | frozenset(
    map(chr, (*range(0x180B, 0x1810), *range(0xFE00, 0xFE10), *range(0xE0100, 0xE01F0)))
)
_APOSTROPHES = str.maketrans(dict.fromkeys(_CURLY, APOSTROPHE))


class _Places(dict):
    """For `str.translate`: what becomes of a character, found once for each."""

    def __missing__(self, code: int) -> str:
        self[code] = found = _place(chr(code))
        return found


def _place(character: str) -> str:
    if character in _AS_TYPED:
        return _AS_TYPED[character]
    if character in INNER:
        return character
    plain = unicodedata.normalize("NFKC", character)  # of full-width ones and others
    # But a full-width stop ends sentences, with no space after it.
    if len(plain) == 1 and plain in INNER.replace(".", "") + _CURLY + APOSTROPHE:
        return plain
    if plain in _KEPT:
        return plain
    if character in _SHAPELESS:
        return ""
    category = unicodedata.category(character)
    if category == "Cf":
        return (
            " " if character == "\u200b" else ""
        )  # some scripts part words by a space of no width
    return " " if category[0] in "PZ" else character


_PLACES = _Places()


def normalise_spelled(text: str, case: str = "upper") -> str:
    """Words with one space between them, as they are spelled; the same again changes nothing.

    Args:
        case: of `config.CASES`: upper, as Unicode has it; turkic: likewise, but i is the small
            letter of İ, and ı that of I (Turkish, Azerbaijani, Tatar and others in Latin script).
    """
    text = unicodedata.normalize("NFKC", text.translate(_PLACES))
    if case == "turkic":
        text = text.replace("i\u0307", "i").replace("i", "İ")
    text = unicodedata.normalize("NFKC", text.upper()).translate(_PLACES)
    words = (word.strip(INNER + _CURLY).translate(_APOSTROPHES) for word in text.split())
    return " ".join(word for word in words if word.strip(INNER + APOSTROPHE))
