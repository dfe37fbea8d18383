"""Characters of words and phones: one form for what looks the same, nothing that is not seen.

Transcripts, lexica, language models and their text are all cleaned here, so their words match.
"""

import re
import unicodedata

APOSTROPHE = "'"
CURLY = "\u2019\u2018\u02bc\u02bb"  # apostrophes within a word, quotation marks around it
# Accents without a letter, which are typed for an apostrophe or a quotation mark.
LONE_ACCENTS = {"\u00b4": "\u2019", "\u1ffd": "\u2019", "`": "\u2018", "\u1fef": "\u2018"}
_APOSTROPHES = str.maketrans(dict.fromkeys((*CURLY, *LONE_ACCENTS, "\uff07"), APOSTROPHE))

ZERO_WIDTH_SPACE = "\u200b"
JOINERS = "\u200c\u200d"  # zero-width, in words of Persian and Hindi and in emoji
# Letters and marks of Unicode without a shape: tatweel, fillers, variation selectors.
_SHAPELESS = frozenset("\u0640\u034f\u115f\u1160\u17b4\u17b5\u3164\uffa0") | frozenset(
    map(chr, (*range(0x180B, 0x1810), *range(0xFE00, 0xFE10), *range(0xE0100, 0xE01F0)))
)
# Scripts in which a joiner between two letters changes them: Arabic, Indic and their neighbours.
_JOINED = "\u0590-\u109f\u1780-\u18af\u1900-\u1cff\ua800-\uabff\ufb50-\ufdff\ufe70-\ufefc"
_JOINED += "\U00010a00-\U00011fff"
_IDLE_JOINER = re.compile(
    f"(?<![{_JOINED}])[{JOINERS}]+|[{JOINERS}]+(?![{_JOINED}{JOINERS}])|(?<=[{JOINERS}])[{JOINERS}]"
)
# Full-width and half-width letters, ligatures, presentation forms of Hebrew and Arabic; without the
# full-width stop, which ends a sentence and has no space behind it.
_COMPATIBLE = re.compile("[\ufb00-\ufdf9\ufe70-\ufefc\uff01-\uff0d\uff0f-\uffee]+")


class _Visible(dict[int, str]):
    """A table for `str.translate`, which is computed character by character when needed."""

    def __missing__(self, code: int) -> str:
        self[code] = _visible(chr(code))
        return self[code]


def _visible(character: str) -> str:
    category = unicodedata.category(character)
    if character == ZERO_WIDTH_SPACE or category[0] == "Z":
        return " "
    hidden = character in _SHAPELESS or (category == "Cf" and character not in JOINERS)
    return "" if hidden else character


_TABLE = _Visible()


def visible(text: str) -> str:
    """Text in Unicode's NFC without characters that nobody sees; applied twice, the same.

    A zero-width space and every other space of Unicode become a space. Soft hyphens, byte order
    marks, direction marks and variation selectors are removed, joiners where they join nothing.
    Letters of full or half width and ligatures become ordinary letters.
    """
    if text.isascii():
        return text
    text = text.translate(_TABLE)
    text = _COMPATIBLE.sub(_compatible, text)
    text = _IDLE_JOINER.sub("", text)
    return unicodedata.normalize("NFC", text)


def _compatible(match: re.Match[str]) -> str:
    # Some marks of Arabic would get a space before them.
    return unicodedata.normalize("NFKC", match[0]).replace(" ", "").translate(_TABLE)


def straight_apostrophes(text: str) -> str:
    """Text in which every apostrophe is U+0027."""
    return text.translate(_APOSTROPHES)
