"""Stores of soft targets: round trips keyed by utterance, and every mismatch named."""

import shutil
from dataclasses import replace

import fsspec
import pytest
import torch
from soft_stores import ALL, NAMES, PROVENANCE, all_frames, decoded, dense, make_frames
from soft_stores import write_store as write

from acoustic_kd.features.frame_sequence import Classes
from acoustic_kd.soft_targets import read as read
from acoustic_kd.soft_targets.encoding import Encoding
from acoustic_kd.soft_targets.read import read_soft_targets
from acoustic_kd.soft_targets.write import Provenance, write_shard
from acoustic_kd.system.errors import UserError
from acoustic_kd.training.ensemble import mean_of

TOP4 = Encoding("top-k", 4)
EVERY = torch.arange(29)


def test_the_most_probable_classes_are_kept_in_order(tmp_path):
    top = write(tmp_path, TOP4).topk(4, -1)
    classes, probabilities = read_soft_targets(tmp_path, all_frames(), 2.0).batch(EVERY)
    assert classes.dtype == torch.int64 and torch.equal(classes, top.indices)
    torch.testing.assert_close(probabilities, top.values, rtol=1e-3, atol=1e-7)


@pytest.mark.parametrize("encoding", ALL, ids=NAMES)
def test_targets_are_found_by_utterance_not_by_place(tmp_path, encoding):
    write(tmp_path, encoding)
    whole = read_soft_targets(tmp_path, all_frames(), 2.0)
    some = make_frames((6, 1, 4, 9), names=("f", "c", "a", "d"))
    part = read_soft_targets(tmp_path, some, 2.0)
    rows = torch.tensor([*range(23, 29), 11, *range(4), *range(12, 21)])
    assert len(part) == 20
    assert torch.equal(dense(*part.batch(torch.arange(20))), dense(*whole.batch(rows)))


def test_a_remote_store_is_read(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    write(tmp_path / "store", TOP4)
    system = fsspec.filesystem("memory")
    system.put(str(tmp_path / "store"), "/bucket/store", recursive=True)
    here, there = map(read_soft_targets, (tmp_path / "store", "memory://bucket/store"))
    system.rm("/bucket", recursive=True)
    assert torch.equal(dense(*there.batch(EVERY)), dense(*here.batch(EVERY)))


def test_shards_without_wanted_utterances_are_not_read(tmp_path, monkeypatch):
    write(tmp_path, TOP4)
    opened, original = [], read._read_blocks
    monkeypatch.setattr(
        read, "_read_blocks", lambda shard, blocks: opened.append(shard) or original(shard, blocks)
    )
    read_soft_targets(tmp_path, make_frames((2, 4), names=("e", "a")), 2.0)
    assert [shard.path.name for shard in opened] == ["shard-00000.h5", "shard-00002.h5"]


@pytest.mark.parametrize("encoding", ALL, ids=NAMES)
def test_what_is_read_is_what_was_encoded(tmp_path, encoding):
    table = write(tmp_path, encoding)
    stored = read_soft_targets(tmp_path, all_frames(), 2.0, encoding).batch(EVERY)
    if encoding.name != "sampled":  # its draws follow from shard and block
        for actual, expected in zip(stored, decoded(table, encoding), strict=True):
            assert (actual is None) == (expected is None)
            assert actual is None or torch.equal(actual, expected)


OTHER_MEMBERS = Provenance(2.0, ("m1", "m3"))
SECOND_STORES = [
    ((OTHER_MEMBERS, TOP4), r"members is \('m1', 'm3'\), but in .* \('m1', 'm2'\)"),
    ((replace(PROVENANCE, mean="geometric"), TOP4), "mean is geometric, but in .* arithmetic"),
    (
        (replace(PROVENANCE, weights=(1, 3)), TOP4),
        r"weights is \(0.25, 0.75\), but in shard-00000.h5 it is None",
    ),
    ((PROVENANCE, Encoding("top-k", 3)), "encoding is top-k, k = 3, .* in .* top-k, k = 4"),
    ((replace(PROVENANCE, temperature=4.0), TOP4), "temperature is 4.0, but training needs 2.0"),
]


@pytest.mark.parametrize(
    ("frames", "encoding", "message"),
    [
        ({"classes": Classes(8, "inventory-a")}, None, "number of classes is 9, .*needs 8"),
        ({"classes": Classes(9, "inventory-b")}, None, "inventory-a, .*inventory-b"),
        (
            {"lengths": (4, 6, 1)}, None,
            "'b' has 7 frames of soft targets but 6 of features; run soft-",
        ),
        ({"names": ("a", "b", "z")}, None, "no soft targets for 1 of 3 .*'z'"),
        ({}, Encoding("top-k", 4, bits=8), "is top-k, k = 4, 16 bits, .* needs .* 4, 8 bits"),
        ({}, Encoding("sampled", 7), "is top-k, k = 4, 16 bits, .* needs sampled, 7 draws, 16"),
    ],
)  # fmt: skip
def test_mismatches_name_both_sides(tmp_path, frames, encoding, message):
    write(tmp_path, TOP4)
    with pytest.raises(UserError, match=message):
        read_soft_targets(tmp_path, make_frames(**frames), 2.0, encoding)


def copied_entry(folder):
    write(folder / "other", TOP4, OTHER_MEMBERS)
    shutil.copy(folder / "other" / "shard-00001.json", folder)


def of_format_1(folder):
    for path in folder.glob("*.json"):
        path.write_text(path.read_text().replace("soft targets 2", "soft targets 1"))


def second_store(provenance, encoding):
    def spoil(folder):
        for path in folder.glob("shard-00002.*"):
            path.unlink()
        write(folder, encoding, provenance, shards=(2,))

    return spoil


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        *((second_store(*of), f"shard-00002.h5: {message}") for of, message in SECOND_STORES),
        (copied_entry, r"members is .*'m2'\], but shard-00001.json .*'m3'\]"),
        (
            lambda folder: (folder / "shard-00001.json").unlink(),
            "shard-00001.h5: shard-00001.json is missing, so the shard is unfinished",
        ),
        (
            lambda folder: (folder / "shard-00001.json").write_text("{}"),
            "shard-00001.json: is damaged or was changed",
        ),
        (of_format_1, "format is '.* targets 1', expected '.* targets 2'"),
    ],
)
def test_shards_that_are_not_of_one_finished_store_are_refused(tmp_path, spoil, message):
    write(tmp_path, TOP4)
    spoil(tmp_path)
    with pytest.raises(UserError, match=message):
        read_soft_targets(tmp_path, all_frames(), 2.0)


