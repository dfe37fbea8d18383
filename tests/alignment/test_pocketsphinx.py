"""Forced alignment of real speech (AN4) with pocketsphinx."""

import itertools

import numpy as np
import pytest

from acoustic_kd.alignment.pocketsphinx import (
    AlignmentFailure,
    PocketsphinxAligner,
    bundled_lexicon,
)
from acoustic_kd.corpora import an4
from acoustic_kd.features.audio import read_audio
from acoustic_kd.features.fbank import SHIFT_SECONDS
from acoustic_kd.language.cmu_phones import CMU_PHONES
from acoustic_kd.language.lexicon import SILENCE, Lexicon, read_lexicon
from acoustic_kd.settings import POCKETSPHINX_HZ
from acoustic_kd.system.errors import UserError

COUNT = 8


@pytest.fixture(scope="module")
def utterances(shared_data):
    """A few test utterances with their samples, short and long, of several speakers."""
    chosen = an4.read(shared_data / "an4").splits["test"][:: 130 // COUNT][:COUNT]
    return [(u.id, u.text.split(), read_audio(u, POCKETSPHINX_HZ)) for u in chosen]


@pytest.fixture(scope="module")
def lexicon(shared_data, utterances):
    words = {word for _, words, _ in utterances for word in words}
    everything = read_lexicon(an4.lexicon_path(shared_data / "an4"))
    return everything.restricted_to(words | {"YES", "NO"})


@pytest.fixture(scope="module")
def aligner(lexicon):
    return PocketsphinxAligner(lexicon)


@pytest.fixture(scope="module")
def aligned(aligner, utterances):
    return {name: aligner.align(name, words, audio) for name, words, audio in utterances}


def pronounces(phones, words, lexicon):
    """Whether phones are one pronunciation of the words, with silence anywhere between words."""
    ends = {0}  # how many phones the words so far may have taken
    for word in words:
        after = set()
        for end, pronunciation in itertools.product(ends, lexicon[word]):
            start = end + (phones[end : end + 1] == (SILENCE,))
            if phones[start : start + len(pronunciation)] == pronunciation:
                after.add(start + len(pronunciation))
        ends = after
    return any(phones[end:] in ((), (SILENCE,)) for end in ends)


def test_the_phones_are_those_of_the_words(aligned, utterances, lexicon):
    assert len(aligned) == COUNT
    for name, words, _ in utterances:
        assert pronounces(aligned[name].phones, words, lexicon), name
        assert not pronounces(aligned[name].phones, [*words, "YES"], lexicon)
    assert any(SILENCE in s.phones for s in aligned.values())


def test_every_phone_lasts_and_all_of_them_last_as_long_as_the_sound(aligned, utterances):
    for name, _, audio in utterances:
        found = aligned[name]
        assert found.id == name
        assert found.durations.shape == (len(found.phones), 3)
        assert (found.durations.sum(1) >= 3).all() and (found.durations >= 0).all()
        assert abs(len(found) - len(audio) / POCKETSPHINX_HZ / SHIFT_SECONDS) <= 4


def test_silence_is_where_the_sound_is_faint(aligned, utterances):
    """In the mean over utterances: some begin within a word."""
    shares = []
    for name, _, audio in utterances:
        frames = aligned[name].resized_to(len(audio) // 160)
        power = np.square(audio[: len(frames) * 160].astype(np.float64)).reshape(-1, 160).mean(1)
        silent = np.repeat([p == SILENCE for p in frames.phones], frames.durations.sum(1))
        if silent.any():
            shares.append(power[silent].mean() / power[~silent].mean())
    assert len(shares) >= COUNT // 2 and np.median(shares) < 0.1


def test_earlier_utterances_do_not_change_the_result(aligner, aligned, utterances, lexicon):
    with pytest.raises(AlignmentFailure):
        aligner.align("noise", ["YES"], np.zeros(100, np.float32))
    fresh = PocketsphinxAligner(lexicon)
    rows = [(fresh, utterances[3]), *((aligner, row) for row in reversed(utterances))]
    for used, (name, words, audio) in rows:
        again = used.align(name, words, audio)
        assert again.phones == aligned[name].phones
        np.testing.assert_array_equal(again.durations, aligned[name].durations)


@pytest.mark.parametrize(
    ("change", "samples", "reason"),
    [
        (lambda words: 40 * words, None, "do not fit the audio"),
        (lambda words: words, 40, "do not fit the audio"),
        (lambda words: [*words, "XYZZY"], None, "word 'XYZZY' is not in the lexicon"),
        (lambda words: [], None, "transcript is empty"),
    ],
)
def test_a_transcript_that_does_not_fit_fails(aligner, utterances, change, samples, reason):
    _, words, audio = min(utterances, key=lambda item: len(item[2]))
    with pytest.raises(AlignmentFailure, match=reason):
        aligner.align("u", change(words), audio[:samples])


def test_a_foreign_phone_is_refused_at_once():
    lexicon = Lexicon({"ÜBER": (("Y:", "B", "ER"),), "YES": (("Y", "EH", "S"),)})
    with pytest.raises(UserError, match="phone 'Y:' is not among the 39 CMU phones"):
        PocketsphinxAligner(lexicon)


def test_the_bundled_lexicon_needs_no_other_phones():
    phones = set(read_lexicon(bundled_lexicon()).phones())
    assert len(CMU_PHONES) == 39 and phones == CMU_PHONES
