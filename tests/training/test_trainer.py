"""The training loop: what it learns, and that a killed run resumes to the same bits."""

import json
import math
import random
import subprocess
import sys
import time
from dataclasses import replace
from functools import cache
from itertools import pairwise

import kills
import numpy as np
import pytest
import torch
from kills import killed_at
from safetensors.torch import load_file
from tiny_training import MODEL, TRAIN, make_frames, soft_targets, trainer, weights
from torch.utils._python_dispatch import TorchDispatchMode

from acoustic_kd.features.frame_sequence import NO_TARGET
from acoustic_kd.system import memory
from acoustic_kd.system.errors import UserError
from acoustic_kd.training import batch_norm, meter
from acoustic_kd.training import model as model_module
from acoustic_kd.training import trainer as trainer_module
from acoustic_kd.training.batches import WHOLE_SHARE
from acoustic_kd.training.losses import distillation_loss
from acoustic_kd.training.model import load_model
from acoustic_kd.training.networks import build_network, count_parameters, training_bytes
from acoustic_kd.training.precision import sum_dtype
from acoustic_kd.training.trainer import Trainer
from bench import TensorMemory

PLAIN = replace(MODEL, dropout=0.0)
COSINE = replace(TRAIN, schedule="cosine")


@pytest.mark.parametrize("soft", [False, True])
@pytest.mark.parametrize("bfloat16", [False, True])
def test_it_learns(tmp_path, soft, bfloat16):
    history = trainer(tmp_path, soft, replace(TRAIN, bfloat16=bfloat16, epochs=12)).run()
    assert history[-1]["dev_frame_accuracy"] > 70
    assert history[-1]["train_loss"] < history[0]["train_loss"]
    model = load_model(tmp_path)
    description = model.description
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
    soft, trained = soft_targets(make_frames()), {}
    for name, data, weight in (
        ("none", partly_transcribed(every=1), 0.5),
        ("absent", replace(make_frames(), targets=None), 0.5),
        ("weight 0", make_frames(), 0.0),
        ("some", partly_transcribed(), 0.5),
        ("all", make_frames(), 0.5),
    ):
        subject = trainer(tmp_path / name, soft, data=data)
        subject.training_run = replace(subject.training_run, hard_weight=weight)
        subject.run()
        trained[name] = weights(tmp_path / name)
    assert trained["none"] == trained["absent"] == trained["weight 0"]
    assert trained["some"] != trained["none"] and trained["some"] != trained["all"]
    assert trained["all"] != trained["none"]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"data": partly_transcribed(1)}, "without soft targets needs transcribed frames"),
        ({"data": partly_transcribed(2)}, "without soft targets needs transcribed frames"),
        ({"train": COSINE, "dev": partly_transcribed(2)}, "the dev frames have no targets"),
        ({"dev": False}, "train.schedule=dev needs dev frames"),
        ({"train": replace(TRAIN, learning_rate=1e30)}, "loss is nan.*lower train.learning_rate"),
    ],
)
def test_refusals(tmp_path, options, message):
    with pytest.raises(UserError, match=message):
        trainer(tmp_path, **options).run()


def test_seeds_differ_and_repeat(tmp_path):
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        trainer(tmp_path / name, seed=seed).run()
    assert weights(tmp_path / "a") == weights(tmp_path / "b") != weights(tmp_path / "c")


class NoFloat64(TorchDispatchMode):
    """As on Apple's GPUs: tensors of 64-bit floating-point numbers cannot be made."""

    def __torch_dispatch__(self, function, kinds, arguments=(), options=None):
        made = function(*arguments, **(options or {}))
        assert not (isinstance(made, torch.Tensor) and made.dtype == torch.float64), function
        return made


def test_a_device_without_float64_trains(tmp_path, monkeypatch):
    for module in (batch_norm, model_module, meter):
        monkeypatch.setattr(module, "sum_dtype", lambda device: torch.float32)
    subject = trainer(tmp_path, True, model=replace(MODEL, batch_norm=True, layers=1))
    with NoFloat64():
        history = subject.run()
    assert history[-1]["dev_frame_accuracy"] > 50
    assert sum_dtype(torch.device("mps")) == torch.float32


