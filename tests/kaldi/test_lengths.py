"""Frame counts with Kaldi's --snip-edges=false, by torchaudio's own computation of them."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torchaudio.compliance.kaldi import fbank

from acoustic_kd.features.fbank import log_mel
from acoustic_kd.kaldi.objects import Sparse
from acoustic_kd.kaldi.posteriors import frames_as_here
from acoustic_kd.settings import FeatureConfig
from acoustic_kd.system.errors import UserError


@settings(max_examples=30)
@given(st.integers(400, 3000), st.sampled_from([8000, 16000]))
def test_there_are_two_frames_more_whatever_the_length(samples, rate):
    config = FeatureConfig(sample_rate=rate)
    here = len(log_mel(np.zeros(samples, np.float32), config))
    there = fbank(torch.zeros(1, samples), sample_frequency=rate, snip_edges=False, num_mel_bins=40)
    rows = np.arange(len(there))
    found = frames_as_here(rows, here, False, "a")
    assert len(found) == here and found[0] == 1


def test_the_frame_that_is_taken_is_the_nearest():
    """A click in the middle of frame t here is loudest, there, in the frame that is taken for t."""
    wave = torch.zeros(1, 16000)
    for t in (3, 40, 77):
        wave[0, t * 160 + 200] = 10000
    energy = fbank(wave, snip_edges=False, num_mel_bins=40, sample_frequency=16000).mean(1)
    loud = frames_as_here(energy.numpy(), 98, False, "a")
    own = log_mel(wave[0].numpy() / 32768, FeatureConfig()).mean(1)
    assert np.corrcoef(loud, own)[0, 1] > max(
        np.corrcoef(energy.numpy()[shift : shift + 98], own)[0, 1] for shift in (0, 2)
    )


def test_other_lengths_are_refused():
    assert len(frames_as_here(np.arange(7), 7, True, "a")) == 7
    with pytest.raises(UserError, match="a: 9 frames there, but 7 here.*give align.snip_edges=fal"):
        frames_as_here(np.arange(9), 7, True, "a")
    with pytest.raises(UserError, match="a: 3 frames there, but 7 here.*chain model's every third"):
        frames_as_here(np.arange(3), 7, True, "a")
    with pytest.raises(UserError, match="a: 7 frames there, but 7 here.*must have 9"):
        frames_as_here(np.arange(7), 7, False, "a")


def test_frames_of_a_sparse_posterior_are_left_out():
    weights = np.arange(6, dtype=np.float32)
    found = frames_as_here(Sparse(np.array([0, 1, 1, 3, 6]), np.arange(6), weights), 2, False, "a")
    assert found.offsets.tolist() == [0, 0, 2] and found.classes.tolist() == [1, 2]
    assert found.weights.tolist() == [1, 2]
