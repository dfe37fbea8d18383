"""Text to train a language model on: a sentence a line, every line checked as it is read."""

import gzip
import re
import zlib
from collections import Counter
from collections.abc import Callable, Iterator
from io import BufferedIOBase
from pathlib import Path

from acoustic_kd.language.arpa import BOS, EOS
from acoustic_kd.system.errors import UserError

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
        try:
            with open_bytes(self.path) as file:
                for number, line in enumerate(file, start=1):
                    words = self._checked(line, number).split()
                    if not _MARKS.isdisjoint(words):
                        raise self._bad(number, "<s> or </s> in it", "take such marks out")
                    if words and self._normalise is not None:
                        words = self._normalise(" ".join(words)).split()
                    if words:
                        yield words
        except (EOFError, gzip.BadGzipFile, zlib.error):
            raise UserError(
                f"{self.setting} {self.path}: damaged .gz file; fetch or make it again"
            ) from None
        except OSError as error:
            raise UserError(
                f"{self.setting} {self.path}: cannot be read ({error.strerror})"
            ) from None

    def counts(self) -> Counter[str]:
        """How often each word comes.

        Raises:
            UserError: there is none, or the text is not as it should be (see above).
        """
        counts: Counter[str] = Counter()
        for words in self:
            counts.update(words)
        if not counts:
            raise UserError(f"{self.setting} {self.path}: no words in it")
        return counts

    def _checked(self, line: bytes, number: int) -> str:
        try:
            text = line.decode("utf-8")
        except UnicodeDecodeError as error:
            wrong = line[error.start]
            raise self._bad(number, f"byte 0x{wrong:02x} is not UTF-8", "convert it") from None
        strange = _UNEXPECTED.search(text, 1 if number == 1 and text[0] == "\ufeff" else 0)
        if strange:
            what = f"character U+{ord(strange[0]):04X} in it"
            raise self._bad(number, what, "give text, a sentence a line")
        return text.removeprefix("\ufeff") if number == 1 else text

    def _bad(self, number: int, what: str, mend: str) -> UserError:
        return UserError(f"{self.setting} {self.path}:{number}: {what}; {mend}")


def open_bytes(path: Path) -> BufferedIOBase:
    """Open a file, plain or `.gz`, to read its bytes."""
    return gzip.open(path, "rb") if str(path).endswith(".gz") else Path(path).open("rb")


def most_frequent(counts: Counter[str], number: int | None) -> list[str]:
    """The `number` most frequent words, of equally frequent ones the alphabet's first; None: all.

    The most frequent first.
    """
    return sorted(counts, key=lambda word: (-counts[word], word))[:number]
