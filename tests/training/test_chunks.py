"""Training from shards chunk by chunk: each frame once an epoch, in windows and targets as whole,
within memory, and with the same bits after a kill."""

import json
import threading
import weakref
from contextlib import closing
from dataclasses import replace
from functools import cache
from itertools import count, islice, pairwise

import h5py
import numpy as np
import pytest
import torch
from kills import killed_at
from tiny_training import (
    BLOCK_FRAMES,
    MODEL,
    TRAIN,
    in_chunks,
    make_frames,
    sharded,
    trainer,
    weights,
    write_shards,
)

from acoustic_kd.features.frame_shard import shard_paths
from acoustic_kd.features.frames import read_frames
from acoustic_kd.soft_targets.encoding import Encoding
from acoustic_kd.soft_targets.read import read_soft_targets
from acoustic_kd.system.errors import UserError
from acoustic_kd.system.memory import GIGABYTE, memory_budget
from acoustic_kd.training.batches import WHOLE_SHARE, Epoch, plan_epoch, share_of_process
from acoustic_kd.training.chunks import (
    Chunk,
    InMemoryData,
    ShardedData,
    SoftTargetSource,
    prefetch_chunks,
)
from acoustic_kd.training.windows import make_splicer

CPU = torch.device("cpu")


def blocks_of(plan, share=WHOLE_SHARE):
    return [plan.blocks(chunk, share) for chunk in range(len(plan.chunks))]


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    folder = tmp_path_factory.mktemp("store")
    write_shards(folder)
    return folder


@pytest.mark.parametrize("encoding", ["top-k", "top-p", "sampled", "dense"])
def test_chunks_hold_the_windows_and_targets_of_the_whole(tmp_path, encoding):
    """Also of a second store, which has no transcripts."""
    second = tmp_path / "second"
    write_shards(tmp_path, encoding=Encoding(encoding, 3, 0.9))
    write_shards(second, labelled=False, seed=1, encoding=Encoding(encoding, 3, 0.9))
    for path in (second / "soft").iterdir():
        path.rename(tmp_path / "soft" / path.name)
    paths = shard_paths(tmp_path / "frames") + shard_paths(second / "frames")
    data = ShardedData(paths, SoftTargetSource(tmp_path / "soft", 2.0), BLOCK_FRAMES)
    frames = read_frames(paths)
    soft = read_soft_targets(tmp_path / "soft", frames, 2.0)
    numbers, everywhere = dict(frames.spans()), torch.arange(len(frames))
    windows = make_splicer(MODEL, frames.features, frames.offsets, True)
    assert data.sizes.sum() == len(frames) and len(data.sizes) > 20
    seen = []
    for blocks in blocks_of(plan_epoch(data.sizes, 5, 50, 0, 0)):
        chunk = data.read(blocks, torch.bfloat16)
        here = torch.arange(len(chunk.frames))
        there = torch.cat([everywhere[numbers[name]] for name in chunk.frames.ids])
        ours = make_splicer(MODEL, chunk.frames.features, chunk.frames.offsets, True)
        assert torch.equal(ours(here), windows(there))
        assert torch.equal(chunk.frames.targets, frames.targets[there])
        assert len(chunk.soft) == len(here)
        for rows, expected in zip(chunk.soft.batch(here), soft.batch(there), strict=True):
            if rows is None:
                assert expected is None
            else:
                assert torch.equal(pad(rows, soft.width), pad(expected, soft.width))
        seen += there.tolist()
    assert sorted(seen) == list(range(len(frames)))


def pad(rows, width):
    """A chunk may be narrower than the whole; rows are padded with their first class, or 0."""
    fill = rows[:, :1] if rows.dtype == torch.int64 else torch.zeros(len(rows), 1)
    missing = 0 if rows.shape[1] == 5 else width - rows.shape[1]
    return torch.cat([rows, fill.expand(-1, missing)], 1)


@pytest.fixture(scope="module")
def whole_run(tmp_path_factory, store):
    """(soft, streams) → the folder of a run in chunks that nothing interrupts."""

    @cache
    def run(soft, streams):
        folder, data = tmp_path_factory.mktemp("whole"), sharded(store, soft)
        trainer(folder, data=data, train=replace(in_chunks(data), streams=streams)).run()
        return folder

    return run


def test_all_in_one_chunk_ends_with_the_bits_of_frames_in_memory(tmp_path, store):
    frames = read_frames(store / "frames")
    soft = read_soft_targets(store / "soft", frames, 2.0)
    trainer(tmp_path / "memory", soft, data=frames).run()
    trainer(tmp_path / "stored", data=sharded(store, True)).run()
    assert weights(tmp_path / "stored") == weights(tmp_path / "memory")
    assert json.loads((tmp_path / "stored" / "model.json").read_text())["chunks"] == 1


