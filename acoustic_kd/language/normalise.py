"""Normalise transcripts whose words are spelled: written text → words without punctuation.

docs/lexicon-and-lm.md gives the rules and their reasons.
"""

import unicodedata

from acoustic_kd.system.characters import (
    APOSTROPHE,
    CURLY,
    JOINERS,
    LONE_ACCENTS,
    straight_apostrophes,
    visible,
)

# Silent parts of a word's spelling: stop, hyphens, middle dots, geresh, joiners. At the edges of a
# word they are punctuation.
INNER = ".-\u2010\u00b7\u2027\u05f3\u05f4" + JOINERS
# Punctuation that is spoken (5%), or that marks other things than words (<unk>, [noise]).
_KEPT = frozenset("#%&*@/\\_()[]{}<>")


class _Replacements(dict):
    """A table for `str.translate`, which is computed character by character when needed."""

    def __missing__(self, code: int) -> str:
        self[code] = _replacement(chr(code))
        return self[code]


def _replacement(character: str) -> str:
    if character in LONE_ACCENTS:
        return LONE_ACCENTS[character]
    if character in INNER:
        return character
    plain = unicodedata.normalize("NFKC", character)  # of full-width forms, for example
    # A full-width stop is excluded: it ends a sentence without a space after it.
    if len(plain) == 1 and plain in INNER.replace(".", "") + CURLY + APOSTROPHE:
        return plain
    if plain in _KEPT:
        return plain
    return " " if unicodedata.category(character)[0] in "PZ" else character


_REPLACEMENTS = _Replacements()


def normalise_spelled(text: str, case: str = "upper") -> str:
    """Make upper-case words with one space between them; applied twice, it changes nothing more.

    Args:
        case: one of `settings.CASES`. upper: Unicode's upper case. turkic: the same, but İ for i,
            and I for ı (Turkish, Azerbaijani, Tatar and others in Latin script).
    """
    text = unicodedata.normalize("NFKC", visible(text).translate(_REPLACEMENTS))
    if case == "turkic":
        text = text.replace("i\u0307", "i").replace("i", "İ")
    text = unicodedata.normalize("NFKC", visible(text.upper())).translate(_REPLACEMENTS)
    words = (straight_apostrophes(word.strip(INNER + CURLY)) for word in text.split())
    return " ".join(word for word in words if word.strip(INNER + APOSTROPHE))
