"""Graphemes as units of words, by Unicode's properties of characters alone.

A cluster is the smallest part that a word is cut into: a letter with the marks that change it, and
with the silent characters before it or before such a mark. It has one grapheme; a Hangul syllable
has its two or three letters.

A letter may be another unit at the beginning of a word, at its end, or alone, as in Kaldi's
position-dependent phones: E sounds different in TEN, in ONE, and spelled alone.
"""

import unicodedata
from collections import Counter
from collections.abc import Collection, Iterable
from functools import lru_cache

from acoustic_kd.language.normalise import INNER
from acoustic_kd.system.characters import APOSTROPHE
from acoustic_kd.system.errors import UserError

SPELLING_FORMAT = 3  # raised when words get other spellings
MIN_COUNT = 20  # in train; the base letter stands for a rarer letter
RAREST_ONE_IN = 10_000  # letters of train; a letter in a rarer position is no unit
MAX_UNITS = 300  # tables of all triphones grow with its cube
BEGIN, END, ALONE = "_B", "_E", "_S"  # endings of positional units
_SILENT = frozenset(APOSTROPHE + INNER)
# Canonical combining classes of marks that change their letter: overlays, nuktas, voicing marks,
# viramas; and from 200 on accents. The other marks are vowels and tones: units like letters.
_CHANGING = frozenset((1, 7, 8, 9))


def _is_letter(character: str) -> bool:
    return unicodedata.category(character)[0] in "LMN"


def _changes_letter(character: str) -> bool:
    place = unicodedata.combining(character)
    return place in _CHANGING or place >= 200


def clusters(word: str) -> list[str]:
    """Cut a word into clusters; joined, they are the word.

    Returns:
        No clusters if the pronunciation is unknown: the word has no letter, begins with a mark that
        changes a letter, or has a character other than letters, marks, digits and the silent ones.
    """
    parts: list[str] = []
    silent = ""
    for character in word:
        if character in _SILENT:
            silent += character
        elif not _is_letter(character) or (not parts and _changes_letter(character)):
            return []
        elif _changes_letter(character):
            parts[-1] += silent + character
            silent = ""
        else:
            parts.append(silent + character)
            silent = ""
    if parts and silent:
        parts[-1] += silent
    return parts


@lru_cache(maxsize=100_000)
def graphemes(cluster: str) -> tuple[str, ...]:
    """The graphemes of a cluster."""
    letter = "".join(character for character in cluster if character not in _SILENT)
    if "가" <= letter <= "힣":
        return tuple(unicodedata.normalize("NFD", letter))
    return (letter,)


class Alphabet:
    """The units that have HMM states, and the spelling of words in them.

    The base letter (E of É) stands for a letter with fewer than `MIN_COUNT` occurrences in train,
    also none, if the base letter is more frequent. Words with letters that then remain unknown have
    no spelling.

    Positional units: `E_B` begins a word, `E_E` ends a word, `E_S` is a word; `E` stands for all
    other positions. A positional unit has at least `MIN_COUNT` occurrences, and at least one in
    `RAREST_ONE_IN` letters; and as many occurrences remain for `E`. Of more than `MAX_UNITS` units
    the rarest positional ones are dropped.

    Args:
        words: the words of the train transcripts, with their counts.
    """

    def __init__(self, words: Counter[str], positions: bool = True) -> None:
        self.counts: Counter[str] = Counter()
        for word, count in words.items():
            for cluster in clusters(word):
                for grapheme in graphemes(cluster):
                    self.counts[grapheme] += count
        letters = {letter for letter in self.counts if self._substitute(letter) == letter}
        if not letters:
            raise UserError("train: no word of the transcripts has letters; check the transcripts")
        if len(letters) > MAX_UNITS:
            raise UserError(
                f"train: {len(letters)} different letters, but lang.units makes each a unit, at "
                f"most {MAX_UNITS}; give a pronouncing lexicon (lang.units=phones), or transcripts "
                "in a script with fewer letters"
            )
        self.letters, self.positional = letters, set[str]()
        if positions:
            self.positional = self._positional_units(words)
        self.units = self.letters | self.positional

    @classmethod
    def of(cls, units: Collection[str]) -> "Alphabet":
        """The alphabet of trained models, which have these units.

        A letter of which they have one positional unit alone has no spelling in other positions.
        """
        alphabet = cls.__new__(cls)
        alphabet.positional = {unit for unit in units if unit.endswith((BEGIN, END, ALONE))}
        alphabet.letters = {unit.partition("_")[0] for unit in units}
        alphabet.counts = Counter(dict.fromkeys(alphabet.letters, MIN_COUNT))
        alphabet.units = set(units)
        return alphabet

    def _substitute(self, letter: str) -> str:
        """The base letter of a rare letter; any other letter itself."""
        base = unicodedata.normalize("NFD", letter)[:1]
        seen = self.counts[letter]
        return base if seen < MIN_COUNT and self.counts[base] > seen else letter

    def _positional_units(self, words: Counter[str]) -> set[str]:
        """The letters with marks of those positions in which they are frequent enough."""
        counts: dict[str, Counter[str]] = {letter: Counter() for letter in self.letters}
        for word, count in words.items():
            letters = self._letters(word)
            for letter, mark in zip(letters, position_marks(len(letters)), strict=True):
                counts[letter][mark] += count
        frequent: Counter[str] = Counter()
        min_count = max(MIN_COUNT, self.counts.total() // RAREST_ONE_IN)
        for letter, by_mark in counts.items():
            rest = by_mark.pop("", 0)
            for mark, count in sorted(by_mark.items(), key=lambda item: (item[1], item[0])):
                if count < min_count or rest < min_count:
                    rest += count
                else:
                    frequent[letter + mark] = count
        ranked = sorted(frequent, key=lambda unit: (-frequent[unit], unit))
        return set(ranked[: MAX_UNITS - len(self.letters)])

    def _letters(self, text: str) -> list[str]:
        return [self._substitute(g) for cluster in clusters(text) for g in graphemes(cluster)]

    def spell(self, text: str, begins: bool = True, ends: bool = True) -> tuple[str, ...] | None:
        """The units of a word, or of some adjacent clusters of it; None without a spelling.

        Args:
            begins, ends: whether a word begins, and ends, with `text`.
        """
        letters = self._letters(text)
        if not letters or not self.letters.issuperset(letters):
            return None
        marks = position_marks(len(letters), begins, ends)
        units = tuple(
            letter + mark if letter + mark in self.positional else letter
            for letter, mark in zip(letters, marks, strict=True)
        )
        return units if self.units.issuperset(units) else None

    def spell_all(self, words: Iterable[str]) -> dict[str, tuple[tuple[str, ...], ...]]:
        """Word → its only pronunciation, in the order of `words`, without words that have none."""
        spellings = ((word, self.spell(word)) for word in words)
        return {word: (spelling,) for word, spelling in spellings if spelling is not None}


def position_marks(count: int, begins: bool = True, ends: bool = True) -> list[str]:
    """The marks of `count` letters in turn: BEGIN, END, ALONE, or none."""
    if count == 1 and begins and ends:
        return [ALONE]
    marks = [""] * count
    if count and begins:
        marks[0] = BEGIN
    if count and ends:
        marks[-1] = END
    return marks
