"""The whole recipe with letters, then with pieces on the same models, through the command line."""

import json

import pytest
import tiny_recipe
from variants import PIECES, TO_FRAMES

from acoustic_kd.corpora.utterances import read_manifest
from acoustic_kd.decoding.scoring import read_transcripts
from acoustic_kd.experiment.transcriber import Transcriber
from acoustic_kd.language.lexicon import SILENCE, read_lexicon
from acoustic_kd.language.pieces import BOUNDARY, single_clusters, without_marks


@pytest.fixture(scope="module")
def recipe(variant):
    """The tiny recipe in letters."""
    return variant("letters")


@pytest.fixture(scope="module")
def pieces(variant):
    """A copy of it in which the stages were run again with pieces."""
    return variant("pieces")


def said_words(recipe, split="test"):
    return read_manifest(recipe.directory / "corpus" / f"{split}.jsonl")


def test_senones_are_of_letters(recipe):
    inventory = json.loads((recipe.directory / "senones" / "inventory.json").read_text())
    lexicon = read_lexicon(recipe.directory / "corpus" / "lexicon.txt")
    assert inventory["phones"] == [SILENCE, *lexicon.phones()]
    letters, places = zip(*(unit.partition("_")[::2] for unit in lexicon.phones()), strict=True)
    assert set(letters) <= set("ABCDEFGHIJKLMNOPQRSTUVWXYZ") and set(places) >= {"", "B", "E"}
    parted = [leaf for leaf in inventory["leaves"] if len(leaf["left"]) < len(inventory["phones"])]
    assert len(inventory["leaves"]) == 120 and parted  # questions about neighbours were found
    words = {word for split in ("train", "dev") for u in said_words(recipe, split)
             for word in u.text.split()}  # fmt: skip
    assert words <= set(lexicon.entries) and lexicon["THE"] == (("T_B", "H", "E_E"),)
    assert not (recipe.directory / "graph" / "lexicon.txt").exists()


def test_the_graph_is_of_pieces(pieces):
    folder = pieces.directory / "graph"
    labels = [line.split()[0] for line in (folder / "words.txt").read_text().splitlines()]
    lexicon = read_lexicon(folder / "lexicon.txt")
    assert set(labels[1:-3]) == set(lexicon.entries)
    letters = set()
    for piece, (units,) in lexicon.entries.items():
        said = [unit.partition("_")[0] for unit in units]
        assert "".join(said) == without_marks(piece)[0].replace("'", "")
        letters.update(said)
    assert single_clusters(letters) <= set(lexicon.entries)
    places = {"▁T": "T_B", "T": "T", "E▁": "E_E"}
    assert {piece: lexicon[piece] for piece in places} == {p: ((u,),) for p, u in places.items()}


def test_words_are_scored_and_transcribed(pieces):
    recipe = pieces
    spoken = {u.id: u for u in said_words(recipe)}
    found = read_transcripts(recipe.directory / "decode" / "ensemble" / "test.txt")
    assert set(found) == set(spoken) and any(found.values())
    assert not any(BOUNDARY in word for words in found.values() for word in words)
    results = json.loads((recipe.directory / "results.json").read_text())
    words = sum(len(u.text.split()) for u in spoken.values())
    assert all(system["wer"]["test"]["words"] % words == 0 for system in results["systems"])
    transcriber = Transcriber(recipe.directory, "ensemble")
    assert any(label.startswith(BOUNDARY) for label in transcriber.decoder.words)
    for utterance in spoken.values():
        timed = transcriber.timed_words(utterance.audio)
        assert [word.word for word in timed] == transcriber.words(utterance.audio)
        assert not any(BOUNDARY in word.word for word in timed)
        times = [time for word in timed for time in (word.start, word.end)]
        assert times == sorted(times) and all(0 <= word.confidence <= 1 for word in timed)


def test_a_text_in_pieces(pieces, tmp_path, outcome):
    """Its words need not be those of the transcripts, nor in their case."""
    copy = pieces.copy(tmp_path / "exp")
    text = tmp_path / "text"
    texts = [u.text.lower() for u in said_words(copy, "train")]
    text.write_text("\n".join([*texts, "the zebra, “reads” 5% <unk>"]), encoding="utf-8")
    status, output, _ = outcome(copy, "graph", f"lm.text={text}")
    assert status == 0 and "; 0 of them cannot be recognised" in output
    pronounced = read_lexicon(copy.directory / "graph" / "lexicon.txt")
    assert not any(set(piece) & set("%<>5") for piece in pronounced.entries)
    before = f"pieces of the text's {len({w for t in texts for w in t.split()})} words"
    assert "pieces of the text's" in output and before not in output


def test_trained_models_align_the_letters_that_they_know(recipe, tmp_path, refusal):
    """The rare ones of other transcripts may be frequent there, and the other way round."""
    first = recipe.copy(tmp_path / "first")
    model = ("align.method=dnn", f"align.model={first.directory / 'distilled' / '01'}")
    settings = (*recipe.settings, *model, "corpus.demo_train_sentences=9")
    again = tiny_recipe.TinyRecipe(tmp_path / "again", settings).run(TO_FRAMES)
    known = json.loads((first.directory / "senones" / "inventory.json").read_text())["phones"]
    assert set(read_lexicon(again.directory / "corpus" / "lexicon.txt").phones()) <= set(known)
    first.directory.rename(tmp_path / "away")  # finished alignments do not need it
    again.run(["graph"], *PIECES)
    own = json.loads((again.directory / "senones" / "inventory.json").read_text())["phones"]
    assert set(read_lexicon(again.directory / "graph" / "lexicon.txt").phones()) <= set(own)
    (tmp_path / "away").rename(first.directory)
    error = refusal(again, "corpus", "lang.positions=false")
    assert "by place, and the settings of 'lang' say graphemes" in error


def test_other_units_where_the_stages_before_are_not_run_again(pieces, tmp_path, refusal):
    error = refusal(pieces.copy(tmp_path / "exp"), "graph", "lang.units=phones")
    assert "words are made of graphemes" in error
    assert "run stage 0 (corpus) and the later stages again" in error
