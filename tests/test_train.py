"""The training loop: what it learns, and that a killed run goes on to the same bits."""

import json
import os
import subprocess
import sys
import textwrap
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from acoustic_kd.config import ModelConfig, TrainConfig
from acoustic_kd.errors import UserError
from acoustic_kd.frames import Classes, Frames
from acoustic_kd.model import load_model
from acoustic_kd.soft_targets import SoftTargets
from acoustic_kd.train import Job, Trainer, make_accelerator

MODEL = ModelConfig(layers=2, width=32, dropout=0.2, left_frames=2, right_frames=1)
TRAIN = TrainConfig(epochs=3, batch_frames=50, learning_rate=3e-3, bfloat16=False)


def make_frames(count=601, classes=5, seed=0):  # the last batch of 50 holds one frame
    """Frames whose class shows in their features; utterances of many lengths."""
    rng = np.random.default_rng(seed)
    targets = rng.integers(0, classes, count)
    centres = np.random.default_rng(99).normal(0, 1, (classes, 6))
    features = centres[targets] + rng.normal(0, 0.7, (count, 6))
    cuts = np.sort(rng.choice(np.arange(1, count), 20, replace=False))
    offsets = np.concatenate([[0], cuts, [count]])
    return Frames(
        torch.from_numpy(features.astype(np.float16)),
        torch.from_numpy(targets),
        [f"u{n}" for n in range(21)],
        offsets,
        Classes(classes, "h"),
    )


def soft_targets(frames, kept=3, temperature=2.0):
    truth = torch.nn.functional.one_hot(frames.targets, frames.classes.count)
    p = torch.softmax(4 * truth.float() / temperature, -1)
    top = p.topk(kept, -1)
    return SoftTargets(top.indices.int(), top.values.half(), temperature)


def trainer(folder, soft=False, train=TRAIN, digest="d", seed=1):
    frames = make_frames()
    job = Job("test", seed, MODEL, train, 0.5, digest)
    targets = soft_targets(frames) if soft else None
    accelerator = make_accelerator()
    return Trainer(job, folder, frames, make_frames(200, seed=7), targets, accelerator)


def weights(folder):
    return {
        name: t.numpy().tobytes() for name, t in load_file(folder / "model.safetensors").items()
    }


@pytest.mark.parametrize("soft", [False, True])
@pytest.mark.parametrize("bfloat16", [False, True])
def test_it_learns(tmp_path, soft, bfloat16):
    history = trainer(tmp_path, soft, replace(TRAIN, bfloat16=bfloat16, epochs=12)).run()
    assert history[-1]["dev_frame_accuracy"] > 70
    assert history[-1]["train_loss"] < history[0]["train_loss"]
    model, description = load_model(tmp_path)
    assert not model.training
    assert description["best_dev_frame_accuracy"] == max(h["dev_frame_accuracy"] for h in history)
    assert [json.loads(x) for x in (tmp_path / "metrics.jsonl").read_text().splitlines()] == history
    assert not (tmp_path / "checkpoint.safetensors").exists()


def test_seeds_differ_and_repeat(tmp_path):
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        trainer(tmp_path / name, seed=seed).run()
    assert weights(tmp_path / "a") == weights(tmp_path / "b") != weights(tmp_path / "c")


class Killed(BaseException):
    pass


@pytest.mark.parametrize("soft", [False, True])
@pytest.mark.parametrize("step", [1, 7, 12, 13, 14, 30, 38])
def test_an_interrupted_run_ends_with_the_same_bits(tmp_path, monkeypatch, soft, step):
    train = replace(TRAIN, checkpoint_steps=3)
    trainer(tmp_path / "whole", soft, train).run()
    calls = 0
    original = Trainer._loss

    def dying(self, frames):
        nonlocal calls
        calls += 1
        if calls == step:
            raise Killed
        return original(self, frames)

    monkeypatch.setattr(Trainer, "_loss", dying)
    with pytest.raises(Killed):
        trainer(tmp_path / "killed", soft, train).run()
    monkeypatch.setattr(Trainer, "_loss", original)
    history = trainer(tmp_path / "killed", soft, train).run()
    assert weights(tmp_path / "killed") == weights(tmp_path / "whole")
    whole = [json.loads(x) for x in (tmp_path / "whole" / "metrics.jsonl").read_text().splitlines()]
    for row, expected in zip(history, whole, strict=True):
        assert row | {"frames_per_second": 0} == expected | {"frames_per_second": 0}


def test_a_checkpoint_of_other_settings_is_refused(tmp_path, monkeypatch):
    train = replace(TRAIN, checkpoint_steps=3)
    monkeypatch.setattr(Trainer, "_close_epoch", lambda *_: (_ for _ in ()).throw(Killed))
    with pytest.raises(Killed):
        trainer(tmp_path, train=train).run()
    with pytest.raises(UserError, match="belongs to other settings or data"):
        trainer(tmp_path, train=train, digest="other").run()


def test_a_diverged_loss_is_one_clear_error(tmp_path):
    with pytest.raises(UserError, match="loss is nan.*lower train.learning_rate"):
        trainer(tmp_path, train=replace(TRAIN, learning_rate=1e30)).run()


def test_the_rate_decays_once_dev_stops_gaining(tmp_path, monkeypatch):
    accuracies = iter([50.0, 60.0, 60.3, 62.0, 62.2, 62.1])
    monkeypatch.setattr(Trainer, "evaluate", lambda self: (1.0, next(accuracies)))
    train = replace(TRAIN, epochs=30, decay_below=0.5, decay=0.5, stop_rate=0.1)
    history = trainer(tmp_path, train=train).run()
    rates = [row["learning_rate"] / 3e-3 for row in history]
    assert rates == [1, 1, 1, 0.5, 0.25, 0.125]
    assert load_model(tmp_path)[1]["best_dev_frame_accuracy"] == 62.2


PROGRAM = """
    import sys
    from dataclasses import replace
    from pathlib import Path

    sys.path.insert(0, {tests!r})
    import test_train
    # Without dropout, whose masks belong to processes.
    test_train.MODEL = replace(test_train.MODEL, dropout=0.0)
    test_train.trainer(Path(sys.argv[1])).run()
"""


@pytest.mark.slow
def test_two_processes_give_the_numbers_of_one(tmp_path):
    program = tmp_path / "program.py"
    tests = str(Path(__file__).parent)
    program.write_text(textwrap.dedent(PROGRAM.format(tests=tests)))
    launch = [
        sys.executable,
        "-m",
        "torch.distributed.run",
        "--standalone",
        "--nproc-per-node",
        "2",
    ]
    environment = os.environ | {"OMP_NUM_THREADS": "1", "ACCELERATE_USE_CPU": "true"}
    subprocess.run([*launch, program, tmp_path / "two"], check=True, env=environment)
    subprocess.run([sys.executable, program, tmp_path / "one"], check=True, env=environment)
    one, two = (load_file(tmp_path / name / "model.safetensors") for name in ("one", "two"))
    for name in one:
        torch.testing.assert_close(two[name], one[name], rtol=1e-3, atol=1e-4)


def test_the_number_of_processes_is_checked(monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(UserError, match="2 processes were started but Accelerate joins 1"):
        make_accelerator()
