"""Writing: the same bytes every time, and whole shards or none, whenever it is killed."""

import json
import random
import time

import kills
import pytest
import torch
from soft_stores import (
    ALL,
    LONG_SHARDS,
    NAMES,
    PROVENANCE,
    SHARDS,
    contents,
    distributions,
    make_frames,
    write_long_store,
    write_store,
)

from acoustic_kd.soft_targets.encoding import Encoding
from acoustic_kd.soft_targets.manifest import is_finished, read_entry
from acoustic_kd.soft_targets.verify import examine
from acoustic_kd.soft_targets.write import Provenance, write_shard
from acoustic_kd.system.errors import UserError
from acoustic_kd.system.files import TEMPORARY, sha256


@pytest.mark.parametrize("encoding", ALL, ids=NAMES)
def test_the_same_bytes_in_any_order_and_at_any_time(tmp_path, encoding):
    write_store(tmp_path / "first", encoding)
    time.sleep(1.01 if encoding == ALL[0] else 0)  # HDF5 can keep times in seconds
    for shard in (2, 0, 1):  # as by other processes
        write_store(tmp_path / "again", encoding, shards=(shard,))
    first = contents(tmp_path / "first")
    assert len(first) == 2 * len(SHARDS) and contents(tmp_path / "again") == first


def test_draws_of_shards_differ(tmp_path):
    """Two shards of the same predictions."""
    table, frames = distributions(12), make_frames()
    for number in (0, 1):
        path = tmp_path / f"shard-{number:05d}.h5"
        write_shard(path, frames, [table], PROVENANCE, Encoding("sampled", 8))
    first, second = (path.read_bytes() for path in sorted(tmp_path.glob("*.h5")))
    assert first != second


def test_the_manifest_says_what_a_shard_is(tmp_path):
    provenance = Provenance(2.0, ("m1", "m2"), "geometric", (1.0, 3.0))
    table = write_store(tmp_path, Encoding("top-p", 4, 0.9, 8), provenance)
    path = tmp_path / "shard-00000.h5"
    values = json.loads((tmp_path / "shard-00000.json").read_text())
    measured = values.pop("measured")
    assert len(values.pop("digest")) == 64
    size = path.stat().st_size
    assert values == {
        "format": "acoustic_kd soft targets 2", "file": "shard-00000.h5", "bytes": size,
        "sha256": sha256(path), "num_classes": 9, "inventory": "inventory-a", "temperature": 2.0,
        "mean": "geometric", "weights": [0.25, 0.75], "members": ["m1", "m2"], "frames": 12,
        "utterances": 3, "block_frames": 5, "encoding": "top-p", "kept_classes": 4,
        "kept_mass": 0.9, "bits": 8, "seed": 0,
        "bytes_per_frame": pytest.approx(size / 12, rel=1e-4),
    }  # fmt: skip
    table = table[:12].double()
    assert measured["entropy"] == pytest.approx(-(table * table.log()).sum(-1).mean().item(), 1e-4)
    tops = table.sort(-1, descending=True).values.cumsum(-1)
    counts = ((tops < 0.9).sum(-1) + 1).clamp(max=4)
    kept = tops.gather(1, counts[:, None] - 1).mean().item()
    assert measured["kept_mass"] == pytest.approx(kept, 1e-4)
    assert measured["divergence_frames"] == 12 and 0 < measured["divergence"] < 0.2


def test_of_large_shards_the_divergence_is_that_of_some_frames(tmp_path):
    table = distributions(3000)
    frames, measured = make_frames((3000,), names=("u",)), []
    for block in (1000, 50):
        path = tmp_path / f"{block}.h5"
        write_shard(path, frames, table.split(block), PROVENANCE, Encoding("top-k", 4), block)
        measured.append(read_entry(path).measured)
    sample, whole = measured
    assert 150 < sample["divergence_frames"] < 300
    assert sample["divergence"] == pytest.approx(whole["divergence"], rel=0.3)


@pytest.mark.parametrize(("spoil", "shown"), [(float("nan"), "nan"), (7.0, "7"), (-0.5, "")])
def test_a_prediction_that_is_no_distribution_is_refused(tmp_path, spoil, shown):
    table = distributions(12)
    table[5] = torch.tensor([spoil, *[0.0] * 8])
    path = tmp_path / "shard-00000.h5"
    with pytest.raises(UserError, match=rf"frame 5 \(utterance 'b'\) sums to -?{shown}.*, not 1"):
        write_shard(path, make_frames(), table.split(4), PROVENANCE, Encoding(), 4)
    assert list(tmp_path.iterdir()) == []


def test_a_negative_probability_is_refused_though_the_sum_is_1(tmp_path):
    table = distributions(12)
    table[5, :2] = torch.tensor([-0.5, 0.5 + float(table[5, :2].sum())])
    with pytest.raises(UserError, match=r"frame 5 \(utterance 'b'\) has a negative probability"):
        write_shard(tmp_path / "s.h5", make_frames(), table.split(4), PROVENANCE, Encoding(), 4)
    assert list(tmp_path.iterdir()) == []


def test_a_shard_that_is_written_anew_has_no_old_manifest_entry_meanwhile(tmp_path):
    table, path = distributions(12), tmp_path / "shard-00000.h5"

    def dying():
        yield table[:5]
        assert not is_finished(path)
        raise KeyboardInterrupt

    write_shard(path, make_frames(), [table], PROVENANCE, Encoding())
    with pytest.raises(KeyboardInterrupt):
        write_shard(path, make_frames(), dying(), PROVENANCE, Encoding("dense"), 5)
    assert [p.name for p in tmp_path.iterdir()] == ["shard-00000.h5"]


# --- killed at any moment -----------------------------------------------------------------------


@pytest.mark.slow
def test_killed_writing_resumes_to_the_same_bytes(tmp_path):
    """Twenty kills and more, anywhere between the first block and the last manifest entry."""
    whole = tmp_path / "whole"
    kills.run(write_long_store, whole)  # imports what it needs
    took = kills.run(write_long_store, tmp_path / "timed")
    expected, rng, landed, rounds, halves = contents(whole), random.Random(1), 0, 0, 0
    while landed < 20:
        folder, finished = tmp_path / f"{rounds}", {}

        def look(folder=folder, finished=finished):
            nonlocal halves
            halves += any(folder.glob(TEMPORARY))
            for path in folder.glob("shard-*"):
                assert path.read_bytes() == expected[path.name]
            for path in folder.glob("shard-*.json"):
                assert is_finished(path.with_suffix(".h5"))
                changed = path.stat().st_mtime_ns
                assert finished.setdefault(path.name, changed) == changed  # not made twice

        # A child finishes one or two shards more.
        seconds = 3 * took / LONG_SHARDS
        landed += kills.run_killed(
            write_long_store, folder, seconds=seconds, rng=rng, after_kill=look
        )
        look()
        for half_written in folder.glob(TEMPORARY):  # the stage sweeps them
            half_written.unlink()
        assert contents(folder) == expected
        assert examine(folder, verify=True).problems == []
        rounds += 1
    assert halves >= 5  # in the midst of shards, too
