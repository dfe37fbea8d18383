"""The language model of the graph stage, through the command line: what is chosen and refused."""

import gzip
import json
import re
from functools import partial
from pathlib import Path

import mirror as pretended
import pytest
from arpa_model import read_arpa
from damage import forget_check_sums
from variants import some_words

from acoustic_kd.corpora import librispeech as librispeech
from acoustic_kd.corpora import openslr as openslr
from acoustic_kd.corpora.utterances import read_manifest
from acoustic_kd.experiment.words import G2P, MIN_TRAINING_WORDS
from acoustic_kd.language.lexicon import Lexicon, read_lexicon, write_lexicon
from acoustic_kd.settings import load_config
from acoustic_kd.system import download as download
from acoustic_kd.system.files import check_sum, write_json
from acoustic_kd.verbs.corpus import corpus_sources

INPUTS = ("corpus", "senones", "frames")
NAME = "3-gram.pruned.3e-7"


@pytest.fixture
def graph(recipe, outcome):
    """graph(setting, …) → exit status, standard output, standard error of the stage."""
    return partial(outcome, recipe, "graph")


@pytest.fixture
def refused(recipe, refusal):
    """refused(setting, …) → the one line with which the stage must refuse."""
    return partial(refusal, recipe, "graph")


@pytest.fixture
def sentences(recipe):
    """The train transcripts."""
    return [u.text for u in read_manifest(recipe.directory / "corpus" / "train.jsonl")]


@pytest.fixture
def text(recipe, sentences, tmp_path):
    """The train transcripts as a text, each twice."""
    path = tmp_path / "text.gz"
    path.write_bytes(gzip.compress("".join(f"{s}\n{s}\n" for s in sentences).encode()))
    return path


def words_of(recipe):
    lines = (recipe.directory / "graph" / "words.txt").read_text(encoding="utf-8").splitlines()
    return {line.split()[0] for line in lines} - {"<eps>", "#0", "<s>", "</s>"}


def unigrams(words):
    """A model in ARPA format in which all words are alike."""
    rows = "".join(f"-1.5\t{word}\n" for word in [*words, "</s>", "<unk>"])
    text = f"\\data\\\nngram 1={len(words) + 3}\n\n\\1-grams:\n-99\t<s>\n{rows}\n\\end\\\n"
    return text.encode()


# --- an n-gram of a text ------------------------------------------------------------------------


def test_a_text(recipe, graph, text, sentences, tmp_path):
    setting = f"lm.text={text}"
    status, out, _ = graph(setting)
    assert status == 0
    words = {word for sentence in sentences for word in sentence.split()}
    assert words_of(recipe) == words
    length = 2 * sum(len(sentence.split()) for sentence in sentences)
    assert f"{len(words)} of the text's {len(words)} words, 100.00% of the {length} that" in out
    assert re.search(r"language model of \d+ 1-grams, \d+ 2-grams, \d+ 3-grams", out)
    assert re.search(r"dev: \d+ of \d+ words \(\d+\.\d\d%\) are not in the vocabulary", out)
    assert "  up to date" in graph(setting)[1]
    moved = tmp_path / "moved.gz"
    text.rename(moved)
    assert "  up to date" in graph(f"lm.text={moved}")[1]
    moved.write_bytes(gzip.compress((" ".join(words) + "\n").encode()))
    assert "  up to date" not in graph(f"lm.text={moved}")[1]


def test_a_text_that_has_what_dev_or_test_reads_is_named(recipe, graph, tmp_path):
    """A warning in one line: with such a text word error rates are too low."""
    read = [u.text.split() for u in read_manifest(recipe.directory / "corpus" / "test.jsonl")]
    longest = max(read, key=len)
    assert len(longest) >= 7
    text = tmp_path / "text.txt"
    text.write_text(" ".join(reversed(longest)) + "\n")
    assert "warning" not in graph(f"lm.text={text}")[1]
    text.write_text(" ".join(longest) + "\n")
    status, out, _ = graph(f"lm.text={text}")
    (line,) = [line for line in out.splitlines() if "warning" in line]
    assert status == 0 and "7-word sequences of test are in lm.text" in line
    assert f"such as '{' '.join(longest[:7])}'" in line


def test_the_most_frequent_words_and_pruning(recipe, graph, text):
    whole = graph(f"lm.text={text}")[1]
    path = recipe.directory / "graph" / "lm.arpa"
    full = read_arpa(path)
    settings = ("lm.vocabulary=10", "lm.min_counts=[1,1,3]", "lm.prune=0.01")
    for setting in settings:
        status, out, _ = graph(f"lm.text={text}", setting)
        assert status == 0 and out != whole
        assert sum(map(len, read_arpa(path).ngrams)) < sum(map(len, full.ngrams))
        assert (len(words_of(recipe)) == 10) == (setting == settings[0])
    status, out, _ = graph("lm.vocabulary=10")  # of the train transcripts
    assert status == 0 and len(words_of(recipe)) == 10
    record = json.loads((recipe.directory / "graph" / "done.json").read_text())
    assert record["settings"]["lm.vocabulary"] == 10 and set(record["inputs"]) == set(INPUTS)


