"""Words that are spelled: from transcripts of any language to a graph, through the command line."""

import json
from pathlib import Path

import numpy as np
import soundfile
from tiny_recipe import TinyRecipe

from acoustic_kd.corpora.utterances import SPLITS, read_manifest
from acoustic_kd.language.graphemes import MAX_UNITS
from acoustic_kd.language.lexicon import EXACT_HEADER, read_lexicon

ALIGNED = ("align.method=flat",)  # by what comes after the corpus stage
TEXTS = {
    "russian": {"a": "Привет, мир!", "b": "На́ш мир тут; 5% <unk>", "c": "Тут кафе́ ёж", "d": "Мир…"},
    "turkish": {"a": "Diyarbakır’da ısı", "b": "İzmir isi", "c": "ısı", "d": "isi"},
    "thai": {"a": "สวัสดีครับ", "b": "ขอบคุณครับ", "c": "สวัสดี", "d": "ครับ"},
}


def written(folder: Path, texts: dict[str, str], *settings: str) -> TinyRecipe:
    """An experiment on a second of silence a speaker: a and b are train, c dev, d test."""
    for split, speakers in (("train", "ab"), ("dev", "c"), ("test", "d")):
        data = folder / "data" / split
        data.mkdir(parents=True)
        for name in speakers:
            soundfile.write(data / f"{name}.wav", np.zeros(16000, np.int16), 16000)
        rows = {"wav.scp": [f"{n} {split}/{n}.wav\n" for n in speakers]}
        rows["text"] = [f"{name} {texts[name]}\n" for name in speakers]
        for name, lines in rows.items():
            (data / name).write_text("".join(lines), encoding="utf-8")
    options = ("--data-dir", str(folder / "data"))
    return TinyRecipe(folder / "exp", ("corpus.name=kaldi_dir", *ALIGNED, *settings), options)


def lexicon_of(recipe: TinyRecipe) -> dict[str, str]:
    path = recipe.directory / "corpus" / "lexicon.txt"
    assert path.read_text(encoding="utf-8").startswith(f"{EXACT_HEADER}\n")
    entries = read_lexicon(path).entries
    assert all(len(spellings) == 1 for spellings in entries.values())
    return {word: " ".join(spellings[0]) for word, spellings in entries.items()}


def texts_of(recipe: TinyRecipe) -> dict[str, str]:
    paths = (recipe.directory / "corpus" / f"{split}.jsonl" for split in SPLITS)
    return {u.id: u.text for path in paths for u in read_manifest(path)}


def test_russian(tmp_path, capfd):
    recipe = written(tmp_path, TEXTS["russian"], "lang.units=graphemes")
    assert recipe("corpus") == 0
    assert texts_of(recipe) == {
        "a": "ПРИВЕТ МИР", "b": "НА́Ш МИР ТУТ 5% <UNK>", "c": "ТУТ КАФЕ́ ЁЖ", "d": "МИР",
    }  # fmt: skip
    assert lexicon_of(recipe) == {
        "МИР": "М И Р", "НА́Ш": "Н А́ Ш", "ПРИВЕТ": "П Р И В Е Т", "ТУТ": "Т У Т",
    }  # fmt: skip
    said = capfd.readouterr().out
    assert "4 words have no spelling in the letters of train: 5%, <UNK>, ЁЖ, КАФЕ́ (36.4%" in said
    record = json.loads((recipe.directory / "corpus" / "done.json").read_text())
    assert set(record["inputs"]) == {"units", "data"}


def test_turkish(tmp_path):
    recipe = written(tmp_path, TEXTS["turkish"], "lang.units=graphemes", "lang.case=turkic")
    assert recipe("corpus") == 0
    assert texts_of(recipe)["b"] == "İZMİR İSİ" and texts_of(recipe)["c"] == "ISI"
    assert lexicon_of(recipe)["DİYARBAKIR'DA"] == "D İ Y A R B A K I R D A"
    assert recipe("corpus", "lang.case=upper") == 0  # made anew
    assert texts_of(recipe)["b"] == "İZMIR ISI"


def test_thai(tmp_path):
    recipe = written(tmp_path, TEXTS["thai"], "lang.units=graphemes")
    assert recipe("corpus") == 0
    assert texts_of(recipe) == TEXTS["thai"]
    assert lexicon_of(recipe)["ครับ"] == "ค ร ั บ"


def test_graphemes_and_pieces_begin_alike(tmp_path, capfd):
    """So one set of models serves words and pieces of every size."""
    recipe = written(tmp_path, TEXTS["russian"], "lang.units=graphemes")
    assert recipe("corpus") == 0
    files = recipe.files()
    assert recipe("corpus", "lang.units=pieces", "lang.pieces=30", "lang.piece_model=bpe") == 0
    assert "  up to date" in capfd.readouterr().out and recipe.files() == files


def test_too_many_letters_for_units(tmp_path, capfd):
    han = "".join(map(chr, range(0x4E00, 0x4E00 + MAX_UNITS + 1)))
    recipe = written(tmp_path, TEXTS["thai"] | {"a": han}, "lang.units=pieces")
    assert recipe("corpus") == 2
    error = capfd.readouterr().err
    assert error.count("\n") == 1 and f"at most {MAX_UNITS}; give a pronouncing" in error
    assert not (recipe.directory / "corpus" / "lexicon.txt").exists()


def test_no_letters_at_all(tmp_path, capfd):
    texts = dict.fromkeys("abcd", "<unk> 5%")
    assert written(tmp_path, texts, "lang.units=graphemes")("corpus") == 2
    assert "no word of the transcripts has letters" in capfd.readouterr().err


def test_pocketsphinx_aligns_no_letters(tmp_path, capfd):
    recipe = written(tmp_path, TEXTS["thai"], "lang.units=graphemes", "align.model=null")
    assert recipe("corpus", "align.method=pocketsphinx") == 2
    error = capfd.readouterr().err
    assert error.count("\n") == 1 and "give align.method=flat where lang.units is graph" in error


def test_senones_must_be_enough_for_the_letters(tmp_path, capfd):
    recipe = written(tmp_path, TEXTS["thai"], "lang.units=graphemes")
    assert recipe("corpus", "senones.leaves=20") == 2
    error = capfd.readouterr().err
    assert error.count("\n") == 1 and "setting 'senones.leaves' is 20; silence and" in error
    assert recipe("corpus") == 0
