"""Words to pieces and back."""

import random
import re
import string

import pytest
import sentencepiece
from hypothesis import given, settings
from hypothesis import strategies as st

from acoustic_kd.language.graphemes import clusters
from acoustic_kd.language.normalise import normalise_spelled
from acoustic_kd.language.pieces import (
    BOUNDARY,
    PieceModel,
    join_pieces,
    single_clusters,
    train_pieces,
    without_marks,
    word_slices,
)
from acoustic_kd.system.errors import UserError

SENTENCES = [
    "THE CAT SAT ON THE MAT AND DIDN'T GO",
    "THE DOG AND THE CAT CAN'T GO ON",
    "ПРИВЕТ МИР КАК ДЕЛА ПРИВЕТ НАШ МИР НА́Ш",
    "สวัสดีครับ ขอบคุณครับ",
    "İSTANBUL ISI İSİ DİYARBAKIR",
    "हिन्दी में बात करते हैं",
    "世界你好 你好世界",
    "안녕하세요 안녕",
]
WORDS = [text.split() for text in SENTENCES]
LETTERS = sorted({letter for text in SENTENCES for letter in text} - {" "})
SIZES = {"unigram": 80, "bpe": 150}
MODELS = {kind: train_pieces(WORDS * 3, size, kind) for kind, size in SIZES.items()}
words = st.one_of(st.text(LETTERS, min_size=1), st.text(min_size=1)).map(normalise_spelled)


@pytest.mark.parametrize("kind", MODELS)
@settings(max_examples=300)
@given(texts=st.lists(words, max_size=4))
def test_words_to_pieces_to_words(kind, texts):
    model = PieceModel(MODELS[kind])
    sentence = " ".join(texts).split()
    split = [model.split(word) for word in sentence]
    pieces = [piece for word in split for piece in word]
    assert join_pieces(pieces) == sentence
    assert [tuple(pieces[run]) for run in word_slices(pieces)] == split
    for word, parts in zip(sentence, split, strict=True):
        marks = [(begins, ends) for _, begins, ends in map(without_marks, parts)]
        assert [begins for begins, _ in marks] == [True] + (len(parts) - 1) * [False]
        assert [ends for _, ends in marks] == (len(parts) - 1) * [False] + [True]
        written = [without_marks(part)[0] for part in parts]
        if clusters(word):  # nothing is cut that is one, and each piece has a sound
            assert [c for part in written for c in clusters(part)] == clusters(word)
            assert all(written)


@pytest.mark.parametrize("kind", MODELS)
def test_pieces_are_sentencepiece_s_where_these_have_a_sound(kind):
    model = PieceModel(MODELS[kind])
    theirs = sentencepiece.SentencePieceProcessor(model_proto=MODELS[kind])
    seen = 0
    for sentence in WORDS:
        pieces = [piece for word in sentence for piece in model.split(word)]
        assert join_pieces(pieces) == theirs.decode(theirs.encode(" ".join(sentence))).split()
        for word in sentence:
            found = tuple(theirs.encode(word, out_type=str))
            written = [without_marks(piece)[0] for piece in found]
            if all(written) and [c for part in written for c in clusters(part)] == clusters(word):
                assert model.split(word) == (*found[:-1], found[-1] + BOUNDARY)
                seen += 1
    assert seen >= 5


def test_every_word_can_be_made():
    singles = single_clusters(word for sentence in WORDS for word in sentence)
    for word in ("O", "NO", "DOGMA", "HAND"):
        pieces = re.findall(f"{BOUNDARY}?.{BOUNDARY}?", BOUNDARY + word + BOUNDARY)
        assert singles.issuperset(pieces) and join_pieces(pieces) == [word]


def test_joining_what_begins_within_a_word():
    assert join_pieces(["CAT", "S", "▁ON"]) == ["CATS", "ON"] and join_pieces([]) == []
    assert join_pieces(["CAT▁", "S", "ON", "▁A▁", "T"]) == ["CAT", "SON", "A", "T"]


@pytest.mark.parametrize("kind", MODELS)
def test_the_same_text_gives_the_same_bytes(kind):
    assert train_pieces(WORDS * 3, SIZES[kind], kind) == MODELS[kind]


@pytest.mark.parametrize(
    ("words", "size", "kind", "message"),
    [
        *((WORDS, 10**5, kind, "too high") for kind in MODELS),
        *((WORDS, 5, kind, "smaller than required") for kind in MODELS),
        ([], 10, "unigram", "train transcripts .no text.;"),
    ],
)
def test_refusals(words, size, kind, message):
    with pytest.raises(UserError, match=f"^setting 'lang.pieces' is {size}, .*{message}") as caught:
        train_pieces(words, size, kind)
    assert "\n" not in str(caught.value)


def test_a_long_sentence_counts_too():
    """Some scripts part words nowhere; sentencepiece would leave out what is over 4 KB."""
    rng = random.Random(1)
    long = "".join(rng.choice(string.ascii_uppercase) for _ in range(9000))
    model = PieceModel(train_pieces([[long]], 60, "bpe"))
    pieces = model.split(long)
    assert join_pieces(pieces) == [long] and len(pieces) < 9000
