"""Training from shards chunk by chunk: each frame once an epoch, in windows and targets as whole,
within memory, and with the same bits after a kill."""

import json
import os
import subprocess
import sys
import textwrap
import weakref
from dataclasses import replace
from itertools import count, islice, pairwise
from pathlib import Path

import h5py
import numpy as np
import pytest
import tiny_training
import torch
from dying import killed_at
from safetensors.torch import load_file
from tiny_training import MODEL, TRAIN, make_frames, weights

from acoustic_kd.features.frames import Frames, FrameSequence, read_frames, shard_paths, write_store
from acoustic_kd.soft_targets.encoding import Encoding
from acoustic_kd.soft_targets.read import read_soft_targets
from acoustic_kd.soft_targets.write import Provenance, write_shard
from acoustic_kd.system.errors import UserError
from acoustic_kd.system.files import json_sha256
from acoustic_kd.system.memory import memory_budget
from acoustic_kd.training.batches import WHOLE_SHARE, plan_epoch, share_of_process
from acoustic_kd.training.chunks import Chunk, ShardedData, SoftTargetSource, prefetch_chunks
from acoustic_kd.training.model import make_splicer
from acoustic_kd.training.processes import make_accelerator
from acoustic_kd.training.schedule import TrainingRun
from acoustic_kd.training.trainer import Trainer

SHARD, BLOCK = 150, 25  # frames of a shard and of a block, about
GB = 1e-9


def write(folder, labelled=True, seed=0, encoding=None):
    """`make_frames` in five shards, and soft targets of the same utterances in others' order."""
    frames = make_frames(seed=seed)
    utterances = [
        FrameSequence(
            f"{seed}-{name}",
            frames.features[span].numpy(),
            frames.targets[span].numpy() if labelled else None,
        )
        for name, span in frames.spans()
    ]
    write_store(folder / "frames", utterances, frames.classes, SHARD)
    order = np.random.default_rng(1).permutation(len(utterances))
    for number, part in enumerate(np.array_split(order, 4)):
        some = [utterances[u] for u in part]
        ends = np.cumsum([0, *(len(u.features) for u in some)])
        total = int(ends[-1])
        shard = Frames(torch.zeros(total, 1), None, [u.id for u in some], ends, frames.classes)
        generator = torch.Generator().manual_seed(number)
        table = torch.softmax(3 * torch.randn(total, frames.classes.count, generator=generator), -1)
        path = folder / "soft" / f"shard-{number:05d}.h5"
        path.parent.mkdir(exist_ok=True)
        origin = Provenance(2.0, ("m",))
        write_shard(path, shard, table.split(16), origin, encoding or Encoding("top-k", 3), 16)


def stored(folder, soft=False, block=BLOCK):
    targets = SoftTargetSource(folder / "soft", 2.0) if soft else None
    return ShardedData(shard_paths(folder / "frames"), targets, block)


def trainer(folder, data, train=TRAIN, model=MODEL):
    job = TrainingRun("test", 1, model, train, 0.5, "d")
    return Trainer(job, folder, data, make_frames(200, seed=7), None, make_accelerator())


def blocks_of(plan, part=WHOLE_SHARE):
    return [plan.blocks(chunk, part) for chunk in range(len(plan.chunks))]


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    folder = tmp_path_factory.mktemp("store")
    write(folder)
    return folder


