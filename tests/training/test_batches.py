"""The order of an epoch: every frame once, and the same batches for any number of processes."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from acoustic_kd.system.errors import UserError
from acoustic_kd.system.seeds import seed_of
from acoustic_kd.training.batches import (
    WHOLE_SHARE,
    Copies,
    ProcessShare,
    assign_to_streams,
    plan_epoch,
    share_of_process,
)


@settings(max_examples=100)
@given(
    st.lists(st.integers(1, 60), min_size=1, max_size=40),
    st.integers(1, 9),
    st.integers(1, 50),
    st.integers(0, 5),
)
def test_an_epoch_has_every_frame_once_in_chunks_of_equal_size(sizes, chunks, batch, epoch):
    sizes = np.array(sizes)
    plan = plan_epoch(sizes, chunks, batch, 3, epoch)
    numbers = range(len(plan.chunks))
    blocks = [plan.blocks(n, WHOLE_SHARE) for n in numbers]
    assert sorted(np.concatenate(blocks)) == list(range(len(sizes)))
    actual = [int(sizes[chunk].sum()) for chunk in blocks]
    assert actual == [stream.size for (stream,) in plan.chunks] and plan.frames == sum(actual)
    assert max(actual) <= sizes.sum() / chunks + sizes.max()
    batches = [list(plan.batches(n, WHOLE_SHARE)) for n in numbers]
    for parts, size in zip(batches, actual, strict=True):
        assert sorted(torch.cat([b for b, _ in parts]).tolist()) == list(range(size))
        assert all(len(b) == batch for b, _ in parts[:-1])
        assert all(len(b) == total for b, total in parts)
    counts = [len(parts) for parts in batches]
    whole = [(n, b) for n in numbers for b in range(counts[n])]
    assert plan.steps == len(whole)
    for step in range(len(whole) + 1):
        left = [(n, b) for n, first in plan.remaining_chunks(step) for b in range(first, counts[n])]
        assert left == whole[step:]


def test_one_chunk_has_the_order_that_frames_in_memory_always_had():
    plan = plan_epoch(np.array([4, 30, 7]), 1, 10, 5, 2)
    generator = torch.Generator().manual_seed(seed_of("order", 5, 2))
    actual = torch.cat([batch for batch, _ in plan.batches(0, WHOLE_SHARE)])
    assert torch.equal(actual, torch.randperm(41, generator=generator))
    assert plan.blocks(0, WHOLE_SHARE).tolist() == [0, 1, 2]


def test_epochs_and_seeds_mix_blocks_differently():
    plans = [plan_epoch(np.full(50, 10), 4, 10, seed, e) for seed in range(3) for e in range(3)]
    assert len({tuple(plan.blocks(0, WHOLE_SHARE)) for plan in plans}) == 9


@settings(max_examples=40)
@given(
    st.lists(st.integers(1, 60), min_size=24, max_size=60),
    st.sampled_from([1, 2, 3, 4, 6]),
    st.integers(1, 2),
    st.integers(6, 50),
)
def test_streams_make_the_same_batches_for_any_number_of_processes(sizes, streams, chunks, batch):
    """Frames by their places in the whole; a process knows only the blocks that it reads."""
    sizes = np.array(sizes)
    try:
        plan = plan_epoch(sizes, chunks, batch, 3, 1, streams)
    except UserError:
        return  # a chunk of few large blocks
    alone = share_of_process(0, 1, streams)
    whole = [
        sorted(batch)
        for chunk in range(len(plan.chunks))
        for batch, _ in places(plan, sizes, chunk, alone)
    ]
    assert sorted(frame for batch in whole for frame in batch) == list(range(sizes.sum()))
    assert len(whole) == plan.steps
    for processes in {n for n in (1, 2, 3, 4, 6, 12) if n % streams == 0 or streams % n == 0}:
        shares = [share_of_process(rank, processes, streams) for rank in range(processes)]
        together = []
        for chunk in range(len(plan.chunks)):
            rows = [places(plan, sizes, chunk, share) for share in shares]
            for pieces in zip(*rows, strict=True):
                assert {total for _, total in pieces} == {sum(len(piece) for piece, _ in pieces)}
                together.append(sorted(frame for piece, _ in pieces for frame in piece))
            read = [set(plan.blocks(chunk, share).tolist()) for share in shares]
            if processes <= streams:
                assert sum(map(len, read)) == len(set.union(*read))  # none is read twice
        assert together == whole


def places(plan, sizes, chunk, share):
    """The batches of a chunk as places in the whole, with their sizes."""
    firsts = np.cumsum(sizes) - sizes
    numbers = np.concatenate([np.arange(sizes[b]) + firsts[b] for b in plan.blocks(chunk, share)])
    return [(numbers[batch.numpy()].tolist(), total) for batch, total in plan.batches(chunk, share)]


def test_a_batch_has_an_equal_share_of_each_stream():
    plan = plan_epoch(np.full(20, 10), 1, 10, 0, 0, 4)
    (streams,) = plan.chunks
    assert [stream.batch_frames for stream in streams] == [2, 3, 2, 3]
    owner = np.concatenate([np.full(10, n) for b in range(20) for n in range(4)
                            if b in streams[n].blocks])  # fmt: skip
    for batch, total in list(plan.batches(0, ProcessShare(range(4))))[:-10]:
        assert np.bincount(owner[batch.numpy()]).tolist() == [2, 3, 2, 3] and total == 10


@settings(max_examples=200)
@given(st.lists(st.integers(1, 100), min_size=8, max_size=50), st.integers(1, 8))
def test_streams_differ_by_a_block_at_most(sizes, streams):
    sizes = np.array(sizes)
    assigned = assign_to_streams(np.arange(len(sizes)), sizes, streams)
    frames = [sizes[blocks].sum() for blocks in assigned]
    assert max(frames) - min(frames) <= sizes.max()
    assert sorted(np.concatenate(assigned)) == list(range(len(sizes)))
    assert all(len(blocks) for blocks in assigned)


def test_one_chunk_has_the_same_streams_in_every_epoch():
    plans = [plan_epoch(np.arange(1, 30), 1, 8, 0, epoch, 4) for epoch in range(2)]
    first, second = ([stream.blocks.tolist() for stream in plan.chunks[0]] for plan in plans)
    assert first == second
    assert plans[0].chunks[0][0].seed != plans[1].chunks[0][0].seed


@pytest.mark.parametrize(("processes", "streams"), [(3, 2), (2, 3), (8, 12)])
def test_streams_that_processes_cannot_share_are_refused(processes, streams):
    message = f"'train.streams' is {streams} and there are {processes} proc"
    with pytest.raises(UserError, match=message):
        share_of_process(0, processes, streams)


@pytest.mark.parametrize(("blocks", "chunks", "batch"), [(3, 1, 50), (10, 4, 50), (50, 1, 3)])
def test_more_streams_than_blocks_or_batch_frames_are_refused(blocks, chunks, batch):
    with pytest.raises(UserError, match="'train.streams' is 4: too few data"):
        plan_epoch(np.full(blocks, 10), chunks, batch, 0, 0, 4)


# --- drawn copies -------------------------------------------------------------------------------

COPIES = st.lists(  # blocks of utterances: (original, frames)
    st.lists(st.tuples(st.integers(0, 9), st.integers(1, 9)), min_size=1, max_size=6),
    min_size=4,
    max_size=20,
)


def copies_of(blocks):
    block = np.repeat(np.arange(len(blocks)), [len(utterances) for utterances in blocks])
    originals, lengths = np.array([row for utterances in blocks for row in utterances]).T
    names, numbers = np.unique(originals, return_inverse=True)
    return Copies(lengths, block, numbers, [f"u{name}" for name in names])


@settings(max_examples=100)
@given(
    COPIES,
    st.integers(1, 4),
    st.sampled_from([1, 2, 3]),
    st.integers(4, 30),
    st.integers(0, 3),
    st.sampled_from([0.01, 0.4, 1]),
)
def test_an_epoch_has_one_copy_of_each_utterance_that_is_learnt_whole_and_once(
    blocks, chunks, streams, batch, epoch, share
):
    copies = copies_of(blocks)
    learnt, chosen = range(len(copies.names)), copies.of_share(share, 7)
    if chosen is not None and chosen.learnt is not None:
        learnt, copies = np.flatnonzero(chosen.learnt), chosen
        assert len(learnt) == math.ceil(share * len(copies.names))
    sizes = np.bincount(copies.block, copies.lengths).astype(np.int64)
    try:
        plan = plan_epoch(sizes, chunks, batch, 3, epoch, streams, copies)
    except UserError:
        return  # too few blocks for so many streams
    seen = []
    for number in range(len(plan.chunks)):
        for frames, total in places(plan, sizes, number, share_of_process(0, 1, streams)):
            assert len(frames) == total
            seen += frames
    seen = np.sort(seen)
    utterance = np.repeat(np.arange(len(copies.lengths)), copies.lengths)
    drawn, counts = np.unique(utterance[seen], return_counts=True)
    assert (np.diff(seen) > 0).all() and plan.frames == len(seen)
    assert sorted(copies.original[drawn]) == list(learnt)
    assert counts.tolist() == copies.lengths[drawn].tolist()


THREE_OF_EACH = Copies(np.ones(60, int), np.zeros(60, int), np.repeat(np.arange(20), 3))


def test_a_share_of_utterances_is_chosen_by_id_and_seed_and_has_the_smaller_shares():
    ids = [f"u{n}" for n in range(50)]

    def chosen(share, seed=1, ids=ids):
        copies = Copies(np.ones(50, int), np.zeros(50, int), np.arange(50), ids)
        return {ids[n] for n in np.flatnonzero(copies.of_share(share, seed).learnt)}

    assert [len(chosen(share)) for share in (0.001, 0.1, 0.11, 0.99)] == [1, 5, 6, 50]
    assert chosen(0.1) < chosen(0.3) < chosen(0.9)
    assert chosen(0.3) == chosen(0.3, ids=ids[::-1]) != chosen(0.3, seed=2)


def test_all_frames_are_learnt_unless_there_are_copies_or_a_share():
    whole = Copies(np.ones(3, int), np.zeros(3, int), np.arange(3), ["a", "b", "c"])
    assert whole.of_share(1, 0) is None
    copied = Copies(np.ones(3, int), np.zeros(3, int), np.array([0, 0, 1]), ["a", "b"])
    assert copied.of_share(1, 0) is copied


def test_every_copy_is_drawn_as_often_as_the_others():
    times = sum(THREE_OF_EACH.draw(5, epoch).is_drawn.astype(int) for epoch in range(300))
    # 300 draws of probability 1/3: 100 ± 8.2; five deviations.
    assert times.sum() == 300 * 20 and times.min() > 59 and times.max() < 141


def test_epochs_and_seeds_draw_other_copies():
    def draw(seed, epoch):
        return THREE_OF_EACH.draw(seed, epoch).is_drawn.tobytes()

    assert len({draw(seed, epoch) for seed in range(3) for epoch in range(3)}) == 9
    assert draw(1, 2) == draw(1, 2)
