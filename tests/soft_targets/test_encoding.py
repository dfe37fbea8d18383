"""Encodings: what they keep, how exactly, and that the loss sees what it should."""

from itertools import pairwise

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from soft_stores import ALL, decoded, dense, distributions, encode_in_memory

from acoustic_kd.soft_targets.encoding import Encoding, encode, from_codes, to_codes
from acoustic_kd.soft_targets.manifest import divergence
from acoustic_kd.system.errors import UserError
from acoustic_kd.training.losses import soft_cross_entropy, sparse_soft_cross_entropy

LOG = 2 ** (1 / 32) - 1  # relative error of an 8-bit code


# --- codes --------------------------------------------------------------------------------------


def test_codes_of_16_bits_are_float16():
    p = torch.rand(10_000, generator=torch.Generator().manual_seed(0)) ** 8
    actual = from_codes(to_codes(p, 16))
    assert ((actual - p).abs() <= (p * 2.0**-11).clamp(min=2.0**-25)).all()


def test_codes_of_8_bits_are_logarithms():
    p = 2 ** (-15.9 * torch.rand(100_000, generator=torch.Generator().manual_seed(0)))
    actual = from_codes(to_codes(p, 8))
    assert ((actual / p - 1).abs() <= LOG * (1 + 1e-5)).all()
    edges = torch.tensor([1.0, 2**-0.5, 2 ** (-254 / 16), 2 ** (-254.6 / 16), 1e-30, 0.0])
    assert to_codes(edges, 8).tolist() == [0, 8, 254, 255, 255, 255]
    assert from_codes(to_codes(edges, 8))[3:].tolist() == [0, 0, 0]
    codes = torch.arange(256, dtype=torch.uint8)
    assert torch.equal(to_codes(from_codes(codes), 8), codes)


@pytest.mark.parametrize(
    "wrong",
    [{"name": "topk"}, {"bits": 7}, {"kept_classes": 0}, {"kept_mass": 0.0},
     {"kept_mass": float("nan")}],
)  # fmt: skip
def test_an_encoding_that_no_reader_knows_cannot_be_made(wrong):
    with pytest.raises(ValueError, match=", expected "):
        Encoding(**wrong)


# --- round trips --------------------------------------------------------------------------------


@pytest.mark.parametrize("encoding", [e for e in ALL if e.name != "sampled"], ids=str)
@pytest.mark.parametrize("count", [2, 9, 300, 70_000])
def test_round_trip(encoding, count):
    if count > 1 << 15 and (encoding.name, encoding.bits) == ("dense", 8):
        with pytest.raises(UserError, match="dense soft targets of 70000 classes need 16 bits"):
            encoding.of(count)
        return
    table = distributions(30, count)
    classes, actual = decoded(table, encoding)
    assert actual.dtype == torch.float32 and (classes is None or classes.dtype == torch.int64)
    expected = table if classes is None else table.gather(1, classes)
    present = actual > 0
    error = (actual / expected - 1).abs()
    if encoding.bits == 16:
        bound = (2.0**-11 + 2.0**-25 / expected) * 2.01  # the row is made to sum to 1 at most
    else:
        bound = torch.full_like(error, (1 + LOG) ** 2 - 1 + 1e-5)
        if classes is None:  # here classes may be too small to be stored
            bound += 2.0**-15.9 * count
    assert (error <= bound)[present].all()
    if classes is None:
        torch.testing.assert_close(actual.sum(-1), torch.ones(30))
    else:
        tail, true = 1 - actual.sum(-1), 1 - expected.where(present, 0).sum(-1)
        assert (tail >= -1e-6).all()
        # At 8 bits the tail has a code of its own; at 16 it is what float16 leaves.
        bound = 5e-4 + 1e-6 if encoding.bits == 16 else 0.05 * true + 2.0**-15
        assert ((tail - true).abs() <= bound).all()


@pytest.mark.parametrize("count", [9, 300, 70_000])
def test_entries_are_as_small_as_can_be(count):
    for encoding, expected in (
        (Encoding("top-k", 5), {"classes": 2, "codes": 2}),
        (Encoding("top-k", 5, bits=8), {"classes": 2, "codes": 1, "tails": 1}),
        (Encoding("top-p", 5), {"counts": 1, "classes": 2, "codes": 2}),
        (Encoding("sampled", 255, bits=8), {"counts": 1, "classes": 2, "codes": 1}),
        (Encoding("sampled", 256), {"counts": 2, "classes": 2, "codes": 2}),
        (Encoding("dense"), {"codes": 2}),
    ):
        kinds = encoding.of(count).arrays(count)
        if count > 1 << 16 and "classes" in expected:
            expected["classes"] = 4
        assert {name: kind.itemsize for name, kind in kinds.items()} == expected


