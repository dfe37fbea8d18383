"""Soft targets as a dataset, and beside a dataset of one's own."""

import pickle
import re

import numpy as np
import pytest
import torch
from soft_stores import ALL, NAMES, all_frames, make_frames, write_store
from torch.utils.data import DataLoader, Dataset, Subset, TensorDataset

import acoustic_kd as akd

CLASSES, DENSE = akd.Classes(9, "inventory-a"), akd.Encoding("dense")


def same(actual, expected):
    pairs = (
        [(actual, expected)]
        if isinstance(actual, torch.Tensor)
        else zip(actual, expected, strict=True)
    )
    assert type(actual) is type(expected)
    assert all(torch.equal(*pair) for pair in pairs)


def images(folder, count=6, order=None, encoding=DENSE):
    """A store of one-frame items "0", "1", …, whose predictions tell which they are."""
    numbers = list(range(count)) if order is None else order
    table = torch.softmax(torch.eye(9)[:count], -1)
    lengths = {str(number): 1 for number in numbers}
    akd.write_soft_targets(folder, lengths, [table[numbers]], CLASSES, 4.0, ["m"], encoding)
    return table


@pytest.mark.parametrize("encoding", ALL, ids=NAMES)
def test_frames_are_indexed_like_a_tensor_and_by_key(tmp_path, encoding):
    write_store(tmp_path, encoding)
    soft = akd.read_soft_targets(tmp_path)
    assert isinstance(soft, Dataset) and len(soft) == 29 and soft.temperature == 2.0
    assert list(soft.keys) == list("abcdef")
    classes, p = akd.read_soft_targets(tmp_path, all_frames(), 2.0).batch(torch.arange(29))
    whole = p if classes is None else akd.SparseTargets(classes, p)

    def rows(which):
        return p[which] if classes is None else akd.SparseTargets(classes[which], p[which])

    same(soft[:], whole)
    for which in (3, -1, np.int64(5), slice(2, 9, 3), slice(None, None, -1)):
        expected = torch.arange(29).flip(0) if which == slice(None, None, -1) else which
        same(soft[which], rows(expected))
    for numbers in ([5, 0, -2], torch.tensor([5, 0, 27]), np.array([5, 0, 27])):
        same(soft[numbers], rows([5, 0, 27]))
    same(soft[torch.arange(29) > 26], rows(slice(27, 29)))
    same(soft["b"], rows(slice(4, 11)))
    same(soft["c"], rows(slice(11, 12)))  # one frame: [1, k]
    same(soft[["f", "c"]], rows([*range(23, 29), 11]))
    same(soft["f", "c"], soft[["f", "c"]])
    assert len(list(soft)) == 29


def test_other_numbers_and_keys_are_errors_of_an_index(tmp_path):
    images(tmp_path)
    soft = akd.read_soft_targets(tmp_path)
    for number in (6, -7, [0, 6]):
        with pytest.raises(IndexError):
            soft[number]
    with pytest.raises(KeyError, match="zz"):
        soft["zz"]


def test_a_key_of_two_shards_is_refused_where_all_are_read(tmp_path):
    images(tmp_path / "one")
    images(tmp_path / "two")
    for path in (tmp_path / "two").iterdir():
        text = path.read_bytes().replace(b"shard-00000", b"shard-00001")
        (tmp_path / "one" / path.name.replace("0.", "1.")).write_bytes(text)
    with pytest.raises(akd.UserError, match="shard-00001.h5: utterance '0' is in another shard"):
        akd.read_soft_targets(tmp_path / "one")


