"""Pronunciations of words that no lexicon has."""

from itertools import product

import numpy as np
import pytest
from arpa_model import read_arpa
from cmu import cmu_lexicon
from hypothesis import given, settings
from hypothesis import strategies as st

from acoustic_kd.language.g2p import cached_model, read_model, train_model
from acoustic_kd.language.g2p_alignment import align
from acoustic_kd.language.g2p_search import FIRST_UNIT
from acoustic_kd.language.lexicon import Lexicon
from acoustic_kd.language.ngrams import train_lm
from acoustic_kd.system.errors import UserError


@pytest.fixture(scope="module")
def lexicon() -> Lexicon:
    """Every twelfth word of CMU's dictionary: 10,700 words."""
    whole = cmu_lexicon()
    return whole.restricted_to(set(sorted(whole.entries)[::12]))


@pytest.fixture(scope="module")
def model(lexicon):
    return train_model(lexicon)


# None of them is in the lexicon that is learnt from.
GOLDEN = {
    "STRIPPED": "S T R IH P T",
    "BLINKING": "B L IH NG K IH NG",
    "FLEXING": "F L EH K S IH NG",
    "SHOPS": "SH AA P S",
    "MANSON": "M AE N S AH N",
    "TRANSPLANTS": "T R AE N S P L AE N T S",
    "CRISPLY": "K R IH S P L IY",
    "PILLOWS": "P IH L OW Z",
    "GRANT'S": "G R AE N T S",
}


def test_obvious_words(model, lexicon):
    assert lexicon.entries.keys().isdisjoint(GOLDEN)
    guesses = [" ".join(guesses[0].phones) for guesses in model.pronounce(list(GOLDEN))]
    assert guesses == list(GOLDEN.values())


def test_held_out_words_are_mostly_right(model, lexicon):
    whole = cmu_lexicon()
    words = [word for word in sorted(whole.entries)[5::400] if word not in lexicon]
    guesses = zip(words, model.pronounce(words), strict=True)
    right = [bool(found) and found[0].phones in whole[word] for word, found in guesses]
    assert np.mean(right) > 0.5, np.mean(right)


@settings(max_examples=60)
@given(words=st.lists(st.text("ABCEIJKQXZ'-", max_size=14), max_size=4))
def test_every_phone_is_the_lexicons(model, lexicon, words):
    phones = set(lexicon.phones())
    for guesses in model.pronounce(words):
        assert all(guess.phones and set(guess.phones) <= phones for guess in guesses)
        assert len({guess.phones for guess in guesses}) == len(guesses) <= 16
        shares = [guess.share for guess in guesses]
        assert shares == sorted(shares, reverse=True)
        assert not guesses or sum(shares) == pytest.approx(1)


def test_a_word_is_said_alike_in_any_company(model):
    words = ["ZYGOTIC", "QUIXOTRY", "O'SHAUGHN", "X", "BLORPING"]
    together = model.pronounce(words)
    assert together == model.pronounce(words)
    assert together == [model.pronounce([word])[0] for word in words]


def test_letters_that_the_lexicon_lacks(model):
    assert model.pronounce(["", "NAÏVE", "4TH", "word", "<UNK>"]) == [[]] * 5
    assert model.pronounce([]) == []


def test_the_ngram_is_the_language_models(model, lexicon, tmp_path):
    """What `extend` adds up over a word is what the same n-gram says as an ARPA file."""
    small = lexicon.restricted_to(set(sorted(lexicon.entries)[::60]))
    model = train_model(small, order=3)
    rows = [(word, phones) for word in sorted(small.entries) for phones in small[word]]
    names = {unit: f"u{number:06d}" for number, unit in enumerate(model.units)}
    sentences = [[names[unit] for unit in cut] for cut in align(rows) if cut]
    train_lm(sentences, names.values(), tmp_path / "lm.arpa", 3)
    arpa = read_arpa(tmp_path / "lm.arpa")
    rng = np.random.default_rng(0)
    for sentence in [*sentences[:20], *(rng.choice(list(names.values()), 5) for _ in range(20))]:
        depth, context = np.array([1]), np.array([0])
        ids = [int(name[1:]) + FIRST_UNIT for name in sentence] + [1]
        history = ("<s>",)
        for name, number in zip([*sentence, "</s>"], ids, strict=True):
            score, depth, context = model.extend(depth, context, np.array([number]))
            expected = arpa.logprob(history, str(name)) * np.log(10)
            assert score[0] == pytest.approx(expected, abs=1e-4)
            history = (*history, str(name))


def test_other_phones_and_letters():
    syllables = {"bä": "v o:", "çe": "k i", "xi": "k s i", "lø": "l ø"}
    words = product(syllables, repeat=3)
    entries = {
        "".join(word): (tuple(" ".join(syllables[part] for part in word).split()),)
        for word in words
    }
    guesses = train_model(Lexicon(entries)).pronounce(["xiløbäçe"])[0]
    assert " ".join(guesses[0].phones) == "k s i l ø v o: k i"
    with pytest.raises(UserError, match="every word has more than two phones a letter"):
        train_model(Lexicon({"A": (("B", "C", "D"),)}))


def test_the_model_is_kept_until_it_is_damaged_or_the_lexicon_changes(lexicon, tmp_path):
    path = tmp_path / "g2p" / "model.safetensors"
    small = lexicon.restricted_to(set(sorted(lexicon.entries)[:100]))
    first = cached_model(small, path)
    time, content = path.stat().st_mtime_ns, path.read_bytes()
    again = cached_model(small, path)
    assert path.stat().st_mtime_ns == time
    assert again.pronounce(["ABLER"]) == first.pronounce(["ABLER"])
    for damaged in (content[: len(content) // 2], b"\x00" * 50, b"\xff" * 50):
        path.write_bytes(damaged)
        assert read_model(path, "") is None
    (path.parent / f".{path.name}.1.tmp").write_bytes(b"half")  # as a killed process leaves it
    cached_model(small, path)
    assert list(path.parent.iterdir()) == [path]
    assert path.read_bytes() == content  # the same lexicon, the same bytes
    cached_model(Lexicon(small.entries | {"ABLER": (("P",),)}), path)
    assert path.read_bytes() != content
