"""Transcripts as written → the words that are spelled."""

import unicodedata

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from acoustic_kd.corpora import an4
from acoustic_kd.corpora.utterances import normalise_text
from acoustic_kd.language.normalise import normalise_spelled
from acoustic_kd.settings import choices


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("  hello\tthere  World ", "HELLO THERE WORLD"),
        ("Привет, мир! Ёлка…", "ПРИВЕТ МИР ЁЛКА"),
        ("п’ять п'ять пʼять", "П'ЯТЬ П'ЯТЬ П'ЯТЬ"),
        ("Straße Ǆ ﬁn", "STRASSE DŽ FIN"),
        ("ΐδια όσος", "Ϊ́ΔΙΑ ΌΣΟΣ"),
        ("cafe\u0301 café", "CAFÉ CAFÉ"),
        ("ｈｅｌｌｏ　世界。你好，", "HELLO 世界 你好"),
        ("สวัสดี ทำ", "สวัสดี ทํา"),  # NFKC parts sara am
        ("안녕하세요", "안녕하세요"),
        ("مرحبا، كيف؟", "مرحبا كيف"),
        ("ﻣﺮﺣﺒﺎ", "مرحبا"),  # presentation forms
        ("soft\u00adhyphen \ufeffmark", "SOFTHYPHEN MARK"),
        ("\u200ftext zero\u200bwidth", "TEXT ZERO WIDTH"),
        ("“Don’t ‘go’ — on,” he said.", "DON'T GO ON HE SAID"),
        ("'tis dogs' U.S. well-known wel- -", "'TIS DOGS' U.S WELL-KNOWN WEL"),
        ("' '' .", ""),
        ("don\u2011t don＇t don´t don\u1ffdt `go´ ｅ－mail", "DON‐T DON'T DON'T DON'T GO E-MAIL"),
        ("終わった．それから", "終わった それから"),  # a stop without a space
        ("مـحمد محمد", "محمد محمد"),  # tatweel draws a letter out
        ("5% <unk> [noise]", "5% <UNK> [NOISE]"),
        ("5％ ＜unk＞ ［noise］，", "5% <UNK> [NOISE]"),
    ],
)
def test_what_is_written_becomes_words(text, words):
    assert normalise_spelled(text) == words
    composed = unicodedata.normalize("NFD", text)
    assert normalise_spelled(composed) == words  # however it is stored


def test_the_two_letters_i_of_turkish():
    assert normalise_spelled("ısı isi Diyarbakır İzmir", "turkic") == "ISI İSİ DİYARBAKIR İZMİR"
    assert normalise_spelled("ısı isi İzmir") == "ISI ISI İZMIR"
    assert normalise_spelled("i\u0307zmir", "turkic") == "İZMİR"


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("  far\tfrom\u00a0the\u3000garden ", "FAR FROM THE GARDEN"),
        ("gardén gard\u0065\u0301n", "GARDÉN GARDÉN"),
        ("FAR\u200b FR\u00adOM \ufeffTHE \u200eLIGHT\u2060 TU\ufe0fRN", "FAR FROM THE LIGHT TURN"),
        ("FAR\u200bFROM", "FAR FROM"),
        ("don\u2019t don\u02bct don\u2018t don`t don´t don\uff07t", " ".join(["DON'T"] * 6)),
        ("ｌｉｇｈｔ ﬁne ｶﾞ", "LIGHT FINE ガ"),
        ("straße ŉ", "STRASSE 'N"),
        ("می\u200cخواهم க்\u200cஷ", "می\u200cخواهم க்\u200cஷ"),  # joiners that change letters
        ("LI\u200dGHT\u200c می\u200c خواهم", "LIGHT می خواهم"),  # joiners that join nothing
        ("5% <UNK> [NOISE] U.S.", "5% <UNK> [NOISE] U.S."),
    ],
)
def test_words_of_a_lexicon_look_alike_only_if_they_are_alike(text, words):
    assert normalise_text(text) == words


@settings(max_examples=200)
@given(st.text(max_size=20))
def test_words_of_a_lexicon_have_one_form(text):
    once = normalise_text(text)
    assert normalise_text(once) == once == " ".join(once.split())
    assert normalise_text(unicodedata.normalize("NFD", text)) == once


@settings(max_examples=500)
@given(st.text(max_size=20), st.sampled_from(choices("lang.case")))
def test_the_same_again_changes_nothing(text, case):
    once = normalise_spelled(text, case)
    assert normalise_spelled(once, case) == once
    assert once == " ".join(once.split()) and unicodedata.is_normalized("NFKC", once)


def test_english_capitals_are_what_they_were(shared_data):
    """So a corpus in them needs no other reader."""
    splits = an4.read(shared_data / "an4").splits.values()
    texts = [utterance.text for split in splits for utterance in split]
    for path in (shared_data / "LibriSpeech" / "train-clean-5").rglob("*.trans.txt"):
        texts += [line.partition(" ")[2] for line in path.read_text().splitlines()]
    assert len(texts) > 1500
    for text in texts:
        assert normalise_spelled(text) == normalise_text(text)
