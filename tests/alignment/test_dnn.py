"""Forced alignment with trained models: the best path, what it segments, what cannot be aligned."""

from itertools import product
from math import log

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from acoustic_kd.alignment.segmentation import AlignmentFailure, Segmentation
from acoustic_kd.alignment.senones import Leaf, SenoneInventory
from acoustic_kd.alignment.viterbi import Transcripts, alignment_graph, force_align
from acoustic_kd.corpora.utterances import Utterance
from acoustic_kd.experiment.models import AcousticScorer
from acoustic_kd.language.lexicon import Lexicon
from acoustic_kd.settings import ModelConfig
from acoustic_kd.system.errors import UserError
from acoustic_kd.training.model import AcousticModel
from acoustic_kd.verbs.align import dnn_aligner

PHONES = ("SIL", "A", "B", "C")
LEXICON = Lexicon({"AB": (("A", "B"), ("A",)), "BB": (("B", "B"),), "CA": (("C", "A"), ("B",))})


# Two leaves a state, told apart by the phone on the left; one for silence.
LEAVES = [
    Leaf(phone, state, left, PHONES)
    for phone, state in product(PHONES, range(3))
    for left in ([PHONES] if phone == "SIL" else [PHONES[:2], PHONES[2:]])
]
INVENTORY = SenoneInventory(PHONES, tuple(LEAVES))
K = INVENTORY.num_senones
UTTERANCE = Utterance("u", "s", "u.wav", None)


@given(
    st.lists(
        st.tuples(st.sampled_from(PHONES), st.lists(st.integers(1, 5), min_size=3, max_size=3)),
        min_size=1,
        max_size=9,
    )
)
def test_senones_of_frames_and_back(rows):
    phones = tuple(phone for phone, _ in rows)
    whole = Segmentation("u", phones, np.array([durations for _, durations in rows]))
    again = INVENTORY.segmentation("u", INVENTORY.targets(whole))
    assert (again.id, again.phones) == ("u", phones)
    np.testing.assert_array_equal(again.durations, whole.durations)


def test_senones_of_an_incomplete_phone_are_refused():
    with pytest.raises(ValueError, match="u: the senones do not go through whole phones"):
        INVENTORY.segmentation("u", np.array([0, 1]))


def best_path(words, loglikes, loop):
    """The senones of the best path, by trying every phone sequence; dynamic programming in each."""
    best = (-np.inf, None)
    pauses = product([False, True], repeat=len(words) + 1)
    for silent, prons in product(pauses, product(*(LEXICON[word] for word in words))):
        phones = ["SIL"] if silent[0] else []
        for pron, pause in zip(prons, silent[1:], strict=True):
            phones += [*pron, "SIL"] if pause else pron
        left, centre, right = INVENTORY.contexts(phones).T
        chain = INVENTORY.table[left, centre, right].ravel()
        if len(chain) > len(loglikes):
            continue
        score = np.full(len(chain), -np.inf)
        score[0] = loglikes[0, chain[0]]
        came = []
        for row in loglikes[1:]:
            stay = score + np.log(loop[chain])
            enter = np.append(-np.inf, (score + np.log1p(-loop[chain]))[:-1])
            came.append(enter > stay)
            score = np.maximum(stay, enter) + row[chain]
        total = score[-1] + log(1 - loop[chain[-1]]) + (len(words) + 1) * log(0.5)
        if total > best[0]:
            place, path = len(chain) - 1, [len(chain) - 1]
            for entered in reversed(came):
                place -= entered[place]
                path.append(place)
            best = total, chain[path[::-1]]
    return best[1]


@settings(max_examples=40)
@given(
    st.lists(st.sampled_from(sorted(LEXICON.entries)), min_size=1, max_size=3),
    st.integers(18, 40),
    st.integers(0, 2**32 - 1),
)
def test_the_path_is_the_best_of_all(words, frames, seed):
    rng = np.random.default_rng(seed)
    loglikes = rng.normal(0, 3, (frames, K)).astype(np.float32)
    durations = rng.uniform(1.2, 9, K)
    graph = alignment_graph(LEXICON, words, INVENTORY, durations)
    expected = best_path(words, loglikes.astype(np.float64), 1 - 1 / durations)
    np.testing.assert_array_equal(force_align(graph, loglikes), expected)


class Passthrough(nn.Module):
    """Logits are the features, one column a senone."""

    def forward(self, windows):
        return 8 * windows[:, 0]


def aligner(lexicon=LEXICON, models=1):
    model = AcousticModel(Passthrough(), ModelConfig(left_frames=0, right_frames=0), {})
    flat = np.full(K, -log(K))
    scorer = AcousticScorer(models * [model], flat, np.full(K, 3.0), False)
    return dnn_aligner(scorer, INVENTORY, lexicon)


@pytest.mark.parametrize("models", [1, 3])
def test_clear_speech_is_aligned_exactly(models):
    durations = np.array([[2, 3, 1], [1, 1, 4], [3, 2, 2], [1, 2, 6], [2, 2, 2], [5, 1, 1]])
    truth = Segmentation("u", ("SIL", "A", "SIL", "B", "B", "SIL"), durations)
    features = np.eye(K, dtype=np.float32)[INVENTORY.targets(truth)]
    found = aligner(models=models)(UTTERANCE, ["AB", "BB"], features)
    assert found.phones == truth.phones and found.durations.dtype == np.int64
    np.testing.assert_array_equal(found.durations, durations)


@pytest.mark.parametrize(
    ("words", "frames", "reason"),
    [
        (["AB", "XYZZY"], 40, "word 'XYZZY' is not in the lexicon"),
        ([], 40, "the transcript is empty"),
        (["AB", "BB"], 8, "too short for its transcript: 8 frames, and 3 phones have at least 9"),
    ],
)
def test_transcripts_that_cannot_be_aligned(words, frames, reason):
    with pytest.raises(AlignmentFailure, match=f"^{reason}$"):
        aligner()(UTTERANCE, words, torch.zeros(frames, K).numpy())


def test_the_shortest_utterance_that_fits():
    found = aligner()(UTTERANCE, ["AB", "BB"], np.zeros((9, K), np.float32))
    assert found.phones == ("A", "B", "B") and (found.durations == 1).all()


def test_a_foreign_phone_is_named():
    with pytest.raises(UserError, match="phone 'OY' is not among the 4 phones of the models"):
        aligner(Lexicon({"OI": (("OY",),)}))


@pytest.mark.parametrize("beam", [0.5, 5.0, 50.0])
def test_a_beam_never_leaves_words_without_a_path(beam):
    rng = np.random.default_rng(4)
    transcripts = Transcripts(LEXICON, INVENTORY, keep=True)
    for _ in range(20):
        loglikes = rng.normal(0, 30, (12, K)).astype(np.float32)
        found = transcripts.path(["AB", "BB"], loglikes, beam)
        INVENTORY.segmentation("u", found)
    whole = transcripts.path(["AB", "BB"], loglikes)
    np.testing.assert_array_equal(transcripts.path(["AB", "BB"], loglikes, 1e4), whole)
