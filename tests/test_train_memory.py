"""Training within its memory budget."""

from dataclasses import replace
from functools import partial

import pytest
import test_train
import torch

from acoustic_kd import memory
from bench.memory_watch import Memory


@pytest.mark.parametrize("soft", [False, True])
def test_logits_need_no_more_memory_than_they_are_given(tmp_path, monkeypatch, soft):
    """Over 300 classes, a batch of 601 frames: logits and gradient are 1.4 MB, of which 0.1 fit."""
    monkeypatch.setattr(test_train, "make_frames", partial(test_train.make_frames, classes=300))
    monkeypatch.setattr(memory, "CACHED", 300)  # what is worked on at once: a row
    most = {}
    for limit in (10.0, 0.1):
        train = replace(test_train.TRAIN, epochs=1, batch_frames=601, logits_mb=limit)
        subject = test_train.trainer(tmp_path / str(limit), soft, train)
        with Memory(lambda found: found.ndim == 2 and found.shape[-1] == 300) as counted:
            subject._begin_part()
            subject._step(torch.arange(601), 1)
        most[limit] = counted.most
    assert most[10.0] > 2 * 4 * 300 * 601
    # Beside them a few rows, and the gradient of the output's weights: a part's and the sum.
    assert most[0.1] < 0.1e6 + 8 * 4 * 300 + 2 * 4 * 300 * 33
