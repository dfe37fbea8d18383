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
import tiny_training
import torch
from dying import killed_at
from safetensors.torch import load_file
from tiny_training import MODEL, TRAIN, make_frames, soft_targets, trainer, weights

from acoustic_kd.features.frames import NO_TARGET
from acoustic_kd.system.errors import UserError
from acoustic_kd.training.batches import WHOLE_SHARE
from acoustic_kd.training.losses import distillation_loss
from acoustic_kd.training.model import load_model
from acoustic_kd.training.processes import make_accelerator
from acoustic_kd.training.schedule import TrainingRun
from acoustic_kd.training.trainer import Trainer


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


def partly_transcribed(every=2):
    """Frames of which each `every`th utterance has no transcript."""
    frames = make_frames()
    for number, (_, span) in enumerate(frames.spans()):
        if number % every == 0:
            frames.targets[span] = NO_TARGET
    return frames


def test_frames_without_transcript_are_learnt_from_soft_targets_alone(tmp_path):
    """No transcript at all is the same, bit for bit, as a hard weight of 0."""
    soft, dev = soft_targets(make_frames()), make_frames(200, seed=7)
    found = {}
    for name, train, weight in (
        ("none", partly_transcribed(every=1), 0.5),
        ("absent", replace(make_frames(), targets=None), 0.5),
        ("weight 0", make_frames(), 0.0),
        ("some", partly_transcribed(), 0.5),
        ("all", make_frames(), 0.5),
    ):
        job = TrainingRun("test", 1, MODEL, TRAIN, weight, "d")
        Trainer(job, tmp_path / name, train, dev, soft, make_accelerator()).run()
        found[name] = weights(tmp_path / name)
    assert found["none"] == found["absent"] == found["weight 0"]
    assert found["some"] != found["none"] and found["some"] != found["all"] != found["none"]


@pytest.mark.parametrize("every", [1, 2])
def test_without_soft_targets_every_frame_must_be_transcribed(tmp_path, every):
    train, dev, job = (
        partly_transcribed(every),
        make_frames(200),
        TrainingRun("t", 1, MODEL, TRAIN, 0, "d"),
    )
    with pytest.raises(UserError, match="without soft targets needs transcribed frames"):
        Trainer(job, tmp_path, train, dev, None, make_accelerator())
    with pytest.raises(UserError, match="the dev frames have no targets"):
        Trainer(job, tmp_path, dev, train, None, make_accelerator())


def test_seeds_differ_and_repeat(tmp_path):
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        trainer(tmp_path / name, seed=seed).run()
    assert weights(tmp_path / "a") == weights(tmp_path / "b") != weights(tmp_path / "c")


@pytest.mark.parametrize("soft", [False, True])
@pytest.mark.parametrize("step", [1, 7, 12, 13, 14, 30, 38])
def test_an_interrupted_run_ends_with_the_same_bits(tmp_path, soft, step):
    train = replace(TRAIN, checkpoint_steps=3)
    trainer(tmp_path / "whole", soft, train).run()
    with killed_at(step):
        trainer(tmp_path / "killed", soft, train).run()
    history = trainer(tmp_path / "killed", soft, train).run()
    assert weights(tmp_path / "killed") == weights(tmp_path / "whole")
    whole = [json.loads(x) for x in (tmp_path / "whole" / "metrics.jsonl").read_text().splitlines()]
    for row, expected in zip(history, whole, strict=True):
        assert row | {"frames_per_second": 0} == expected | {"frames_per_second": 0}


def test_a_checkpoint_of_other_settings_is_refused(tmp_path):
    train = replace(TRAIN, checkpoint_steps=3)
    with killed_at(7):
        trainer(tmp_path, train=train).run()
    with pytest.raises(UserError, match="written with other settings or data"):
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


def test_without_dev_frames_the_rate_falls_to_zero_and_the_last_weights_are_kept(tmp_path):
    train = replace(TRAIN, schedule="cosine", epochs=4)
    rates = []
    subject = trainer(tmp_path, train=train, dev=False)
    step = subject.optimizer.step
    subject.optimizer.step = lambda: (rates.append(subject.optimizer.param_groups[0]["lr"]), step())
    history = subject.run()
    steps = 4 * 13
    expected = 3e-3 * (1 + np.cos(np.pi * np.arange(steps) / steps)) / 2
    np.testing.assert_allclose(rates, expected)
    assert [row["learning_rate"] for row in history] == rates[12::13]
    assert "dev_loss" not in history[0]
    kept, description = load_model(tmp_path)
    assert description["best_dev_frame_accuracy"] is None
    for name, tensor in subject.model.state_dict().items():
        assert torch.equal(tensor, kept.state_dict()[name])


def test_a_fixed_schedule_keeps_the_last_weights_whatever_dev_says(tmp_path, monkeypatch):
    accuracies = iter([90.0, 10.0])
    monkeypatch.setattr(Trainer, "evaluate", lambda self: (1.0, next(accuracies)))
    subject = trainer(tmp_path, train=replace(TRAIN, schedule="cosine", epochs=2))
    assert [row["dev_frame_accuracy"] for row in subject.run()] == [90.0, 10.0]
    assert load_model(tmp_path)[1]["best_dev_frame_accuracy"] is None


