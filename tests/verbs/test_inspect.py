"""`acoustic-kd inspect`: what it prints, and how it says what is wrong."""

import subprocess
import sys

import h5py
import numpy as np
import pytest
import torch
from soft_stores import write_store

from acoustic_kd.experiment.inspection import inspect_experiment
from acoustic_kd.features.frame_sequence import Classes, FrameSequence
from acoustic_kd.features.frames import frame_index
from acoustic_kd.features.frames import write_store as write_frames
from acoustic_kd.soft_targets.encoding import Encoding
from acoustic_kd.soft_targets.write import Provenance, write_shard
from acoustic_kd.system.records import STARTED


@pytest.fixture
def inspect(command):
    def run(*arguments):
        status, out, error = command("inspect", *arguments)
        return status, out.splitlines(), error.splitlines()

    return run


def test_what_a_store_of_soft_targets_holds(tmp_path, inspect):
    write_store(tmp_path, Encoding("top-k", 4, bits=8), Provenance(2.5, ("a", "b"), weights=(1, 3)))
    size = sum(path.stat().st_size for path in tmp_path.glob("*.h5"))
    status, lines, error = inspect(tmp_path)
    assert (status, error) == (0, [])
    assert lines[0] == f"soft targets in {tmp_path}"
    rows = {line[2:16].strip(): line[17:] for line in lines[1:]}
    assert float(rows.pop("kept mass").removesuffix(" %")) == pytest.approx(96, abs=3)
    assert float(rows.pop("entropy").removesuffix(" nats a frame")) == pytest.approx(0.9, abs=0.3)
    assert 0 < float(rows.pop("KL to dense").removesuffix(" nats a frame")) < 0.1
    assert rows == {
        "shards": "3", "utterances": "6", "frames": "29", "classes": "9 (inventory inventory-a)",
        "members": "2", "mean": "arithmetic, weights 0.25, 0.75", "temperature": "2.5",
        "encoding": "top-k, k = 4, 8 bits",
        "bytes a frame": f"{size / 29:.1f} ({size:,} bytes in all)",
    }  # fmt: skip
    status, verified, error = inspect(tmp_path, "--verify")
    assert (status, error) == (0, [])
    assert verified == [*lines, "  verified       3 shards, every check sum"]


def test_of_sampled_ones_there_is_no_divergence(tmp_path, inspect):
    write_store(tmp_path, Encoding("sampled", 4))
    assert "  KL to dense    -" in inspect(tmp_path)[1]


HASH = "0123456789abcdef" * 2  # of the classes of a recipe


@pytest.mark.parametrize(
    ("inventory", "shown"),
    [("my phones, version 1", "my phones, version 1"), (HASH, HASH[:12]), (2 * HASH, HASH[:12])],
)
def test_a_name_of_the_classes_is_shown_whole_and_a_hash_cut(tmp_path, inspect, inventory, shown):
    utterance = FrameSequence("u", np.zeros((2, 3)), None)
    write_frames(tmp_path / "frames", [utterance], Classes(5, inventory), 20)
    frames, soft = frame_index({"u": 2}, Classes(5, inventory)), tmp_path / "shard-00000.h5"
    write_shard(soft, frames, [torch.full((2, 5), 0.2)], Provenance(1.0, ("m",)), Encoding())
    for folder in (tmp_path / "frames", tmp_path):
        assert f"  classes        5 (inventory {shown})" in inspect(folder)[1]


def test_no_store(tmp_path, inspect):
    assert inspect(tmp_path)[2] == [
        f"acoustic-kd inspect: error: {tmp_path}: no shards (shard-*.h5) here; run the stage that "
        "writes them"
    ]
    status, _, error = inspect(tmp_path / "none", "--verify")
    assert (status, error) == (2, [f"acoustic-kd inspect: error: {tmp_path}/none: no such folder"])


@pytest.mark.parametrize(
    ("folder", "step", "how"),
    [
        ("", "align", "stage 2 (align)"),
        ("", "members/01", "stage 6 (train)"),
        ("", "members/specialists/01", "stage 6 (train)"),
        ("", "distilled/small/01", "stage 8 (distill)"),
        ("distilled", "small/control", "stage 8 (distill)"),
        ("mnist", "01", "the experiment"),
    ],
)
def test_the_stage_of_an_interrupted_step_is_named(tmp_path, folder, step, how):
    path = tmp_path / folder / step
    path.mkdir(parents=True)
    (path / STARTED).touch()
    (problem,) = inspect_experiment(tmp_path / folder, False, lambda store: [])[1]
    assert problem == f"{path}: interrupted, or its done.json is lost; run {how} again"


# --- frames -------------------------------------------------------------------------------------


@pytest.fixture
def frame_store(tmp_path):
    rng = np.random.default_rng(0)
    utterances = (
        FrameSequence(f"u{n}", rng.normal(size=(10, 3)), rng.integers(0, 5, 10)) for n in range(6)
    )
    write_frames(tmp_path, utterances, Classes(5, "inventory-a"), 20)
    return tmp_path


def test_what_a_store_of_frames_holds(frame_store, inspect):
    size = sum(path.stat().st_size for path in frame_store.iterdir())
    expected = [
        f"frames in {frame_store}",
        "  shards         3",
        "  utterances     6",
        "  frames         60",
        "  classes        5 (inventory inventory-a)",
        "  features       3 of float16",
        "  targets        yes",
        f"  bytes a frame  {size / 60:.1f} ({size:,} bytes in all)",
    ]
    assert inspect(frame_store) == (0, expected, [])
    verified = "  verified       3 shards, every check sum"
    assert inspect(frame_store, "--verify") == (0, [*expected, verified], [])


def test_what_is_wrong_with_frames(frame_store, inspect):
    one, two, three = sorted(frame_store.iterdir())
    with h5py.File(one, "a") as file:
        file["features"][3, 1] = np.nan
        file["targets"][12] = 5
    two.write_bytes(two.read_bytes()[:-100])
    with h5py.File(three, "a") as file:
        file["offsets"][1] = 30
        file["ids"][0] = "u0"
        file.attrs["classes"] = 6
    status, lines, error = inspect(frame_store, "--verify")
    assert status == 2 and not [line for line in lines if "verified" in line]
    actual = [line.removeprefix(f"acoustic-kd inspect: error: {frame_store}/") for line in error]
    assert actual[:2] == [
        "shard-00000.h5: frame 3 of utterance 'u0': feature 1 is nan",
        "shard-00000.h5: frame 2 of utterance 'u1': the target is 5, but there are 5 classes",
    ]
    assert actual[2].startswith("shard-00001.h5: not a readable HDF5 file (")
    assert actual[3:] == [
        "shard-00002.h5: its offsets do not divide its 20 frames into utterances: utterance 'u5' "
        "begins at frame 30 and ends at 20",
        "shard-00002.h5: duplicate utterance 'u0', also in shard-00000.h5",
        "shard-00002.h5: classes: 6 (inventory inventory-a), but in shard-00000.h5: 5 (inventory "
        "inventory-a)",
    ]
    assert len(inspect(frame_store)[2]) == len(error) - 2


def test_frames_are_inspected_without_the_seconds_that_pytorch_takes():
    code = "import sys, acoustic_kd.verbs.inspect; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