def words_that_dev_lacks(recipe):
    corpus = recipe.directory / "corpus"
    spoken = " ".join(u.text for u in read_manifest(corpus / "dev.jsonl")).split()
    unspoken = sorted(set(read_lexicon(corpus / "lexicon.txt").entries) - set(spoken))
    return " ".join(unspoken[:5]).encode()


@pytest.mark.parametrize(
    ("setting", "content", "message"),
    [
        ("lm.text", b"", "lm.text {path}: no words in it"),
        ("lm.text", b"por favor\n" * 9,
         "lm.text {path}: 0 of its 18 words are in the lexicon (FAVOR, POR are not); give text"),
        ("lm.text", words_that_dev_lacks, "is in its vocabulary (AFTERNOON, ALARM,"),
        ("lm.arpa", unigrams(["go", "on"]), "none of the words of dev (ADD, NINE,"),
        ("lm.arpa", unigrams(["go", "on"])[:-12], "{path}"),
    ],
    ids=["no words", "unknown words", "other words", "a model of other words", "a damaged model"],
)  # fmt: skip
def test_a_language_model_that_is_refused(recipe, refused, tmp_path, setting, content, message):
    path = tmp_path / "file"
    path.write_bytes(content(recipe) if callable(content) else content)
    assert message.format(path=path) in refused(f"{setting}={path}")
    assert not (recipe.directory / "graph" / "done.json").exists()


EARLY = ("corpus", "corpus.seed=2")  # before anything is made
UNKNOWN_NAME = (
    "lm.arpa 5-gram: no such file, and no language model of LibriSpeech's (",
    *(NAME, "3-gram.pruned.1e-7", "3-gram,", "4-gram"),
)


@pytest.mark.parametrize(
    ("arguments", "messages"),
    [
        (("graph", "lm.text=/nowhere/a.txt"), ["/nowhere/a.txt: cannot be read"]),
        ((*EARLY, "lm.text=/nowhere/a.txt"), ["lm.text /nowhere/a.txt: no such file"]),
        (("graph", "lm.arpa=5-gram"), UNKNOWN_NAME),
        ((*EARLY, "lm.arpa=5-gram"), UNKNOWN_NAME),
    ],
)
def test_a_file_that_is_missing_is_named(recipe, refusal, arguments, messages):
    error = refusal(recipe, *arguments)
    assert all(message in error for message in messages)


def test_rarer_pronunciations_cost_more(recipe, graph):
    """The alignment of train counts them; the setting turns the costs off."""
    path = recipe.directory / "corpus" / "lexicon.txt"
    word = read_manifest(recipe.directory / "corpus" / "train.jsonl")[0].text.split()[0]
    entries = dict(read_lexicon(path).entries)
    entries[word] = (*entries[word], entries[word][0] * 2)  # nobody says it twice
    write_lexicon(path, Lexicon(entries))
    forget_check_sums(recipe.directory, "files")
    digests, counts = set(), []
    for used in ("true", "false"):
        status, out, _ = graph("lm.order=2", f"lm.pronunciation_costs={used}")
        assert status == 0
        counts += re.findall(r"(\d+) rarer pronunciations in train cost more", out)
        digests.add(check_sum(recipe.directory / "graph" / "HCLG.fst", "sha256"))
    assert len(digests) == 2 and len(counts) == 1 and int(counts[0]) >= 1


# --- words that the lexicon lacks ---------------------------------------------------------------


@pytest.fixture
def large(recipe):
    """The experiment with a lexicon that is large enough to train on."""
    path = recipe.directory / "corpus" / "lexicon.txt"
    own = read_lexicon(path)
    entries = {
        word: pronunciations
        for word, pronunciations in some_words().entries.items()
        if all(set(own.phones()).issuperset(phones) for phones in pronunciations)
    } | own.entries
    assert len(entries) >= MIN_TRAINING_WORDS
    write_lexicon(path, Lexicon(entries))
    forget_check_sums(recipe.directory, "files")
    return recipe