@pytest.mark.parametrize("encoding", ["top-k", "top-p", "sampled", "dense"])
def test_chunks_hold_the_windows_and_targets_of_the_whole(tmp_path, encoding):
    """Also of a second store, that has no transcripts."""
    heard = tmp_path / "heard"
    write(tmp_path, encoding=Encoding(encoding, 3, 0.9))
    write(heard, labelled=False, seed=1, encoding=Encoding(encoding, 3, 0.9))
    for path in (heard / "soft").iterdir():
        name = path.name.replace("shard-", "shard-heard-")
        text = path.read_bytes()
        (tmp_path / "soft" / name).write_bytes(text)
    for path in (tmp_path / "soft").glob("*.json"):
        relabel(path)
    paths = shard_paths(tmp_path / "frames") + shard_paths(heard / "frames")
    data = ShardedData(paths, SoftTargetSource(tmp_path / "soft", 2.0), BLOCK)
    frames = read_frames(paths)
    soft = read_soft_targets(tmp_path / "soft", frames, 2.0)
    numbers = {name: span for name, span in frames.spans()}
    windows = make_splicer(MODEL, frames.features, frames.offsets, True)
    assert data.sizes.sum() == len(frames) and len(data.sizes) > 20
    seen = []
    for blocks in blocks_of(plan_epoch(data.sizes, 5, 50, 0, 0)):
        chunk = data.read(blocks, torch.bfloat16)
        here = torch.arange(len(chunk.frames))
        there = torch.cat(
            [torch.arange(numbers[n].start, numbers[n].stop) for n in chunk.frames.ids]
        )
        ours = make_splicer(MODEL, chunk.frames.features, chunk.frames.offsets, True)
        assert torch.equal(ours(here), windows(there))
        assert torch.equal(chunk.frames.targets, frames.targets[there])
        assert len(chunk.soft) == len(here)
        for one, other in zip(chunk.soft.batch(here), soft.batch(there), strict=True):
            if one is None:
                assert other is None
            else:
                assert torch.equal(rows_in_full(one, soft.width), rows_in_full(other, soft.width))
        seen += there.tolist()
    assert sorted(seen) == list(range(len(frames)))


def rows_in_full(rows, width):
    """A chunk may be narrower than the whole; rows are filled up with their first class, or 0."""
    fill = rows[:, :1] if rows.dtype == torch.int64 else torch.zeros(len(rows), 1)
    missing = 0 if rows.shape[1] == 5 else width - rows.shape[1]
    return torch.cat([rows, fill.expand(-1, missing)], 1)


def relabel(path):
    """Make a copied manifest entry one of the file that it now lies beside."""
    values = json.loads(path.read_text())
    values.pop("digest")
    values["file"] = path.with_suffix(".h5").name
    path.write_text(json.dumps(values | {"digest": json_sha256(values)}))


def test_all_in_one_chunk_ends_with_the_bits_of_frames_in_memory(tmp_path, store):
    frames = read_frames(store / "frames")
    soft = read_soft_targets(store / "soft", frames, 2.0)
    job = TrainingRun("test", 1, MODEL, TRAIN, 0.5, "d")
    dev = make_frames(200, seed=7)
    Trainer(job, tmp_path / "memory", frames, dev, soft, make_accelerator()).run()
    trainer(tmp_path / "stored", stored(store, True)).run()
    assert weights(tmp_path / "stored") == weights(tmp_path / "memory")
    assert json.loads((tmp_path / "stored" / "model.json").read_text())["chunks"] == 1


def in_chunks(data, divisor=3.0):
    """Settings with so little memory that an epoch is read in several chunks."""
    most = data.sizes.sum() / divisor + data.sizes.max() + 1
    frame = 2 * (4 * 6 + 16) + 3 * data._soft_bytes
    return replace(TRAIN, memory_gb=float(most * frame * GB), checkpoint_steps=3)


@pytest.mark.parametrize("soft", [False, True])
def test_it_learns_in_chunks(tmp_path, store, soft, capsys):
    data = stored(store, soft)
    history = trainer(tmp_path, data, replace(in_chunks(data), epochs=12)).run()
    assert history[-1]["dev_frame_accuracy"] > (30 if soft else 70)  # random soft targets
    assert "an epoch is read in 3 chunks" in capsys.readouterr().out
    assert json.loads((tmp_path / "model.json").read_text())["chunks"] == 3


