"""Training that is killed −9 at random moments goes on to the same bits."""

import random
from dataclasses import replace
from pathlib import Path

import kills
import pytest
from safetensors.torch import load_file


def train(directory: Path) -> None:
    from tiny_training import TRAIN, trainer

    trainer(directory, True, replace(TRAIN, epochs=14, checkpoint_steps=2)).run()


@pytest.mark.slow
def test_killed_at_twenty_moments_it_ends_with_the_same_weights(tmp_path):
    seconds = kills.run(train, tmp_path / "whole")
    expected = (tmp_path / "whole" / "model.safetensors").read_bytes()
    count, rng = 0, random.Random(1)
    while count < 20:  # runs, each of which is killed several times
        folder = tmp_path / f"killed-{count}"
        count += kills.run_killed(train, folder, seconds=seconds / 3, rng=rng)
        assert (folder / "model.safetensors").read_bytes() == expected
        assert load_file(folder / "model.safetensors")
        assert not (folder / "checkpoint.safetensors").exists()
