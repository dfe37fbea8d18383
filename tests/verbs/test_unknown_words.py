"""Words of the transcripts that the lexicon lacks, from the corpus stage to the alignment."""

import json
from pathlib import Path

import pytest
import tiny_recipe
from tiny_recipe import TinyRecipe
from variants import UNKNOWN_TEXTS, some_words

from acoustic_kd.alignment.segmentation import read_segmentations
from acoustic_kd.corpora.utterances import SPLITS, read_manifest
from acoustic_kd.experiment.words import G2P, MIN_TRAINING_WORDS, g2p_text, probable_pronunciations
from acoustic_kd.language.g2p_search import Guess
from acoustic_kd.language.lexicon import Lexicon, read_lexicon, write_lexicon

UNKNOWN = {"BLIMPING", "OSTROVANE"}


@pytest.fixture(scope="module")
def words() -> Lexicon:
    return some_words()


@pytest.fixture
def recipe(variant, tmp_path) -> TinyRecipe:
    """An experiment on words that nobody knows, whose corpus stage and G2P model are finished."""
    return variant("unknown_words").copy(tmp_path / "exp")


def lexicon_of(recipe: TinyRecipe) -> Lexicon:
    return read_lexicon(recipe.directory / "corpus" / "lexicon.txt")


def test_they_get_pronunciations(recipe, words, outcome):
    (recipe.directory / "corpus" / "done.json").unlink()
    said = outcome(recipe, "corpus")[1]
    assert "4 words are not in the lexicon: 4TH, BLIMPING, NAÏVE, OSTROVANE (55.6% of all" in said
    assert "4TH, NAÏVE" in said and "2 stay unknown" in said
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


def test_they_may_be_excluded(recipe, words, outcome):
    assert "4 words are not" in outcome(recipe, "corpus", "align.unknown_words=exclude")[1]
    assert lexicon_of(recipe) == words
    assert not (recipe.directory / "corpus" / G2P).exists()
    model = recipe.directory / "g2p" / "model.safetensors"
    before = model.stat().st_mtime_ns
    recipe.run(["corpus"])
    assert set(lexicon_of(recipe).entries) > UNKNOWN and model.stat().st_mtime_ns == before


def test_too_small_a_lexicon(recipe, words, outcome, tmp_path):
    small = words.restricted_to({"GO", "ON"})
    write_lexicon(tmp_path / "small.txt", small)
    output = outcome(recipe, "corpus", f"align.lexicon={tmp_path / 'small.txt'}")[1]
    assert "its 2 words are too few" in output
    assert lexicon_of(recipe) == small and MIN_TRAINING_WORDS > 2


def test_where_all_words_are_known_no_model_is_trained(recipe, words, tmp_path):
    known = {word: (("AH",),) for text in UNKNOWN_TEXTS.values() for word in text.split()}
    write_lexicon(tmp_path / "known.txt", Lexicon(words.entries | known))
    recipe.directory = tmp_path / "new"
    recipe.run(["corpus"], f"align.lexicon={tmp_path / 'known.txt'}")
    record = json.loads((recipe.directory / "corpus" / "done.json").read_text())
    assert set(record["inputs"]) == {"lexicon", "data"}
    assert not (recipe.directory / "g2p").exists()


def test_only_probable_pronunciations_are_kept():
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
    others = {word: words[word] for word in words.entries if word not in taken}
    write_lexicon(path, Lexicon(others | rest))
    recipe.run(["corpus", "features", "align"], "align.method=flat", "align.iterations=1")
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
