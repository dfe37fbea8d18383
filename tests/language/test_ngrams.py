"""Language models against the smoothing's definition."""

import itertools
import math
from collections import Counter, defaultdict

import numpy as np
import pytest
from arpa_model import perplexity, read_arpa
from hypothesis import given, settings
from hypothesis import strategies as st

from acoustic_kd.language.ngrams import discounts, train_lm
from acoustic_kd.system.errors import UserError

VOCABULARY = ["A", "B", "C", "D"]
SENTENCES = st.lists(st.lists(st.sampled_from([*VOCABULARY, "x", "y"]), max_size=7), max_size=40)


def train(tmp_path, sentences, **settings):
    path = tmp_path / "lm.arpa"
    train_lm(sentences, VOCABULARY, path, **settings)
    return read_arpa(path)


def brute_force(sentences, order):
    """p(word, history) of interpolated modified Kneser-Ney, straight from its definition."""
    known = {*VOCABULARY, "<s>", "</s>"}
    raw = [Counter() for _ in range(order + 2)]
    for sentence in sentences:
        tokens = ["<s>", *(w if w in known else "?" for w in sentence), "</s>"]
        for n in range(1, order + 1):
            raw[n].update(tuple(tokens[i : i + n]) for i in range(len(tokens) - n + 1))
    counts = {}
    for n in range(1, order + 1):
        left = defaultdict(set)
        for gram in raw[n + 1] if n < order else ():
            left[gram[1:]].add(gram[0])
        counts[n] = {
            gram: count if n == order or gram[0] == "<s>" else len(left[gram])
            for gram, count in raw[n].items()
            if "?" not in gram and gram != ("<s>",)
        }

    def p(word, history):
        n = len(history) + 1
        lower = 1 / (len(VOCABULARY) + 1) if n == 1 else p(word, history[1:])
        followers = {g: c for g, c in counts[n].items() if g[:-1] == history}
        total = sum(followers.values())
        if not total:
            return lower
        d = discounts(np.array(list(counts[n].values())))
        gamma = sum(d[min(c, 3)] for c in followers.values()) / total
        count = followers.get((*history, word), 0)
        return (count - d[min(count, 3)]) / total + gamma * lower

    return p


@settings(max_examples=40)
@given(sentences=SENTENCES, order=st.integers(1, 4))
def test_agrees_with_the_definition_and_sums_to_one(tmp_path_factory, sentences, order):
    sentences = [*sentences, ["A", "B"]]
    model = train(tmp_path_factory.mktemp("lm"), sentences, order=order)
    expected = brute_force(sentences, order)
    words = [*VOCABULARY, "</s>"]
    for length in range(order):
        for history in itertools.product(["<s>", *VOCABULARY], repeat=length):
            if "<s>" in history[1:]:
                continue
            found = [10 ** model.logprob(history, word) for word in words]
            assert math.isclose(sum(found), 1, rel_tol=1e-5)
            wanted = [expected(word, history) for word in words]
            np.testing.assert_allclose(found, wanted, rtol=2e-6)


def test_estimated_discounts_are_chen_and_goodmans():
    counts = np.repeat([1, 2, 3, 4, 5], [10, 5, 3, 2, 9])
    y = 10 / 20
    wanted = [0, 1 - 2 * y * 5 / 10, 2 - 3 * y * 3 / 5, 3 - 4 * y * 2 / 3]
    np.testing.assert_allclose(discounts(counts), wanted)


def test_same_input_same_file_whatever_the_order_of_the_vocabulary(tmp_path):
    sentences = [["A", "B"], ["D", "C", "A"]]
    for name, words in (("1", VOCABULARY), ("2", VOCABULARY[::-1])):
        train_lm(sentences, words, tmp_path / name)
    assert (tmp_path / "1").read_bytes() == (tmp_path / "2").read_bytes()


def test_perplexity(tmp_path):
    sentences = [["A", "B", "C"]] * 20
    model = train(tmp_path, sentences)
    seen = perplexity(model, sentences)
    unseen = perplexity(tmp_path / "lm.arpa", [["C", "A", "x"]])
    assert 1 < seen.value < 1.5
    assert (seen.words, seen.oov) == (80, 0)
    assert unseen.value > 2 * seen.value
    assert (unseen.words, unseen.oov) == (3, 1)


@pytest.mark.parametrize(
    ("sentences", "message"),
    [([], "no training sentences"), ([["x"]], "no training sentence has a word")],
)
def test_text_without_known_words_is_refused(tmp_path, sentences, message):
    with pytest.raises(UserError, match=message):
        train(tmp_path, sentences)
    assert not list(tmp_path.iterdir())
