"""Graphs of pieces: words are recognised, including words that no text has."""

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
    "chinese": (["世界你好", "你好", "好世界 你好"], ["好你", "世好界"]),
    "turkish": (["ISI İSİ", "DİYAR İÇİ", "KISI"], ["IDI", "DİYARI", "KISIR", "İÇ", "İSİYAR"]),
    "hindi": (["हिन्दी में", "बात हिन्दी", "में बात"], ["बिन्में", "न्दी"]),
}


class Spoken:
    """A graph of pieces, and log-likelihoods of spoken words."""

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

    def recognise(self, words: list[str]) -> tuple[list[str], str]:
        """The recognised pieces, and the letters that they are spelled with."""
        with decoder_pool(self.folder) as decode:
            (result,) = decode([("a", self.loglikes(words))], [(10.0, 0.0)]).values()
        assert result.reached_final
        return result.words[0], self.letters(join_pieces(result.words[0]))

    def letters(self, words: list[str]) -> str:
        return "".join(letter for word in words for letter in self.alphabet.spell(word))


@pytest.mark.parametrize("language", TEXTS)
def test_unseen_words_are_recognised(language, tmp_path):
    texts, unseen = TEXTS[language]
    spoken, known = Spoken(texts, tmp_path), {word for text in texts for word in text.split()}
    for text in texts:
        assert join_pieces(spoken.recognise(text.split())[0]) == text.split()
    exact = 0
    for word in unseen:
        assert word not in known and BOUNDARY + word + BOUNDARY not in spoken.pieces
        pieces, letters = spoken.recognise([word])
        assert letters == spoken.letters([word])  # the letters are those of the word
        exact += join_pieces(pieces) == [word]
        assert len(word_slices(pieces)) == len(join_pieces(pieces))
    assert exact or language == "chinese"  # ends of words are not audible


def test_weights_are_tuned_on_words(tmp_path):
    spoken = Spoken(TEXTS["english"][0], tmp_path)
    words = ["THE", "CAT", "SAT"]
    with decoder_pool(spoken.folder) as decode:
        found = decode([("a", spoken.loglikes(words))], [(10.0, 0.0)])["a"].words
    assert min(tune({"a": found}, {"a": words}, [10.0], [0.0], join_pieces).table.values()) == 0
    assert min(tune({"a": found}, {"a": words}, [10.0], [0.0]).table.values()) > 0


def test_a_word_of_hundreds_of_letters_is_aligned():
    """A sentence is one word in a script without spaces."""
    rng = np.random.default_rng(1)
    word = "".join(rng.choice(list("กขคงจ"), 400))
    lexicon = Lexicon({word: (tuple(word),)})
    senones = spelling.inventory(5, phones=("SIL", *lexicon.phones()))
    path = spelling.spell([word], senones, rng, lexicon=lexicon)
    graph = alignment_graph(lexicon, [word], senones)
    found = force_align(graph, spelling.loglikes(path, senones.num_senones, 200.0))
    assert np.array_equal(found, path)
