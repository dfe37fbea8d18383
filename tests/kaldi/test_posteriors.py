"""Logits from what an archive has of an utterance."""

import numpy as np
import pytest

from acoustic_kd.kaldi.objects import Sparse
from acoustic_kd.kaldi.posteriors import best_classes, log_posteriors
from acoustic_kd.system.errors import UserError

RNG = np.random.default_rng(0)
P = RNG.dirichlet(np.ones(5), 7).astype(np.float32)


def sparse(frames):
    counts = [len(frame) for frame in frames]
    pairs = [pair for frame in frames for pair in frame]
    return Sparse(
        np.concatenate([[0], np.cumsum(counts)]),
        np.array([k for k, _ in pairs], np.int32),
        np.array([w for _, w in pairs], np.float32),
    )


def test_probabilities_and_their_logarithms_are_told_apart():
    np.testing.assert_allclose(log_posteriors(P, 5, "a"), np.log(P), rtol=1e-6)
    np.testing.assert_array_equal(log_posteriors(np.log(P), 5, "a"), np.log(P))
    certain = np.eye(5, dtype=np.float32)
    found = log_posteriors(certain, 5, "a")
    assert np.isfinite(found).all()
    np.testing.assert_allclose(np.exp(found), certain, atol=1e-30)
    with np.errstate(divide="ignore"):
        logarithms = log_posteriors(np.log(certain), 5, "a")
    np.testing.assert_array_equal(logarithms, found)
    assert logarithms.dtype == np.float32


def test_weights_of_a_sparse_posterior_are_made_to_sum_to_one():
    found = log_posteriors(sparse([[(1, 2.0), (3, 6.0)], [(0, 0.5), (0, 0.5)]]), 5, "a")
    np.testing.assert_allclose(np.exp(found), [[0, 0.25, 0, 0.75, 0], [1, 0, 0, 0, 0]])


@pytest.mark.parametrize(
    ("found", "message"),
    [
        (P[:, :4], "a: posteriors of 4 classes, but the frames have 5"),
        (P * 3, "a: frame 0 has neither .* they sum to 3, not 1"),
        (np.log(P) - 2, "exponentiated, they sum to 0.1353, not 1"),
        (np.where(np.arange(7)[:, None] == 4, np.nan, P), "frame 4 has neither"),
        (
            sparse([[(1, 1.0)], [(5, 1.0)]]),
            r"a: class 5 in frame 1, but .* have 5 \(0 to 4",
        ),
        (sparse([[(1, 1.0)], [(-1, 1.0)]]), "a: class -1 in frame 1"),
        (sparse([[(1, 1.0)], []]), "a: frame 1 has no class of positive weight"),
        (sparse([[(1, 1.0), (2, -0.5)]]), "a: frame 0 has no class of positive weight, or a neg"),
    ],
)
def test_what_is_no_posterior_is_refused(found, message):
    with pytest.raises(UserError, match=message):
        log_posteriors(found, 5, "a")


def test_the_best_class_of_each_frame():
    assert best_classes(np.log(P), "a").tolist() == P.argmax(1).tolist()
    with np.errstate(divide="ignore"):
        assert best_classes(np.log(np.eye(3)), "a").tolist() == [0, 1, 2]
    frames = [[(4, 0.1), (2, 0.7), (3, 0.2)], [(1, 1.0)], [(0, 0.4), (3, 0.6)]]
    assert best_classes(sparse(frames), "a").tolist() == [2, 1, 3]
    for found in (sparse([[(1, 1.0)], []]), sparse([[(1, 1.0)], [(0, np.nan)]])):
        with pytest.raises(UserError, match="a: frame 1 has no class, or no number"):
            best_classes(found, "a")
    with pytest.raises(UserError, match="a: frame 4 has no class, or no number"):
        best_classes(np.where(np.arange(7)[:, None] == 4, np.nan, P), "a")
