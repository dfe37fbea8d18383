"""Normalise transcripts: written text → words to spell. Unicode is normalised nowhere else.

docs/lexicon-and-lm.md gives the rules and their reasons.
"""

import unicodedata

# Silent parts of a word's spelling: stop, hyphens, middle dots, geresh, joiners. At the edges of a
# word they are punctuation.
INNER = ".-\u2010\u00b7\u2027\u05f3\u05f4\u200c\u200d"
APOSTROPHE = "'"  # kept everywhere
_CURLY = "\u2019\u2018\u02bc\u02bb"  # apostrophes within a word, quotation marks around it
# Punctuation that is spoken (5%), or that marks other things than words (<unk>, [noise]).
_KEPT = frozenset("#%&*@/\\_()[]{}<>")
# Accents without a letter, which are typed for an apostrophe or a quotation mark.
_LONE_ACCENTS = {"\u00b4": "\u2019", "\u1ffd": "\u2019", "`": "\u2018", "\u1fef": "\u2018"}
# Letters and marks of Unicode without a sound: fillers, joiners, variants, tatweel.
_SHAPELESS = frozenset("\u0640\u034f\u115f\u1160\u17b4\u17b5\u3164\uffa0") | frozenset(
    map(chr, (*range(0x180B, 0x1810), *range(0xFE00, 0xFE10), *range(0xE0100, 0xE01F0)))
)
_APOSTROPHES = str.maketrans(dict.fromkeys(_CURLY, APOSTROPHE))


class _Replacements(dict):
    """A table for `str.translate`, which is computed character by character when needed."""

    def __missing__(self, code: int) -> str:
        self[code] = _replacement(chr(code))
        return self[code]


def _replacement(character: str) -> str:
    if character in _LONE_ACCENTS:
        return _LONE_ACCENTS[character]
    if character in INNER:
        return character
    plain = unicodedata.normalize("NFKC", character)  # of full-width forms, for example
    # A full-width stop is excluded: it ends a sentence without a space after it.
    if len(plain) == 1 and plain in INNER.replace(".", "") + _CURLY + APOSTROPHE:
        return plain
    if plain in _KEPT:
        return plain
    if character in _SHAPELESS:
        return ""
    category = unicodedata.category(character)
    if category == "Cf":
        return " " if character == "\u200b" else ""  # zero-width space: separates words
    return " " if category[0] in "PZ" else character


_REPLACEMENTS = _Replacements()


def normalise_spelled(text: str, case: str = "upper") -> str:
    """Make upper-case words with one space between them; applied twice, it changes nothing more.

    Args:
        case: one of `settings.CASES`. upper: Unicode's upper case. turkic: the same, but İ for i,
            and I for ı (Turkish, Azerbaijani, Tatar and others in Latin script).
    """
    text = unicodedata.normalize("NFKC", text.translate(_REPLACEMENTS))
    if case == "turkic":
        text = text.replace("i\u0307", "i").replace("i", "İ")
    text = unicodedata.normalize("NFKC", text.upper()).translate(_REPLACEMENTS)
    words = (word.strip(INNER + _CURLY).translate(_APOSTROPHES) for word in text.split())
    return " ".join(word for word in words if word.strip(INNER + APOSTROPHE))
