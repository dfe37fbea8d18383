"""Text to train a language model on: a sentence a line, every line checked as it is read."""

import re
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

from acoustic_kd.language.arpa import BOS, EOS
from acoustic_kd.system.errors import UserError
from acoustic_kd.system.files import read_lines

# Control characters, but for those that end a line or part words; and what stands for bytes that
# somebody could not decode.
_UNEXPECTED = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\ufffd\ufeff]")
_MARKS = frozenset((BOS, EOS))


class TextFile:
    """The sentences of a file, plain or `.gz`, UTF-8: lists of words, read anew by each loop.

    Empty lines are passed over. A loop raises a UserError where the file cannot be read or is
    damaged, and, naming the line, where that is not UTF-8, has a control character, or holds one
    of the marks <s> and </s>, which a language model sets itself.
    """

    def __init__(
        self,
        path: Path,
        setting: str = "text",
        normalise: Callable[[str], str] | None = None,
    ) -> None:
        """`setting`: what messages call the file; `normalise`: for each sentence."""
        self.path, self.setting, self._normalise = Path(path), setting, normalise

    def __iter__(self) -> Iterator[list[str]]:
        for where, line in read_lines(self.path, self.setting):
            if strange := _UNEXPECTED.search(line):
                code = f"U+{ord(strange[0]):04X}"
                raise UserError(f"{where}: character {code} in it; give text, a sentence a line")
            words = line.split()
            if not _MARKS.isdisjoint(words):
                raise UserError(f"{where}: <s> or </s> in it; take such marks out")
            if words and self._normalise is not None:
                words = self._normalise(" ".join(words)).split()
            if words:
                yield words

    def counts(self) -> Counter[str]:
        """How often each word comes."""
        counts: Counter[str] = Counter()
        for words in self:
            counts.update(words)
        if not counts:
            raise UserError(f"{self.setting} {self.path}: no words in it")
        return counts


def most_frequent(counts: Counter[str], number: int | None) -> list[str]:
    """The `number` most frequent words, of equally frequent ones the alphabet's first; None: all.

    The most frequent first.
    """
    return sorted(counts, key=lambda word: (-counts[word], word))[:number]
