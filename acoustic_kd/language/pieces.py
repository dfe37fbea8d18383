"""Pieces of words, by sentencepiece: an open vocabulary for the decoder.

Kudo and Richardson, *SentencePiece: A simple and language independent subword tokenizer and
detokenizer for Neural Text Processing* (2018). Its pieces may part a letter from its accent, and
one may be the mark of a word's beginning alone, or an apostrophe; what is said needs a sound. So
pieces are put together again where they do not end between two clusters (`graphemes`).

A word's last piece is marked, too: letters are said otherwise where a word ends.
"""

import io
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import accumulate
from pathlib import Path

from acoustic_kd.language.graphemes import clusters
from acoustic_kd.system.errors import UserError

MARK = "▁"  # before a word's first piece, as sentencepiece has it, and after its last
_LONGEST = 1 << 24  # bytes of a sentence: longer ones would be left out


def train_pieces(sentences: Iterable[Sequence[str]], size: int, kind: str = "unigram") -> bytes:
    """A sentencepiece model of some sentences; the same input gives the same bytes.

    Args:
        sentences: lists of words, normalised already.
        size: how many pieces, sentencepiece's `<unk>` among them.
        kind: of `config.PIECE_MODELS`.
    """
    import sentencepiece  # joining needs none of it

    out = io.BytesIO()
    try:
        sentencepiece.SentencePieceTrainer.train(
            sentence_iterator=iter([" ".join(words) for words in sentences]),
            model_writer=out,
            vocab_size=size,
            model_type=kind,
            character_coverage=1.0,
            normalization_rule_name="identity",  # units.text has done it
            max_sentence_length=_LONGEST,
            bos_id=-1,
            eos_id=-1,
            num_threads=1,  # sums in one order
            minloglevel=2,
        )
    except RuntimeError as error:
        reason = " ".join(str(error).rpartition("]")[2].split()) or "there is no text"
        raise UserError(
            f"setting 'lang.pieces' is {size}; sentencepiece cannot make so many {kind} pieces of "
            f"the train transcripts: {reason}"
        ) from None
    return out.getvalue()


class PieceModel:
    """Words to pieces.

    Args:
        content: what `train_pieces` made.
    """

    def __init__(self, content: bytes) -> None:
        import sentencepiece

        self._model = sentencepiece.SentencePieceProcessor(model_proto=content)
        self._known: dict[str, tuple[str, ...]] = {}

    def split(self, word: str) -> tuple[str, ...]:
        """The pieces of a word, MARK before the first and after the last; each has a sound.

        A word without a spelling is one piece.
        """
        found = self._known.get(word)
        if found is None:
            found = self._known[word] = self._split(word)
        return found

    def _split(self, word: str) -> tuple[str, ...]:
        parts = clusters(word)
        if not parts:
            return (MARK + word + MARK,)
        pieces = self._model.encode(word, out_type=str)
        may_end = set(accumulate(map(len, [MARK, *parts]))) - {len(MARK)}
        ends = [end for end in accumulate(map(len, pieces)) if end in may_end]
        marked, ends[-1] = MARK + word + MARK, ends[-1] + len(MARK)
        return tuple(marked[first:last] for first, last in zip([0, *ends], ends, strict=False))


def single_clusters(words: Iterable[str]) -> set[str]:
    """Pieces of one cluster, within a word, at its beginning, at its end and alone.

    Every word can be made of them, that is, whose clusters `words` have.
    """
    parts = {part for word in words for part in clusters(word)}
    return {begin + part + end for part in parts for begin in ("", MARK) for end in ("", MARK)}


def bare(piece: str) -> tuple[str, bool, bool]:
    """What is written in a piece, and whether a word begins and ends with it."""
    return piece.removeprefix(MARK).removesuffix(MARK), piece[:1] == MARK, piece[-1:] == MARK


def word_runs(pieces: Sequence[str]) -> list[slice]:
    """Which pieces make each word: a word begins at the first piece, at MARK and after MARK."""
    ended = [True, *(piece.endswith(MARK) for piece in pieces)]
    first = [n for n, piece in enumerate(pieces) if ended[n] or piece.startswith(MARK)]
    return [slice(a, b) for a, b in zip(first, [*first, len(pieces)][1:], strict=True)]


def join_pieces(pieces: Sequence[str]) -> list[str]:
    """The words that pieces make: sentencepiece's own way back (its `decode`)."""
    return [bare("".join(pieces[run]))[0] for run in word_runs(pieces)]


PIECES = "pieces.model"  # of the graph stage: where it is, the graph is one of pieces


@dataclass(frozen=True)
class Joiner:
    """What a graph recognises → words.

    Attributes:
        pieces: whether it recognises pieces of words.
    """

    pieces: bool

    @classmethod
    def of(cls, graph: Path) -> "Joiner":
        """That of the graph in a directory."""
        return cls((Path(graph) / PIECES).is_file())

    def __call__(self, labels: Sequence[str]) -> list[str]:
        """The words."""
        return join_pieces(labels) if self.pieces else list(labels)

    def runs(self, labels: Sequence[str]) -> list[slice]:
        """Which labels make each word."""
        return word_runs(labels) if self.pieces else [slice(n, n + 1) for n in range(len(labels))]
