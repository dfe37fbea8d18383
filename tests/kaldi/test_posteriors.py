"""Posteriors of external models: logits, best classes, and frames that match ours."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torchaudio.compliance.kaldi import fbank

from acoustic_kd.features.fbank import log_mel
from acoustic_kd.kaldi.objects import Sparse
from acoustic_kd.kaldi.posteriors import best_classes, frames_as_here, log_posteriors
from acoustic_kd.settings import FeatureConfig
from acoustic_kd.system.errors import UserError

P = np.random.default_rng(0).dirichlet(np.ones(5), 7).astype(np.float32)


def sparse(*frames):
    counts = [len(frame) for frame in frames]
    pairs = [pair for frame in frames for pair in frame]
    return Sparse(
        np.concatenate([[0], np.cumsum(counts)]),
        np.array([k for k, _ in pairs], np.int32),
        np.array([w for _, w in pairs], np.float32),
    )


def test_probabilities_and_their_logarithms_are_distinguished():
    np.testing.assert_allclose(log_posteriors(P, 5, "a"), np.log(P), rtol=1e-6)
    np.testing.assert_array_equal(log_posteriors(np.log(P), 5, "a"), np.log(P))
    certain = np.eye(5, dtype=np.float32)
    logits = log_posteriors(certain, 5, "a")
    assert np.isfinite(logits).all()
    np.testing.assert_allclose(np.exp(logits), certain, atol=1e-30)
    with np.errstate(divide="ignore"):
        from_logarithms = log_posteriors(np.log(certain), 5, "a")
    np.testing.assert_array_equal(from_logarithms, logits)
    assert from_logarithms.dtype == np.float32


def test_sparse_weights_are_normalised():
    logits = log_posteriors(sparse([(1, 2.0), (3, 6.0)], [(0, 0.5), (0, 0.5)]), 5, "a")
    np.testing.assert_allclose(np.exp(logits), [[0, 0.25, 0, 0.75, 0], [1, 0, 0, 0, 0]])


def test_best_class_of_each_frame():
    assert best_classes(np.log(P), "a").tolist() == P.argmax(1).tolist()
    with np.errstate(divide="ignore"):
        assert best_classes(np.log(np.eye(3)), "a").tolist() == [0, 1, 2]
    frames = [(4, 0.1), (2, 0.7), (3, 0.2)], [(1, 1.0)], [(0, 0.4), (3, 0.6)]
    assert best_classes(sparse(*frames), "a").tolist() == [2, 1, 3]


@settings(max_examples=30)
@given(st.integers(400, 3000), st.sampled_from([8000, 16000]))
def test_kaldi_has_two_frames_more_at_any_length(samples, rate):
    here = len(log_mel(np.zeros(samples, np.float32), FeatureConfig(sample_rate=rate)))
    kaldi = fbank(torch.zeros(1, samples), sample_frequency=rate, snip_edges=False, num_mel_bins=40)
    selected = frames_as_here(np.arange(len(kaldi)), here, False, "a")
    assert len(selected) == here and selected[0] == 1


def test_the_nearest_frame_is_selected():
    """A click in the middle of frame t is loudest in Kaldi's frame that is selected for t."""
    wave = torch.zeros(1, 16000)
    for t in (3, 40, 77):
        wave[0, t * 160 + 200] = 10000
    kaldi = fbank(wave, snip_edges=False, num_mel_bins=40, sample_frequency=16000).mean(1).numpy()
    here = log_mel(wave[0].numpy() / 32768, FeatureConfig()).mean(1)
    assert np.corrcoef(frames_as_here(kaldi, 98, False, "a"), here)[0, 1] > max(
        np.corrcoef(kaldi[shift : shift + 98], here)[0, 1] for shift in (0, 2)
    )


def test_edge_frames_of_sparse_posteriors_are_left_out():
    weights = np.arange(6, dtype=np.float32)
    rows = frames_as_here(Sparse(np.array([0, 1, 1, 3, 6]), np.arange(6), weights), 2, False, "a")
    assert rows.offsets.tolist() == [0, 0, 2] and rows.classes.tolist() == [1, 2]
    assert rows.weights.tolist() == [1, 2]
    assert len(frames_as_here(np.arange(7), 7, True, "a")) == 7


NAN = np.where(np.arange(7)[:, None] == 4, np.nan, P)
LOGITS = (log_posteriors, 5)
FRAMES = "{} frames in the archive, but 7 here.*"


@pytest.mark.parametrize(
    ("call", "given", "message"),
    [
        (LOGITS, P[:, :4], "posteriors of 4 classes, but the frames have 5"),
        (LOGITS, P * 3, "frame 0 has neither .* they sum to 3, not 1"),
        (LOGITS, np.log(P) - 2, "frame 0 has .* exponentiated, they sum to 0.1353, not 1"),
        (LOGITS, NAN, "frame 4 has neither"),
        (LOGITS, sparse([(1, 1.0)], [(5, 1.0)]), r"class 5 in frame 1, but .* have 5 \(0 to 4"),
        (LOGITS, sparse([(1, 1.0)], [(-1, 1.0)]), "class -1 in frame 1"),
        (LOGITS, sparse([(1, 1.0)], []), "frame 1 has no class of positive weight"),
        (LOGITS, sparse([(1, 1.0), (2, -0.5)]), "frame 0 has no .*, or a negative weight"),
        ((best_classes,), sparse([(1, 1.0)], []), "frame 1 has no class, or NaN"),
        ((best_classes,), sparse([(1, 1.0)], [(0, np.nan)]), "frame 1 has no class, or NaN"),
        ((best_classes,), NAN, "frame 4 has no class, or NaN"),
        ((frames_as_here, 7, True), P[[0] * 9], FRAMES.format(9) + "give align.snip_edges=false"),
        ((frames_as_here, 7, True), P[:3], FRAMES.format(3) + "as of a chain model"),
        ((frames_as_here, 7, False), P, FRAMES.format(7) + "must have 9"),
    ],
)
def test_refusals(call, given, message):
    function, *arguments = call
    with pytest.raises(UserError, match=f"^a: {message}"):
        function(given, *arguments, "a")
