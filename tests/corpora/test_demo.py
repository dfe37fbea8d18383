"""The demo corpus in each language: sentences, and real synthesis of a few of them."""

import re
import sys
from dataclasses import replace
from functools import cache
from pathlib import Path

import numpy as np
import pytest
from cmu import cmu_lexicon

from acoustic_kd.alignment.pocketsphinx import PocketsphinxAligner
from acoustic_kd.corpora import demo, espeak_process
from acoustic_kd.corpora.demo_sentences import ACCENTS, GRAMMARS, sentences, vocabulary
from acoustic_kd.corpora.load import load
from acoustic_kd.features.audio import read_audio
from acoustic_kd.language.normalise import normalise_spelled
from acoustic_kd.settings import CorpusConfig, all_settings, choices, load_config
from acoustic_kd.system.errors import UserError

CONF = Path(__file__).parents[2] / "recipes" / "conf"
LETTERS = {
    "en": "ABCDEFGHIJKLMNOPQRSTUVWXYZ",
    "es": "AÁBCDEÉFGHIÍJKLMNÑOÓPQRSTUÚÜVWXYZ",
    "el": "ΑΆΒΓΔΕΈΖΗΉΘΙΊΪΚΛΜΝΞΟΌΠΡΣΤΥΎΫΦΧΨΩΏ",
}
SMALL = CorpusConfig(
    demo_train_voices=3,  # the third has another accent
    demo_dev_voices=1,
    demo_test_voices=1,
    demo_train_sentences=2,
    demo_eval_sentences=2,
)
VOICES = [*demo.VOICES["train"][:3], demo.VOICES["dev"][0], demo.VOICES["test"][0]]


@pytest.fixture(params=sorted(GRAMMARS))
def language(request):
    return request.param


@pytest.fixture(scope="module")
def espeak():
    return pytest.importorskip("espeakng_loader", reason="needs acoustic-kd[demo]")


@pytest.fixture(scope="module")
def spoken(espeak, tmp_path_factory):
    """spoken("es"): the corpus of a language, and the folder of its audio; made once."""

    @cache
    def spoken(language):
        folder = tmp_path_factory.mktemp(language)
        return synthesise(folder, demo_language=language), folder

    return spoken


def synthesise(folder, **changes):
    return load(replace(SMALL, **changes), folder, normalise_spelled)


def many(language):
    return sentences(3000, 1, language)


# --- sentences ----------------------------------------------------------------------------------


def test_every_language_has_a_grammar_and_accents():
    assert set(GRAMMARS) == set(choices("corpus.demo_language")) == set(LETTERS)
    assert set(ACCENTS) == set(GRAMMARS) - {"en"}


def test_a_grammar_uses_all_of_its_symbols(language):
    grammar = GRAMMARS[language]
    texts = " ".join(text for alternatives in grammar.values() for text in alternatives)
    assert set(re.findall(r"\$(\w+)", texts)) == set(grammar) - {"SENTENCE"}
    assert len(grammar["SENTENCE"]) >= 12 and 100 <= len(vocabulary(language)) <= 150


def test_sentences_have_the_vocabulary_and_a_longer_list_begins_the_same(language):
    texts = many(language)
    assert len(set(texts)) == 3000 and sentences(50, 1, language) == texts[:50]
    assert sentences(50, 2, language) != texts[:50]
    assert {word for text in texts for word in text.split()} == vocabulary(language)


def test_transcripts_are_spelled_in_the_letters_of_the_language(language):
    spelled = [normalise_spelled(text) for text in many(language)]
    for text, transcript in zip(many(language), spelled, strict=True):
        assert len(transcript.split()) == len(text.split())  # no word is lost, and none is two
        assert set(transcript) <= set(LETTERS[language]) | {" "}
    assert len(set(spelled)) == len(spelled)  # sentences that differ only in writing sound alike


def test_greek_articles_end_as_the_next_word_requires():
    """An n before vowels, stops and their pairs, and nowhere else."""
    stops = ("κ", "π", "τ", "ξ", "ψ", "μπ", "ντ", "γκ", "τσ", "τζ", *"αάεέηήιίοόυύωώ")
    articles = re.findall(r"\b(σ?τη)(ν?) (\w+)", "\n".join(many("el")))
    assert len(articles) > 1000
    assert [a for a in articles if (a[1] == "ν") != a[2].lower().startswith(stops)] == []


def test_greek_numbers_agree():
    text = "\n".join(many("el"))
    assert not re.search(r"στις (τρία|τέσσερα)\b|(τρεις|τέσσερις) (μήλα|αυγά|ευρώ|τοις)", text)
    assert re.search(r"στις τρεις και", text) and re.search(r"τρία εισιτήρια", text)


def test_spanish_contracts_and_no_trip_ends_where_it_begins():
    text = "\n".join(many("es"))
    assert not re.search(r"\b(de|a) el\b|\by (i|hi)|\b(de|a) (\w+) (a|de) \2\b", text)
    assert not re.search(r"\blas (libros|huevos|limones)|\blos (flores|sillas)", text)


def test_every_english_word_is_in_the_dictionary_of_the_aligner():
    assert [word for word in sorted(vocabulary()) if word not in cmu_lexicon()] == []


# --- voices -------------------------------------------------------------------------------------


