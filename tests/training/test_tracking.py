"""Metrics that go to a tracker while a model trains."""

import sys
from dataclasses import replace

import pytest
import tiny_training

from acoustic_kd.settings import from_flat
from acoustic_kd.system.errors import UserError
from acoustic_kd.training.processes import tracking


def test_no_tracker_is_told_nothing(tmp_path):
    with tracking(None, "run", tmp_path) as track:
        track({"loss": 1.0}, 1)
    assert not list(tmp_path.iterdir())


def test_tensorboard_has_every_epoch_of_a_model(tmp_path):
    accumulator = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    settings = replace(tiny_training.TRAIN, epochs=2, tracker="tensorboard")
    trainer = tiny_training.trainer(tmp_path / "model", True, settings)
    trainer.training_run = replace(trainer.training_run, logs=tmp_path / "logs")
    history = trainer.run()
    (folder,) = (tmp_path / "logs").iterdir()
    events = accumulator.EventAccumulator(str(folder)).Reload()
    for name in ("train_loss", "learning_rate", "frames_per_second"):
        told = [(event.step, event.value) for event in events.Scalars(name)]
        assert [step for step, _ in told] == [1, 2]
        expected = [row[name] for row in history]
        assert [value for _, value in told] == pytest.approx(expected, rel=1e-6)


def test_a_tracker_that_is_not_installed(tmp_path, monkeypatch):
    for name in ("torch.utils.tensorboard", "tensorboardX"):
        monkeypatch.setitem(sys.modules, name, None)
    monkeypatch.delattr("torch.utils.tensorboard", raising=False)
    with (
        pytest.raises(UserError, match=r"pip install '/path/to/checkout\[tensorboard\]'"),
        tracking("tensorboard", "run", tmp_path),
    ):
        pass


def test_a_tracker_that_there_is_not():
    with pytest.raises(UserError, match="'train.tracker' is tensorbord; it must be tensorboard"):
        from_flat({"train.tracker": "tensorbord"})
