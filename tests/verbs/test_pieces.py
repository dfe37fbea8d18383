"""The whole recipe with letters, then with pieces on the same models, through the command line."""

import json

import pytest
import tiny_recipe

from acoustic_kd.corpora.utterances import read_manifest
from acoustic_kd.decoding.scoring import read_transcripts
from acoustic_kd.experiment.stages import STAGES
from acoustic_kd.language.lexicon import SILENCE, read_lexicon
from acoustic_kd.language.pieces import BOUNDARY, single_clusters, without_marks
from acoustic_kd.verbs.transcribe import Transcriber

PIECES_FILE = ("lang.units=pieces", "lang.pieces=40")


@pytest.fixture(scope="module")
def recipe(tmp_path_factory):
    """The tiny recipe in letters, from audio to the table; two rounds of a flat start will do."""
    pytest.importorskip("espeakng_loader", reason="needs acoustic-kd[demo]")
    folder = tmp_path_factory.mktemp("letters")
    flat = ("align.method=flat", "align.iterations=2", "align.gaussians=1")
    made = tiny_recipe.TinyRecipe(
        folder / "exp", (*tiny_recipe.SETTINGS, "lang.units=graphemes", *flat)
    )
    for stage in STAGES:
        assert made(stage) == 0, stage
    return made


@pytest.fixture(scope="module")
def pieces(recipe, tmp_path_factory):
    """A copy of it, gone on with in pieces; what the stages said, and which files were kept."""
    copy = recipe.copy(tmp_path_factory.mktemp("pieces") / "exp")
    before = copy.files()
    for stage in STAGES:
        assert copy(stage, *PIECES_FILE) == 0, stage
    return copy, before


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


def test_only_what_hears_pieces_is_made_again(pieces):
    copy, before = pieces
    after = copy.files()
    remade = ("graph", "decode", "report", "results.json", "results.md", "report.html")
    for name in before:
        if name.split("/")[0] not in remade:
            assert after[name] == before[name], name
    assert {"graph/pieces.model", "graph/lexicon.txt"} <= set(after) - set(before)
    assert not {"graph/pieces.model", "graph/lexicon.txt"} & set(before)


def test_the_graph_is_of_pieces(pieces):
    folder = pieces[0].directory / "graph"
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
    recipe = pieces[0]
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


def test_the_same_again_gives_the_same(pieces, tmp_path, capfd):
    copy = pieces[0].copy(tmp_path / "exp")
    assert copy("graph", *PIECES_FILE) == 0
    assert "  up to date" in capfd.readouterr().out
    before = copy.files()
    (copy.directory / "graph" / "done.json").unlink()
    assert copy("graph", *PIECES_FILE) == 0
    after = copy.files()
    for name in ("graph/pieces.model", "graph/lexicon.txt", "graph/lm.arpa", "graph/HCLG.fst"):
        assert after[name][1] == before[name][1], name
    said = capfd.readouterr().out
    assert "pieces of the text's" in said and "; 0 of them cannot be recognised" in said


def test_a_text_in_pieces(pieces, tmp_path, capfd):
    """Its words need not be those of the transcripts, nor in their case."""
    copy = pieces[0].copy(tmp_path / "exp")
    text = tmp_path / "text"
    texts = [u.text.lower() for u in said_words(copy, "train")]
    text.write_text("\n".join([*texts, "the zebra, “reads” 5% <unk>"]), encoding="utf-8")
    assert copy("graph", *PIECES_FILE, f"lm.text={text}") == 0
    pronounced = read_lexicon(copy.directory / "graph" / "lexicon.txt")
    assert not any(set(piece) & set("%<>5") for piece in pronounced.entries)
    before = f"pieces of the text's {len({w for t in texts for w in t.split()})} words"
    assert before not in capfd.readouterr().out


def test_trained_models_align_the_letters_that_they_know(recipe, tmp_path, capfd):
    """The rare ones of other transcripts may be frequent there, and the other way round."""
    first = recipe.copy(tmp_path / "first")
    model = ("align.method=dnn", f"align.model={first.directory / 'distilled' / '01'}")
    again = tiny_recipe.TinyRecipe(
        tmp_path / "again", (*recipe.settings, *model, "corpus.demo_train_sentences=9")
    )
    stages = ("corpus", "features", "align", "senones", "frames")
    assert [again(stage) for stage in stages] == [0] * len(stages)
    known = json.loads((first.directory / "senones" / "inventory.json").read_text())["phones"]
    assert set(read_lexicon(again.directory / "corpus" / "lexicon.txt").phones()) <= set(known)
    first.directory.rename(tmp_path / "away")  # what is aligned needs it no more
    assert again("graph", *PIECES_FILE) == 0
    own = json.loads((again.directory / "senones" / "inventory.json").read_text())["phones"]
    assert set(read_lexicon(again.directory / "graph" / "lexicon.txt").phones()) <= set(own)
    (tmp_path / "away").rename(first.directory)
    capfd.readouterr()
    assert again("corpus", "lang.positions=false") == 2
    error = capfd.readouterr().err
    assert "by place, and the settings of 'lang' say graphemes" in error and error.count("\n") == 1


@pytest.mark.parametrize("size", [2, 10**6])
def test_a_size_that_cannot_be_is_one_line(pieces, tmp_path, capfd, size):
    copy = pieces[0].copy(tmp_path / "exp")
    capfd.readouterr()
    assert copy("graph", "lang.units=pieces", f"lang.pieces={size}") == 2
    error = capfd.readouterr().err
    assert error.count("\n") == 1 and f"setting 'lang.pieces' is {size}, but sentencepiece" in error
    assert not (copy.directory / "graph" / "pieces.model").exists()


def test_words_and_graph_of_other_units_are_told_apart(pieces, tmp_path, capfd):
    """Where the stages before are not run again."""
    copy = pieces[0].copy(tmp_path / "exp")
    capfd.readouterr()
    assert copy("graph", "lang.units=phones") == 2
    error = capfd.readouterr().err
    assert error.count("\n") == 1
    assert "words are made of graphemes" in error and "say phones; run" in error
    assert "run stage 0 (corpus) and the later stages again" in error


def test_experiments_from_before_stay_current(finished_recipe):
    """At the defaults no record knows of units."""
    for path in finished_recipe.directory.rglob("done.json"):
        record = json.loads(path.read_text(encoding="utf-8"))
        assert not any(name.startswith("lang.") for name in record["settings"])
        assert "units" not in record["inputs"]
