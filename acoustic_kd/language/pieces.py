"""Word pieces by sentencepiece: an open vocabulary for the decoder.

Kudo and Richardson, *SentencePiece: A simple and language independent subword tokenizer and
detokenizer for Neural Text Processing* (2018). Its pieces may separate a letter from its accent, or
consist of the word boundary mark or an apostrophe alone, but each piece needs a pronunciation. So
pieces are joined where they do not end between two clusters (`graphemes`).

A word's last piece has a boundary mark, too, because positional units depend on it.
"""

import io
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import accumulate
from pathlib import Path

from acoustic_kd.language.graphemes import clusters
from acoustic_kd.system.errors import UserError

BOUNDARY = "▁"  # before a word's first piece, as in sentencepiece, and after its last
PIECES_FILE = "pieces.model"  # in the folder of a graph: the graph recognises pieces
MAX_SENTENCE_BYTES = 1 << 24  # sentencepiece leaves longer sentences out


def train_pieces(sentences: Iterable[Sequence[str]], size: int, kind: str = "unigram") -> bytes:
    """Train a sentencepiece model; the same input gives the same bytes.

    Args:
        sentences: lists of normalised words.
        size: number of pieces, with sentencepiece's `<unk>`.
        kind: one of `settings.PIECE_MODELS`.
    """
    import sentencepiece  # joining pieces does not need it

    out = io.BytesIO()
    try:
        sentencepiece.SentencePieceTrainer.train(
            sentence_iterator=iter([" ".join(words) for words in sentences]),
            model_writer=out,
            vocab_size=size,
            model_type=kind,
            character_coverage=1.0,
            normalization_rule_name="identity",  # `normalise` has done it
            max_sentence_length=MAX_SENTENCE_BYTES,
            bos_id=-1,
            eos_id=-1,
            num_threads=1,  # so that sums have one order
            minloglevel=2,
        )
    except RuntimeError as error:
        reason = " ".join(str(error).rpartition("]")[2].split()) or "no text"
        raise UserError(
            f"setting 'lang.pieces' is {size}, but sentencepiece cannot train {kind} pieces on the "
            f"train transcripts ({reason}); give another number"
        ) from None
    return out.getvalue()


class PieceModel:
    """Splits words into pieces.

    Args:
        content: the model that `train_pieces` returns.
    """

    def __init__(self, content: bytes) -> None:
        import sentencepiece

        self._model = sentencepiece.SentencePieceProcessor(model_proto=content)
        self._cache: dict[str, tuple[str, ...]] = {}

    def split(self, word: str) -> tuple[str, ...]:
        """Split a word into pieces that can be spelled; BOUNDARY begins the first, ends the last.

        A word without a spelling is one piece.
        """
        if word not in self._cache:
            self._cache[word] = self._split(word)
        return self._cache[word]

    def _split(self, word: str) -> tuple[str, ...]:
        parts = clusters(word)
        if not parts:
            return (BOUNDARY + word + BOUNDARY,)
        pieces = self._model.encode(word, out_type=str)
        may_end = set(accumulate(map(len, [BOUNDARY, *parts]))) - {len(BOUNDARY)}
        ends = [end for end in accumulate(map(len, pieces)) if end in may_end]
        marked, ends[-1] = BOUNDARY + word + BOUNDARY, ends[-1] + len(BOUNDARY)
        return tuple(marked[first:last] for first, last in zip([0, *ends], ends, strict=False))


def single_clusters(words: Iterable[str]) -> set[str]:
    """The clusters of `words` as pieces: within a word, at its beginning, at its end, and alone.

    Every word with these clusters can be composed of them.
    """
    parts, marks = {part for word in words for part in clusters(word)}, ("", BOUNDARY)
    return {begin + part + end for part in parts for begin in marks for end in marks}


def without_marks(piece: str) -> tuple[str, bool, bool]:
    """The text of a piece, and whether a word begins and ends with it."""
    text = piece.removeprefix(BOUNDARY).removesuffix(BOUNDARY)
    return text, piece.startswith(BOUNDARY), piece.endswith(BOUNDARY)


def word_slices(pieces: Sequence[str]) -> list[slice]:
    """The pieces of each word; a word begins at the first piece, and before or after BOUNDARY."""
    ended = [True, *(piece.endswith(BOUNDARY) for piece in pieces)]
    first = [n for n, piece in enumerate(pieces) if ended[n] or piece.startswith(BOUNDARY)]
    return [slice(a, b) for a, b in zip(first, [*first, len(pieces)][1:], strict=True)]


def join_pieces(pieces: Sequence[str]) -> list[str]:
    """Join pieces to words, as sentencepiece's `decode` does."""
    return [without_marks("".join(pieces[part]))[0] for part in word_slices(pieces)]


@dataclass(frozen=True)
class Joiner:
    """Joins the output labels of a graph to words.

    Attributes:
        pieces: whether the labels are word pieces.
    """

    pieces: bool

    @classmethod
    def of(cls, graph: Path) -> "Joiner":
        """The joiner of the graph in a directory."""
        return cls((Path(graph) / PIECES_FILE).is_file())

    def __call__(self, labels: Sequence[str]) -> list[str]:
        """The words of some labels."""
        return join_pieces(labels) if self.pieces else list(labels)

    def word_slices(self, labels: Sequence[str]) -> list[slice]:
        """The labels of each word."""
        return word_slices(labels) if self.pieces else [slice(n, n + 1) for n in range(len(labels))]
