"""Damage: every changed bit is found, and the block that holds it is named with its utterances."""

import random
import shutil

import h5py
import pytest
import torch
from soft_stores import ALL, NAMES, all_frames, write_store

from acoustic_kd.soft_targets.encoding import Encoding
from acoustic_kd.soft_targets.read import read_soft_targets
from acoustic_kd.soft_targets.verify import examine
from acoustic_kd.system.errors import UserError

FLIPS = 200


def flip(path, bit):
    content = bytearray(path.read_bytes())
    content[bit // 8] ^= 1 << bit % 8
    path.write_bytes(content)


def place_of(path, name, number):
    """The byte of a file where number `number` of an array is."""
    with h5py.File(path) as file:
        data = file[name]
        chunk = data.id.get_chunk_info(0)
        assert number < data.chunks[0]
        return chunk.byte_offset + number * data.dtype.itemsize


@pytest.mark.parametrize("encoding", ALL, ids=NAMES)
def test_only_the_damaged_block_is_named_with_its_shard_and_utterances(tmp_path, encoding):
    write_store(tmp_path, encoding)  # shard 0: a 4, b 7, c 1 frames; blocks of 5
    assert examine(tmp_path).problems == examine(tmp_path, verify=True).problems == []
    path = tmp_path / "shard-00000.h5"
    with h5py.File(path) as file:
        arrays = [name for name in ("counts", "classes", "codes", "tails") if name in file]
        starts = file["starts"][:]
    whole = path.read_bytes()
    for block, names in enumerate(("'a', 'b'", "'b'", "'b', 'c'")):
        span = f"frames {5 * block} to {min(5 * block + 4, 11)}"
        message = f"{path}: block {block} ({span}) is damaged; it holds utterances {names}"
        for name in arrays:
            first = 5 * block if name in ("counts", "tails") else int(starts[block])
            flip(path, 8 * place_of(path, name, first))
            assert examine(tmp_path, verify=True).problems == [message]
            with pytest.raises(UserError) as caught:
                read_soft_targets(tmp_path, all_frames(), 2.0)
            assert str(caught.value).startswith(message)
            path.write_bytes(whole)


def test_every_damaged_block_and_shard_is_named(tmp_path):
    write_store(tmp_path, Encoding("top-k", 4))
    for shard, frame in ((0, 1), (0, 11), (2, 7)):
        path = tmp_path / f"shard-{shard:05d}.h5"
        flip(path, 8 * place_of(path, "codes", 4 * frame) + 3)
    problems = examine(tmp_path, verify=True).problems
    assert [p.split(" (")[0].rpartition("/")[2] for p in problems] == [
        "shard-00000.h5: block 0", "shard-00000.h5: block 2", "shard-00002.h5: block 1",
    ]  # fmt: skip
    assert [p.rpartition("utterances ")[2] for p in problems] == ["'a', 'b'", "'b', 'c'", "'f'"]


@pytest.mark.parametrize("bits", [16, 8])
def test_any_flipped_bit_is_found_and_none_is_read_as_something_else(tmp_path, bits):
    """Flips anywhere: in what is stored, in HDF5's own records, in the manifest."""
    whole, spoilt = tmp_path / "whole", tmp_path / "spoilt"
    write_store(whole, Encoding("top-p", 4, 0.9, bits))
    shutil.copytree(whole, spoilt)
    expected = read_soft_targets(whole, all_frames(), 2.0).batch(torch.arange(29))
    rng = random.Random(bits)
    paths = sorted(path.name for path in whole.iterdir())
    for _ in range(FLIPS // 2):
        name = rng.choice(paths)
        flip(spoilt / name, rng.randrange(8 * (whole / name).stat().st_size))
        problems = examine(spoilt, verify=True).problems
        assert problems and all("\n" not in problem for problem in problems)
        assert any(name.partition(".")[0] in problem for problem in problems)
        try:  # training may read it if, and only if, what it reads is right
            actual = read_soft_targets(spoilt, all_frames(), 2.0).batch(torch.arange(29))
            assert all(map(torch.equal, actual, expected))
        except UserError as error:
            assert "\n" not in str(error)
        shutil.copy(whole / name, spoilt / name)


def exchange(folder):
    for path in folder.glob("shard-00001.*"):
        path.unlink()
    write_store(folder, Encoding("top-k", 3))


def cut(folder):
    path = folder / "shard-00001.h5"
    path.write_bytes(path.read_bytes()[:-5])


def remove(folder):
    (folder / "shard-00001.h5").unlink()


@pytest.mark.parametrize(
    ("spoil", "expected"),
    [
        (remove, "shard-00001.h5: is missing, but shard-00001.json exists"),
        (cut, "shard-00001.h5: {cut} bytes, but shard-00001.json says {size}"),
        (exchange, "is top-k, k = 3, 16 bits, but in shard-00000.h5 it is top-k, k = 4, 16 bits"),
    ],
)
def test_lost_cut_and_exchanged_files_are_found_even_without_reading_all(tmp_path, spoil, expected):
    write_store(tmp_path, Encoding("top-k", 4))
    size = (tmp_path / "shard-00001.h5").stat().st_size
    spoil(tmp_path)
    (problem,) = examine(tmp_path).problems
    assert expected.format(cut=size - 5, size=size) in problem
    assert examine(tmp_path, verify=True).problems