def test_words_of_a_text_or_a_ready_made_model_are_guessed(large, graph, sentences, tmp_path):
    path = tmp_path / "text"
    path.write_text("".join(f"{sentence} BLIMPING 4TH\n" for sentence in sentences))
    status, out, _ = graph(f"lm.text={path}")
    assert status == 0
    assert "2 words are not in the lexicon: 4TH, BLIMPING (" in out and "of the text)" in out
    assert "1 of them got" in out and "1 stay unknown" in out
    assert "BLIMPING" in words_of(large) and "4TH" not in words_of(large)
    assert (large.directory / "graph" / G2P).read_text().startswith("BLIMPING\t1/")
    model = large.directory / "g2p" / "model.safetensors"
    made = model.stat().st_mtime_ns
    # The model is not trained on what the corpus stage has guessed: it stays the same.
    corpus = large.directory / "corpus"
    lexicon = (corpus / "lexicon.txt").read_text()
    (corpus / G2P).write_text("OSTROVANE\t1/1\t1.00\tAA\n")
    (corpus / "lexicon.txt").write_text(f"{lexicon}OSTROVANE AA\n")
    known = words_of(large)
    path = tmp_path / "lm.arpa"
    path.write_bytes(unigrams([*sorted(known), "4TH"]))
    status, out, _ = graph(f"lm.arpa={path}")
    assert status == 0
    assert "1 of the language model's" in out and "they have no pronunciation: 4TH" in out
    assert words_of(large) == known and "BLIMPING" in known
    assert model.stat().st_mtime_ns == made


def test_words_of_a_ready_made_model_are_left_out(large, graph, tmp_path):
    known = sorted(words_of(large))
    path = tmp_path / "lm.arpa"
    path.write_bytes(unigrams([*known, "BLIMPING", "4TH"]))
    for stage in ("corpus", "align"):  # as if both had been run with it
        record = large.directory / stage / "done.json"
        content = json.loads(record.read_text())
        content["settings"]["align.unknown_words"] = "exclude"
        write_json(record, content)
    status, out, _ = graph(f"lm.arpa={path}", "align.unknown_words=exclude")
    assert status == 0
    assert "2 of the language model's" in out and "4TH, BLIMPING" in out
    assert words_of(large) == set(known)
    assert not (large.directory / "graph" / G2P).exists()


# --- LibriSpeech's own, by name -----------------------------------------------------------------


@pytest.fixture
def mirror(recipe, tmp_path, monkeypatch):
    """A mirror of one language model whose check sum passes for the real one."""
    monkeypatch.setattr(librispeech, "DOWNLOADS", tmp_path / "downloads")
    path = tmp_path / "made.arpa.gz"
    path.write_bytes(gzip.compress(unigrams(sorted(words_of(recipe)))))
    expected = download.CheckSum("md5", check_sum(path, "md5"))
    monkeypatch.setitem(openslr.LANGUAGE_MODELS, f"{NAME}.arpa.gz", openslr.Part(11, 1e5, expected))
    monkeypatch.setattr(download, "SCHEME", pretended.SCHEME)
    monkeypatch.setattr(download, "BLOCK_BYTES", 100)
    with pretended.serve() as mirror:
        monkeypatch.setattr(openslr, "MIRRORS", (mirror.address,))
        mirror.files[f"/11/{NAME}.arpa.gz"] = path.read_bytes()
        yield mirror


def test_a_model_by_name(recipe, graph, mirror, tmp_path):
    mirror.breaks = 150
    known, kept = words_of(recipe), tmp_path / f"downloads/LibriSpeech/{NAME}.arpa.gz"
    status, out, _ = graph(f"lm.arpa={NAME}")
    assert status == 0 and f"downloading {NAME}.arpa.gz of LibriSpeech" in out
    assert words_of(recipe) == known and len(mirror.asked) > 1
    assert list(kept.parent.iterdir()) == [kept]
    asked = len(mirror.asked)
    assert "  up to date" in graph(f"lm.arpa={NAME}.arpa.gz")[1]
    (recipe.directory / "graph" / "words.txt").unlink()
    assert graph(f"lm.arpa={NAME}")[0] == 0 and len(mirror.asked) == asked


def test_a_model_by_name_that_cannot_be_had(refused, mirror, tmp_path):
    mirror.files.clear()
    error = refused(f"lm.arpa={NAME}")
    assert f"{NAME}.arpa.gz of LibriSpeech is not in" in error and "404" in error
    kept = tmp_path / f"downloads/LibriSpeech/{NAME}.arpa.gz"
    kept.write_bytes(b"damaged")
    assert f"{kept}: md5 is" in refused(f"lm.arpa={NAME}")


def test_the_lexicon_by_name(mirror, tmp_path, monkeypatch):
    content = b"A\tAH0\nGO\tG OW1\n"
    (tmp_path / "words").write_bytes(content)
    expected = download.CheckSum("md5", check_sum(tmp_path / "words", "md5"))
    part = openslr.Part(11, 100, expected)
    monkeypatch.setitem(openslr.LEXICONS, "librispeech-lexicon.txt", part)
    mirror.files["/11/librispeech-lexicon.txt"] = content
    monkeypatch.chdir(tmp_path)
    found = corpus_sources(load_config(None, ["align.lexicon=librispeech-lexicon.txt"]))
    assert found["lexicon"] == check_sum(tmp_path / "words", "sha256")
    assert Path("downloads/LibriSpeech/librispeech-lexicon.txt").read_bytes() == content


def test_what_can_be_had_by_name():
    for files in (openslr.LANGUAGE_MODELS, openslr.LEXICONS):
        for part in files.values():
            assert part.resource == 11 and len(part.expected.value) == 32
