"""Stores of frames: round trips, and shards that do not belong together."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from acoustic_kd.features.frame_sequence import NO_TARGET, Classes, FrameSequence
from acoustic_kd.features.frame_shard import shard_paths
from acoustic_kd.features.frames import count_frames, read_frames, read_utterances, write_store
from acoustic_kd.system.errors import UserError
from acoustic_kd.training.windows import Splicer

CLASSES = Classes(7, "abc")


def utterances(lengths, seed=0, labelled=True, dimension=4, name="ü"):
    rng = np.random.default_rng(seed)
    for number, length in enumerate(lengths):
        features = rng.normal(size=(length, dimension)).astype(np.float32)
        targets = rng.integers(0, 7, length) if labelled else None
        yield FrameSequence(f"{name}{number}", features, targets)


@settings(max_examples=25)
@given(lengths=st.lists(st.integers(1, 30), min_size=1, max_size=12), size=st.integers(1, 60))
def test_round_trip(tmp_path_factory, lengths, size):
    folder = tmp_path_factory.mktemp("store")
    total = write_store(folder, utterances(lengths), CLASSES, size, "float32")
    frames = read_frames(folder)
    original = list(utterances(lengths))
    assert total == sum(lengths) == len(frames)
    assert frames.ids == [u.id for u in original] and frames.classes == CLASSES
    for (_, span), utterance in zip(frames.spans(), original, strict=True):
        np.testing.assert_array_equal(frames.features[span], utterance.features)
        np.testing.assert_array_equal(frames.targets[span], utterance.targets)
    streamed = [u for path in sorted(folder.iterdir()) for u in read_utterances(path)]
    assert [u.id for u in streamed] == frames.ids


def test_stores_with_and_without_targets_are_read_together(tmp_path):
    labelled, plain = tmp_path / "labelled", tmp_path / "plain"
    write_store(labelled, utterances([3, 4]), CLASSES, 3)
    write_store(plain, utterances([5, 2, 1], 1, labelled=False, name="v"), CLASSES, 6)
    paths = [*shard_paths(labelled), *shard_paths(plain)]
    for order in (paths, paths[::-1]):
        frames = read_frames(order)
        parts = [read_frames([path]) for path in order]
        assert torch.equal(frames.features, torch.cat([part.features for part in parts]))
        targets = [torch.full((len(p),), NO_TARGET) if p.targets is None else p.targets
                   for p in parts]  # fmt: skip
        assert torch.equal(frames.targets, torch.cat(targets)) and not frames.transcribed
        assert frames.offsets[-1] == len(frames) == count_frames(order) == 15
    assert read_frames(labelled).transcribed
    assert read_frames(plain).targets is None and not read_frames(plain).transcribed


def add_shard(classes=CLASSES, labelled=True):
    """Put another shard into a store."""

    def spoil(folder):
        write_store(folder / "other", utterances([5], labelled=labelled), classes, 100)
        (folder / "other" / "shard-00000.h5").rename(folder / "shard-00009.h5")

    return spoil


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda folder: [path.unlink() for path in folder.iterdir()], "no shards"),
        (add_shard(labelled=False), "some shards have targets and some have none"),
        (add_shard(Classes(8, "xyz")), r"xyz \(8 classes\) differs from abc \(7\)"),
    ],
)
def test_refusals(tmp_path, spoil, message):
    write_store(tmp_path, utterances([3, 4]), CLASSES, 3)
    spoil(tmp_path)
    with pytest.raises(UserError, match=message):
        read_frames(tmp_path)


@settings(max_examples=40)
@given(
    lengths=st.lists(st.integers(1, 9), min_size=1, max_size=5),
    left=st.integers(0, 6),
    right=st.integers(0, 6),
)
def test_windows_repeat_the_edges_of_their_utterance(lengths, left, right):
    total, dimension = sum(lengths), 3
    features = torch.arange(total * dimension, dtype=torch.float32).view(total, dimension)
    offsets = torch.from_numpy(np.concatenate([[0], np.cumsum(lengths)]))
    windows = Splicer(features, offsets, left, right)(torch.arange(total))
    expected = []
    for begin, end in zip(offsets[:-1].tolist(), offsets[1:].tolist(), strict=True):
        padded = np.pad(features[begin:end].numpy(), ((left, right), (0, 0)), mode="edge")
        expected += [padded[t : t + left + 1 + right] for t in range(end - begin)]
    np.testing.assert_array_equal(windows.numpy(), np.array(expected))


def test_some_utterances_are_selected_with_their_frames(tmp_path):
    original = list(utterances([3, 1, 4, 2]))
    write_store(tmp_path, original, Classes(7, "h"), 100, "float32")
    frames = read_frames(tmp_path).select(np.array([True, False, False, True]))
    assert frames.ids == [original[0].id, original[3].id]
    assert frames.offsets.tolist() == [0, 3, 5]
    expected = np.concatenate([original[0].features, original[3].features])
    assert np.array_equal(frames.features.numpy(), expected)
    assert frames.targets.tolist() == [*original[0].targets, *original[3].targets]
