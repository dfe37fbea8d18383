"""Back-off models as acceptors: what sentences cost, and files that are refused."""

import gzip
import math
import re
from pathlib import Path

import numpy as np
import pytest
from arpa_model import read_arpa
from hypothesis import given, settings
from hypothesis import strategies as st

from acoustic_kd.decoding.graph.grammar import Grammar, linear_grammar, read_grammar
from acoustic_kd.language.arpa import BOS, EOS
from acoustic_kd.language.ngrams import train_lm
from acoustic_kd.system.errors import UserError

WORDS = ("a", "b", "c", "d")
SENTENCES = st.lists(st.lists(st.sampled_from(WORDS), max_size=6), min_size=1, max_size=12)


def cost(grammar: Grammar, sentence: list[str]) -> float:
    """Of a sentence, backing off only where there is no arc."""
    state, total = grammar.start, 0.0
    for word in sentence:
        label = grammar.words.index(word) + 1
        while True:
            arc = np.flatnonzero((grammar.source == state) & (grammar.word == label))
            if len(arc):
                break
            total, state = total + grammar.backoff_cost[state], grammar.backoff[state]
        assert len(arc) == 1
        total, state = total + grammar.cost[arc[0]], grammar.target[arc[0]]
    while not np.isfinite(grammar.final[state]):
        total, state = total + grammar.backoff_cost[state], grammar.backoff[state]
    return total + grammar.final[state]


@settings(max_examples=40)
@given(text=SENTENCES, order=st.integers(1, 4), heard=SENTENCES, zipped=st.booleans())
def test_sentences_cost_what_the_model_says(tmp_path_factory, text, order, heard, zipped):
    path = tmp_path_factory.mktemp("lm") / "lm.arpa"
    train_lm([*text, ["a"]], WORDS, path, order)
    if zipped:
        content, path = path.read_bytes(), path.with_suffix(".arpa.gz")
        path.write_bytes(gzip.compress(content))
    model, grammar = read_arpa(path), read_grammar(path)
    assert grammar.words == list(WORDS)
    for sentence in heard:
        words = [BOS, *sentence, EOS]
        expected = sum(model.logprob(tuple(words[:n]), words[n]) for n in range(1, len(words)))
        assert cost(grammar, sentence) == pytest.approx(-math.log(10) * expected, abs=1e-3)


def test_words_left_out_take_their_n_grams_with_them(tmp_path):
    path = tmp_path / "lm.arpa"
    train_lm([["a", "b"], ["b", "c"], ["a", "c"]], WORDS, path, 3)
    whole, part = read_grammar(path), read_grammar(path, left_out={"b", "z"})
    assert part.words == ["a", "c", "d"]
    assert cost(part, ["a", "c"]) == pytest.approx(cost(whole, ["a", "c"]), abs=1e-5)


def test_a_linear_grammar_is_its_sentence():
    grammar = linear_grammar(["b", "a", "b"])
    assert cost(grammar, ["b", "a", "b"]) == 0 and np.isinf(grammar.final[:3]).all()
    assert len(linear_grammar([]).final) == 1 and cost(linear_grammar([]), []) == 0


ARPA = """\\data\\
ngram 1=4
ngram 2=2

\\1-grams:
-99 <s> -0.3
-0.9 </s>
-0.5 a -0.1
-0.6 b -0.2

\\2-grams:
-0.2 <s> a
-0.3 a b

\\end\\
"""


DIALECTS = {
    "mark": lambda text: ("\ufeff" + text).encode(),
    "gzip": lambda text: gzip.compress(text.encode()),
    "line ends": lambda text: text.replace("\n", "\r\n").encode(),
    "tabs": lambda text: text.replace(" ", "\t").encode(),
    "text before": lambda text: b"made by hand\n\n" + text.encode(),
    "no blank lines": lambda text: text.replace("\n\n", "\n").encode(),
    "an order of none": lambda text: text.replace("2=2\n", "2=2\nngram 3=0\n").encode(),
    "unknown word": lambda text: text.replace("1=4", "1=5")
    .replace("-0.9 </s>", "-inf <unk>\n-0.9 </s>").encode(),
    "infinite start": lambda text: text.replace("-99 <s>", "-inf <s>").encode(),
    "probability of the start": lambda text: text.replace("-99 <s>", "1 <s>").encode(),
    "highest weights": lambda text: text.replace("<s> a\n", "<s> a -0.5\n").encode(),
    "another form": lambda text: text.replace("1=4", "1=5")
    .replace("-0.5 a -0.1", "-0.7 a\u00ad -0.1\n-0.5 a -0.1").encode(),
}  # fmt: skip


