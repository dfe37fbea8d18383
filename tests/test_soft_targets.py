"""Soft-target shards: round trips keyed by utterance, and every mismatch named."""

import h5py
import numpy as np
import pytest
import torch

from acoustic_kd.ensemble import mean_probabilities
from acoustic_kd.errors import UserError
from acoustic_kd.frames import Classes, Frames
from acoustic_kd.model import AcousticModel
from acoustic_kd.soft_targets import Origin, read_soft_targets, write_shard

CLASSES = Classes(9, "inventory-a")
ORIGIN = Origin(2.0, ("m1", "m2"))


def make_frames(lengths=(4, 7, 1), classes=CLASSES, names=("a", "b", "c")):
    total = sum(lengths)
    offsets = np.concatenate([[0], np.cumsum(lengths)])
    return Frames(torch.zeros(total, 2), None, list(names), offsets, classes)


def distributions(total, count=9, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.softmax(3 * torch.randn(total, count, generator=generator), -1)


@pytest.fixture
def store(tmp_path):
    table = distributions(12)
    write_shard(tmp_path / "shard-00000.h5", make_frames(), lambda n: table[n], ORIGIN, 4, batch=5)
    return tmp_path, table


def test_the_most_probable_classes_are_kept_in_order(store):
    folder, table = store
    soft = read_soft_targets(folder, make_frames(), 2.0)
    top = table.topk(4, -1)
    assert torch.equal(soft.classes.long(), top.indices)
    torch.testing.assert_close(soft.probabilities.float(), top.values, rtol=1e-3, atol=1e-7)
    with h5py.File(folder / "shard-00000.h5") as file:
        assert file.attrs["kept_mass"] == pytest.approx(top.values.sum(-1).mean().item(), rel=1e-6)


def test_targets_are_found_by_utterance_not_by_place(store):
    folder, table = store
    soft = read_soft_targets(folder, make_frames((1, 4), names=("c", "a")), 2.0)
    rows = torch.tensor([11, 0, 1, 2, 3])
    assert torch.equal(soft.classes.long(), table[rows].topk(4, -1).indices)


@pytest.mark.parametrize("kept", [4, 9])
def test_on_a_device_all_classes_go_without_saying(tmp_path, kept):
    table = distributions(12)
    write_shard(tmp_path / "shard-00000.h5", make_frames(), lambda n: table[n], ORIGIN, kept)
    soft = read_soft_targets(tmp_path, make_frames(), 2.0)
    classes, probabilities = soft.on(torch.device("cpu"), 9)
    if kept == 9:
        assert classes is None
        torch.testing.assert_close(probabilities.float(), table, rtol=1e-3, atol=1e-7)
    else:
        assert classes.dtype == torch.int64
        expected = table.gather(1, classes)
        torch.testing.assert_close(probabilities.float(), expected, rtol=1e-3, atol=1e-7)


def test_keeping_more_classes_than_there_are_keeps_all(tmp_path):
    table = distributions(12)
    write_shard(tmp_path / "shard-00000.h5", make_frames(), lambda n: table[n], ORIGIN, 50)
    soft = read_soft_targets(tmp_path, make_frames(), 2.0)
    dense = torch.zeros(12, 9).scatter(1, soft.classes.long(), soft.probabilities.float())
    torch.testing.assert_close(dense, table, rtol=1e-3, atol=1e-6)


@pytest.mark.parametrize(
    ("frames", "temperature", "message"),
    [
        (make_frames(classes=Classes(8, "inventory-a")), 2.0, "number of classes is 9, .*for 8"),
        (make_frames(classes=Classes(9, "inventory-b")), 2.0, "is inventory-a, .*inventory-b"),
        (make_frames(), 3.0, "temperature is 2.0, .*for 3.0"),
        (make_frames((4, 6, 1)), 2.0, "'b' has 7 frames of soft targets but 6 of features"),
        (make_frames(names=("a", "b", "z")), 2.0, "no soft targets for 1 of 3 .*'z'"),
    ],
)
def test_mismatches_name_both_sides(store, frames, temperature, message):
    with pytest.raises(UserError, match=message):
        read_soft_targets(store[0], frames, temperature)


def test_the_ensemble_is_the_mean_of_tempered_softmaxes():
    torch.manual_seed(0)
    members = [AcousticModel(6, 5, 2, 8, 0.0).eval() for _ in range(3)]
    windows = torch.randn(10, 6)
    found = mean_probabilities(members, windows, 2.5)
    with torch.no_grad():
        parts = [torch.softmax(m(windows).double() / 2.5, -1) for m in members]
    torch.testing.assert_close(found.double(), sum(parts) / 3, rtol=1e-5, atol=1e-7)
    torch.testing.assert_close(found.sum(-1), torch.ones(10))