@pytest.mark.parametrize("soft", [False, True])
@pytest.mark.parametrize("step", [1, 5, 6, 16, 38])
def test_a_run_that_is_killed_within_a_chunk_ends_with_the_same_bits(tmp_path, store, soft, step):
    """Even where it goes on with other memory than it began with."""
    train = in_chunks(stored(store, soft))
    trainer(tmp_path / "whole", stored(store, soft), train).run()
    with killed_at(step):
        trainer(tmp_path / "killed", stored(store, soft), train).run()
    begun = (tmp_path / "killed" / "checkpoint.safetensors").exists()
    again = replace(train, memory_gb=None) if begun else train
    trainer(tmp_path / "killed", stored(store, soft), again).run()
    assert weights(tmp_path / "killed") == weights(tmp_path / "whole")


@pytest.mark.parametrize("soft", [False, True])
def test_chunks_take_no_more_memory_than_they_are_given(tmp_path, monkeypatch, store, soft):
    """Chunk in use and chunk being read together, counted by their tensors."""
    alive: dict[int, int] = {}
    numbers, most, original = count(), [], ShardedData.read

    def read(self, blocks, kind):
        chunk = original(self, blocks, kind)
        number = next(numbers)
        alive[number] = chunk.bytes + 8 * len(chunk.frames)  # and the ends of utterances
        weakref.finalize(chunk, alive.pop, number)
        most.append(sum(alive.values()))
        return chunk

    monkeypatch.setattr(ShardedData, "read", read)
    for divisor in (3, 5):
        data = stored(store, soft)
        train = in_chunks(data, divisor)
        most.clear()
        trainer(tmp_path / f"{divisor}", data, train).run()
        assert len(most) >= 3 * divisor
        assert 0.4 * train.memory_gb < max(most) * GB <= train.memory_gb


def test_memory_for_less_than_two_chunks_of_two_blocks_is_one_clear_error(tmp_path, store):
    train = replace(TRAIN, memory_gb=1e-6)
    with pytest.raises(
        UserError, match=r"'train.memory_gb' .*gives 1e-06 GB .*raise the setting or"
    ):
        trainer(tmp_path, stored(store), train).run()
    assert not list(tmp_path.iterdir())


def test_what_is_free_is_enough_for_little(tmp_path, store):
    data = stored(store)
    assert data.num_chunks(memory_budget(torch.device("cpu"), None, 0), 4) == 1
    assert data.num_chunks(None, 4) == 1
    assert memory_budget(torch.device("cpu"), 0.5, 10**6) == 500_000_000
    assert memory_budget(torch.device("cpu"), None, 10**18) == 0


PROGRAM = """
    import sys
    from dataclasses import replace
    from pathlib import Path

    sys.path[:0] = {tests!r}
    import test_chunks
    data = test_chunks.stored(Path({store!r}), True)
    # Without dropout, whose masks belong to processes.
    model = replace(test_chunks.MODEL, dropout=0.0)
    for name, train in test_chunks.trainings(data).items():
        test_chunks.trainer(Path(sys.argv[1]) / name, data, train, model).run()
"""


def trainings(data):
    """In chunks; in chunks of streams; in one chunk of streams."""
    streams = replace(TRAIN, streams=2)
    memory = 2.5 * in_chunks(data).memory_gb  # of which a process of two would need half
    return {
        "chunks": in_chunks(data),
        "streams": replace(streams, memory_gb=memory, batch_frames=31),
        "whole": streams,
    }


@pytest.mark.slow
def test_two_processes_learn_the_batches_of_one(tmp_path, store):
    program = tmp_path / "program.py"
    tests = [str(Path(file).parent) for file in (__file__, tiny_training.__file__)]
    program.write_text(textwrap.dedent(PROGRAM.format(tests=tests, store=str(store))))
    launch = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    environment = os.environ | {"OMP_NUM_THREADS": "1", "ACCELERATE_USE_CPU": "true"}
    for name, how in (("one", []), ("two", launch)):
        command = [sys.executable, *how, program, tmp_path / name]
        subprocess.run(command, check=True, env=environment)
    chunks = {}
    for kind in trainings(stored(store, True)):
        folders = [tmp_path / name / kind for name in ("one", "two")]
        one, two = (load_file(folder / "model.safetensors") for folder in folders)
        for name in one:
            torch.testing.assert_close(two[name], one[name], rtol=1e-3, atol=1e-4)
        described = [json.loads((folder / "model.json").read_text()) for folder in folders]
        chunks[kind] = [found["chunks"] for found in described]
    assert chunks["chunks"] == [3, 3] and chunks["whole"] == [1, 1]


