"""Graphs of pieces: what is heard comes out as words, those of no text among them."""

from collections import Counter

import numpy as np
import pytest
import spelled_graphs as spelling

from acoustic_kd.alignment.viterbi import alignment_graph, force_align
from acoustic_kd.decoding.graph.compile import build_graph
from acoustic_kd.decoding.scoring import tune
from acoustic_kd.decoding.workers import decoder_pool
from acoustic_kd.language.graphemes import Alphabet
from acoustic_kd.language.lexicon import Lexicon
from acoustic_kd.language.ngrams import train_lm
from acoustic_kd.language.pieces import (
    BOUNDARY,
    PieceModel,
    join_pieces,
    single_clusters,
    train_pieces,
    without_marks,
    word_slices,
)

TEXTS = {
    "english": (["THE CAT SAT", "THE DOG SAT ON THE CAT", "DON'T GO ON"], ["THAT", "DOT", "CAN'T"]),
    "russian": (["ПРИВЕТ МИР", "КАК ДЕЛА", "НАШ МИР ТУТ"], ["ПРИМЕР", "ЛАД", "ВИД"]),
    "chinese": (
        ["世界你好", "你好", "好世界 你好"],
        ["好你", "世好界"],
    ),
    "turkish": (["ISI İSİ", "DİYAR İÇİ", "KISI"], ["IDI", "DİYARI", "KISIR", "İÇ", "İSİYAR"]),
    "hindi": (["हिन्दी में", "बात हिन्दी", "में बात"], ["बिन्में", "न्दी"]),
}


class Spoken:
    """A graph of pieces, and what it is like to hear words."""

    def __init__(self, texts: list[str], folder) -> None:
        sentences = [text.split() for text in texts]
        words = [word for sentence in sentences for word in sentence]
        self.alphabet = Alphabet(Counter(words))
        letters = len({letter for word in words for letter in word})
        model = PieceModel(train_pieces(sentences, letters + 6, "bpe"))
        text = [[p for word in sentence for p in model.split(word)] for sentence in sentences]
        self.pieces = single_clusters(words) | {piece for sentence in text for piece in sentence}
        lexicon = Lexicon(
            {p: (self.alphabet.spell(*without_marks(p)),) for p in sorted(self.pieces)}
        )
        train_lm(text, self.pieces, folder / "lm.arpa")
        self.senones = spelling.inventory(30, phones=("SIL", *lexicon.phones()))
        build_graph(lexicon, folder / "lm.arpa", self.senones, folder / "g")
        self.folder, self.rng = folder / "g", np.random.default_rng(0)

    def loglikes(self, words: list[str]) -> np.ndarray:
        lexicon = Lexicon(self.alphabet.spell_all(words))
        path = spelling.spell(words, self.senones, self.rng, lexicon=lexicon)
        return spelling.loglikes(path, self.senones.num_senones, 200.0)

    def heard(self, words: list[str]) -> tuple[list[str], str]:
        """The pieces that come out, and the letters that they are said as."""
        with decoder_pool(self.folder) as decode:
            (found,) = decode([("a", self.loglikes(words))], [(10.0, 0.0)]).values()
        assert found.reached_final
        return found.words[0], self.letters(join_pieces(found.words[0]))

    def letters(self, words: list[str]) -> str:
        return "".join(letter for word in words for letter in self.alphabet.spell(word))


@pytest.mark.parametrize("language", TEXTS)
def test_an_unseen_word_comes_out(language, tmp_path):
    texts, unseen = TEXTS[language]
    spoken, known = Spoken(texts, tmp_path), {word for text in texts for word in text.split()}
    for text in texts:
        assert join_pieces(spoken.heard(text.split())[0]) == text.split()
    exact = 0
    for word in unseen:
        assert word not in known and BOUNDARY + word + BOUNDARY not in spoken.pieces
        pieces, letters = spoken.heard([word])
        assert letters == spoken.letters([word])  # what was said is what is written
        exact += join_pieces(pieces) == [word]
        assert len(word_slices(pieces)) == len(join_pieces(pieces))
    assert exact or language == "chinese"  # where its words end nobody hears


def test_weights_are_tuned_on_words(tmp_path):
    spoken = Spoken(TEXTS["english"][0], tmp_path)
    words = ["THE", "CAT", "SAT"]
    with decoder_pool(spoken.folder) as decode:
        found = decode([("a", spoken.loglikes(words))], [(10.0, 0.0)])["a"].words
    assert min(tune({"a": found}, {"a": words}, [10.0], [0.0], join_pieces).table.values()) == 0
    assert min(tune({"a": found}, {"a": words}, [10.0], [0.0]).table.values()) > 0


def test_a_word_of_hundreds_of_letters_is_aligned():
    """Where a script parts words nowhere, a sentence is a word."""
    rng = np.random.default_rng(1)
    word = "".join(rng.choice(list("กขคงจ"), 400))
    lexicon = Lexicon({word: (tuple(word),)})
    senones = spelling.inventory(5, phones=("SIL", *lexicon.phones()))
    path = spelling.spell([word], senones, rng, lexicon=lexicon)
    graph = alignment_graph(lexicon, [word], senones)
    found = force_align(graph, spelling.loglikes(path, senones.num_senones, 200.0))
    assert np.array_equal(found, path)
