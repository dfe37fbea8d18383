"""Graphemes: what a word is spelled in, with Unicode's knowledge of scripts and no other.

A cluster is the least part of a word that is not cut: a letter with the marks that change it, and
the silent characters before it, or before such a mark. It is said as one grapheme, a Hangul
syllable as its two or three letters.

A letter at a word's beginning, at its end or alone may be a unit of its own, as Kaldi's phones are:
the E of TEN, the E of ONE and the letter E when it is spelled have little in common.
"""

import unicodedata
from collections import Counter
from collections.abc import Collection, Iterable
from functools import lru_cache

from acoustic_kd.language.normalise import APOSTROPHE, INNER
from acoustic_kd.system.errors import UserError

FORMAT = 3  # of spellings; raised when other ones are found
LEAST_SEEN = 20  # times in train: a rarer letter is said as the letter that it derives from
ONE_IN = 10_000  # letters of train: a rarer place is not set apart; some hours must show it
MOST = 300  # units: tables of all triphones grow with the cube
BEGIN, END, ALONE = "_B", "_E", "_S"  # what letters set apart by their place are marked with
_SILENT = frozenset(APOSTROPHE + INNER)
# Canonical combining classes of marks that change their letter: overlays, nuktas, voicing marks,
# viramas, and from 200 on accents. Others are vowels and tones, which are said for themselves.
_CHANGING = frozenset((1, 7, 8, 9))


def _is_letter(character: str) -> bool:
    return unicodedata.category(character)[0] in "LMN"


def _is_attached(character: str) -> bool:
    place = unicodedata.combining(character)
    return place in _CHANGING or place >= 200


def clusters(word: str) -> list[str]:
    """The parts of a word that are not cut; joined they are the word.

    Returns:
        Nothing where the word has no letter, begins with a mark that belongs to one, or has a
        character that is neither letter, mark or digit nor one that words are written with: nobody
        knows how to say it.
    """
    parts: list[str] = []
    silent = ""
    for character in word:
        if character in _SILENT:
            silent += character
        elif not _is_letter(character) or (not parts and _is_attached(character)):
            return []
        elif _is_attached(character):
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
    """What a cluster is said as."""
    letter = "".join(character for character in cluster if character not in _SILENT)
    if "가" <= letter <= "힣":
        return tuple(unicodedata.normalize("NFD", letter))
    return (letter,)


class Alphabet:
    """The units that have states of their own, and how words are spelled in them.

    A letter that comes less than `LEAST_SEEN` times in train is said as the letter it derives from
    (É as E), if that one is there and more frequent; so is one that train lacks. What then remains
    unknown has no spelling.

    By place: `E_B` begins a word, `E_E` ends one, `E_S` is one; `E` is what remains, so also each
    of these places where the letter comes less than `LEAST_SEEN` times, or is less than one in
    `ONE_IN` letters. It comes as often itself, or nothing is set apart from it. If there were more
    than `MOST` units, the rarest are not.

    Attributes:
        own: the units.

    Args:
        words: of the train transcripts, with how often each comes.
        positions: whether letters are set apart by their place.
    """

    def __init__(self, words: Counter[str], positions: bool = True) -> None:
        self.counts: Counter[str] = Counter()
        for word, count in words.items():
            for cluster in clusters(word):
                for grapheme in graphemes(cluster):
                    self.counts[grapheme] += count
        letters = {letter for letter in self.counts if self._said_as(letter) == letter}
        if not letters:
            raise UserError("train: no word of the transcripts has letters to spell it in")
        if len(letters) > MOST:
            raise UserError(
                f"train: {len(letters)} different letters, and lang.units makes each a unit with "
                f"states of its own, at most {MOST}: such a script needs a pronouncing lexicon "
                "(lang.units=phones), or transcripts in letters"
            )
        self.letters, self.apart = letters, set[str]()
        if positions:
            self.apart = self._set_apart(words)
        self.own = self.letters | self.apart

    @classmethod
    def of(cls, units: Collection[str]) -> "Alphabet":
        """The one that has these units, and no others: those of trained models.

        A letter that came in one place alone there has no unit elsewhere.
        """
        found = cls.__new__(cls)
        found.apart = {unit for unit in units if unit.endswith((BEGIN, END, ALONE))}
        found.letters = {unit.partition("_")[0] for unit in units}
        found.counts = Counter(dict.fromkeys(found.letters, LEAST_SEEN))
        found.own = set(units)
        return found

    def _said_as(self, letter: str) -> str:
        base = unicodedata.normalize("NFD", letter)[:1]
        seen = self.counts[letter]
        return base if seen < LEAST_SEEN and self.counts[base] > seen else letter

    def _set_apart(self, words: Counter[str]) -> set[str]:
        """The units of letters in places where they are frequent enough."""
        seen: dict[str, Counter[str]] = {letter: Counter() for letter in self.letters}
        for word, count in words.items():
            said = self._letters(word)
            for letter, place in zip(said, places(len(said)), strict=True):
                seen[letter][place] += count
        found: Counter[str] = Counter()
        least = max(LEAST_SEEN, self.counts.total() // ONE_IN)
        for letter, counts in seen.items():
            rest = counts.pop("", 0)
            for place, count in sorted(counts.items(), key=lambda item: (item[1], item[0])):
                if count < least or rest < least:
                    rest += count
                else:
                    found[letter + place] = count
        frequent = sorted(found, key=lambda unit: (-found[unit], unit))
        return set(frequent[: MOST - len(self.letters)])

    def _letters(self, text: str) -> list[str]:
        return [self._said_as(g) for cluster in clusters(text) for g in graphemes(cluster)]

    def spell(self, text: str, begins: bool = True, ends: bool = True) -> tuple[str, ...] | None:
        """The units of a word, or of a run of its clusters; None where it has no spelling.

        Args:
            begins, ends: whether it is a word's beginning, and its end.
        """
        said = self._letters(text)
        if not said or not self.letters.issuperset(said):
            return None
        units = map("".join, zip(said, places(len(said), begins, ends), strict=True))
        found = tuple(
            unit if unit in self.apart else letter for unit, letter in zip(units, said, strict=True)
        )
        return found if self.own.issuperset(found) else None

    def spelled(self, words: Iterable[str]) -> dict[str, tuple[tuple[str, ...], ...]]:
        """Word → its one pronunciation, of those that have a spelling, in their order."""
        found = ((word, self.spell(word)) for word in words)
        return {word: (spelling,) for word, spelling in found if spelling is not None}


def places(count: int, begins: bool = True, ends: bool = True) -> list[str]:
    """What letters are marked with, one after the other: BEGIN, END or ALONE, or nothing."""
    if count == 1 and begins and ends:
        return [ALONE]
    marks = [""] * count
    if count and begins:
        marks[0] = BEGIN
    if count and ends:
        marks[-1] = END
    return marks
