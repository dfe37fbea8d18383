"""Pronouncing lexicons: the pronunciations of each word in phones, from CMU-style dictionaries."""

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from acoustic_kd.system.errors import UserError
from acoustic_kd.system.files import write_text
from acoustic_kd.system.text import read_lines

SILENCE = "SIL"
EXACT_HEADER = ";;; words and units exactly as written"  # first line of ours
_COMMENT = r"^;;;.*|(?:^|(?<=\s))#.*"
_COMMENTS = re.compile(_COMMENT.encode(), re.MULTILINE)  # CMU's own are in Latin-1
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
_NOISES = {SILENCE, "SPN", "NSN"}  # beside the phones of Kaldi's lexicons
_STRESSED = re.compile(f"({'|'.join(CMU_VOWELS)})[012]")
# Of a pronunciation, in lexiconp.txt of Kaldi.
_PROBABILITY = re.compile(r"[01]\.\d+(E-\d+)?|\dE-\d+", re.IGNORECASE)


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
        """The phones of all pronunciations, sorted; silence is none of them."""
        return sorted({p for prons in self.entries.values() for pron in prons for p in pron})

    def restricted_to(self, words: set[str]) -> "Lexicon":
        """The lexicon of those of `words` that it has, sorted."""
        return Lexicon({word: self.entries[word] for word in sorted(words) if word in self})


def read_lexicon(path: Path, upper: bool = True) -> Lexicon:
    """Read a CMU-style dictionary: `WORD PH1 PH2 …` a line, variants as `WORD(2)`.

    Words become upper case (unless `upper` is false), a `#` begins a comment, and lines that begin
    with `;;;` are skipped. Phones become upper case and lose their stress, unless two of them
    differ in nothing but case (s and S of SAMPA), or one ends in a digit that is not the stress of
    a vowel of CMU's (a tone). After a first line `EXACT_HEADER`, words and phones are read as they
    stand. Words that consist of silence are left out.
    """
    lines = list(read_lines(path, "lexicon", _COMMENTS))
    exact = bool(lines) and lines[0][1] == EXACT_HEADER
    rows = list(_exact_rows(lines[1:]) if exact else _plain_rows(lines, upper))
    written = {phone for _, _, phones in rows for phone in phones}
    read_as = {phone: phone for phone in written} if exact else _normalised_names(written)
    entries: dict[str, dict[tuple[str, ...], None]] = {}
    for where, word, phones in rows:
        spoken = tuple(read_as[phone] for phone in phones)
        if spoken == (SILENCE,):  # such as Kaldi's !SIL: silence may stand between any two words
            continue
        if SILENCE in spoken:
            raise UserError(
                f"{where}: word '{word}' has the phone {SILENCE}, which is silence and no part of "
                "a word; remove it"
            )
        # A dict keeps the order, and drops pronunciations that differed only in stress.
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


def _normalised_names(phones: set[str]) -> dict[str, str]:
    """Phone → its upper case without stress, or as it stands where that would merge phones."""
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
    """Write `WORD PH1 PH2 …`, one pronunciation a line; `read_lexicon` reads the same lexicon.

    Args:
        exact: begin with `EXACT_HEADER`, which words in lower case need. Phones that
            `read_lexicon` would change get that line in any case.
    """
    read_as = _normalised_names(set(lexicon.phones()))
    exact = exact or any(phone != name for phone, name in read_as.items())
    rows = ((w, phones) for w, variants in lexicon.entries.items() for phones in variants)
    head = f"{EXACT_HEADER}\n" if exact else ""
    write_text(path, head + "".join(f"{word} {' '.join(phones)}\n" for word, phones in rows))