def test_a_schedule_that_follows_dev_needs_dev_frames(tmp_path):
    with pytest.raises(UserError, match="train.schedule=dev needs dev frames"):
        trainer(tmp_path, dev=False)


@pytest.mark.parametrize("step", [8, 14, 30])
def test_a_run_with_a_fixed_schedule_and_changed_inputs_resumes_to_the_same_bits(tmp_path, step):
    train = replace(TRAIN, schedule="cosine", checkpoint_steps=3, max_norm=1.5)

    def noisy(windows):
        return windows + 0.1 * torch.randn(windows.shape)

    trainer(tmp_path / "whole", True, train, dev=False, augment=noisy).run()
    with killed_at(step):
        trainer(tmp_path / "killed", True, train, dev=False, augment=noisy).run()
    trainer(tmp_path / "killed", True, train, dev=False, augment=noisy).run()
    assert weights(tmp_path / "killed") == weights(tmp_path / "whole")
    trainer(tmp_path / "plain", True, train, dev=False).run()
    assert weights(tmp_path / "plain") != weights(tmp_path / "whole")


def test_of_copies_in_memory_an_epoch_has_one_of_each(tmp_path):
    train = make_frames()  # 21 utterances: copies of one another in threes
    job = TrainingRun("copies", 1, MODEL, TRAIN)

    def original(name):
        return f"original-{int(name[1:]) // 3}"

    one = Trainer(job, tmp_path, train, make_frames(200, seed=7), original=original)
    lengths = np.diff(train.offsets)
    drawn = set()
    for epoch in range(20):
        plan = one.loader.plan(epoch)
        frames = torch.cat([batch for batch, _ in plan.batches(0, WHOLE_SHARE)]).numpy()
        utterances = np.searchsorted(train.offsets, frames, side="right") - 1
        found, counts = np.unique(utterances, return_counts=True)
        assert (found // 3).tolist() == list(range(7))
        assert counts.tolist() == lengths[found].tolist() and plan.frames == counts.sum()
        drawn |= set(found.tolist())
    assert len(drawn) == 21
    history = one.run()
    assert len(history) == 3


def test_the_weights_into_hidden_units_stay_within_the_norm(tmp_path):
    trainer(tmp_path, train=replace(TRAIN, max_norm=0.8)).run()
    model, _ = load_model(tmp_path)
    for layer in model.hidden:
        if hasattr(layer, "weight"):
            norms = layer.weight.norm(dim=1)
            assert norms.max() <= 0.8 * (1 + 1e-6) and norms.max() > 0.79
    assert model.output.weight.norm(dim=1).max() > 0.8


@pytest.mark.parametrize("soft", [False, True])
def test_a_batch_in_parts_is_the_same_step(tmp_path, monkeypatch, soft):
    monkeypatch.setattr(tiny_training, "MODEL", replace(MODEL, dropout=0.0))
    histories = [
        trainer(tmp_path / name, soft, replace(TRAIN, max_logits_mb=limit)).run()
        for name, limit in (("whole", 10.0), ("parts", 7 * 2 * 4 * 5 / 1e6))
    ]
    one, other = (load_file(tmp_path / name / "model.safetensors") for name in ("whole", "parts"))
    for name in one:
        torch.testing.assert_close(one[name], other[name], rtol=1e-3, atol=1e-4)
    for whole, parts in zip(*histories, strict=True):
        assert parts["train_loss"] == pytest.approx(whole["train_loss"], rel=1e-5)


def test_keeping_all_classes_is_the_dense_loss(tmp_path):
    """Frame for frame, in any order."""
    frames = make_frames()
    job = TrainingRun("test", 1, replace(MODEL, dropout=0.0), TRAIN, 0.5, "d")
    soft = soft_targets(frames, kept=5)
    subject = Trainer(job, tmp_path, frames, make_frames(200, seed=7), soft, make_accelerator())
    numbers = torch.tensor([5, 0, 600])
    classes, dense = soft.batch(numbers)
    assert classes is None
    logits = subject.model(subject.loader.windows(numbers))
    expected = distillation_loss(logits, dense, frames.targets[numbers], 2.0, 0.5).sum()
    torch.testing.assert_close(subject._loss(numbers), expected)


PROGRAM = """
    import sys
    from dataclasses import replace
    from pathlib import Path

    sys.path.insert(0, {tests!r})
    import tiny_training
    # Without dropout, whose masks belong to processes.
    tiny_training.MODEL = replace(tiny_training.MODEL, dropout=0.0)
    # Ten frames at once, so that a process's share of a batch goes in three parts.
    train = replace(tiny_training.TRAIN, max_logits_mb=10 * 2 * 4 * 5 / 1e6)
    tiny_training.trainer(Path(sys.argv[1]), train=train).run()
"""


@pytest.mark.slow
def test_two_processes_give_the_numbers_of_one(tmp_path):
    program = tmp_path / "program.py"
    tests = str(Path(tiny_training.__file__).parent)
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
