"""Pieces of words in the decoder: `lang.units=pieces`, from the train transcripts to the graph.

docs/units.md
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from acoustic_kd.corpora.manifest import read_manifest
from acoustic_kd.files import atomic_path
from acoustic_kd.lexicon import Lexicon
from acoustic_kd.stages.experiment import Experiment
from acoustic_kd.stages.spelling import alphabet_of
from acoustic_kd.units.graphemes import clusters
from acoustic_kd.units.pieces import (
    PieceModel,
    bare,
    join_pieces,
    single_clusters,
    train_pieces,
    word_runs,
)

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


@dataclass(frozen=True)
class Pieces:
    """A text in pieces.

    Attributes:
        sentences: lists of pieces, made anew by each loop.
        lexicon: how each piece is said.
        words: of the text.
        knows: whether a word can come out.
    """

    sentences: Iterable[list[str]]
    lexicon: Lexicon
    words: set[str]
    knows: Callable[[str], bool]


class _InPieces:
    """Sentences of words as sentences of pieces."""

    def __init__(self, model: PieceModel, sentences: Iterable[list[str]]) -> None:
        self._model, self._sentences = model, sentences

    def __iter__(self) -> Iterator[list[str]]:
        for words in self._sentences:
            yield [piece for word in words for piece in self._model.split(word)]


def make_pieces(experiment: Experiment, text: Iterable[list[str]] | None, out: Path) -> Pieces:
    """Train the sentencepiece model on the train transcripts; put them, or a text, in its pieces.

    The pieces are those that the text is made of, and every cluster of the train transcripts alone,
    at every place of a word: so every word can come out.

    Args:
        text: sentences of words; None: the train transcripts.
        out: where `PIECES` goes.

    Raises:
        UserError: there cannot be so many pieces, or so few.
    """
    lang, alphabet = experiment.config.lang, alphabet_of(experiment, "graph")
    train = read_manifest(experiment.path("corpus") / "train.jsonl")
    spoken = [(utterance.text or "").split() for utterance in train]
    spelled = alphabet.spelled({word for words in spoken for word in words})
    learnt = [[word for word in words if word in spelled] for words in spoken]
    content = train_pieces(filter(None, learnt), lang.pieces, lang.piece_model)
    with atomic_path(out / PIECES) as temporary:
        temporary.write_bytes(content)
    model, sentences = PieceModel(content), spoken if text is None else text
    words = {word for sentence in sentences for word in sentence}
    singles = single_clusters(spelled)
    said = {
        piece: alphabet.spell(*bare(piece))
        for piece in sorted(singles.union(*map(model.split, words)))
    }
    lexicon = Lexicon({piece: (spelling,) for piece, spelling in said.items() if spelling})

    def knows(word: str) -> bool:
        parts = clusters(word)
        whole = singles.issuperset(parts) and alphabet.spell(word) is not None
        return whole or all(piece in lexicon for piece in model.split(word))

    return Pieces(_InPieces(model, sentences), lexicon, words, knows)