@pytest.mark.parametrize("soft", [False, True])
def test_it_learns_in_chunks(tmp_path, store, soft, capsys):
    data = sharded(store, soft)
    history = trainer(tmp_path, data=data, train=replace(in_chunks(data), epochs=12)).run()
    assert history[-1]["dev_frame_accuracy"] > (30 if soft else 70)  # random soft targets
    assert "an epoch is read in 3 chunks" in capsys.readouterr().out
    assert json.loads((tmp_path / "model.json").read_text())["chunks"] == 3


@pytest.mark.parametrize(
    ("soft", "streams", "step"),
    [
        *((soft, 1, step) for soft in (False, True) for step in (1, 5, 6, 16, 38)),
        *((True, 3, step) for step in (5, 21)),
    ],
)
def test_a_run_that_is_killed_within_a_chunk_ends_with_the_same_bits(
    tmp_path, store, whole_run, soft, streams, step
):
    """Even where it resumes with another memory budget."""
    data = sharded(store, soft)
    train = replace(in_chunks(data), streams=streams)
    with killed_at(step):
        trainer(tmp_path, data=data, train=train).run()
    begun = (tmp_path / "checkpoint.safetensors").exists()
    again = replace(train, memory_gb=None) if begun else train
    trainer(tmp_path, data=sharded(store, soft), train=again).run()
    assert weights(tmp_path) == weights(whole_run(soft, streams))


@pytest.mark.parametrize("soft", [False, True])
def test_chunks_take_no_more_memory_than_they_are_given(tmp_path, monkeypatch, store, soft):
    """Chunk in use and chunk being read together, counted by their tensors.

    The one in use may be done, and freed, before the next one is read: the pair is never larger.
    """
    alive: dict[int, int] = {}
    numbers, peaks, sizes, original = count(), [], [], ShardedData.read

    def read(self, blocks, dtype):
        chunk = original(self, blocks, dtype)
        number = next(numbers)
        sizes.append(chunk.bytes + (4 + 8) * len(chunk.frames))  # utterances' ends, and the order
        alive[number] = sizes[-1]
        weakref.finalize(chunk.frames.targets, alive.pop, number)  # the loader's, on a CPU
        peaks.append(sum(alive.values()))
        return chunk

    monkeypatch.setattr(ShardedData, "read", read)
    for divisor in (3, 5):
        data = sharded(store, soft)
        train = in_chunks(data, divisor)
        peaks.clear()
        sizes.clear()
        trainer(tmp_path / f"{divisor}", data=data, train=train).run()
        assert len(peaks) >= 3 * divisor
        pair = max(map(sum, pairwise(sizes)))
        assert max(peaks) <= pair <= train.memory_gb * GIGABYTE < pair / 0.4


def test_what_is_free_is_enough_for_little(tmp_path, store):
    data = sharded(store)
    assert data.num_chunks(memory_budget(CPU, None, 0), 4) == 1
    assert data.num_chunks(None, 4) == 1
    assert memory_budget(CPU, None, 10**18) == 0


def test_a_process_with_its_own_streams_needs_memory_for_them_alone(store):
    data = sharded(store, True)
    memory = int(in_chunks(data, 3.0).memory_gb * GIGABYTE)
    actual = [data.num_chunks(memory, 4, share_of_process(0, processes, 2)) for processes in (1, 2)]
    assert actual[0] > actual[1]
    for processes, chunks in enumerate(actual, start=1):
        plan = plan_epoch(data.sizes, chunks, 50, 0, 0, 2)
        for rank in range(processes):
            for blocks in blocks_of(plan, share_of_process(rank, processes, 2)):
                once = data.read(blocks, torch.float32).bytes
                assert (once if chunks == 1 else 2 * once) <= memory
    assert data.num_chunks(None, 4, share_of_process(0, 2, 2)) == 1


def test_what_a_process_reads_is_read_once_where_it_fits(store):
    data, read = sharded(store), []
    share, original = share_of_process(1, 2, 2), data.read
    data.read = lambda blocks, dtype: read.append(blocks) or original(blocks, dtype)
    epochs = [plan_epoch(data.sizes, 1, 50, 0, epoch, 2) for epoch in range(4)]
    chunks = [c for c, _ in prefetch_chunks(data, iter(epochs), 0, torch.float32, share)]
    assert chunks[1:] == [None] * 3 and chunks[0] is not None
    assert len(read) == 1 and 0.3 < data.sizes[read[0]].sum() / data.sizes.sum() < 0.7


def test_a_run_in_chunks_may_go_on_with_the_same_frames_in_memory(tmp_path, store):
    data, digest = sharded(store), ""
    with killed_at(17):
        trainer(tmp_path, data=data, train=in_chunks(data), digest=digest).run()
    frames = read_frames(shard_paths(store / "frames"))
    assert len(trainer(tmp_path, data=frames, train=in_chunks(data), digest=digest).run()) == 3


