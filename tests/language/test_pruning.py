"""Pruning by relative entropy, against the paper's equations in plain Python."""

import itertools
import math
from collections import Counter

import numpy as np
import pytest
from arpa_model import ArpaModel, perplexity, read_arpa

from acoustic_kd.language.ngrams import BOS_ID, kneser_ney, train_lm
from acoustic_kd.language.pruning import perplexity_growth, prune

VOCABULARY = [chr(ord("A") + n) for n in range(12)]
WORDS = [*VOCABULARY, "</s>"]
ORDER = 3


def some_text(seed, sentences=400):
    """Sentences of a chain in which what comes next depends on two words."""
    rng = np.random.default_rng(seed)
    number = len(VOCABULARY)
    chain = rng.dirichlet(np.full(number, 0.3), size=(number, number))
    text = []
    for _ in range(sentences):
        words = [0, int(rng.integers(number))]
        for _ in range(rng.integers(1, 10)):
            words.append(int(rng.choice(number, p=chain[words[-2], words[-1]])))
        text.append([VOCABULARY[word] for word in words[1:]])
    return text


class Arrays:
    """A model as the arrays of `kneser_ney`, and as plain dictionaries."""

    def __init__(self, text):
        self.orders, self.probabilities, self.backoffs = kneser_ney(text, VOCABULARY, ORDER)
        self.kept = [~ngrams.has_oov for ngrams in self.orders]
        self.predictions = sum(len(sentence) + 1 for sentence in text)
        names = ["<s>", "</s>", *VOCABULARY, "?"]
        grams = [[(name,) for name in names]]
        for ngrams in self.orders[1:]:
            pairs = zip(ngrams.prefix.tolist(), ngrams.word.tolist(), strict=True)
            grams.append([(*grams[-1][prefix], names[word]) for prefix, word in pairs])
        self.grams = grams

    def pruned(self, threshold):
        """Prune, and return the n-grams that went."""
        before = self.kept
        self.kept, self.backoffs = prune(
            self.orders, before, self.probabilities, self.backoffs, threshold, self.predictions
        )
        return {
            gram
            for grams, was, now in zip(self.grams, before, self.kept, strict=True)
            for gram in itertools.compress(grams, was & ~now)
        }

    def model(self):
        """In double precision; an ARPA file has seven digits."""
        backoffs = [*self.backoffs[:-1], np.ones(len(self.grams[-1]))]
        orders = zip(self.grams, self.kept, self.probabilities, backoffs, strict=True)
        return ArpaModel(
            tuple(
                {
                    gram: (math.log10(p), math.log10(backoff))
                    for gram, keep, p, backoff in zip(*columns, strict=True)
                    if keep
                }
                for columns in orders
            )
        )

    def share(self, history):
        """How often a history comes in the text, of all predictions."""
        n = len(history) - 1
        return self.orders[n].raw[self.grams[n].index(history)] / self.predictions


def histories(length):
    """Every history of so many words."""
    for words in itertools.product(["<s>", *VOCABULARY], repeat=length):
        if "<s>" not in words[1:]:
            yield words


def distribution(model, history):
    return np.array([10 ** model.logprob(history, word) for word in WORDS])


def divergence(full, pruned, history):
    """Kullback-Leibler divergence, in nats, of what comes after a history."""
    p, q = distribution(full, history), distribution(pruned, history)
    return float(np.sum(p * np.log(p / q)))


def growth_in_plain_python(model, share, history):
    """Word → by which share the perplexity grows without it after `history`: the equations."""
    lower = {word: 10 ** model.logprob(history[1:], word) for word in WORDS}
    known = model.ngrams[len(history)]
    explicit = {w: 10 ** known[(*history, w)][0] for w in WORDS if (*history, w) in known}
    left, below = 1 - sum(explicit.values()), 1 - sum(lower[word] for word in explicit)
    if len(explicit) == len(WORDS):  # nothing is backed off to: zero but for rounding
        left = below = 0.0
    alpha = left / below if below else 1.0
    growth = {}
    for word, p in explicit.items():
        new = (left + p) / (below + lower[word])
        change = math.log(lower[word]) + math.log(new) - math.log(p)
        entropy = -share * (p * change + (math.log(new) - math.log(alpha)) * left)
        growth[word] = math.exp(entropy) - 1
    return growth


@pytest.mark.parametrize("threshold", [1e-5, 1e-4, 1e-3])
def test_the_equations_say_which_n_grams_are_removed(threshold):
    arrays = Arrays(some_text(1))
    model = arrays.model()
    stay = set()  # with more than one word
    for n in range(ORDER, 1, -1):
        begun = {gram[:-1] for gram in stay}
        for history in {gram[:-1] for gram in model.ngrams[n - 1]}:
            share = arrays.share(history)
            for word, growth in growth_in_plain_python(model, share, history).items():
                assert abs(growth / threshold - 1) > 1e-6  # or chance decides
                if growth >= threshold or (*history, word) in begun:
                    stay.add((*history, word))
    everything = {gram for grams in model.ngrams[1:] for gram in grams}
    gone = arrays.pruned(threshold)
    assert 0 < len(gone) < len(everything)
    assert gone == everything - stay