def test_uint16_classes_and_counts_use_all_their_bits():
    table = torch.zeros(2, 1 << 16)
    table[0, 65_535] = table[1, 40_000] = 1.0
    for encoding in (Encoding("top-k", 1), Encoding("sampled", 60_000), Encoding("top-p", 3)):
        classes, p = decoded(table, encoding)
        assert classes[:, 0].tolist() == [65_535, 40_000] and p[:, 0].tolist() == [1, 1]


# --- top-p --------------------------------------------------------------------------------------


@settings(max_examples=100)
@given(st.integers(0, 2**32), st.floats(0.01, 1), st.integers(1, 40), st.floats(0.1, 8))
def test_top_p_keeps_the_fewest_classes_that_hold_the_mass(seed, mass, most, scale):
    generator = torch.Generator().manual_seed(seed)
    table = torch.softmax(scale * torch.randn(8, 30, dtype=torch.float64, generator=generator), -1)
    encoding = Encoding("top-p", most, mass).of(30)
    most = min(most, 29)  # the last one has the missing mass
    counts = encode(table, encoding).counts
    sums = table.sort(-1, descending=True).values.cumsum(-1).numpy()
    for row, count in zip(sums, counts.tolist(), strict=True):
        assert 1 <= count <= most
        assert count == most or row[count - 1] >= mass - 1e-12
        assert count == 1 or row[count - 2] < mass + 1e-12


# --- sampled ------------------------------------------------------------------------------------


@pytest.mark.parametrize(("seed", "bits", "draws"), [(0, 16, 20), (1, 8, 255), (2, 16, 1)])
def test_sampled_probabilities_are_unbiased(seed, bits, draws):
    """z-tests of 4 × 9 classes; seeds are fixed, and 1 in 10^5 sets of them would fail."""
    rows = 2000
    table = distributions(4, seed=seed).repeat_interleave(rows, 0)
    classes, p = decoded(table, Encoding("sampled", draws, bits=bits, seed=seed))
    mean = dense(classes, p).double().view(4, rows, 9).mean(1)
    true = table[::rows].double()
    z = (mean - true) / (true * (1 - true) / (rows * draws)).sqrt()
    assert z.abs().max() < 5.05  # 2 · Φ(-5.05) · 36 = 1.6e-5
    assert 0.5 < z.pow(2).mean() < 1.8  # nor too good: draws are independent


def test_sampled_rows_are_counts_of_distinct_classes_that_sum_to_one():
    table = distributions(500, 40)
    encoding = Encoding("sampled", 23)
    encoded = encode(table, encoding.of(40))
    assert encoded.codes.min() >= 1
    rows = torch.repeat_interleave(torch.arange(500), encoded.counts)
    assert len({*zip(rows.tolist(), encoded.classes.tolist(), strict=True)}) == len(rows)
    sums = torch.zeros(500, dtype=torch.int64).scatter_add_(0, rows, encoded.codes)
    assert (sums == 23).all()
    _, p = decoded(table, encoding)
    torch.testing.assert_close(p.sum(-1), torch.ones(500), rtol=0, atol=1e-6)


def test_draws_follow_from_seed_and_key():
    table = distributions(50)

    def draws(seed, *key):
        encoded = encode(table, Encoding("sampled", 8, seed=seed).of(9), *key)
        return (*encoded.classes.tolist(), *encoded.codes.tolist())

    keys = [(0, "shard", 3), (1, "shard", 3), (0, "shard", 4), (0, "other")]
    assert len({draws(*key) for key in keys}) == len({draws(*key) for key in 2 * keys}) == 4


def test_a_class_of_probability_zero_is_never_drawn():
    table = torch.tensor([[0.0, 0.5, 0.0, 0.5, 0.0]]).repeat(5000, 1)
    encoded = encode(table, Encoding("sampled", 50).of(5))
    assert set(encoded.classes.tolist()) == {1, 3}


# --- the loss -----------------------------------------------------------------------------------


def logits_for(table, seed=3):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(table.shape, dtype=torch.float64, generator=generator, requires_grad=True)