def test_frames_and_soft_targets_are_in_memory_once(tmp_path, store):
    """What was read is freed, and a frame takes what is stored of it and 12 bytes more."""
    data = sharded(store, True)
    subject, read, original = trainer(tmp_path, data=data), [], data.read
    loss, seen = subject._loss, []

    def reading(blocks, dtype):
        chunk = original(blocks, dtype)
        read.append(weakref.ref(chunk))
        return chunk

    def watching(frames):
        seen.append([reference() for reference in read])
        return loss(frames)

    data.read, subject._loss = reading, watching
    subject.run()
    assert len(seen) == 3 * 13 and all(alive == [None] for alive in seen)
    loader, frames = subject.loader, int(data.sizes.sum())
    tensors = [loader.windows.features, loader.windows.before, loader.windows.after, loader.hard]
    tensors += [t for t in vars(loader.soft).values() if isinstance(t, torch.Tensor)]
    top_3 = 3 * (2 + 2) if loader.soft.first is None else 3 * (2 + 2) + 8
    assert sum(tensor.nbytes for tensor in tensors) == frames * (4 * 6 + top_3 + 2 * 2 + 8)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"memory_gb": 1e-6}, r"'train.memory_gb' .*gives 1e-06 GB .* raise the setting or"),
        ({"streams": 500, "batch_frames": 500}, "'train.streams' is 500"),
    ],
)
def test_settings_that_do_not_fit_the_data_are_refused_before_anything_is_written(
    tmp_path, store, changes, message
):
    with pytest.raises(UserError, match=message):
        trainer(tmp_path, data=sharded(store), train=replace(TRAIN, **changes)).run()
    assert not list(tmp_path.iterdir())


def test_damaged_soft_targets_are_found_when_their_chunk_is_read(tmp_path):
    write_shards(tmp_path)
    path = tmp_path / "soft" / "shard-00002.h5"
    with h5py.File(path, "a") as file:
        file["codes"][7] += 1
    data = sharded(tmp_path, True)
    with pytest.raises(UserError, match=r"shard-00002\.h5: block 0 \(frames 0 to 15\) is damaged"):
        for blocks in blocks_of(plan_epoch(data.sizes, 4, 50, 0, 0)):
            data.read(blocks, torch.float32)


def test_soft_targets_that_lack_an_utterance_are_refused_before_training(tmp_path):
    write_shards(tmp_path)
    (tmp_path / "soft" / "shard-00002.h5").unlink()
    (tmp_path / "soft" / "shard-00002.json").unlink()
    with pytest.raises(UserError, match="no soft targets for .* of 21 utterances"):
        sharded(tmp_path, True)


def test_no_chunk_is_read_after_the_one_that_is_next():
    read = []

    class Source:
        def read(self, blocks, dtype):
            read.append(blocks.tolist())
            return Chunk(make_frames(), None)

    epochs = [plan_epoch(np.full(8, 10), 4, 5, 0, epoch) for epoch in range(3)]
    chunks = prefetch_chunks(Source(), iter(epochs), 5, torch.float32, WHOLE_SHARE)
    for number, _ in enumerate(islice(chunks, 6), start=1):
        assert len(read) <= number + 1
    chunks.close()
    assert len(read) <= 7
    expected = [b.tolist() for epoch in epochs for b in blocks_of(epoch)][1:]  # five steps: a chunk
    assert read == expected[: len(read)] and len(read) >= 6
    assert all(blocks != following for blocks, following in pairwise(read))


@pytest.mark.parametrize("chunks", [1, 3])
def test_frames_are_shuffled_in_a_thread_before_they_are_needed(tmp_path, monkeypatch, chunks):
    """Ahead of training by a chunk, even by one of the next epoch."""
    shuffled, original = [], Epoch._shuffled

    def shuffle(self, *arguments):
        shuffled.append(threading.current_thread())
        return original(self, *arguments)

    monkeypatch.setattr(Epoch, "_shuffled", shuffle)
    epochs = (plan_epoch(np.full(9, 10), chunks, 5, 0, epoch) for epoch in range(2))
    source = InMemoryData(make_frames(), None)
    with closing(prefetch_chunks(source, epochs, 0, torch.float32, WHOLE_SHARE)) as prefetched:
        batches = [sum(1 for _ in batches) for _, batches in islice(prefetched, 2 * chunks)]
    assert batches == [18 // chunks] * 2 * chunks
    assert len(shuffled) == 2 * chunks and threading.main_thread() not in shuffled


def test_soft_targets_in_memory_of_another_order_are_refused(tmp_path):
    """Read without frames, they are in the order of their store."""
    write_shards(tmp_path)
    frames = read_frames(tmp_path / "frames")
    soft = read_soft_targets(tmp_path / "soft", frames)
    assert InMemoryData(frames, soft).chunk.soft is soft
    some = frames.select(np.arange(len(frames.ids)) > 0)
    for other in (some, replace(frames, ids=frames.ids[::-1])):
        with pytest.raises(UserError, match="of other utterances than the frames, or in another"):
            InMemoryData(other, soft)
