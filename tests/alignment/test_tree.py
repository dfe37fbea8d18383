"""The phonetic decision tree and the senone inventory it gives."""

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from acoustic_kd.alignment.segmentation import Segmentation
from acoustic_kd.alignment.senones import (
    Leaf,
    SenoneInventory,
    conversion,
    monophones,
    read_inventory,
)
from acoustic_kd.alignment.tree import Statistics, build_tree, cepstra, log_likelihood
from acoustic_kd.system.errors import UserError

PHONES = ("SIL", "AA", "B", "IY", "P", "T")
SHIFTED = (("AA", "AA"), ("IY", "AA"))


def speech(seed=0, utterances=60, dimension=40):
    """Utterances whose phone `AA` sounds different after a vowel: the tree can find that out."""
    rng = np.random.default_rng(seed)
    centres = rng.normal(0, 2, (len(PHONES), 3, dimension))
    centres[3] = centres[1] + rng.normal(0, 0.5, (3, dimension))  # the vowels are alike
    for number in range(utterances):
        names = ["SIL", *rng.choice(PHONES[1:], 12), "SIL"]
        durations = rng.integers(1, 6, (len(names), 3))
        means = centres[[PHONES.index(name) for name in names]]
        after_vowel = [n for n, pair in enumerate(pairwise(names), 1) if pair in SHIFTED]
        means[after_vowel] += 3.0
        frames = rng.normal(np.repeat(means.reshape(-1, dimension), durations.ravel(), axis=0))
        yield Segmentation(f"u{number}", tuple(names), durations), frames.astype(np.float32)


@pytest.fixture(scope="module")
def statistics():
    gathered = Statistics(PHONES)
    for segmentation, features in speech():
        gathered.add(segmentation, features)
    gathered.merge()
    return gathered


def test_statistics_are_sums_over_all_frames(statistics):
    frames = np.concatenate([cepstra(features) for _, features in speech()])
    assert statistics.moments[:, 0].sum() == len(frames)
    assert len(np.unique(statistics.keys)) == len(statistics.keys)
    sums = np.concatenate([frames, frames**2], axis=1).sum(0)
    np.testing.assert_allclose(statistics.moments[:, 1:].sum(0), sums, rtol=1e-9)


def test_merging_in_parts_changes_nothing(statistics):
    parts = Statistics(PHONES)
    for segmentation, features in speech():
        parts.add(segmentation, features)
        parts.merge()
    np.testing.assert_array_equal(parts.keys, statistics.keys)
    np.testing.assert_allclose(parts.moments, statistics.moments, rtol=1e-9)


def test_log_likelihood_is_that_of_the_fitted_gaussian():
    rng = np.random.default_rng(1)
    frames = rng.normal(3, 2, (500, 4))
    moments = np.concatenate([[500], frames.sum(0), (frames**2).sum(0)])
    mean, variance = frames.mean(0), frames.var(0)
    density = -0.5 * (np.log(2 * np.pi * variance) + (frames - mean) ** 2 / variance).sum()
    constant = -0.5 * 500 * 4 * (np.log(2 * np.pi) + 1)
    assert log_likelihood(moments) == pytest.approx(density - constant, rel=1e-9)


@pytest.mark.parametrize("leaves", [18, 19, 30, 60])
def test_every_triphone_has_its_senone(statistics, leaves):
    inventory = build_tree(statistics, leaves, min_frames=20)
    assert inventory.num_senones <= leaves
    assert inventory.table.shape == (6, 6, 6, 3)
    assert set(np.unique(inventory.table)) == set(range(inventory.num_senones))
    # Silence does not depend on context, and no senone serves two states or two phones.
    assert len(np.unique(inventory.table[:, 0])) == 3
    owners = {}
    for (_, centre, _, state), senone in np.ndenumerate(inventory.table):
        assert owners.setdefault(senone, (centre, state)) == (centre, state)


def test_the_first_split_is_the_planted_one(statistics):
    inventory = build_tree(statistics, 19, min_frames=20)
    halves = [leaf for leaf in inventory.leaves if leaf.phone == "AA"]
    split = {leaf.state for leaf in halves if len(leaf.left) < len(PHONES)}
    assert len(halves) == 4 and len(split) == 1
    assert {"AA", "IY"} in [set(leaf.left) for leaf in halves if leaf.state in split]