@pytest.mark.parametrize("threshold", [1e-5, 1e-3, 0.5])
def test_the_pruned_model_sums_to_one(threshold):
    arrays = Arrays(some_text(2))
    assert arrays.pruned(threshold)
    model = arrays.model()
    for history in itertools.chain(*map(histories, range(ORDER))):
        assert distribution(model, history).sum() == pytest.approx(1, abs=1e-12)
    for n, grams in enumerate(arrays.grams):  # the arrays have removed n-grams, too
        for gram, p in zip(grams, arrays.probabilities[n], strict=True):
            if gram != ("<s>",) and "?" not in gram:
                assert math.log10(p) == pytest.approx(model.logprob(gram[:-1], gram[-1]))


def test_the_predicted_cost_of_one_n_gram():
    """Against the divergence summed over the whole vocabulary."""
    arrays = Arrays(some_text(3))
    full, top = arrays.model(), ORDER - 1
    growth = perplexity_growth(
        arrays.orders[top],
        arrays.kept[top],
        arrays.probabilities[top],
        arrays.probabilities[top - 1],
        arrays.backoffs[top - 1],
        arrays.orders[top - 1].raw / arrays.predictions,
    )
    for number in np.argsort(growth)[:: len(growth) // 20]:
        gram = arrays.grams[top][number]
        one = Arrays(some_text(3))
        one.kept[top] = one.kept[top] & (np.arange(len(growth)) != number)
        one.pruned(0.0)  # nothing else: only the weights
        cost = arrays.share(gram[:-1]) * divergence(full, one.model(), gram[:-1])
        assert math.expm1(cost) == pytest.approx(growth[number], rel=1e-6, abs=1e-12)


@pytest.mark.parametrize("seed", range(2))
def test_a_higher_threshold_prunes_more_and_costs_more(seed):
    """In perplexity on the distribution of the full model, with the text's histories."""
    arrays = Arrays(some_text(seed))
    full = arrays.model()
    histories = [history for history in full.ngrams[ORDER - 2] if history[-1] != "</s>"]
    share = {history: arrays.share(history) for history in histories}
    cost, size = 0.0, sum(map(len, full.ngrams))
    for threshold in (1e-5, 1e-4, 3e-4, 1e-3):
        arrays = Arrays(some_text(seed))
        arrays.pruned(threshold)
        pruned = arrays.model()
        costs = {history: divergence(full, pruned, history) for history in share}
        assert min(costs.values()) > -1e-12
        higher = sum(share[history] * costs[history] for history in share)
        assert higher >= cost - 1e-12 and sum(map(len, pruned.ngrams)) <= size
        cost, size = higher, sum(map(len, pruned.ngrams))
    assert cost > 0


def test_a_file_has_what_is_kept_and_no_empty_orders(tmp_path):
    path = tmp_path / "lm.arpa"
    numbers = train_lm(some_text(4), VOCABULARY, path, ORDER, threshold=1e-4)
    assert numbers == [len(grams) for grams in read_arpa(path).ngrams]
    train_lm(some_text(4), VOCABULARY, path, ORDER, threshold=0.99)
    assert [len(grams) for grams in read_arpa(path).ngrams] == [len(VOCABULARY) + 2]


def test_pruning_with_min_counts_and_unknown_words(tmp_path):
    text = [[*sentence, "unknown"] for sentence in some_text(5)]
    path, whole = tmp_path / "lm.arpa", tmp_path / "whole.arpa"
    train_lm(text, VOCABULARY, path, ORDER, [1, 2, 2], 1e-4)
    train_lm(text, VOCABULARY, whole, ORDER, [1, 2, 2])
    model, unpruned = read_arpa(path), read_arpa(whole)
    marked = [["<s>", *sentence, "</s>"] for sentence in text]
    grams = [tuple(words[n : n + 3]) for words in marked for n in range(len(words) - 2)]
    counts = Counter(gram for gram in grams if "unknown" not in gram)
    assert unpruned.ngrams[2].keys() == {gram for gram, count in counts.items() if count >= 2}
    assert model.ngrams[2].keys() < unpruned.ngrams[2].keys() < counts.keys()
    for history in itertools.chain(*map(histories, range(ORDER))):
        for trained in (model, unpruned):
            assert distribution(trained, history).sum() == pytest.approx(1, abs=1e-5)
    assert perplexity(model, text).value > perplexity(unpruned, text).value


def test_a_history_with_every_word_after_it(tmp_path):
    """Nothing is backed off to, so no weight can be found from what is left."""
    text = [[first, second] for first in "AB" for second in "AB"] * 3 + [["A"], ["B"]]
    train_lm(text, "AB", tmp_path / "lm.arpa", 2, threshold=1e-9)
    model = read_arpa(tmp_path / "lm.arpa")
    for history in ("A", "B", "<s>"):
        total = sum(10 ** model.logprob((history,), word) for word in ("A", "B", "</s>"))
        assert total == pytest.approx(1, abs=1e-6)


def test_the_share_of_histories_counts_sentence_beginnings():
    arrays = Arrays(some_text(6))
    raw = arrays.orders[0].raw
    beginnings = raw[BOS_ID]
    assert beginnings == 400
    others = raw[2 : 2 + len(VOCABULARY)].sum()  # sentence ends are no history
    assert (beginnings + others) / arrays.predictions == 1