# --- killed runs --------------------------------------------------------------------------------


def noisy(windows):
    return windows + 0.1 * torch.randn(windows.shape)


# Settings, and the steps at which a run is killed, of 3 epochs of 13 steps.
SAVING = replace(TRAIN, checkpoint_steps=3)
NOISY = replace(SAVING, schedule="cosine", max_norm=1.5, max_grad_norm=0.5, warmup_steps=20)
AVERAGED = replace(SAVING, average=0.9, time_mask=2, frequency_mask=3, weight_decay=0.01)
NORMED = replace(MODEL, batch_norm=True, residual=True)
KILLED = {
    "hard": ({"train": SAVING}, (1, 7, 12, 13, 14, 30, 38)),
    "soft": ({"train": SAVING, "soft": True}, (1, 7, 12, 13, 14, 30, 38)),
    "noisy": ({"train": NOISY, "soft": True, "dev": False, "augment": noisy}, (8, 14, 30)),
    "averaged": ({"train": AVERAGED, "model": NORMED}, (1, 8, 14, 30)),
}


@pytest.fixture(scope="module")
def whole_run(tmp_path_factory):
    """kind → the folder of a run of `KILLED` that nothing interrupts."""

    @cache
    def run(kind):
        folder = tmp_path_factory.mktemp("whole")
        trainer(folder, **KILLED[kind][0]).run()
        return folder

    return run


def test_a_resumed_run_keeps_its_precision_and_tells_of_another_machine(
    tmp_path, whole_run, monkeypatch, capsys
):
    """`train.bfloat16=null` means another precision on a machine with other instructions."""
    train = replace(SAVING, bfloat16=None)
    monkeypatch.setenv("ACOUSTIC_KD_BFLOAT16", "0")
    with killed_at(20):
        trainer(tmp_path, train=train).run()
    monkeypatch.setenv("ACOUSTIC_KD_BFLOAT16", "1")
    monkeypatch.setattr(torch, "__version__", "1.2.3")
    trainer(tmp_path, train=train).run()
    assert weights(tmp_path) == weights(whole_run("hard"))
    assert "test: resumes with other rounding (before: torch 2" in capsys.readouterr().out


@pytest.mark.parametrize(("kind", "step"), [(k, step) for k in KILLED for step in KILLED[k][1]])
def test_a_killed_run_resumes_to_the_same_bits(tmp_path, whole_run, kind, step):
    options, _ = KILLED[kind]
    with killed_at(step):
        trainer(tmp_path, **options).run()
    history = trainer(tmp_path, **options).run()
    assert weights(tmp_path) == weights(whole_run(kind))
    metrics = (whole_run(kind) / "metrics.jsonl").read_text().splitlines()
    for row, expected in zip(history, map(json.loads, metrics), strict=True):
        assert row | {"frames_per_second": 0} == expected | {"frames_per_second": 0}


def test_changed_inputs_change_the_weights(tmp_path, whole_run):
    trainer(tmp_path, **KILLED["noisy"][0] | {"augment": None}).run()
    assert weights(tmp_path) != weights(whole_run("noisy"))


def test_a_checkpoint_of_other_settings_is_refused(tmp_path):
    with killed_at(7):
        trainer(tmp_path, train=SAVING).run()
    message = "checkpoint was written with other settings or data; delete it"
    with pytest.raises(UserError, match=message):
        trainer(tmp_path, train=SAVING, digest="other").run()


def test_checkpoints_take_a_small_share_of_the_time(tmp_path, monkeypatch):
    saves, save = [], trainer_module.save_checkpoint

    def slow(*arguments):
        saves.append(time.monotonic())
        save(*arguments)
        time.sleep(0.02)

    monkeypatch.setattr(trainer_module, "CHECKPOINT_SHARE", 0.1)
    monkeypatch.setattr(trainer_module, "save_checkpoint", slow)
    begun = time.monotonic()
    trainer(tmp_path, train=replace(TRAIN, epochs=12, checkpoint_steps=1)).run()
    assert 1 <= len(saves) <= 1 + (time.monotonic() - begun) / 0.2
    assert all(second - first >= 0.2 for first, second in pairwise(saves))


