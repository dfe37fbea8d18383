"""Pieces of words, by sentencepiece: an open vocabulary for the decoder.

Kudo and Richardson, *SentencePiece: A simple and language independent subword tokenizer and
detokenizer for Neural Text Processing* (2018). Its pieces may part a letter from its accent, and
one may be the mark of a word's beginning alone, or an apostrophe; what is said needs a sound. So
pieces are put together again where they do not end between two clusters (`graphemes`).
"""

import io
from collections.abc import Iterable, Sequence
from itertools import accumulate

from acoustic_kd.errors import UserError
from acoustic_kd.units.graphemes import clusters

BEGIN = "▁"  # sentencepiece's mark of a word's first piece
_LONGEST = 1 << 24  # bytes of a sentence: longer ones would be left out


def train_pieces(sentences: Iterable[Sequence[str]], size: int, kind: str = "unigram") -> bytes:
    """A sentencepiece model of some sentences; the same input gives the same bytes.

    Args:
        sentences: lists of words, normalised already.
        size: how many pieces, sentencepiece's `<unk>` among them.
        kind: of `config.PIECE_MODELS`.

    Raises:
        UserError: the text has too few words for as many pieces, or too many letters for as few.
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
        """The pieces of a word, of which the first begins with BEGIN; each has a sound.

        A word without a spelling is one piece.
        """
        found = self._known.get(word)
        if found is None:
            found = self._known[word] = self._split(word)
        return found

    def _split(self, word: str) -> tuple[str, ...]:
        parts = clusters(word)
        if not parts:
            return (BEGIN + word,)
        pieces = self._model.encode(word, out_type=str)
        may_end = set(accumulate(map(len, [BEGIN, *parts]))) - {len(BEGIN)}
        ends = [end for end in accumulate(map(len, pieces)) if end in may_end]
        marked = BEGIN + word
        return tuple(marked[first:last] for first, last in zip([0, *ends], ends, strict=False))


def single_clusters(words: Iterable[str]) -> set[str]:
    """Pieces of one cluster, at a word's beginning and within it: every word can be made of them.

    Every word, that is, whose clusters `words` have.
    """
    parts = {part for word in words for part in clusters(word)}
    return parts | {BEGIN + part for part in parts}


def word_runs(pieces: Sequence[str]) -> list[slice]:
    """Which pieces make each word: a word begins at the first piece and at each with BEGIN."""
    first = [n for n, piece in enumerate(pieces) if n == 0 or piece.startswith(BEGIN)]
    return [slice(a, b) for a, b in zip(first, [*first, len(pieces)][1:], strict=True)]


def join_pieces(pieces: Sequence[str]) -> list[str]:
    """The words that pieces make: sentencepiece's own way back (its `decode`)."""
    return ["".join(pieces[run]).removeprefix(BEGIN) for run in word_runs(pieces)]