@pytest.mark.parametrize(
    "encoding",
    [
        *(Encoding("top-p", 9, 1.0, bits) for bits in (16, 8)),
        *(Encoding("sampled", draws) for draws in (3, 20, 2000)),
    ],
    ids=str,
)
def test_where_nothing_is_dropped_the_loss_is_the_dense_one(encoding):
    table = distributions(40)
    logits = logits_for(table)
    classes, p = decoded(table, encoding)
    p = p.double()
    full = dense(classes, p)
    if encoding.name == "top-p":  # the one class that is left has what is missing
        full[torch.arange(40), table.argmin(-1)] += 1 - full.sum(-1)
    expected = soft_cross_entropy(logits, full, 2.0)
    actual = sparse_soft_cross_entropy(logits, classes, p, 2.0)
    # Probabilities are float32: what they lack of 1 is a tail in float64.
    torch.testing.assert_close(actual, expected, rtol=1e-6, atol=1e-6)
    gradients = [torch.autograd.grad(loss.sum(), logits)[0] for loss in (actual, expected)]
    torch.testing.assert_close(*gradients, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("draws", [3, 7, 23, 100, 1000])
def test_sampled_targets_leave_no_tail_in_float32(draws):
    """Even where the model finds the classes that were not drawn all but impossible."""
    table = distributions(200, 30)
    classes, p = decoded(table, Encoding("sampled", draws))
    logits = torch.full((200, 30), -1e6).scatter(1, classes, 0.0)
    actual = sparse_soft_cross_entropy(logits, classes, p, 1.0)
    log_q = logits.log_softmax(-1).gather(1, classes)
    torch.testing.assert_close(actual, -(p * log_q).sum(-1))


@pytest.mark.parametrize("encoding", [e for e in ALL if e.varies], ids=str)
def test_filling_up_changes_neither_the_loss_nor_the_tail(encoding):
    table = distributions(60, seed=4)
    logits = logits_for(table)
    soft = encode_in_memory(table, encoding, 2.0)
    classes, p = soft.batch(torch.arange(60))
    together = sparse_soft_cross_entropy(logits, classes, p.double(), 2.0)
    assert len(set(soft.counts.tolist())) > 1
    for row, count in enumerate(soft.counts.tolist()):
        assert (p[row, :count] > 0).all() and (p[row, count:] == 0).all()
        assert (classes[row, count:] == classes[row, 0]).all()
        alone = sparse_soft_cross_entropy(
            logits[[row]], classes[[row], :count], p[[row], :count].double(), 2.0
        )  # fmt: skip
        torch.testing.assert_close(alone[0], together[row])


# --- what is lost -------------------------------------------------------------------------------


@pytest.mark.parametrize("bits", [16, 8])
def test_divergence_falls_with_k(bits):
    table = distributions(100, 200, seed=6)
    means = []
    for k in (1, 2, 4, 8, 16, 32, 64, 128, 200):
        soft = encode_in_memory(table, Encoding("top-k", k, bits=bits), 2.0)
        means.append(float(divergence(table, soft, torch.arange(100)).mean()))
    assert all(a > b for a, b in pairwise(means))
    assert means[0] > 0.3 and 0 <= means[-1] < (1e-6 if bits == 16 else 2e-3)


def test_divergence_against_its_definition():
    table, rows = distributions(7), torch.arange(7)
    soft = encode_in_memory(table, Encoding("top-k", 3), 2.0)
    classes, p = soft.batch(rows)
    actual = divergence(table, soft, rows)
    for row in range(7):
        q = np.full(9, (1 - p[row].double().sum().item()) / 6)
        q[classes[row]] = p[row]
        t = table[row].double().numpy()
        assert float(actual[row]) == pytest.approx((t * np.log(t / q)).sum(), abs=1e-6)


def test_the_error_of_8_bits_hardly_shows_where_one_class_has_most_of_the_mass():
    """The row is made to sum to 1 with a code for the tail: 4 % steps near 1 do not matter."""
    table = torch.tensor([[0.97, 0.02, 0.007, 0.002, 0.001]])
    _, p = decoded(table, Encoding("top-k", 3, bits=8))
    assert abs(float(p[0, 0]) - 0.97) < 0.97 * LOG * 0.07
    assert float(1 - p.sum()) == pytest.approx(0.003, rel=0.05)
    assert float((p - table[:, :3]).norm()) < 0.002


@pytest.mark.parametrize("kept", [9, 50])
def test_top_k_of_all_classes_is_dense(kept):
    assert Encoding("top-k", kept).of(9) == Encoding("dense").of(9)


def test_names_say_what_an_encoding_is():
    assert [str(e) for e in ALL[::2]] == [
        "top-k, k = 4, 16 bits",
        "top-p, p = 0.9 of at most 4 classes, 16 bits",
        "sampled, 4 draws, 16 bits",
        "dense, 16 bits",
    ]


def test_more_draws_than_all_classes_are_worth_are_refused():
    assert Encoding("sampled", 12_000).of(1200).kept_classes == 12_000
    with pytest.raises(
        UserError, match="kept_classes' is 65535; it must be at most 5000 for draws"
    ):
        Encoding("sampled", 65535).of(120)
