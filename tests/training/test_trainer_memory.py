"""Training within its memory budget."""

import subprocess
import sys
from dataclasses import replace
from functools import partial

import pytest
import tiny_training
import torch

from acoustic_kd.system import memory as memory
from bench import TensorMemory


@pytest.mark.parametrize("soft", [False, True])
def test_logits_need_no_more_memory_than_they_are_given(tmp_path, monkeypatch, soft):
    """Over 300 classes, a batch of 601 frames: logits and gradient are 1.4 MB, of which 0.1 fit."""
    monkeypatch.setattr(
        tiny_training, "make_frames", partial(tiny_training.make_frames, classes=300)
    )
    monkeypatch.setattr(memory, "CPU_BLOCK_NUMBERS", 300)  # what is worked on at once: a row
    most = {}
    for limit in (10.0, 0.1):
        train = replace(tiny_training.TRAIN, epochs=1, batch_frames=601, max_logits_mb=limit)
        subject = tiny_training.trainer(tmp_path / str(limit), soft, train)
        with TensorMemory(lambda t: t.ndim == 2 and t.shape[-1] == 300) as counted:
            subject._reset_counters()
            subject._step(torch.arange(601), 601, 1)
        most[limit] = counted.peak_bytes
    assert most[10.0] > 2 * 4 * 300 * 601
    # Beside them a few rows, and the gradient of the output's weights: a part's and the sum.
    assert most[0.1] < 0.1e6 + 8 * 4 * 300 + 2 * 4 * 300 * 33


FREED = """
import sys
from pathlib import Path

import torch

from acoustic_kd.system import memory as memory

if sys.argv[1:]:
    memory.disable_malloc_trim()
held = []
for size in (1, 25_000_000):
    held.append(int(Path("/proc/self/statm").read_text().split()[1]))
    torch.ones(size)
held.append(int(Path("/proc/self/statm").read_text().split()[1]))
print(held[2] - held[1])
"""


@pytest.mark.skipif(sys.platform != "linux", reason="what is counted here is Linux's")
def test_what_a_training_step_frees_is_there_for_the_next():
    """Pages of 4 KiB that stay with the process of a tensor of 100 MB."""
    stays = [
        int(subprocess.check_output([sys.executable, "-c", FREED, *keep])) for keep in ([], ["x"])
    ]
    assert stays[0] < 2_000
    assert stays[1] > 20_000
