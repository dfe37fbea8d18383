"""The moving average of the weights, which is evaluated and kept."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from tiny_training import CONVOLUTIONS, MODEL, TRAIN, make_frames, trainer
from torch import nn

from acoustic_kd.system.errors import UserError
from acoustic_kd.training.average import MovingAverage
from acoustic_kd.training.model import load_model
from acoustic_kd.training.networks import training_bytes
from acoustic_kd.training.windows import make_splicer

AVERAGED = replace(TRAIN, average=0.9)
NORMED = replace(MODEL, batch_norm=True)


def floats(network):
    """Its floating-point tensors by name, in float64."""
    tensors = network.state_dict().items()
    return {name: t.double().clone() for name, t in tensors if t.is_floating_point()}


@pytest.mark.parametrize("model", [MODEL, NORMED, CONVOLUTIONS], ids=["dnn", "normed", "cnn"])
def test_the_average_of_the_weights_of_all_steps_is_kept(tmp_path, model):
    """As the formula has it: the first weights, then 0.9 of the average and 0.1 of the weights."""
    subject = trainer(tmp_path, train=replace(AVERAGED, schedule="cosine"), model=model)
    step, steps = subject._step, []

    def watch(*arguments):
        loss = step(*arguments)
        steps.append(floats(subject.model))
        return loss

    subject._step = watch
    subject.run()
    expected = steps[0]
    for now in steps[1:]:
        expected = {name: 0.9 * expected[name] + 0.1 * now[name] for name in now}
    kept = floats(load_model(tmp_path).network)
    assert len(steps) == 3 * 13 and kept.keys() == expected.keys()
    for name, tensor in kept.items():
        torch.testing.assert_close(tensor, expected[name], rtol=1e-5, atol=1e-6)
    for network in (subject.model, subject._result):
        assert all(torch.equal(t, kept[name]) for name, t in floats(network).items())


def test_dev_figures_are_those_of_the_averaged_weights(tmp_path):
    train = replace(AVERAGED, schedule="cosine", average=0.98)
    last = trainer(tmp_path, train=train, model=NORMED).run()[-1]
    model, dev = load_model(tmp_path), make_frames(200, seed=7)
    windows = make_splicer(NORMED, dev.features, dev.offsets, False)(torch.arange(200))
    probabilities = model(windows).softmax(-1).detach().numpy()
    of_target = probabilities[np.arange(200), dev.labels]
    accuracy = 100 * (probabilities.argmax(1) == dev.labels.numpy()).mean()
    assert last["dev_loss"] == pytest.approx(-np.log(of_target).mean(), rel=1e-4)
    assert last["dev_frame_accuracy"] == pytest.approx(accuracy)


def test_dev_chooses_the_best_epochs_average(tmp_path):
    history = trainer(tmp_path, train=AVERAGED, model=NORMED).run()
    best = max(row["dev_frame_accuracy"] for row in history)
    assert load_model(tmp_path).description["best_dev_frame_accuracy"] == best


class Buffered(nn.Linear):
    """Buffers that have no average, one of which changes."""

    def __init__(self):
        super().__init__(2, 2)
        self.register_buffer("mask", torch.tensor([0.0, -torch.inf]))
        self.register_buffer("places", torch.tensor([7, 12345]))
        self.register_buffer("used", torch.tensor([True, False]))
        self.register_buffer("seen", torch.tensor(0), persistent=False)


def test_other_buffers_are_copied():
    network = Buffered()
    average = MovingAverage(network, 0.999)
    for step in range(5):
        network.seen += 1
        average.update(network, first=step == 0)
    for name, tensor in network.named_buffers():
        assert torch.equal(average.network.get_buffer(name), tensor), name


def test_memory_of_training_counts_the_average(tmp_path, monkeypatch):
    free = training_bytes(MODEL, 6, 5) * 9 // 8
    monkeypatch.setattr("acoustic_kd.training.trainer.memory_budget", lambda *arguments: free)
    trainer(tmp_path / "plain")
    with pytest.raises(UserError, match="units need .* GB are free; give a smaller model"):
        trainer(tmp_path / "averaged", train=AVERAGED)