@pytest.mark.parametrize("encoding", [akd.Encoding("dense"), akd.Encoding("top-k", 3, bits=8)])
@pytest.mark.parametrize("order", [None, [4, 2, 0, 1, 5, 3]])
def test_items_get_their_soft_targets_by_key_whatever_the_order(tmp_path, order, encoding):
    images(tmp_path, order=order, encoding=encoding)
    data = TensorDataset(torch.arange(6), torch.arange(6))
    both = akd.WithSoftTargets(data, tmp_path)
    assert (len(both), both.temperature) == (6, 4.0)
    for x, y, soft in both:
        likeliest = soft.argmax() if encoding.name == "dense" else soft.classes[0]
        assert x == y == likeliest
    (x, y, soft), *_ = DataLoader(both, 6, sampler=[5, 0, 3, 3, 1, 2])
    assert x.tolist() == [5, 0, 3, 3, 1, 2]
    top = soft.argmax(-1) if encoding.name == "dense" else soft.classes[:, 0]
    assert torch.equal(top, x)
    loss = akd.DistillationLoss(both.temperature)
    assert loss(torch.zeros(6, 9), soft, y).isfinite()


def test_a_dataloader_reads_it_in_worker_processes(tmp_path):
    images(tmp_path, encoding=akd.Encoding("top-k", 3))
    both = akd.WithSoftTargets(TensorDataset(torch.arange(6)), tmp_path)
    batches = list(DataLoader(both, 3, num_workers=2, multiprocessing_context="fork"))
    assert [x.tolist() for x, _ in batches] == [[0, 1, 2], [3, 4, 5]]
    for x, soft in batches:
        assert isinstance(soft, akd.SparseTargets) and torch.equal(soft.classes[:, 0], x)


def test_a_process_that_is_started_afresh_gets_all_of_it(tmp_path):
    """By pickle, as multiprocessing does."""
    table = images(tmp_path)
    data = TensorDataset(torch.arange(6))
    both = pickle.loads(pickle.dumps(akd.WithSoftTargets(data, tmp_path)))  # noqa: S301
    torch.testing.assert_close(both[4][1], table[4], atol=1e-3, rtol=0)
    same(both.soft["4"], both.soft[[4]])


def test_items_of_several_frames_keep_their_axis(tmp_path):
    write_store(tmp_path, akd.Encoding("dense"))
    keys = ["f", "c", "a"]
    both = akd.WithSoftTargets([{"x": n} for n in range(3)], tmp_path, keys)
    soft = akd.read_soft_targets(tmp_path)
    for (item, targets), key in zip(both, keys, strict=True):
        assert item["x"] == keys.index(key)
        same(targets, soft[key])
    assert both[1][1].shape == (1, 9)
    single = akd.WithSoftTargets([0], soft, ["c"])
    assert single[0][1].shape == (9,)


def test_a_subset_has_the_positions_of_the_whole_dataset(tmp_path):
    images(tmp_path)
    data = TensorDataset(torch.arange(6))
    part = Subset(Subset(data, [5, 3, 1, 0]), [2, 0])
    for x, soft in akd.WithSoftTargets(part, tmp_path):
        assert soft.argmax() == x


@pytest.mark.parametrize(
    ("length", "options", "message"),
    [
        (8, {}, "no soft targets for 2 of 8 items, such as '6'; capture them, or give the keys"),
        (2, {"keys": ["0", "b"]}, "no soft targets for 1 of 2 items, such as 'b'"),
        (2, {"keys": ["0"]}, "there are 1 keys for 2 items"),
        (4, {}, "the soft targets are of more than these 4 items, so positions may differ"),
        (6, {"temperature": 2.0}, "temperature is 4.0, but training needs 2.0"),
    ],
)
@pytest.mark.parametrize("stored", [True, False])
def test_what_does_not_belong_together_is_refused(tmp_path, length, options, message, stored):
    images(tmp_path, encoding=akd.Encoding("top-k", 3))
    soft = tmp_path if stored else akd.read_soft_targets(tmp_path)
    with pytest.raises(akd.UserError, match=re.escape(message)):
        akd.WithSoftTargets(TensorDataset(torch.arange(length)), soft, **options)


def test_frames_of_a_set_are_read_at_the_temperature_of_the_store(tmp_path):
    write_store(tmp_path, akd.Encoding("dense"))
    soft = akd.read_soft_targets(tmp_path, make_frames())
    assert (soft.temperature, list(soft.keys)) == (2.0, ["a", "b", "c"])
    same(soft["c"], akd.read_soft_targets(tmp_path)["c"])