def test_a_checkpoint_whose_optimizer_has_the_parameters_in_another_order_is_refused(tmp_path):
    subject = trainer(tmp_path, train=SAVING)
    subject.optimizer = torch.optim.AdamW(subject.model.parameters())
    with killed_at(7):
        subject.run()
    with pytest.raises(UserError, match="does not fit the model; delete it to start anew"):
        trainer(tmp_path, train=SAVING).run()


def train_long(folder):
    trainer(folder, True, replace(TRAIN, epochs=14, checkpoint_steps=2)).run()


@pytest.mark.slow
def test_killed_at_twenty_moments_it_ends_with_the_same_weights(tmp_path):
    """Killed −9 at random moments."""
    seconds = kills.run(train_long, tmp_path / "whole")
    expected = (tmp_path / "whole" / "model.safetensors").read_bytes()
    count, rng = 0, random.Random(1)
    while count < 20:  # runs, each of which is killed several times
        folder = tmp_path / f"killed-{count}"
        count += kills.run_killed(train_long, folder, seconds=seconds / 3, rng=rng)
        assert (folder / "model.safetensors").read_bytes() == expected
        assert not (folder / "checkpoint.safetensors").exists()


# --- the learning rate --------------------------------------------------------------------------


def test_the_rate_decays_once_dev_stops_gaining(tmp_path, monkeypatch):
    accuracies = iter([50.0, 60.0, 60.3, 62.0, 62.2, 62.1])
    monkeypatch.setattr(Trainer, "evaluate", lambda self: (1.0, next(accuracies)))
    train = replace(TRAIN, epochs=30, decay_below=0.5, decay=0.5, stop_rate=0.1)
    history = trainer(tmp_path, train=train).run()
    rates = [row["learning_rate"] / 3e-3 for row in history]
    assert rates == [1, 1, 1, 0.5, 0.25, 0.125]
    assert load_model(tmp_path).description["best_dev_frame_accuracy"] == 62.2


def test_without_dev_frames_the_rate_falls_to_zero_and_the_last_weights_are_kept(tmp_path):
    rates = []
    subject = trainer(tmp_path, train=replace(COSINE, epochs=4), dev=False)
    step = subject.optimizer.step
    subject.optimizer.step = lambda: (rates.append(subject.optimizer.param_groups[0]["lr"]), step())
    history = subject.run()
    steps = 4 * 13
    expected = 3e-3 * (1 + np.cos(np.pi * np.arange(steps) / steps)) / 2
    np.testing.assert_allclose(rates, expected)
    assert [row["learning_rate"] for row in history] == rates[12::13]
    assert "dev_loss" not in history[0]
    kept = load_model(tmp_path)
    description = kept.description
    assert description["best_dev_frame_accuracy"] is None
    for name, tensor in subject.model.state_dict().items():
        assert torch.equal(tensor, kept.network.state_dict()[name])


@pytest.mark.parametrize("schedule", ["dev", "cosine"])
def test_in_the_warm_up_the_rate_rises_linearly(tmp_path, schedule):
    rates = {}
    for warmup in (0, 20):  # an epoch has 13 steps
        train = replace(TRAIN, epochs=2, schedule=schedule, warmup_steps=warmup)
        subject = trainer(tmp_path / str(warmup), train=train)
        groups, step, applied = subject.optimizer.param_groups, subject.optimizer.step, []
        subject.optimizer.step = lambda g=groups, s=step, a=applied: (a.append(g[0]["lr"]), s())
        history = subject.run()
        rates[warmup] = np.array(applied)
        assert [row["learning_rate"] for row in history] == applied[12::13]
    share = np.minimum(1, np.arange(1, 27) / 20)
    np.testing.assert_allclose(rates[20], rates[0] * share)