def test_leaves_have_enough_frames_and_the_tree_is_deterministic(statistics):
    inventory = build_tree(statistics, 500, min_frames=50)
    count = len(PHONES)
    keys, states = np.divmod(statistics.keys, 3)
    left, rest = np.divmod(keys, count * count)
    centre, right = np.divmod(rest, count)
    senones = inventory.table[left, centre, right, states]
    frames = np.bincount(senones, statistics.moments[:, 0], inventory.num_senones)
    assert frames.min() >= 50
    assert build_tree(statistics, 500, min_frames=50) == inventory


def test_too_few_leaves_are_refused(statistics):
    with pytest.raises(UserError, match=r"senones.leaves is 17.*at least 18"):
        build_tree(statistics, 17, 10)


@settings(max_examples=30)
@given(phones=st.lists(st.sampled_from(PHONES), min_size=1, max_size=10), seed=st.integers(0, 1000))
def test_targets_follow_the_segmentation(phones, seed):
    inventory = monophones(PHONES)
    durations = np.random.default_rng(seed).integers(0, 4, (len(phones), 3))
    targets = inventory.targets(Segmentation("u", tuple(phones), durations))
    states = [3 * PHONES.index(phone) + state for phone in phones for state in range(3)]
    assert targets.tolist() == np.repeat(states, durations.ravel()).tolist()


def test_contexts_beyond_the_ends_are_silence():
    inventory = SenoneInventory(PHONES, ())
    assert inventory.contexts(("B", "AA")).tolist() == [[0, 2, 1], [2, 1, 0]]
    with pytest.raises(UserError, match="'ZZ' is not in the senone inventory"):
        inventory.contexts(("ZZ",))


def test_inventory_round_trip(tmp_path, statistics):
    inventory = build_tree(statistics, 40, 20)
    inventory.write(tmp_path / "inventory.json")
    again = read_inventory(tmp_path / "inventory.json")
    assert again == inventory and again.classes == inventory.classes
    other = build_tree(statistics, 39, 20)
    assert other.classes.inventory != inventory.classes.inventory


def test_an_incomplete_inventory_is_refused(tmp_path):
    SenoneInventory(PHONES, (Leaf("SIL", 0, PHONES, PHONES),)).write(tmp_path / "i.json")
    with pytest.raises(UserError, match="do not cover each context once"):
        _ = read_inventory(tmp_path / "i.json").table
    (tmp_path / "j.json").write_text('{"format": "other"}')
    with pytest.raises(UserError, match="not a senone inventory"):
        read_inventory(tmp_path / "j.json")


def test_entries_that_a_leaf_does_not_need_are_passed_over(tmp_path):
    path = tmp_path / "inventory.json"
    monophones(PHONES).write(path)
    path.write_text(path.read_text().replace('"state": 1,', '"state": 1, "note": "mine",', 1))
    assert '"mine"' in path.read_text() and read_inventory(path) == monophones(PHONES)


def test_further_trees_ask_other_questions_with_the_same_limits(statistics):
    first, *others = (build_tree(statistics, 60, 20, tree) for tree in (1, 2, 3))
    assert first == build_tree(statistics, 60, 20)
    assert first not in others and others[0] != others[1]
    assert all(tree.num_senones <= 60 for tree in others)
    assert build_tree(statistics, 60, 20, 2) == others[0]


def test_predictions_go_to_another_tree_through_the_frames_of_shared_contexts(statistics):
    source, target = build_tree(statistics, 40, 20, 2), build_tree(statistics, 60, 20)
    segmentations = [segmentation for segmentation, _ in speech()]
    matrix = conversion(source, target, segmentations)
    assert matrix.shape == (source.num_senones, target.num_senones)
    np.testing.assert_allclose(matrix.sum(1), 1, rtol=1e-5)
    own, of_target = (
        np.concatenate([tree.targets(s) for s in segmentations]) for tree in (source, target)
    )
    for senone in range(source.num_senones):
        counts = np.bincount(of_target[own == senone], minlength=target.num_senones)
        np.testing.assert_allclose(matrix[senone], counts / counts.sum(), atol=0.01)
        shared = np.unique(target.table[source.table == senone])
        assert set(np.flatnonzero(matrix[senone])) == set(shared)
    np.testing.assert_array_equal(
        conversion(target, target, segmentations), np.eye(len(target.leaves))
    )