# --- another temperature ------------------------------------------------------------------------

LOGITS = 3 * torch.randn(3, 29, 9, generator=torch.Generator().manual_seed(5))


UTTERANCE = make_frames((29,), names=("u",))
DENSE = Encoding("dense")


def write_mean(folder, mean, members, temperature, encoding=DENSE):
    p = mean_of(LOGITS[:members], temperature, mean)
    provenance = Provenance(temperature, ("a", "b", "c")[:members], mean)
    write_shard(folder / "shard-00000.h5", UTTERANCE, p.split(8), provenance, encoding, 8)


@pytest.mark.parametrize(("made", "read"), [(2.0, 5.0), (2.0, 1.3), (3.0, 3.0), (4.0, 1.0)])
@pytest.mark.parametrize(("mean", "members"), [("geometric", 3), ("arithmetic", 1)])
def test_a_geometric_mean_or_one_member_can_be_read_at_any_temperature(
    tmp_path, mean, members, made, read
):
    write_mean(tmp_path, mean, members, made)
    soft = read_soft_targets(tmp_path, UTTERANCE, read)
    assert soft.temperature == read
    classes, actual = soft.batch(EVERY)
    expected = mean_of(LOGITS[:members], read, mean)
    assert classes is None
    # Each log p is right to 2^-11 where float16 is normal; T0 / T1 times that is left.
    torch.testing.assert_close(actual, expected, rtol=2 * 2**-11 * made / read, atol=1e-6)


def test_what_was_too_small_to_store_cannot_be_read_at_a_higher_temperature(tmp_path):
    table = torch.tensor([[1.0, 0.0, 0.0], [0.5, 0.25, 0.25]])
    frames = make_frames((2,), Classes(3, "h"), ("u",))
    path, provenance = tmp_path / "shard-00000.h5", Provenance(2.0, ("a",))
    write_shard(path, frames, [table], provenance, DENSE)
    with pytest.raises(UserError, match="temperature is 2, but training needs 3, at which"):
        read_soft_targets(tmp_path, frames, 3.0)
    _, colder = read_soft_targets(tmp_path, frames, 1.0).batch(torch.arange(2))
    expected = torch.tensor([[1.0, 0.0, 0.0], [2 / 3, 1 / 6, 1 / 6]])
    torch.testing.assert_close(colder, expected)


@pytest.mark.parametrize(
    ("mean", "members", "encoding"),
    [("arithmetic", 2, DENSE), ("geometric", 3, Encoding("top-k", 5))],
)
def test_other_means_and_encodings_are_refused_at_another_temperature(
    tmp_path, mean, members, encoding
):
    write_mean(tmp_path, mean, members, 2.0, encoding)
    message = "temperature is 2.0, but training needs 5.0; only a geometric"
    with pytest.raises(UserError, match=message):
        read_soft_targets(tmp_path, UTTERANCE, 5.0)
