"""Predictions as users have them: several utterances at once, or the most probable classes only."""

import re
import sys

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from soft_stores import dense, distributions

import acoustic_kd as akd
from acoustic_kd.soft_targets import predictions as blocks
from acoustic_kd.soft_targets.encoding import SparseTargets, encode
from acoustic_kd.soft_targets.manifest import read_entry
from acoustic_kd.soft_targets.targets import as_soft_targets

CLASSES, TOP = akd.Classes(9, "inventory-a"), akd.Encoding(bits=8)
LENGTHS = {"a": 3, "b": 4, "c": 1, "d": 2}


def write(folder, predictions, lengths=LENGTHS, encoding=TOP, **options):
    return akd.write_soft_targets(
        folder, lengths, predictions, CLASSES, 1.0, ["m"], encoding, **options
    )


# --- several utterances -------------------------------------------------------------------------


@pytest.mark.parametrize("parts", [[10], [3, 7], [7, 1, 2], [8, 2], [3, 4, 1, 2]])
@pytest.mark.parametrize("sparse", [False, True])
def test_a_prediction_may_be_of_several_whole_utterances(tmp_path, parts, sparse, monkeypatch):
    table = distributions(10)
    top = table.topk(9, -1) if not sparse else table.topk(5, -1)
    given = table.split(parts)
    if sparse:
        pairs = zip(top.indices.split(parts), top.values.split(parts), strict=True)
        given = [SparseTargets(*pair) for pair in pairs]
    write(tmp_path / "parts", given, shard_frames=4)
    whole = SparseTargets(top.indices, top.values) if sparse else table
    write(tmp_path / "whole", [whole])
    one, two = (akd.read_soft_targets(tmp_path / name) for name in ("parts", "whole"))
    assert list(one.keys) == list(two.keys) == list("abcd")
    for key in LENGTHS:
        for actual, expected in zip(one[key], two[key], strict=True):
            assert torch.equal(actual, expected)


@pytest.mark.parametrize(
    ("parts", "message"),
    [
        ([2, 8], "for utterance 'a' is [2, 9], not 3 frames of 9 classes, nor those of several"),
        ([3, 6, 1], "for utterance 'b' is [6, 9], not 4 frames of 9 classes"),
        ([10, 0], "more predictions than the 4 lengths"),
        ([3, 0, 7], "for utterance 'b' is [0, 9], not 4 frames"),
    ],
)
def test_parts_of_utterances_are_refused(tmp_path, parts, message):
    with pytest.raises(akd.UserError, match=re.escape(message)):
        write(tmp_path, distributions(10).split(parts))
    assert list(tmp_path.iterdir()) == []


def test_time_grows_with_the_number_of_utterances_not_with_its_square(tmp_path):
    """Counted in calls of Python functions, which do not depend on the machine."""

    def calls(number):
        count = 0

        def counting(frame, event, argument):
            nonlocal count
            count += event == "call"

        lengths = {str(n): 1 for n in range(number)}
        given = distributions(number).split(1)
        sys.setprofile(counting)
        try:
            write(tmp_path / str(number), given, lengths)
        finally:
            sys.setprofile(None)
        return count

    calls(10)  # imports, first uses
    few, some, many = calls(100), calls(600), calls(1100)
    assert many - some < 1.2 * (some - few)


def test_predictions_may_come_with_their_gradient_and_in_one_shard_more_than_a_block(tmp_path):
    table = distributions(5000).requires_grad_()
    lengths = {"long": 4998, "b": 1, "c": 1}
    write(tmp_path, [table[:4999], table[4999:]], lengths, akd.Encoding("dense"))
    soft = akd.read_soft_targets(tmp_path)
    torch.testing.assert_close(soft[["c", "long"]][1:], table[:4998].detach(), atol=1e-3, rtol=0)
    with pytest.raises(akd.UserError, match="there are no predictions to store"):
        write(tmp_path / "empty", [], {})


# --- the most probable classes ------------------------------------------------------------------


def top_of(table, k):
    top = table.topk(k, -1)
    shuffled = torch.randperm(k)
    return SparseTargets(top.indices[:, shuffled], top.values[:, shuffled])


@pytest.mark.parametrize("bits", [8, 16])
@pytest.mark.parametrize(("given", "kept"), [(4, 4), (6, 4), (3, 4), (3, 20), (9, 20)])
def test_they_are_stored_as_the_top_k_of_all_would_be(tmp_path, given, kept, bits):
    table = distributions(10)
    write(tmp_path, [top_of(table, given)], encoding=akd.Encoding(kept_classes=kept, bits=bits))
    soft = akd.read_soft_targets(tmp_path)
    stored = min(kept, 8)  # with all 9 there would be no mass of others
    assert str(soft.encoding) == f"top-k, k = {stored}, {bits} bits"
    classes, p = soft[:]
    known = min(given, stored)
    top = table.topk(known, -1)
    assert torch.equal(classes[:, :known], top.indices)
    assert bool((classes[:, known:] == classes[:, :1]).all()) and not p[:, known:].any()
    error = {"rtol": 0.05, "atol": 1e-3} if bits == 8 else {"rtol": 1e-3, "atol": 1e-6}
    torch.testing.assert_close(p[:, :known], top.values, **error)
    measured = read_entry(tmp_path / "shard-00000.h5").measured
    expected = pytest.approx(top.values.sum(-1).mean().item(), 1e-4)
    assert measured == {
        "kept_mass": expected, "entropy": None, "divergence": None, "divergence_frames": 0
    }  # fmt: skip
    rows, problems = akd.inspect(tmp_path, verify=True)[1:]
    assert problems == [] and dict(rows)["entropy"] == dict(rows)["KL to dense"] == "-"