def test_long_gradients_are_scaled_down_to_the_limit(tmp_path):
    """The gradient of all weights together, of all micro-batches of a step."""

    def gradient(limit):
        train = replace(TRAIN, max_grad_norm=limit, max_logits_mb=1e-3)
        subject = trainer(tmp_path / str(limit), True, train, model=PLAIN)
        subject.optimizer.zero_grad = lambda: None
        subject._step(torch.arange(50), 50, 13)
        return torch.cat([p.grad.flatten() for p in subject.model.parameters()])

    free = gradient(None)
    assert free.norm() > 0.1
    torch.testing.assert_close(gradient(0.1), free * (0.1 / free.norm()), rtol=1e-4, atol=1e-7)
    assert torch.equal(gradient(2 * float(free.norm())), free)


def test_a_fixed_schedule_keeps_the_last_weights_whatever_dev_says(tmp_path, monkeypatch):
    accuracies = iter([90.0, 10.0])
    monkeypatch.setattr(Trainer, "evaluate", lambda self: (1.0, next(accuracies)))
    subject = trainer(tmp_path, train=replace(COSINE, epochs=2))
    assert [row["dev_frame_accuracy"] for row in subject.run()] == [90.0, 10.0]
    assert load_model(tmp_path).description["best_dev_frame_accuracy"] is None


# --- batches and losses -------------------------------------------------------------------------


