"""Words that are spelled: from transcripts of any language to a graph, through the command line."""

import json
from pathlib import Path

from tiny_recipe import TinyRecipe, silent_data

from acoustic_kd.corpora.utterances import SPLITS, read_manifest
from acoustic_kd.language.lexicon import EXACT_HEADER, read_lexicon

GRAPHEMES = "lang.units=graphemes"
TEXTS = {
    "russian": {"a": "Привет, мир!", "b": "На́ш мир тут; 5% <unk>", "c": "Тут кафе́ ёж", "d": "Мир…"},
    "turkish": {"a": "Diyarbakır’da ısı", "b": "İzmir isi", "c": "ısı", "d": "isi"},
    "thai": {"a": "สวัสดีครับ", "b": "ขอบคุณครับ", "c": "สวัสดี", "d": "ครับ"},
}


def written(folder: Path, texts: str, *settings: str) -> TinyRecipe:
    """An experiment on a second of silence a speaker."""
    return silent_data(folder, TEXTS[texts], "align.method=flat", *settings)


def lexicon_of(recipe: TinyRecipe) -> dict[str, str]:
    path = recipe.directory / "corpus" / "lexicon.txt"
    assert path.read_text(encoding="utf-8").startswith(f"{EXACT_HEADER}\n")
    entries = read_lexicon(path).entries
    assert all(len(spellings) == 1 for spellings in entries.values())
    return {word: " ".join(spellings[0]) for word, spellings in entries.items()}


def texts_of(recipe: TinyRecipe) -> dict[str, str]:
    paths = (recipe.directory / "corpus" / f"{split}.jsonl" for split in SPLITS)
    return {u.id: u.text for path in paths for u in read_manifest(path)}


def test_russian(tmp_path, outcome):
    recipe = written(tmp_path, "russian", GRAPHEMES)
    status, said, _ = outcome(recipe, "corpus")
    assert status == 0
    assert texts_of(recipe) == {
        "a": "ПРИВЕТ МИР", "b": "НА́Ш МИР ТУТ 5% <UNK>", "c": "ТУТ КАФЕ́ ЁЖ", "d": "МИР",
    }  # fmt: skip
    assert lexicon_of(recipe) == {
        "МИР": "М И Р", "НА́Ш": "Н А́ Ш", "ПРИВЕТ": "П Р И В Е Т", "ТУТ": "Т У Т",
    }  # fmt: skip
    assert "4 words have no spelling in the letters of train: 5%, <UNK>, ЁЖ, КАФЕ́ (36.4%" in said
    record = json.loads((recipe.directory / "corpus" / "done.json").read_text())
    assert set(record["inputs"]) == {"units", "data"}


def test_turkish(tmp_path):
    recipe = written(tmp_path, "turkish", GRAPHEMES, "lang.case=turkic")
    assert recipe("corpus") == 0
    assert texts_of(recipe)["b"] == "İZMİR İSİ" and texts_of(recipe)["c"] == "ISI"
    assert lexicon_of(recipe)["DİYARBAKIR'DA"] == "D İ Y A R B A K I R D A"
    assert recipe("corpus", "lang.case=upper") == 0  # made anew
    assert texts_of(recipe)["b"] == "İZMIR ISI"


def test_thai(tmp_path):
    recipe = written(tmp_path, "thai", GRAPHEMES)
    assert recipe("corpus") == 0
    assert texts_of(recipe) == TEXTS["thai"]
    assert lexicon_of(recipe)["ครับ"] == "ค ร ั บ"


def test_more_letters_than_senones_are_refused(tmp_path, refusal):
    recipe = written(tmp_path, "thai", GRAPHEMES)
    error = refusal(recipe, "corpus", "senones.leaves=20")
    assert "setting 'senones.leaves' is 20; silence and" in error
    advice = "; or give lang.positions=false"
    assert advice in error
    assert advice not in refusal(recipe, "corpus", "senones.leaves=20", "lang.positions=false")
    assert not (recipe.directory / "corpus" / "done.json").exists()
