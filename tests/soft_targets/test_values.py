"""Shards whose check sums are right and whose content is wrong, as only another program writes."""

import json
import zlib

import h5py
import numpy as np
import pytest
import torch
from soft_stores import make_frames, write_store

from acoustic_kd.soft_targets import read as reading
from acoustic_kd.soft_targets.encoding import Encoding
from acoustic_kd.soft_targets.shard import open_soft_targets
from acoustic_kd.soft_targets.verify import examine
from acoustic_kd.system.errors import UserError
from acoustic_kd.system.files import json_sha256, read_json, write_json


def forge(path, change):
    """Change a shard of one block and make its check sums right."""
    with h5py.File(path, "r") as file:
        arrays = {name: file[name][()] for name in file}
    header = json.loads(arrays["header"])
    change(arrays, header)
    text = header.get("raw", json.dumps(header)).encode()
    ids = [name.decode() for name in arrays["ids"]]
    numbers = [list(map(int, arrays[name])) for name in ("offsets", "starts")]
    check = zlib.crc32(json.dumps([text.decode(), ids, *numbers]).encode())
    block = b"".join(
        arrays[name].tobytes() for name in ("counts", "classes", "codes", "tails") if name in arrays
    )
    arrays |= {"header": np.bytes_(text), "checks": np.array([check, zlib.crc32(block)], "u4")}
    with h5py.File(path, "w") as file:
        file.attrs["format"] = "acoustic_kd soft targets 2"
        for name, array in arrays.items():
            file[name] = array


def put(name, place, value):
    def change(arrays, header):
        arrays[name][place] = value

    return change


def header(**values):
    return lambda arrays, stored: stored.update(values)


TOP, SAMPLED = Encoding("top-k", 4), Encoding("sampled", 4)
WRONG = [
    (TOP, put("codes", 5, np.nan), "frame 1 of utterance 'a': the probability is nan"),
    (TOP, put("codes", 19, np.inf), "frame 0 of utterance 'b': the probability is inf"),
    (TOP, put("codes", 0, -0.5), "frame 0 of utterance 'a': the probability is -0.5"),
    (TOP, put("codes", 0, 1.5), "frame 0 of utterance 'a': the probability is 1.5"),
    (TOP, put("codes", slice(4), 0), "frame 0 of utterance 'a': all probabilities are 0"),
    (TOP, put("classes", 18, 9), "the class is 9, but there are 9 classes"),
    (TOP, put("classes", slice(2), 3), "frame 0 of utterance 'a': a class comes twice"),
    (SAMPLED, put("codes", 0, 9), "draws, not 4"),
    (SAMPLED, put("counts", 2, 0), "frame 2 of utterance 'a': it has 0 entries, not 1 to 4"),
    (SAMPLED, put("counts", 2, 200), "frame 2 of utterance 'a': it has 200 entries, not 1 to 4"),
    (TOP, put("offsets", 1, 30), "utterance 'b' begins at frame 30 and ends at 11"),
    (TOP, put("starts", 1, 30), "block 0 has 30 entries in 12 frames"),
    (TOP, put("ids", 1, b"a"), "duplicate utterance 'a'"),
    (TOP, header(raw="[" * 100_000), "its header is not valid"),
    (TOP, header(raw="{}"), "its header lacks 'encoding'"),
    (TOP, header(raw="7"), "its header is not valid"),
    *(
        (TOP, header(**{name: value}), f"its header is not valid ('{name}' is {value}")
        for name, value in {
            "num_classes": 10**30, "block_frames": 0, "frames": "12", "temperature": 0,
            "weights": [1, -1], "mean": "median", "encoding": "all", "bits": 12, "kept_mass": "x",
            "members": 3, "inventory": None, "kept_classes": 77, "seed": 0.5,
        }.items()
    ),
    (TOP, header(temperature=float("nan")), "'temperature' is nan"),
    (TOP, header(weights=[1]), "'weights' is [1]"),
    (TOP, header(utterances=4), "'ids' has 3 values, not 4"),
    (TOP, header(frames=1 << 39), "'starts' has 2 values, not"),
    (TOP, header(bits=8), "'codes' does not contain integers"),
]  # fmt: skip


@pytest.mark.parametrize(("encoding", "change", "message"), WRONG)
def test_wrong_content_with_right_check_sums_is_refused(tmp_path, encoding, change, message):
    write_store(tmp_path, encoding, shards=(0,), block=20)
    path = tmp_path / "shard-00000.h5"
    forge(path, change)
    with pytest.raises(UserError) as caught, open_soft_targets(path) as shard:
        shard.read()
    assert str(caught.value).startswith(f"{path}: ") and message in str(caught.value)
    assert len(str(caught.value)) < len(str(path)) + 300


@pytest.mark.parametrize(
    "values",
    [{"bytes": "7"}, {"sha256": 7}, {"measured": {}}, {"measured": 3}, {"temperature": -1}]
    + [
        {"measured": {"kept_mass": 1, "entropy": bad, "divergence": None, "divergence_frames": 0}}
        for bad in ("x", [1], float("nan"), 10**400)
    ],
)
def test_a_manifest_entry_with_wrong_values_is_refused(tmp_path, values):
    write_store(tmp_path, TOP, shards=(0,))
    path = tmp_path / "shard-00000.json"
    entry = read_json(path) | values
    del entry["digest"]
    write_json(path, entry | {"digest": json_sha256(entry)})
    (problem,) = examine(tmp_path).problems
    assert problem.startswith(f"{path}: is damaged or was changed")


def test_a_forged_shard_without_a_change_is_read(tmp_path, monkeypatch):
    table = write_store(tmp_path, TOP, shards=(0,), block=20)
    path = tmp_path / "shard-00000.h5"
    forge(path, lambda arrays, header: None)
    monkeypatch.setattr(reading, "check_pair", lambda *pair: None)  # the size has changed
    classes, _ = reading.read_soft_targets(tmp_path, make_frames(), 2.0).batch(torch.arange(12))
    assert np.array_equal(classes, table[:12].topk(4, -1).indices)