@settings(max_examples=30, deadline=None)
@given(
    seed=st.integers(0, 1000), given=st.integers(1, 8), kept=st.integers(1, 8),
    bits=st.sampled_from([8, 16]),
)  # fmt: skip
def test_the_loss_of_sparse_input_is_that_of_the_same_dense_predictions(seed, given, kept, bits):
    """If the encoding keeps no more classes than are given."""
    table = distributions(5, seed=seed)
    kept = min(given, kept)
    encoding, loss = akd.Encoding("top-k", kept, 1.0, bits), akd.DistillationLoss(1.0)
    logits = torch.randn(5, 9)
    values = [
        loss(logits, SparseTargets(*as_soft_targets(encode(p, encoding), encoding, 1.0).batch(
            torch.arange(5))))
        for p in (table, top_of(table, given))
    ]  # fmt: skip
    torch.testing.assert_close(*values, rtol=2e-3 if bits == 16 else 0.03, atol=1e-4)


def test_logprobs_of_a_server(tmp_path):
    """Its own order, a class twice as filler of probability 0, other numbers of classes later."""
    classes = torch.tensor([[7, 2, 4], [3, 8, 8], [0, 1, 2]], dtype=torch.int32)
    logprobs = torch.tensor([[-2.0, -0.5, -3.0], [-0.1, -9999.0, -torch.inf], [-1.0, -2.0, -3.0]])
    first = SparseTargets.from_logprobs(classes, logprobs)
    later = SparseTargets.from_logprobs(torch.tensor([[5]] * 7), torch.zeros(7, 1))
    write(tmp_path, [first, later], encoding=akd.Encoding(kept_classes=4))
    soft = akd.read_soft_targets(tmp_path)
    table = dense(*soft[:])
    expected = torch.zeros(10, 9)
    expected[:3].scatter_add_(1, classes.long(), logprobs.exp())
    expected[3:, 5] = 1
    torch.testing.assert_close(table, expected, atol=1e-3, rtol=0)
    assert soft[0].classes.tolist() == [2, 7, 4, 2]
    assert isinstance(first.to("meta"), SparseTargets) and first.to("meta").classes.is_meta


P = torch.tensor([[0.5, 0.25]]).repeat(10, 1)
C = torch.tensor([[4, 2]]).repeat(10, 1)


def changed(tensor, value, column=0):
    tensor = tensor.clone()
    tensor[4, column] = value
    return tensor


@pytest.mark.parametrize(
    ("classes", "p", "message"),
    [
        (changed(C, 2), P, "frame 4 (utterance 'b') has class 2 twice"),
        (changed(C, 9), P, "frame 4 (utterance 'b') has class 9, but there are 9 classes"),
        (changed(C, -1), P, "frame 4 (utterance 'b') has class -1, but there are 9 classes"),
        (C, changed(P, 0.9), "frame 4 (utterance 'b') sums to 1.15, expected at most 1"),
        (C, changed(P, torch.nan), "frame 4 (utterance 'b') sums to nan, expected at most 1"),
        (C, changed(P, -0.1), "(utterance 'b') sums to 0.15, expected at most 1, of probabilities"),
        (C, P.log(), "frame 0 (utterance 'a') sums to -2.07944, expected at most 1"),
        (C, torch.zeros(10, 2), "frame 0 (utterance 'a') sums to 0, expected at most 1"),
        (C, P[:, :1], "for utterance 'a' is [10, 2] and [10, 1], not 3 frames of k classes"),
        (C[:, :0], P[:, :0], "for utterance 'a' is [10, 0] and [10, 0], not 3 frames of k classes"),
        (C[0], P[0], "for utterance 'a' is [2] and [2], not 3 frames"),
        (C[0, 0], P[0, 0], "for utterance 'a' is [] and [], not 3 frames of k classes"),
        (C.float(), P, "for utterance 'a' is torch.float32 and torch.float32, expected"),
    ],
)
def test_what_is_no_soft_target_is_refused(tmp_path, classes, p, message):
    with pytest.raises(akd.UserError, match=re.escape(message)):
        write(tmp_path, [SparseTargets(classes, p)])
    assert list(tmp_path.iterdir()) == []


def test_other_encodings_and_a_mixture_are_refused(tmp_path):
    with pytest.raises(akd.UserError, match="sparse predictions of 9 classes are stored as top-k"):
        write(tmp_path, [SparseTargets(C, P)], encoding=akd.Encoding("dense"))
    mixed = [distributions(3), SparseTargets(C[3:], P[3:])]
    with pytest.raises(akd.UserError, match="'b' is not sparse or dense like the others"):
        write(tmp_path, mixed)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("sizes", [[1] * 9, [4, 4, 1], [9], [3, 6], [8, 1]])
def test_blocks_are_of_one_size_but_the_last(sizes, monkeypatch):
    monkeypatch.setattr(blocks, "BLOCK_FRAMES", 4)
    table = torch.arange(9)[:, None]
    found = list(blocks.in_blocks(table.split(sizes)))
    assert [len(block) for block in found] == [4, 4, 1] and torch.equal(torch.cat(found), table)
