"""One shard of frames: every contradiction and every changed bit is found."""

import random

import h5py
import numpy as np
import pytest

from acoustic_kd.features.frame_shard import write_frame_shard
from acoustic_kd.features.frames import read_frames, read_utterances
from acoustic_kd.system.errors import UserError

FLIPS = 150
RIGHT = {
    "features": np.arange(36, dtype=np.float16).reshape(9, 4),
    "targets": np.arange(9, dtype=np.int32) % 3,
    "ids": np.array(["a", "ü"], object),
    "offsets": np.array([0, 4, 9]),
}


def write_by_hand(path, attributes=(), **changed):
    """A shard by another program: old HDF5, no check sums."""
    with h5py.File(path, "w") as file:
        for name, value in {
            "format": "acoustic_kd frames 1", "classes": 3, "inventory": "i", **dict(attributes)
        }.items():  # fmt: skip
            file.attrs[name] = value
        for name, value in (RIGHT | changed).items():
            if value is not None:
                dtype = h5py.string_dtype() if value.dtype.kind == "O" else None
                file.create_dataset(name, data=value, dtype=dtype)


def changed(name, place, value):
    array = RIGHT[name].copy()
    array[place] = value
    return {name: array}


WRONG = [
    (changed("features", (5, 2), np.nan), "frame 1 of utterance 'ü': feature 2 is nan"),
    (changed("features", (3, 0), -np.inf), "frame 3 of utterance 'a': feature 0 is -inf"),
    (changed("targets", 5, -1), "frame 1 of utterance 'ü': the target is -1, but there are 3"),
    (changed("targets", 0, 3), "frame 0 of utterance 'a': the target is 3, but there are 3"),
    ({"targets": RIGHT["targets"] + 0.5}, "'targets' does not contain integers"),
    ({"targets": RIGHT["targets"][:5]}, "9 frames of features, but 5 targets"),
    ({"targets": RIGHT["targets"][:, None]}, "'targets' has 2 dimensions, not 1"),
    ({"features": RIGHT["features"][0]}, "'features' has 1 dimensions, not 2"),
    ({"features": RIGHT["features"][..., None]}, "'features' has 3 dimensions, not 2"),
    ({"features": RIGHT["features"].astype(int)}, "'features' does not contain floating-point"),
    ({"features": RIGHT["features"].astype(float)}, "is float64, not float16 or float32"),
    ({"features": RIGHT["features"][:, :0]}, "'features' is empty"),
    ({"ids": np.array(["a", "a"], object)}, "duplicate utterance 'a'"),
    ({"ids": np.array(["a", ""], object)}, "utterance id '' is empty or contains a space"),
    ({"ids": np.array(["a", "b c"], object)}, "utterance id 'b c' is empty or contains a space"),
    ({"ids": np.array([b"a", b"\xff"], object)}, "'ids': text 1 is not UTF-8"),
    ({"ids": np.array(["a"], object)}, "1 utterances, but 3 offsets"),
    ({"offsets": np.array([2, 4, 9])}, "the first utterance 'a' begins at frame 2"),
    ({"offsets": np.array([0, 12, 9])}, "utterance 'ü' begins at frame 12 and ends at 9"),
    ({"offsets": np.array([0, 4, 10])}, "the last utterance 'ü' ends at frame 10"),
    ({"offsets": np.array([0, 2**64 - 4, 9], "u8")}, "begins at frame 18446744073709551612"),
    ({"offsets": np.array([0, 4.5, 9])}, "'offsets' does not contain integers"),
    ({"attributes": {"classes": "three"}}, "attribute 'classes' is not one value of type integers"),
    ({"attributes": {"classes": [3, 3]}}, "attribute 'classes' is not one value of type integers"),
    ({"attributes": {"classes": -3}}, "attribute 'classes' is -3"),
    ({"attributes": {"format": ["x", "y"]}}, "attribute 'format' is not one value of type text"),
]


@pytest.mark.parametrize(("wrong", "message"), WRONG, ids=[message for _, message in WRONG])
def test_wrong_content_is_refused_by_what_is_wrong(tmp_path, wrong, message):
    path = tmp_path / "shard-00000.h5"
    write_by_hand(path, **wrong)
    for read in (read_frames, lambda folder: list(read_utterances(path))):
        with pytest.raises(UserError) as caught:
            read(tmp_path)
        assert str(caught.value).startswith(f"{path}: ") and message in str(caught.value)


@pytest.mark.parametrize("features", [">f4", "<f4", ">f2"])
@pytest.mark.parametrize("targets", [">i8", "u1", None])
def test_other_types_of_the_same_numbers_are_read_right(tmp_path, features, targets):
    stored = None if targets is None else RIGHT["targets"].astype(targets)
    write_by_hand(
        tmp_path / "shard-00000.h5", features=RIGHT["features"].astype(features), targets=stored
    )
    frames = read_frames(tmp_path)
    assert np.array_equal(frames.features.numpy(), RIGHT["features"])
    assert (frames.targets is None) if targets is None else list(frames.targets) == [0, 1, 2] * 3


def test_shards_that_contradict_each_other_are_refused(tmp_path):
    for number, wide in enumerate((False, True)):
        features = np.zeros((9, 5), np.float16) if wide else RIGHT["features"]
        ids = np.array([f"{number}a", f"{number}b"], object)
        write_by_hand(tmp_path / f"shard-0000{number}.h5", features=features, ids=ids)
    with pytest.raises(UserError, match="shard-00001.h5: frames of 5 features, but 4 in .*00000"):
        read_frames(tmp_path)
    write_by_hand(tmp_path / "shard-00001.h5")
    write_by_hand(tmp_path / "shard-00000.h5")
    with pytest.raises(UserError, match="shard-00001.h5: duplicate utterance 'a', also in .*00000"):
        read_frames(tmp_path)


def test_numbers_too_large_for_float16_are_refused_when_they_are_written(tmp_path):
    values = RIGHT["features"].astype(np.float32) * 1e6
    with np.errstate(over="ignore"):
        features = values.astype(np.float16)
    with pytest.raises(UserError, match="frame 0 of utterance 'a': feature 1 is inf"):
        write_frame_shard(tmp_path / "x.h5", ["a", "b"], RIGHT["offsets"], features, None, 0, "")
    assert not list(tmp_path.iterdir())


def test_any_damage_is_one_line_or_makes_no_difference(tmp_path):
    """Bits that flip, and files that end early."""
    path, rng = tmp_path / "shard-00000.h5", random.Random(0)
    write_frame_shard(
        path, ["a", "ü"], RIGHT["offsets"], RIGHT["features"], RIGHT["targets"], 3, "inventory"
    )
    whole = path.read_bytes()

    def content():
        frames = read_frames(tmp_path)
        labels = frames.targets.tolist()
        return frames.ids, frames.classes, frames.offsets.tolist(), frames.features.tolist(), labels

    expected, lines = content(), 0
    for number in range(FLIPS):
        damaged = bytearray(whole)
        damaged[rng.randrange(len(whole))] ^= 1 << rng.randrange(8)
        path.write_bytes(damaged if number % 3 else whole[: rng.randrange(len(whole))])
        try:
            assert content() == expected
        except UserError as error:
            lines += 1
            assert str(error).startswith(f"{path}: ") and "\n" not in str(error)
    assert lines > FLIPS / 2