def test_the_same_speakers_in_every_language(language):
    voices = demo.voices(language)
    assert language != "en" or voices == demo.VOICES
    for split, speakers in demo.VOICES.items():
        assert [v.speaker for v in voices[split]] == [v.speaker for v in speakers]
    accents = {voice.accent for speakers in voices.values() for voice in speakers}
    assert accents == set(ACCENTS.get(language, ("en-us", "en", "en-us-nyc")))


def test_speakers_are_different_and_none_uses_breath(espeak):
    voices = [voice for voices in demo.VOICES.values() for voice in voices]
    assert len({voice.speaker for voice in voices}) == len(voices)
    folder = Path(espeak.get_data_path()) / "voices" / "!v"
    for voice in voices:
        lines = (folder / voice.variant).read_text(encoding="utf-8", errors="replace").splitlines()
        assert not [line for line in lines if line.startswith("breath")], voice


# --- speech -------------------------------------------------------------------------------------


def test_transcripts_are_the_sentences_and_no_voice_or_sentence_is_in_two_splits(spoken, language):
    corpus, _ = spoken(language)
    utterances = [u for split in corpus.splits.values() for u in split]
    assert {s: len(us) for s, us in corpus.splits.items()} == {"train": 6, "dev": 2, "test": 2}
    ids = [f"{voice.speaker}-{number:03d}" for voice in VOICES for number in (0, 1)]
    texts = dict(zip(ids, map(str.upper, sentences(10, 1, language)), strict=True))
    assert {u.id: u.text for u in utterances} == texts and len(set(texts.values())) == 10
    assert sum(len({u.speaker for u in us}) for us in corpus.splits.values()) == 5


def test_audio_is_speech_with_noise(spoken, language):
    for utterance in [u for split in spoken(language)[0].splits.values() for u in split]:
        samples, words = read_audio(utterance, 16000), len(utterance.text.split())
        assert 0.15 * words < len(samples) / 16000 < words + 1
        edge = samples[:1600]
        assert 0.002 < np.abs(samples).max() <= 1
        assert 0 < edge.std() < 0.5 * samples.std()  # noise alone before the speech


def test_pocketsphinx_aligns_it(spoken):
    utterance = spoken("en")[0].splits["train"][0]
    samples, words = read_audio(utterance, 16000), utterance.text.split()
    aligner = PocketsphinxAligner(cmu_lexicon().restricted_to(set(words)))
    assert abs(len(aligner.align(utterance.id, words, samples)) - len(samples) / 160) <= 4


def contents(folder):
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_the_same_settings_give_the_same_bytes(spoken, language):
    _, folder = spoken(language)
    before = contents(folder)
    lost, damaged, *_ = sorted(folder.rglob("*.wav"))
    lost.unlink()
    damaged.write_bytes(b"RIFF")
    synthesise(folder, demo_language=language)
    assert len(before) == 10 and contents(folder) == before


def test_the_seed_changes_sentences(spoken, tmp_path):
    other = synthesise(tmp_path, seed=2).splits["test"]
    assert {u.text for u in other} != {u.text for u in spoken("en")[0].splits["test"]}


def test_a_kill_while_writing_leaves_no_half_file(espeak, tmp_path, monkeypatch):
    def dies(path, content):
        path.write_text("RIFF half a file")
        raise KeyboardInterrupt

    monkeypatch.setattr(Path, "write_bytes", dies)
    with pytest.raises(KeyboardInterrupt):
        synthesise(tmp_path)
    assert contents(tmp_path) == {}


def test_missing_espeak_says_how_to_install_it(monkeypatch, tmp_path):
    monkeypatch.setattr(demo.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(UserError, match=r"pip install '/path/to/checkout\[demo\]'"):
        synthesise(tmp_path)


def test_a_failing_synthesiser_is_one_line(espeak, monkeypatch):
    for voice in (demo.Voice("en-us", "nobody", 150, 50), demo.Voice("xx-yy", "m1", 150, 50)):
        with pytest.raises(UserError, match=r"failed for voice .* has no voice") as caught:
            demo._speak(voice, ["YES"])
        assert "\n" not in str(caught.value)
    monkeypatch.setattr(espeak_process, "__file__", "/nowhere.py")
    with pytest.raises(UserError, match="espeak-ng failed"):
        demo._speak(voice, ["YES"])


def test_the_synthesiser_imports_only_the_standard_library():
    """It runs as a script: it must not import what a fresh interpreter lacks."""
    text = Path(espeak_process.__file__).read_text(encoding="utf-8")
    imported = set(re.findall(r"^ *(?:import|from) (\w+)", text, re.MULTILINE))
    assert imported and imported <= sys.stdlib_module_names


# --- settings -----------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ACCENTS)
def test_recipes_of_other_languages_change_few_settings(name):
    english = all_settings(load_config(CONF / "demo.yaml", []))
    settings = all_settings(load_config(CONF / f"demo_{name}.yaml", []))
    assert {key: value for key, value in settings.items() if value != english[key]} == {
        "corpus.demo_language": name,
        "corpus.demo_train_sentences": 38,  # a flat start has no model that aligns
        "corpus.demo_eval_sentences": 24,
        "lang.units": "graphemes",
        "align.method": "flat",
        "senones.leaves": 400,  # letters by their place are more than phones
    }


@pytest.mark.parametrize(
    "more",
    ["align.lexicon=own.txt", "corpus.name=kaldi_dir", "lang.units=pieces align.method=flat"],
)
def test_a_language_without_a_lexicon_is_permitted_if_none_is_needed(more):
    load_config(None, ["corpus.demo_language=el", *more.split()])
