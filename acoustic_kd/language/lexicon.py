"""Pronouncing lexicons: the pronunciations of each word in phones, from CMU-style dictionaries."""

import re
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from acoustic_kd.corpora.utterances import normalise_text
from acoustic_kd.language.cmu_phones import STRESSED, are_cmu_phones, without_stress
from acoustic_kd.language.lexicon_columns import NEARLY_ALL, Row, without_columns, without_variants
from acoustic_kd.system.characters import ZERO_WIDTH_SPACE, visible
from acoustic_kd.system.errors import UserError
from acoustic_kd.system.files import write_text
from acoustic_kd.system.text import read_lines

Pronunciation = tuple[str, tuple[str, ...]]  # a word and its phones

SILENCE = "SIL"
EXACT_HEADER = ";;; words and units exactly as written"  # first line of ours
_COMMENT = re.compile(r"^;;;.*|(^|(?<=\s))#.*")
_COMMENT_BYTES = re.compile(_COMMENT.pattern.encode(), re.MULTILINE)  # CMU's are in Latin-1
# What stands for lost bytes, or parts two words and cannot be seen.
_LOST = re.compile(f"\ufffd|(?<=\\S){ZERO_WIDTH_SPACE}(?=\\S)")


@dataclass(frozen=True)
class Lexicon:
    """Pronunciations of each word, in the order of the file.

    Attributes:
        entries: word → its pronunciations, each a tuple of phones without stress marks.
        notes: what was passed over in the file, for the terminal.
    """

    entries: dict[str, tuple[tuple[str, ...], ...]]
    notes: tuple[str, ...] = field(default=(), compare=False)

    def __contains__(self, word: str) -> bool:
        return word in self.entries

    def __getitem__(self, word: str) -> tuple[tuple[str, ...], ...]:
        return self.entries[word]

    def phones(self) -> list[str]:
        """The phones of all pronunciations, sorted; silence is none of them."""
        return sorted({p for prons in self.entries.values() for pron in prons for p in pron})

    def rarest_phones(self) -> list[tuple[str, int]]:
        """All phones with the number of words that have them, the rarest first."""
        counts = Counter(p for prons in self.entries.values() for p in set().union(*prons))
        return sorted(counts.items(), key=lambda item: (item[1], item[0]))

    def restricted_to(self, words: set[str]) -> "Lexicon":
        """The lexicon of those of `words` that it has, sorted."""
        return Lexicon({word: self.entries[word] for word in sorted(words) if word in self})


def read_lexicon(path: Path) -> Lexicon:
    """Read a pronouncing dictionary: `WORD PH1 PH2 …` a line, variants as `WORD(2)`.

    Words are normalised like transcripts; a `#` at the beginning of a field begins a comment, and
    lines that begin with `;;;` are skipped. Columns of other tools are passed over
    (`lexicon_columns`). Phones become upper case and lose their stress, unless two of them differ
    in nothing but case (s and S of SAMPA), or one ends in a digit that is not the stress of a vowel
    of CMU's (a tone). After a first line `EXACT_HEADER`, words and phones are read as they stand.
    Words that consist of silence are left out.
    """
    return _lexicon(f"lexicon {path}", list(read_lines(path, "lexicon", _COMMENT_BYTES)))


def _lexicon(name: str, lines: list[tuple[str, str]]) -> Lexicon:
    exact = bool(lines) and lines[0][1] == EXACT_HEADER
    words: dict[str, str] = {}  # none of them: words as they stand
    rows, words, notes = (list(_rows(lines[1:])), words, []) if exact else _plain_rows(lines)
    written = {phone for _, _, phones in rows for phone in phones}
    read_as = {phone: phone for phone in written} if exact else _normalised_names(written)
    entries: dict[str, dict[tuple[str, ...], None]] = {}
    for where, word, phones in rows:
        spoken = tuple([read_as[phone] for phone in phones])
        if spoken == (SILENCE,):  # such as Kaldi's !SIL: silence may stand between any two words
            continue
        if SILENCE in spoken:
            raise UserError(
                f"{where}: word '{word}' has the phone {SILENCE}, which is silence and no part of "
                "a word; remove it"
            )
        # A dict keeps the order, and drops pronunciations that differed only in stress.
        entries.setdefault(words.get(word, word), {})[spoken] = None
    if not entries:
        raise UserError(f"{name}: no words in it")
    return Lexicon({word: tuple(prons) for word, prons in entries.items()}, tuple(notes))


