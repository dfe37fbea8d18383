"""Stores of soft targets: round trips keyed by utterance, and every mismatch named."""

import json
import shutil

import pytest
import torch
from soft_stores import ALL, NAMES, ORIGIN, all_frames, distributions, make_frames
from soft_stores import write_store as write

from acoustic_kd.features.frames import Classes
from acoustic_kd.soft_targets import read as read
from acoustic_kd.soft_targets.encoding import Encoding
from acoustic_kd.soft_targets.read import read_soft_targets
from acoustic_kd.soft_targets.targets import encode_in_memory
from acoustic_kd.soft_targets.write import Provenance, write_shard
from acoustic_kd.system.errors import UserError
from acoustic_kd.training.ensemble import mean_of, mean_probabilities
from acoustic_kd.training.model import AcousticModel

TOP4 = Encoding("top-k", 4)
EVERY = torch.arange(12)


@pytest.fixture
def store(tmp_path):
    table = distributions(12)
    write_shard(tmp_path / "shard-00000.h5", make_frames(), table.split(5), ORIGIN, TOP4, 5)
    return tmp_path, table


def test_the_most_probable_classes_are_kept_in_order(store):
    folder, table = store
    classes, probabilities = read_soft_targets(folder, make_frames(), 2.0).batch(EVERY)
    top = table.topk(4, -1)
    assert classes.dtype == torch.int64 and torch.equal(classes, top.indices)
    torch.testing.assert_close(probabilities, top.values, rtol=1e-3, atol=1e-7)
    entry = json.loads((folder / "shard-00000.json").read_text())
    assert entry["measured"]["kept_mass"] == pytest.approx(
        top.values.sum(-1).mean().item(), rel=1e-5
    )


@pytest.mark.parametrize("encoding", ALL, ids=NAMES)
def test_targets_are_found_by_utterance_not_by_place(tmp_path, encoding):
    write(tmp_path, encoding)
    whole = read_soft_targets(tmp_path, all_frames(), 2.0)
    some = make_frames((6, 1, 4, 9), names=("f", "c", "a", "d"))
    part = read_soft_targets(tmp_path, some, 2.0)
    rows = torch.tensor([*range(23, 29), 11, *range(4), *range(12, 21)])
    expected, expected_p = whole.batch(rows)
    classes, p = part.batch(torch.arange(20))
    assert len(part) == 20
    dense = torch.zeros(20, 9)
    if expected is None:
        assert classes is None and torch.equal(p, expected_p)
    else:
        dense = [dense.scatter_add(1, c, q) for c, q in ((classes, p), (expected, expected_p))]
        assert torch.equal(*dense)


def test_shards_that_hold_nothing_of_the_transfer_set_are_passed_over(tmp_path, monkeypatch):
    write(tmp_path, TOP4)
    opened, original = [], read._read_blocks

    def reading(shard, blocks):
        opened.append(shard.path.name)
        return original(shard, blocks)

    monkeypatch.setattr(read, "_read_blocks", reading)
    read_soft_targets(tmp_path, make_frames((2, 4), names=("e", "a")), 2.0)
    assert opened == ["shard-00000.h5", "shard-00002.h5"]


@pytest.mark.parametrize("encoding", ALL, ids=NAMES)
def test_what_is_read_is_what_was_encoded(tmp_path, encoding):
    table = write(tmp_path, encoding)
    stored = read_soft_targets(tmp_path, all_frames(), 2.0, encoding)
    if encoding.name != "sampled":  # whose draws follow from shard and block
        known = encode_in_memory(table, encoding, 2.0)
        for found, expected in zip(
            stored.batch(torch.arange(29)), known.batch(torch.arange(29)), strict=True
        ):
            assert (found is None) == (expected is None)
            assert found is None or torch.equal(found, expected)