def test_a_process_with_its_own_lanes_needs_memory_for_them_alone(store):
    data = stored(store, True)
    memory = int(in_chunks(data, 3.0).memory_gb / GB)
    found = [data.num_chunks(memory, 4, share_of_process(0, processes, 2)) for processes in (1, 2)]
    assert found[0] > found[1]
    for processes, chunks in enumerate(found, start=1):
        plan = plan_epoch(data.sizes, chunks, 50, 0, 0, 2)
        for rank in range(processes):
            for blocks in blocks_of(plan, share_of_process(rank, processes, 2)):
                once = data.read(blocks, torch.float32).bytes
                assert (once if chunks == 1 else 2 * once) <= memory
    assert data.num_chunks(None, 4, share_of_process(0, 2, 2)) == 1


def test_what_a_process_reads_is_read_once_where_it_fits(store):
    data, read = stored(store), []
    part, original = share_of_process(1, 2, 2), data.read
    data.read = lambda blocks, kind: read.append(blocks) or original(blocks, kind)
    epochs = [plan_epoch(data.sizes, 1, 50, 0, epoch, 2) for epoch in range(4)]
    chunks = list(prefetch_chunks(data, iter(epochs), 0, torch.float32, part))
    assert len(chunks) == 4 and len({id(chunk) for chunk in chunks}) == 1
    assert len(read) == 1 and 0.3 < data.sizes[read[0]].sum() / data.sizes.sum() < 0.7


@pytest.mark.parametrize("step", [5, 21])
def test_a_run_in_lanes_that_is_killed_ends_with_the_same_bits(tmp_path, store, step):
    train = replace(in_chunks(stored(store, True)), streams=3)
    trainer(tmp_path / "whole", stored(store, True), train).run()
    with killed_at(step):
        trainer(tmp_path / "killed", stored(store, True), train).run()
    trainer(tmp_path / "killed", stored(store, True), train).run()
    assert weights(tmp_path / "killed") == weights(tmp_path / "whole")


def test_more_lanes_than_blocks_are_refused_before_anything_is_written(tmp_path, store):
    with pytest.raises(UserError, match="'train.streams' is 500"):
        trainer(tmp_path, stored(store), replace(TRAIN, streams=500, batch_frames=500)).run()
    assert not list(tmp_path.iterdir())


def test_damaged_soft_targets_are_found_when_their_chunk_is_read(tmp_path):
    write(tmp_path)
    path = tmp_path / "soft" / "shard-00002.h5"
    with h5py.File(path, "a") as file:
        file["codes"][7] += 1
    data = stored(tmp_path, True)
    with pytest.raises(UserError, match=r"shard-00002\.h5: block 0 \(frames 0 to 15\) is damaged"):
        for blocks in blocks_of(plan_epoch(data.sizes, 4, 50, 0, 0)):
            data.read(blocks, torch.float32)


def test_soft_targets_that_lack_an_utterance_are_refused_before_training(tmp_path):
    write(tmp_path)
    (tmp_path / "soft" / "shard-00002.h5").unlink()
    (tmp_path / "soft" / "shard-00002.json").unlink()
    with pytest.raises(UserError, match="no soft targets for .* of 21 utterances"):
        stored(tmp_path, True)


def test_no_chunk_is_read_after_the_one_that_is_next():
    read = []

    class Source:
        def read(self, blocks, kind):
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
    assert all(one != other for one, other in pairwise(read))
