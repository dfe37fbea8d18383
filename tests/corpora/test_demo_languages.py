"""The demo in each of its languages: sentences, transcripts, voices, settings."""

import re
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest

from acoustic_kd.cli import main
from acoustic_kd.corpora import demo as demo
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
OTHERS = sorted(set(GRAMMARS) - {"en"})
THREE = CorpusConfig(  # the third voice has another accent
    demo_train_voices=3,
    demo_dev_voices=1,
    demo_test_voices=1,
    demo_train_sentences=2,
    demo_eval_sentences=2,
)


@pytest.fixture(scope="module", params=OTHERS)
def spoken(request, tmp_path_factory):
    """Language, its corpus, and where the audio is."""
    pytest.importorskip("espeakng_loader", reason="needs acoustic-kd[demo]")
    folder = tmp_path_factory.mktemp(request.param)
    config = replace(THREE, demo_language=request.param)
    return request.param, load(config, folder, normalise_spelled), folder


@pytest.fixture(params=sorted(GRAMMARS))
def language(request):
    return request.param


def many(language):
    return sentences(3000, 1, language)


def test_every_language_has_a_grammar_and_accents():
    assert set(GRAMMARS) == set(choices("corpus.demo_language")) == set(LETTERS)
    assert set(ACCENTS) == set(OTHERS)


def test_a_grammar_uses_what_it_has(language):
    grammar = GRAMMARS[language]
    texts = " ".join(text for alternatives in grammar.values() for text in alternatives)
    assert set(re.findall(r"\$(\w+)", texts)) == set(grammar) - {"SENTENCE"}
    assert len(grammar["SENTENCE"]) >= 12 and 100 <= len(vocabulary(language)) <= 150


def test_sentences_are_of_the_vocabulary_and_a_longer_list_begins_the_same(language):
    texts = many(language)
    assert len(set(texts)) == 3000 and sentences(50, 1, language) == texts[:50]
    assert sentences(50, 2, language) != texts[:50]
    assert {word for text in texts for word in text.split()} == vocabulary(language)


def test_transcripts_are_spelled_in_the_language_s_letters(language):
    for text in many(language):
        words = normalise_spelled(text).split()
        assert len(words) == len(text.split())  # no word is lost, and none is two
        assert set("".join(words)) <= set(LETTERS[language])
    spelled = [normalise_spelled(text) for text in many(language)]
    assert len(set(spelled)) == len(spelled)  # different in writing alone would be said twice


def test_greek_articles_end_as_the_next_word_wants():
    """An n before vowels, stops and their pairs, and nowhere else."""
    stops = ("κ", "π", "τ", "ξ", "ψ", "μπ", "ντ", "γκ", "τσ", "τζ", *"αάεέηήιίοόυύωώ")
    found = re.findall(r"\b(σ?τη)(ν?) (\w+)", "\n".join(many("el")))
    assert len(found) > 1000
    assert [row for row in found if (row[1] == "ν") != row[2].lower().startswith(stops)] == []


def test_greek_numbers_agree():
    text = "\n".join(many("el"))
    assert not re.search(r"στις (τρία|τέσσερα)\b|(τρεις|τέσσερις) (μήλα|αυγά|ευρώ|τοις)", text)
    assert re.search(r"στις τρεις και", text) and re.search(r"τρία εισιτήρια", text)


def test_spanish_contracts_and_no_city_is_left_for_itself():
    text = "\n".join(many("es"))
    assert not re.search(r"\b(de|a) el\b|\by (i|hi)|\b(de|a) (\w+) (a|de) \2\b", text)
    assert not re.search(r"\blas (libros|huevos|limones)|\blos (flores|sillas)", text)


def test_transcripts_are_what_is_said_and_no_voice_or_sentence_is_in_two_splits(spoken):
    language, corpus, _ = spoken
    everyone = [u for split in corpus.splits.values() for u in split]
    assert {s: len(us) for s, us in corpus.splits.items()} == {"train": 6, "dev": 2, "test": 2}
    said = sentences(10, 1, language)
    assert [u.text for u in everyone] == [text.upper() for text in sorted_as(corpus, said)]
    assert len({u.text for u in everyone}) == 10
    assert sum(len({u.speaker for u in us}) for us in corpus.splits.values()) == 5
    for utterance in everyone:
        samples, words = read_audio(utterance, 16000), len(utterance.text.split())
        assert 0.15 * words < len(samples) / 16000 < words + 1


def sorted_as(corpus, said):
    """The sentences in the order of the voices → in that of the utterances' ids."""
    names = [f"{voice.speaker}-{number:03d}" for voice, number in voices_in_order()]
    texts = dict(zip(names, said, strict=True))
    return [texts[u.id] for split in corpus.splits.values() for u in split]


def voices_in_order():
    used = [*demo.VOICES["train"][:3], demo.VOICES["dev"][0], demo.VOICES["test"][0]]
    return [(voice, number) for voice in used for number in (0, 1)]


def test_same_bytes_again(spoken, tmp_path):
    language, _, folder = spoken
    load(replace(THREE, demo_language=language), tmp_path, normalise_spelled)
    paths = sorted(path.relative_to(folder) for path in folder.rglob("*.wav"))
    assert len(paths) == 10
    assert all((folder / p).read_bytes() == (tmp_path / p).read_bytes() for p in paths)


def test_the_same_speakers_in_every_language(language):
    found = demo.voices(language)
    assert language != "en" or found == demo.VOICES
    for split, speakers in demo.VOICES.items():
        assert [v.speaker for v in found[split]] == [v.speaker for v in speakers]
        accents = ACCENTS.get(language, ("en-us", "en", "en-us-nyc"))
        assert {voice.accent for voice in found[split]} <= set(accents)
    if language != "en":
        assert {v.accent for vs in found.values() for v in vs} == set(ACCENTS[language])


@pytest.mark.parametrize("name", OTHERS)
def test_its_settings_are_the_demo_s_but_for_the_language(name):
    english = all_settings(load_config(CONF / "demo.yaml", []))
    own = all_settings(load_config(CONF / f"demo_{name}.yaml", []))
    assert {key: value for key, value in own.items() if value != english[key]} == {
        "corpus.demo_language": name,
        "corpus.demo_train_sentences": 38,  # a flat start has no model that aligns
        "corpus.demo_eval_sentences": 24,
        "lang.units": "graphemes",
        "align.method": "flat",
        "senones.leaves": 400,  # letters by their place are more than phones
    }


def test_an_unknown_language_is_one_line(tmp_path, capfd):
    assert main(["corpus", "--exp-dir", str(tmp_path / "exp"), "corpus.demo_language=tlh"]) == 2
    known = "en, es or el"
    expected = f"error: setting 'corpus.demo_language' is tlh; it must be {known}\n"
    assert capfd.readouterr().err.endswith(expected)
    assert not (tmp_path / "exp").exists()


def test_a_language_without_a_lexicon_must_be_spelled():
    load = partial(load_config, None)
    with pytest.raises(UserError) as caught:
        load(["corpus.demo_language=el", "align.method=flat"])
    assert str(caught.value) == (
        "setting 'corpus.demo_language' is el, which has no lexicon; give "
        "lang.units=graphemes align.method=flat, or en, with lang.units=phones"
    )
    load(["corpus.demo_language=el", "align.lexicon=own.txt"])
    load(["corpus.demo_language=el", "corpus.name=kaldi_dir"])  # not asked there
    load(["lang.units=pieces", "align.method=flat", "corpus.demo_language=el"])