def test_keeping_as_many_classes_as_there_are_keeps_all_in_their_order(tmp_path):
    for kept in (9, 50):
        table = write(tmp_path / f"{kept}", Encoding("top-k", kept))
        soft = read_soft_targets(tmp_path / f"{kept}", all_frames(), 2.0)
        classes, probabilities = soft.batch(torch.arange(29))
        assert classes is None and soft.encoding.name == "dense"
        torch.testing.assert_close(probabilities, table, rtol=1e-3, atol=1e-7)


@pytest.mark.parametrize(
    ("frames", "temperature", "encoding", "message"),
    [
        (make_frames(classes=Classes(8, "inventory-a")), 2.0, None, "of classes is 9, .*needs 8"),
        (make_frames(classes=Classes(9, "inventory-b")), 2.0, None, "inventory-a, .*inventory-b"),
        (make_frames(), 3.0, None, "temperature is 2.0, .*needs 3.0; only a geometric"),
        (make_frames((4, 6, 1)), 2.0, None, "'b' has 7 frames of soft targets but 6 of features"),
        (make_frames(names=("a", "b", "z")), 2.0, None, "no soft targets for 1 of 3 .*'z'"),
        (
            make_frames(), 2.0, Encoding("top-k", 4, bits=8),
            "encoding is top-k, k = 4, 16 bits, but training needs top-k, k = 4, 8 bits",
        ),
        (
            make_frames(), 2.0, Encoding("sampled", 7),
            "encoding is top-k, k = 4, 16 bits, .* needs sampled, 7 draws, 16 bits",
        ),
    ],
)  # fmt: skip
def test_mismatches_name_both_sides(store, frames, temperature, encoding, message):
    with pytest.raises(UserError, match=message):
        read_soft_targets(store[0], frames, temperature, encoding)


@pytest.mark.parametrize(
    ("other", "encoding", "message"),
    [
        (
            Provenance(2.0, ("m1", "m3")), TOP4,
            r"members is \('m1', 'm3'\), but in .* \('m1', 'm2'\)",
        ),
        (
            Provenance(2.0, ("m1", "m2"), "geometric"), TOP4,
            "mean is geometric, but in .* arithmetic",
        ),
        (
            Provenance(2.0, ("m1", "m2"), weights=(1, 3)), TOP4,
            r"weights is \(0.25, 0.75\), but in shard-00000.h5 it is None",
        ),
        (ORIGIN, Encoding("top-k", 3), "encoding is top-k, k = 3, .* in .* top-k, k = 4"),
        (Provenance(4.0, ("m1", "m2")), TOP4, "temperature is 4.0, but training needs 2.0"),
    ],
)  # fmt: skip
def test_shards_of_two_stores_do_not_mix(tmp_path, other, encoding, message):
    write(tmp_path, TOP4, shards=(0, 1))
    write(tmp_path, encoding, other, shards=(2,))
    with pytest.raises(UserError, match=f"shard-00002.h5: {message}"):
        read_soft_targets(tmp_path, all_frames(), 2.0)


def test_unfinished_and_exchanged_shards_are_refused(tmp_path):
    write(tmp_path / "a", TOP4)
    write(tmp_path / "b", TOP4, Provenance(2.0, ("m1", "m3")))
    entry = tmp_path / "a" / "shard-00001.json"
    shutil.copy(tmp_path / "b" / "shard-00001.json", entry)
    with pytest.raises(UserError, match=r"members is .*'m2'\], but shard-00001.json .*'m3'\]"):
        read_soft_targets(tmp_path / "a", all_frames(), 2.0)
    entry.unlink()
    with pytest.raises(UserError, match="shard-00001.h5: shard-00001.json is missing"):
        read_soft_targets(tmp_path / "a", all_frames(), 2.0)
    entry.write_text("{}")
    with pytest.raises(UserError, match="shard-00001.json: is damaged or was changed"):
        read_soft_targets(tmp_path / "a", all_frames(), 2.0)
    for path in (tmp_path / "b").glob("*.json"):
        path.write_text(path.read_text().replace("soft targets 2", "soft targets 1"))
    with pytest.raises(UserError, match="format is '.* targets 1', expected '.* targets 2'"):
        read_soft_targets(tmp_path / "b", all_frames(), 2.0)


