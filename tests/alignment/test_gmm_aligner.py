"""Scores of alignments, and which utterances are outliers."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from acoustic_kd.alignment.gmm_aligner import MAX_NATS_PER_FRAME, find_outliers, score_path

SILENT = np.array([True, False, False])


def test_a_score_is_the_distance_from_the_best_states():
    loglikes = np.array([[-9, -1, -2], [-9, -3, -1], [-9, -4, -7]])
    assert score_path(loglikes, np.array([1, 1, 1]), SILENT) == pytest.approx(-2 / 3)
    assert score_path(loglikes, np.array([1, 2, 1]), SILENT) == 0


def test_silence_counts_only_if_speech_is_audible_or_aligned():
    loglikes = np.array([[-1, -5, -5], [-9, -3, -1]], float)
    pause = np.repeat(loglikes[:1], 50, axis=0)
    speech = np.concatenate([pause, loglikes[1:], pause])
    path = np.zeros(len(speech), int)
    path[50] = 1
    assert score_path(speech, path, SILENT) == -2  # pauses do not count
    path[50] = 0
    assert score_path(speech, path, SILENT) == -8  # speech that the transcript lacks
    path[49:51] = 1
    assert score_path(speech, path, SILENT) == pytest.approx((-4 - 2) / 2)  # a word in a pause
    assert score_path(pause, np.zeros(50, int), SILENT) == 0


def test_a_few_frames_that_do_not_fit_count_little():
    loglikes = np.tile([-9.0, -1, -2], (100, 1))
    path = np.ones(100, int)
    loglikes[:9, 1] = -500  # digital silence within words
    assert score_path(loglikes, path, SILENT) == pytest.approx(-0.09 * MAX_NATS_PER_FRAME)


@given(st.integers(0, 10_000), st.integers(0, 40))
def test_planted_scores_are_found_and_no_others(seed, planted):
    rng = np.random.default_rng(seed)
    scores = np.concatenate([rng.normal(-3, 0.3, 400).clip(-4, -2), np.full(planted, -8.0)])
    scores[rng.integers(0, 400, 5)] = np.nan
    found = find_outliers(scores, 6.0)
    assert not found[:400].any() and found[400:].all()


def test_no_scores_and_equal_scores():
    assert not find_outliers(np.full(4, np.nan), 6.0).any()
    assert not find_outliers(np.array([-2.0, -2.0, -2.0, -2.0, -2.9]), 6.0).any()
    np.testing.assert_array_equal(find_outliers(np.array([-2, -2, -2, -2, -9.0]), 6.0)[3:], [0, 1])
    assert find_outliers(np.zeros(0), 6.0).shape == (0,)