def test_of_copies_in_memory_an_epoch_has_one_of_each(tmp_path):
    data = make_frames()  # 21 utterances: copies of one another in threes
    subject = trainer(tmp_path, data=data, original=lambda name: f"{int(name[1:]) // 3}")
    lengths, drawn = np.diff(data.offsets), set()
    for epoch in range(20):
        plan = subject.loader.plan(epoch)
        frames = torch.cat([batch for batch, _ in plan.batches(0, WHOLE_SHARE)]).numpy()
        utterances = np.searchsorted(data.offsets, frames, side="right") - 1
        numbers, counts = np.unique(utterances, return_counts=True)
        assert (numbers // 3).tolist() == list(range(7))
        assert counts.tolist() == lengths[numbers].tolist() and plan.frames == counts.sum()
        drawn |= set(numbers.tolist())
    assert len(drawn) == 21
    assert len(subject.run()) == 3


def test_models_of_a_share_learn_from_the_same_utterances(tmp_path):
    data = make_frames()
    settings = replace(TRAIN, share=0.2, share_seed=3)
    learnt = []
    for number, seed in enumerate((1, 2)):
        subject = trainer(tmp_path / str(number), data=data, train=replace(settings, seed=seed))
        plan = subject.loader.plan(0)
        frames = torch.cat([batch for batch, _ in plan.batches(0, WHOLE_SHARE)]).numpy()
        utterances = np.searchsorted(data.offsets, frames, side="right") - 1
        learnt.append(np.unique(utterances).tolist())
        assert plan.frames == np.diff(data.offsets)[learnt[-1]].sum()
        subject.run()
    assert learnt[0] == learnt[1] and len(learnt[0]) == math.ceil(0.2 * len(data.ids))


def test_the_weights_into_hidden_units_stay_within_the_norm(tmp_path):
    trainer(tmp_path, train=replace(TRAIN, max_norm=0.8)).run()
    model = load_model(tmp_path).network
    for layer in model.hidden:
        if hasattr(layer, "weight"):
            norms = layer.weight.norm(dim=1)
            assert norms.max() <= 0.8 * (1 + 1e-6) and norms.max() > 0.79
    assert model.output.weight.norm(dim=1).max() > 0.8


@pytest.mark.parametrize("soft", [False, True])
def test_a_batch_in_micro_batches_is_the_same_step(tmp_path, soft):
    whole, divided = (
        trainer(tmp_path / name, soft, replace(TRAIN, max_logits_mb=limit), model=PLAIN).run()
        for name, limit in (("whole", 10.0), ("divided", 7 * 2 * 4 * 5 / 1e6))
    )
    expected = load_file(tmp_path / "whole" / "model.safetensors")
    for name, tensor in load_file(tmp_path / "divided" / "model.safetensors").items():
        torch.testing.assert_close(tensor, expected[name], rtol=1e-3, atol=1e-4)
    for row, expected in zip(divided, whole, strict=True):
        assert row["train_loss"] == pytest.approx(expected["train_loss"], rel=1e-5)


def test_keeping_all_classes_is_the_dense_loss(tmp_path):
    """Frame for frame, in any order."""
    frames = make_frames()
    soft = soft_targets(frames, kept=5)
    subject = trainer(tmp_path, soft, data=frames, model=PLAIN)
    numbers = torch.tensor([5, 0, 600])
    classes, dense = soft.batch(numbers)
    assert classes is None
    logits = subject.model(subject.loader.windows(numbers))
    expected = distillation_loss(logits, dense, frames.targets[numbers], 2.0, 0.5).sum()
    torch.testing.assert_close(subject._loss(numbers), expected)


# --- memory -------------------------------------------------------------------------------------


@pytest.mark.parametrize("soft", [False, True])
def test_logits_need_no_more_memory_than_they_are_given(tmp_path, monkeypatch, soft):
    """Over 300 classes, a batch of 601 frames: logits and gradient are 1.4 MB, of which 0.1 fit."""
    monkeypatch.setattr(memory, "CPU_BLOCK_NUMBERS", 300)  # one row at once
    peak = {}
    for limit in (10.0, 0.1):
        train = replace(COSINE, epochs=1, batch_frames=601, max_logits_mb=limit)
        data = make_frames(classes=300)
        subject = trainer(tmp_path / str(limit), soft, train, data=data, dev=False)
        with TensorMemory(lambda t: t.ndim == 2 and t.shape[-1] == 300) as counted:
            subject._step(torch.arange(601), 601, 1)
        peak[limit] = counted.peak_bytes
    assert peak[10.0] > 2 * 4 * 300 * 601
    # Beside them a few rows, and the gradient of the output's weights: a micro-batch's and the sum.
    assert peak[0.1] < 0.1e6 + 8 * 4 * 300 + 2 * 4 * 300 * 33


def test_windows_count_as_logits_do(tmp_path):
    """Of many frames a window takes more memory than the logits of its frame."""
    wide, data = replace(PLAIN, left_frames=250, right_frames=250), make_frames()
    data.ids, data.offsets = ["u"], np.array([0, len(data)])  # as long as the window
    subject = trainer(tmp_path, train=replace(TRAIN, max_logits_mb=1.0), model=wide, data=data)
    assert subject.micro_batch_frames * subject.model.hidden[0].in_features * 4 <= 1e6


@pytest.mark.parametrize(
    "shape", [{"width": 10**6, "layers": 2}, {"width": 10**5, "layers": 100}], ids=str
)
def test_a_model_that_does_not_fit_is_refused_before_it_is_made(tmp_path, shape):
    begun = time.process_time()
    with pytest.raises(
        UserError, match="^test: .* units need .* GB are free; give a smaller model"
    ):
        trainer(tmp_path, model=replace(PLAIN, **shape))
    assert time.process_time() - begun < 5


def test_memory_of_training_is_that_of_the_weights_that_there_are():
    model = build_network(PLAIN, 7, 5)
    assert training_bytes(PLAIN, 7, 5) == 16 * count_parameters(model)


FREED = """
from pathlib import Path

import torch

from acoustic_kd.system import memory

def kept_pages():
    before = int(Path("/proc/self/statm").read_text().split()[1])
    torch.ones(25_000_000)
    return int(Path("/proc/self/statm").read_text().split()[1]) - before

torch.ones(1)
plain = kept_pages()
memory.disable_malloc_trim()
print(plain, kept_pages())
"""


@pytest.mark.skipif(sys.platform != "linux", reason="it counts pages in Linux's /proc")
def test_memory_that_a_training_step_frees_stays_for_the_next():
    """Pages of 4 KiB that stay with the process after it has freed a tensor of 100 MB."""
    plain, kept = map(int, subprocess.check_output([sys.executable, "-c", FREED]).split())
    assert plain < 2_000 and kept > 20_000