# --- another temperature ------------------------------------------------------------------------

LOGITS = 3 * torch.randn(3, 29, 9, generator=torch.Generator().manual_seed(5))


def write_mean(folder, mean, temperature, members=3, encoding=Encoding("dense")):  # noqa: B008
    p = mean_of(LOGITS[:members], temperature, mean)
    origin = Provenance(temperature, ("a", "b", "c")[:members], mean)
    write_shard(
        folder / "shard-00000.h5", make_frames((29,), names=("u",)), p.split(8), origin,
        encoding, 8,
    )  # fmt: skip


@pytest.mark.parametrize(("made", "read"), [(2.0, 5.0), (2.0, 1.3), (3.0, 3.0), (4.0, 1.0)])
@pytest.mark.parametrize(("mean", "members"), [("geometric", 3), ("arithmetic", 1)])
def test_a_geometric_mean_or_one_member_can_be_read_at_any_temperature(
    tmp_path, mean, members, made, read
):
    write_mean(tmp_path, mean, made, members)
    soft = read_soft_targets(tmp_path, make_frames((29,), names=("u",)), read)
    assert soft.temperature == read
    classes, found = soft.batch(torch.arange(29))
    expected = mean_of(LOGITS[:members], read, mean)
    assert classes is None
    # Each log p is right to 2^-11 where float16 is normal; T0 / T1 times that is left.
    torch.testing.assert_close(found, expected, rtol=2 * 2**-11 * made / read, atol=1e-6)


def test_what_was_too_small_to_store_cannot_be_read_at_a_higher_temperature(tmp_path):
    table = torch.tensor([[1.0, 0.0, 0.0], [0.5, 0.25, 0.25]])
    frames = make_frames((2,), Classes(3, "h"), ("u",))
    path, origin = tmp_path / "shard-00000.h5", Provenance(2.0, ("a",))
    write_shard(path, frames, [table], origin, Encoding("dense"))
    with pytest.raises(UserError, match="temperature is 2, but training needs 3, at which"):
        read_soft_targets(tmp_path, frames, 3.0)
    _, colder = read_soft_targets(tmp_path, frames, 1.0).batch(torch.arange(2))
    expected = torch.tensor([[1.0, 0.0, 0.0], [2 / 3, 1 / 6, 1 / 6]])
    torch.testing.assert_close(colder, expected)


@pytest.mark.parametrize(
    ("mean", "members", "encoding"),
    [("arithmetic", 2, Encoding("dense")), ("geometric", 3, Encoding("top-k", 5))],
)
def test_any_other_is_refused_at_another_temperature(tmp_path, mean, members, encoding):
    write_mean(tmp_path, mean, 2.0, members, encoding)
    frames = make_frames((29,), names=("u",))
    with pytest.raises(UserError, match="temperature is 2.0, but training needs 5.0; only a"):
        read_soft_targets(tmp_path, frames, 5.0)


# --- the ensemble -------------------------------------------------------------------------------


def test_the_ensemble_is_the_mean_of_tempered_softmaxes():
    torch.manual_seed(0)
    members = [AcousticModel(6, 5, 2, 8, 0.0).eval() for _ in range(3)]
    windows = torch.randn(10, 6)
    with torch.no_grad():
        parts = [torch.softmax(m(windows).double() / 2.5, -1) for m in members]
    found = mean_probabilities(members, windows, 2.5)
    torch.testing.assert_close(found.double(), sum(parts) / 3, rtol=1e-5, atol=1e-7)
    torch.testing.assert_close(found.sum(-1), torch.ones(10))
    found = mean_probabilities(members, windows, 2.5, weights=(1, 0, 3))
    expected = (parts[0] + 3 * parts[2]) / 4
    torch.testing.assert_close(found.double(), expected, rtol=1e-5, atol=1e-7)