def _rows(lines: Iterable[tuple[str, str]]) -> Iterator[Row]:
    """("PATH:LINE", word, phones) of each line, as `write_lexicon` writes them."""
    for where, line in lines:
        word, *phones = line.split() or [""]
        if word and not phones:
            raise UserError(f"{where}: word '{word}' has no phones")
        if word:
            yield where, word, phones


def _plain_rows(lines: list[tuple[str, str]]) -> tuple[list[Row], dict[str, str], list[str]]:
    """The rows of a user's dictionary, its words normalised, and what was passed over."""
    for place, (where, line) in enumerate(lines):
        if not line.isascii():
            if lost := _LOST.search(line):
                raise UserError(f"{where}: U+{ord(lost[0]):04X} inside a word; write it again")
            lines[place] = where, visible(line)
        if "#" in line or line[:3] == ";;;":
            lines[place] = where, _COMMENT.sub("", lines[place][1])
    _check_words_of_one(lines)
    rows, notes = without_columns(list(_rows(lines)))
    variants = without_variants({word for _, word, _ in rows})
    words = {word: normalise_text(variants.get(word, word)) for _, word, _ in rows}
    return rows, words, notes


def _check_words_of_one(lines: list[tuple[str, str]]) -> None:
    """Refuse a word with a space in it, where tabs separate words and phones."""
    heads = [(where, line.partition("\t")[0].split()) for where, line in lines if "\t" in line]
    several = [(where, head) for where, head in heads if len(head) > 1]
    if 0 < len(several) < (1 - NEARLY_ALL) * len(heads):
        where, head = several[0]
        raise UserError(
            f"{where}: '{' '.join(head)}' is {len(head)} words; give each word a line of its own, "
            "or write them as one"
        )


def _normalised_names(phones: set[str]) -> dict[str, str]:
    """Phone → its upper case without stress, or as it stands where that would merge phones."""
    silent = {phone: SILENCE for phone in phones if phone.upper() == SILENCE}
    upper = {phone: phone.upper() for phone in phones - silent.keys()}
    plain = {phone: without_stress(name) for phone, name in upper.items()}
    if are_cmu_phones(upper.values()):
        return plain | silent
    if len(set(upper.values())) < len(upper):
        return {phone: phone for phone in upper} | silent
    numbered = [name for name in upper.values() if name[-1].isdigit()]
    return (plain if all(map(STRESSED.fullmatch, numbered)) else upper) | silent


def write_lexicon(path: Path, lexicon: Lexicon, exact: bool = False) -> None:
    """Write `WORD PH1 PH2 …`, one pronunciation a line; `read_lexicon` reads the same lexicon.

    Args:
        exact: begin with `EXACT_HEADER`. A lexicon that would be read otherwise without that line
            gets it in any case.
    """
    rows = ((w, phones) for w, variants in lexicon.entries.items() for phones in variants)
    lines = [f"{word} {' '.join(phones)}" for word, phones in rows]
    if exact or (lines and not _is_plain(lexicon, lines)):
        lines = [EXACT_HEADER, *lines]
    write_text(path, "".join(f"{line}\n" for line in lines))


def _is_plain(lexicon: Lexicon, lines: list[str]) -> bool:
    """Whether lines without a header are read as what they were made of."""
    try:
        return _lexicon("", [("", line) for line in lines]) == lexicon
    except UserError:
        return False