@pytest.mark.parametrize("dialect", DIALECTS)
def test_every_dialect_is_the_same_model(tmp_path, dialect):
    grammars = []
    for name, content in (("plain", ARPA.encode()), ("other", DIALECTS[dialect](ARPA))):
        (tmp_path / name).write_bytes(content)
        grammars.append(read_grammar(tmp_path / name))
    for key, value in vars(grammars[0]).items():
        np.testing.assert_array_equal(value, vars(grammars[1])[key], key)


def test_words_are_normalised_and_what_is_lost_is_said(tmp_path, capsys):
    path = tmp_path / "lm.arpa"
    path.write_text(ARPA.replace(" a", " e\u0301"), encoding="utf-8")
    assert read_grammar(path).words == ["b", "é"]
    assert read_grammar(path, normalise=str.upper).words == ["B", "E\u0301"]
    assert not capsys.readouterr().out
    path.write_text(
        ARPA.replace("2=2", "2=2\nngram 3=1").replace("\\end", "\\3-grams:\n-0.1 b a b\n\n\\end")
    )
    assert len(read_grammar(path).word) == 4
    assert "1 n-grams of the language model are left out: it lacks" in capsys.readouterr().out


def refusal(folder: Path, content: bytes) -> str:
    path = folder / "lm.arpa"
    path.write_text(ARPA)
    assert read_grammar(path).words == ["a", "b"]
    path.write_bytes(content)
    with pytest.raises(UserError) as caught:
        read_grammar(path)
    message = str(caught.value)
    assert message.startswith(f"language model {path}") and "\n" not in message
    return message


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("-0.3 a b", "-0.2 <s> a", "has a duplicate 2-gram"),
        ("-0.6 b", "-0.6 a", "has a duplicate 1-gram"),
        ("-0.5 a", "nan a", "1-gram 'a': a number is not finite"),
        ("-0.1\n", "-inf\n", "1-gram 'a': a number is not finite"),
        ("-0.9 </s>", "-0.9 c", "has no <s> or no </s>"),
        ("-99 <s> -0.3", "-99 d -0.3", "has no <s> or no </s>"),
        ("-0.5 a", "-0,5 a", "'-0,5 a -0.1' has no valid number"),
        ("-0.3 a b", "-0.3 a", "is not an entry of the 2-grams"),
        ("ngram 2=2", "ngram 2=3", "1 2-grams fewer than the header says"),
        ("ngram 1=4", "ngram 1=5", "1 1-grams fewer than the header says"),
        ("ngram 1=4", "ngram 1=3", "lm.arpa:9: '-0.6 b -0.2' is not an entry of the 1-grams"),
        ("\\2-grams", "\\3-grams", "is out of place"),
        ("\\data\\", "data", "no \\data\\ line"),
        ("\\end\\", "", "cut short"),
        ("-0.6 b", "-0.6 \udcff", "lm.arpa:9: byte 0xff is not UTF-8; convert the file"),
        ("-0.3 a b", "0.3 a b", "2-gram 'a b': its probability is above 1"),
        ("-0.6 b", "-0.6 b c d", "lm.arpa:9: '-0.6 b c d -0.2' is not an entry"),
        ("\\data\\", "iARPA\n\\data\\", "an iARPA file of IRSTLM; convert it"),
    ],
)
def test_damage_is_named(tmp_path, old, new, message):
    content = ARPA.replace(old, new, 1).encode(errors="surrogateescape")
    assert message in refusal(tmp_path, content)


def test_files_that_cannot_be_read(tmp_path):
    message = refusal(tmp_path, gzip.compress(ARPA.encode())[:-20])
    assert message.startswith(f"language model {tmp_path / 'lm.arpa'}: damaged")
    with pytest.raises(UserError, match=f"^language model {tmp_path / 'none'}: cannot be read"):
        read_grammar(tmp_path / "none")


@pytest.mark.parametrize("kept", range(5, len(ARPA) - 8, 13))
def test_a_file_that_is_cut_off_anywhere_is_refused(tmp_path, kept):
    assert re.search(r"cut short|fewer|not an entry|out of place|no valid|no ", refusal(
        tmp_path, ARPA[:kept].encode()
    ))  # fmt: skip
