"""Training text of language models: a sentence a line, each line checked when it is read."""

from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

from acoustic_kd.language.arpa import BOS, EOS
from acoustic_kd.system.characters import visible
from acoustic_kd.system.errors import UserError
from acoustic_kd.system.text import read_lines

_SENTENCE_MARKS = frozenset((BOS, EOS))


class TextFile:
    """The sentences of a text file (`read_lines`) as lists of words; each loop reads it again.

    Empty lines are skipped. A line with <s> or </s>, which a language model adds itself, is
    refused.
    """

    def __init__(
        self, path: Path, setting: str = "text", normalise: Callable[[str], str] = visible
    ) -> None:
        """`setting`: what messages call the file; `normalise`: applied to each sentence."""
        self.path, self.setting, self._normalise = Path(path), setting, normalise

    def __iter__(self) -> Iterator[list[str]]:
        for where, line in read_lines(self.path, self.setting):
            if "\ufffd" in line:
                raise UserError(f"{where}: U+FFFD stands for lost characters; make the text again")
            if not _SENTENCE_MARKS.isdisjoint(line.split()):
                raise UserError(f"{where}: <s> or </s> in it; remove these marks")
            if words := self._normalise(line).split():
                yield words

    def counts(self) -> Counter[str]:
        """Count each word; a text without words is refused."""
        counts: Counter[str] = Counter()
        for words in self:
            counts.update(words)
        if not counts:
            raise UserError(f"{self.setting} {self.path}: no words in it")
        return counts


def most_frequent(counts: Counter[str], number: int | None) -> list[str]:
    """The `number` most frequent words (None: all), by frequency, then alphabetically."""
    return sorted(counts, key=lambda word: (-counts[word], word))[:number]
