"""Words of the transcripts that the lexicon lacks, from the corpus stage to the alignment."""

import json
from pathlib import Path

import numpy as np
import pytest
import soundfile
import tiny_recipe
from tiny_recipe import TinyRecipe

from acoustic_kd.alignment.pocketsphinx import bundled_lexicon
from acoustic_kd.alignment.segmentation import read_segmentations
from acoustic_kd.corpora.utterances import SPLITS, read_manifest
from acoustic_kd.experiment.words import G2P, MIN_TRAINING_WORDS, g2p_text, probable_pronunciations
from acoustic_kd.language.g2p_search import Guess
from acoustic_kd.language.lexicon import Lexicon, read_lexicon, write_lexicon

UNKNOWN = {"BLIMPING", "OSTROVANE"}
TEXTS = {"a": "GO ON BLIMPING", "b": "GO BLIMPING 4TH", "c": "GO", "d": "OSTROVANE NAÏVE"}


@pytest.fixture(scope="module")
def words() -> Lexicon:
    """A few thousand words with GO and ON, so that there is something to learn from."""
    whole = read_lexicon(bundled_lexicon())
    return whole.restricted_to({*sorted(whole.entries)[::55], "GO", "ON"})


@pytest.fixture
def recipe(words, tmp_path) -> TinyRecipe:
    """An experiment on a second of silence a speaker, with words that nobody knows."""
    for split, speakers in (("train", "ab"), ("dev", "c"), ("test", "d")):
        folder = tmp_path / "data" / split
        folder.mkdir(parents=True)
        for name in speakers:
            soundfile.write(folder / f"{name}.wav", np.zeros(16000, np.int16), 16000)
        rows = [f"{name} {split}/{name}.wav\n" for name in speakers]
        (folder / "wav.scp").write_text("".join(rows))
        rows = [f"{name} {TEXTS[name]}\n" for name in speakers]
        (folder / "text").write_text("".join(rows), encoding="utf-8")
    write_lexicon(tmp_path / "words.txt", words)
    settings = ("corpus.name=kaldi_dir", f"align.lexicon={tmp_path / 'words.txt'}")
    return TinyRecipe(tmp_path / "exp", settings, ("--data-dir", str(tmp_path / "data")))


def lexicon_of(recipe: TinyRecipe) -> Lexicon:
    return read_lexicon(recipe.directory / "corpus" / "lexicon.txt")


def test_they_get_pronunciations(recipe, words, capfd):
    assert recipe("corpus") == 0
    said = capfd.readouterr().out
    assert "4 words are not in the lexicon: 4TH, BLIMPING, NAÏVE, OSTROVANE (55.6% of all" in said
    assert "2 stay unknown, because no word of the lexicon has such letters: 4TH, NAÏVE" in said
    lexicon = lexicon_of(recipe)
    assert set(lexicon.entries) == set(words.entries) | UNKNOWN
    assert lexicon["BLIMPING"][0] == ("B", "L", "IH", "M", "P", "IH", "NG")
    assert lexicon.phones() == words.phones()
    assert all(lexicon[word] == words[word] for word in words.entries)

    lines = (recipe.directory / "corpus" / G2P).read_text().splitlines()
    rows = [line.split("\t") for line in lines]
    assert f"2 of them got {len(rows)} pronunciations" in said
    assert [(row[0], tuple(row[3].split())) for row in rows] == [
        (word, phones) for word in sorted(UNKNOWN) for phones in lexicon[word]
    ]
    assert rows[0][1] == f"1/{len(lexicon['BLIMPING'])}" and 0 < float(rows[0][2]) <= 1


def test_the_same_again(recipe, capfd):
    assert recipe("corpus") == 0
    files = recipe.files()
    assert "current" not in capfd.readouterr().out
    assert recipe("corpus") == 0
    assert "  up to date" in capfd.readouterr().out and recipe.files() == files
    for path in (recipe.directory / "corpus").iterdir():
        path.unlink()
    assert recipe("corpus") == 0
    for name, (time, content) in recipe.files().items():
        if not name.endswith(("done.json", "started.json")):
            assert content == files[name][1], name
            assert name.startswith("corpus/") or time == files[name][0]  # the model was kept


def test_they_may_be_excluded(recipe, words, capfd):
    assert recipe("corpus") == 0
    assert recipe("corpus", "align.unknown_words=exclude") == 0
    assert "4 words are not in the lexicon" in capfd.readouterr().out
    assert lexicon_of(recipe) == words
    assert not (recipe.directory / "corpus" / G2P).exists()


def test_too_small_a_lexicon(recipe, words, capfd, tmp_path):
    small = words.restricted_to({"GO", "ON"})
    write_lexicon(tmp_path / "words.txt", small)
    assert recipe("corpus") == 0
    assert "they stay unknown: its 2 words are too few to train G2P on" in capfd.readouterr().out
    assert lexicon_of(recipe) == small and MIN_TRAINING_WORDS > 2


def test_where_all_is_known_nothing_changes(recipe, words, tmp_path):
    """Experiments from before there was this setting stay current."""
    known = {word: (("AH",),) for text in TEXTS.values() for word in text.split()}
    write_lexicon(tmp_path / "words.txt", Lexicon(words.entries | known))
    assert recipe("corpus") == 0
    record = json.loads((recipe.directory / "corpus" / "done.json").read_text())
    assert set(record["inputs"]) == {"lexicon", "data"}
    assert "align.unknown_words" not in record["settings"]
    assert not (recipe.directory / "g2p").exists()


def test_variants():
    shares = {"A": 0.4, "B": 0.3, "C": 0.13, "D": 0.12, "E": 0.0}
    guesses = [Guess((phone,), share) for phone, share in shares.items()]
    assert probable_pronunciations(guesses) == guesses[:3]
    assert probable_pronunciations(guesses[1:3]) == guesses[1:3]
    assert probable_pronunciations([guesses[0], guesses[4]]) == guesses[:1]
    assert probable_pronunciations([]) == []
    assert g2p_text({"X": guesses[:2]}) == "X\t1/2\t0.40\tA\nX\t2/2\t0.30\tB\n"


@pytest.mark.slow
def test_their_utterances_are_aligned(words, tmp_path):
    pytest.importorskip("espeakng_loader", reason="needs acoustic-kd[demo]")
    recipe = tiny_recipe.prepare(tmp_path)
    path = Path(next(s for s in recipe.settings if s.startswith("align.lexicon=")).split("=")[1])
    demo = read_lexicon(path)
    taken = {"KITCHEN", "STREET", "LONDON", "PETER", "SEATS", "TRAIN", "WEATHER", "PLEASE"}
    rest = {word: demo[word] for word in demo.entries if word not in taken}
    learnt = {word: words[word] for word in words.entries if word not in taken}
    write_lexicon(path, Lexicon(learnt | rest))
    for stage in ("corpus", "features", "align"):
        assert recipe(stage) == 0
    lexicon, found = lexicon_of(recipe), 0
    for split in SPLITS:
        segmentations = read_segmentations(recipe.directory / "align" / f"{split}.jsonl")
        aligned = {segmentation.id: segmentation for segmentation in segmentations}
        for utterance in read_manifest(recipe.directory / "corpus" / f"{split}.jsonl"):
            phones = " ".join(aligned[utterance.id].phones)
            for word in taken & set(utterance.text.split()):
                assert any(" ".join(spoken) in phones for spoken in lexicon[word])
                found += 1
    assert found
