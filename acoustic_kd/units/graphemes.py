"""Graphemes: what a word is spelled in, with Unicode's knowledge of scripts and no other.

A cluster is the least part of a word that is not cut: a letter with the marks that change it, and
the silent characters before it. It is said as one grapheme, a Hangul syllable as its two or three
letters.
"""

import unicodedata
from collections import Counter
from collections.abc import Iterable
from functools import lru_cache

from acoustic_kd.errors import UserError
from acoustic_kd.units.text import APOSTROPHE, INNER

FORMAT = 1  # of spellings; raised when other ones are found
LEAST_SEEN = 20  # times in train: a rarer letter is said as the letter that it derives from
MOST = 300  # graphemes: tables of all triphones grow with the cube
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
        Nothing where the word has no letter, or a character that is neither letter, mark or digit
        nor one that words are written with: nobody knows how to say it.
    """
    parts: list[str] = []
    silent = ""
    for character in word:
        if character in _SILENT:
            silent += character
        elif not _is_letter(character):
            return []
        elif parts and not silent and _is_attached(character):
            parts[-1] += character
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
    """The graphemes that have states of their own, and how other ones are said.

    A letter that comes less than `LEAST_SEEN` times in train is said as the letter it derives from
    (É as E), if that one is there and more frequent; so is one that train lacks. What then remains
    unknown has no spelling.

    Args:
        words: of the train transcripts, with how often each comes.

    Raises:
        UserError: there are more than `MOST` graphemes, or none.
    """

    def __init__(self, words: Counter[str]) -> None:
        self.counts: Counter[str] = Counter()
        for word, count in words.items():
            for cluster in clusters(word):
                for grapheme in graphemes(cluster):
                    self.counts[grapheme] += count
        self.own = {letter for letter in self.counts if self._said_as(letter) == letter}
        if not self.own:
            raise UserError("train: no word of the transcripts has letters to spell it in")
        if len(self.own) > MOST:
            raise UserError(
                f"train: {len(self.own)} different letters, and lang.units makes each a unit with "
                f"states of its own, at most {MOST}: such a script needs a pronouncing lexicon "
                "(lang.units=phones), or transcripts in letters"
            )

    def _said_as(self, letter: str) -> str:
        base = unicodedata.normalize("NFD", letter)[:1]
        seen = self.counts[letter]
        return base if seen < LEAST_SEEN and self.counts[base] > seen else letter

    def spell(self, word: str) -> tuple[str, ...] | None:
        """The graphemes of a word or of a run of clusters; None where it has no spelling."""
        said = [self._said_as(g) for cluster in clusters(word) for g in graphemes(cluster)]
        return tuple(said) if said and self.own.issuperset(said) else None

    def spelled(self, words: Iterable[str]) -> dict[str, tuple[tuple[str, ...], ...]]:
        """Word → its one pronunciation, of those that have a spelling, in their order."""
        found = ((word, self.spell(word)) for word in words)
        return {word: (spelling,) for word, spelling in found if spelling is not None}
