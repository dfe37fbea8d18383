"""Pronouncing lexicons: a word's pronunciations in phones, read from CMU-style dictionaries."""

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from acoustic_kd.system.errors import UserError
from acoustic_kd.system.files import read_lines, write_text

SILENCE = "SIL"
EXACT = ";;; words and units exactly as written"  # the first line where nothing is to be mended
_VARIANT = re.compile(r"\(\d+\)$")
CMU_VOWELS = ("AA", "AE", "AH", "AO", "AW", "AY", "EH", "ER", "EY", "IH", "IY", "OW", "OY", "UH",
              "UW")  # fmt: skip
CMU_PHONES = frozenset(
    [
        *CMU_VOWELS,
        *("B", "CH", "D", "DH", "F", "G", "HH", "JH", "K", "L", "M", "N", "NG", "P", "R", "S"),
        *("SH", "T", "TH", "V", "W", "Y", "Z", "ZH"),
    ]
)
_NOISES = {SILENCE, "SPN", "NSN"}  # as Kaldi's lexicons have them beside phones
_STRESSED = re.compile(f"({'|'.join(CMU_VOWELS)})[012]")
_PROBABILITY = re.compile(
    r"[01]\.\d+(E-\d+)?|\dE-\d+", re.IGNORECASE
)  # of a pronunciation, as Kaldi has it


@dataclass(frozen=True)
class Lexicon:
    """Pronunciations of each word, in the order of the file.

    Attributes:
        entries: word → its pronunciations, each a tuple of phones without stress marks.
    """

    entries: dict[str, tuple[tuple[str, ...], ...]]

    def __contains__(self, word: str) -> bool:
        return word in self.entries

    def __getitem__(self, word: str) -> tuple[tuple[str, ...], ...]:
        return self.entries[word]

    def phones(self) -> list[str]:
        """Every phone in use, sorted; silence is not among them."""
        return sorted({p for prons in self.entries.values() for pron in prons for p in pron})

    def restricted_to(self, words: set[str]) -> "Lexicon":
        """The lexicon of `words` alone (those it knows), in sorted order."""
        return Lexicon({word: self.entries[word] for word in sorted(words) if word in self})


def read_lexicon(path: Path, upper: bool = True) -> Lexicon:
    """Read a CMU-style dictionary: `WORD PH1 PH2 …` a line, variants as `WORD(2)`.

    Words are upper-cased (unless `upper` is false), what follows a `#` is a comment, and lines that
    start with `;;;` are skipped. CMU's phones are upper-cased and without stress. So are others,
    unless two of them differ in case alone (s and S of SAMPA), or one ends in a digit that is no
    stress of a vowel of CMU's (a tone). Where the first line is `EXACT`, words and phones are as
    they stand in all others. Words that are silence and nothing else are left out.
    """
    lines = list(read_lines(path, "lexicon", errors="replace"))  # CMU's own is in Latin-1
    exact = bool(lines) and lines[0][1] == EXACT
    rows = list(_exact_rows(lines[1:]) if exact else _plain_rows(lines, upper))
    written = {phone for _, _, phones in rows for phone in phones}
    read_as = {phone: phone for phone in written} if exact else _normalised(written)
    entries: dict[str, dict[tuple[str, ...], None]] = {}
    for where, word, phones in rows:
        spoken = tuple(read_as[phone] for phone in phones)
        if spoken == (SILENCE,):  # as !SIL of Kaldi's: between any two words there may be silence
            continue
        if SILENCE in spoken:
            raise UserError(
                f"{where}: word '{word}' has the phone {SILENCE}, which is silence and no part of "
                "a word; take it out"
            )
        # A dict keeps the order and drops pronunciations that differed in stress alone.
        entries.setdefault(word, {})[spoken] = None
    if not entries:
        raise UserError(f"lexicon {path}: no words in it")
    return Lexicon({word: tuple(prons) for word, prons in entries.items()})


def _exact_rows(lines: Iterable[tuple[str, str]]) -> Iterator[tuple[str, str, list[str]]]:
    """("PATH:LINE", word, phones) of each line, as `write_lexicon` writes them."""
    for where, line in lines:
        word, *phones = line.split() or [""]
        if word and not phones:
            raise UserError(f"{where}: word '{word}' has no phones")
        if word:
            yield where, word, phones


def _plain_rows(
    lines: Iterable[tuple[str, str]], upper: bool
) -> Iterator[tuple[str, str, list[str]]]:
    """The rows of a user's dictionary, without comments and numbers of variants."""
    text = ((where, line.partition("#")[0]) for where, line in lines if line[:3] != ";;;")
    for where, word, phones in _exact_rows(text):
        word = _VARIANT.sub("", word.upper() if upper else word)
        if _PROBABILITY.fullmatch(phones[0]):
            raise UserError(
                f"{where}: word '{word}' has a probability, {phones[0]}, before its phones; give "
                "lexicon.txt, not lexiconp.txt"
            )
        yield where, word, phones


def _normalised(phones: set[str]) -> dict[str, str]:
    """Each phone as it is read: in upper case and without stress, where these say nothing more."""
    silent = {phone: SILENCE for phone in phones if phone.upper() == SILENCE}
    upper = {phone: phone.upper() for phone in phones - silent.keys()}
    plain = {phone: _STRESSED.sub(r"\1", name) for phone, name in upper.items()}
    if CMU_PHONES.union(_NOISES).issuperset(plain.values()):
        return plain | silent
    if len(set(upper.values())) < len(upper):
        return {phone: phone for phone in upper} | silent
    numbered = [name for name in upper.values() if name[-1].isdigit()]
    return (plain if all(map(_STRESSED.fullmatch, numbered)) else upper) | silent


def write_lexicon(path: Path, lexicon: Lexicon, exact: bool = False) -> None:
    """Write `WORD PH1 PH2 …`, one pronunciation a line; `read_lexicon` reads it back the same.

    Args:
        exact: begin with the line `EXACT`: words need not be in upper case. So it is, too, where
            phones would be read otherwise than they are.
    """
    read_as = _normalised(set(lexicon.phones()))
    exact = exact or any(phone != name for phone, name in read_as.items())
    rows = ((w, phones) for w, variants in lexicon.entries.items() for phones in variants)
    head = f"{EXACT}\n" if exact else ""
    write_text(path, head + "".join(f"{word} {' '.join(phones)}\n" for word, phones in rows))
