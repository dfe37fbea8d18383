"""Generalist and specialists: equation 5, the clusters, the frames and the first weights."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tiny_training import MODEL, trainer
from torch._subclasses.fake_tensor import DataDependentOutputException, FakeTensorMode

from acoustic_kd.features.frame_sequence import Classes
from acoustic_kd.system.errors import UserError
from acoustic_kd.training.batches import Balanced, Copies, plan_epoch, share_of_process
from acoustic_kd.training.chunks import subset_labels
from acoustic_kd.training.model import load_model
from acoustic_kd.training.networks import build_network
from acoustic_kd.training.specialists import Subset, cluster, combine, covariance, start_from

FLOAT = torch.float64


def distributions(rows, columns, seed):
    generator = torch.Generator().manual_seed(seed)
    return torch.softmax(3 * torch.randn(rows, columns, generator=generator, dtype=FLOAT), -1)


def sum_of_divergences(generalist, opinions, q):
    """Equation 5 of each frame, by its definition."""
    total = (generalist * (generalist / q).log()).sum(-1)
    for rows, classes, p in opinions:
        own = q[rows][:, classes]
        own = torch.cat([own, 1 - own.sum(-1, keepdim=True)], -1)
        total = total.index_add(0, rows, (p * (p / own).log()).sum(-1))
    return total


def by_gradient_descent(generalist, opinions):
    """The search of the paper's section 5.4: q is the softmax of logits z."""
    z = generalist.log().clone().requires_grad_()
    optimizer = torch.optim.LBFGS(
        [z], max_iter=2000, tolerance_grad=1e-12, tolerance_change=0, line_search_fn="strong_wolfe"
    )

    def loss():
        optimizer.zero_grad()
        value = sum_of_divergences(generalist, opinions, z.softmax(-1)).sum()
        value.backward()
        return value

    optimizer.step(loss)
    return z.softmax(-1).detach()


def opinions_of(subsets, frames, seed):
    """Specialists for some of the frames each."""
    generator = torch.Generator().manual_seed(seed)
    found = []
    for number, classes in enumerate(subsets):
        rows = torch.rand(frames, generator=generator).lt(0.7).nonzero()[:, 0]
        p = distributions(len(rows), len(classes) + 1, seed + number)
        found.append((rows, torch.tensor(classes), p))
    return found


SUBSETS = st.lists(
    st.lists(st.integers(0, 6), min_size=1, max_size=6, unique=True), min_size=0, max_size=4
)


@settings(max_examples=25, deadline=None)
@given(SUBSETS, st.integers(0, 99))
def test_the_combination_is_what_gradient_descent_finds(subsets, seed):
    generalist, opinions = distributions(5, 7, seed), opinions_of(subsets, 5, seed)
    q = combine(generalist, opinions)
    torch.testing.assert_close(q.sum(-1), torch.ones(5, dtype=FLOAT))
    expected = by_gradient_descent(generalist, opinions)
    best = sum_of_divergences(generalist, opinions, expected)
    assert (sum_of_divergences(generalist, opinions, q) <= best + 1e-6).all()
    torch.testing.assert_close(q, expected, atol=2e-3, rtol=0)


def test_without_specialists_the_generalist_stays():
    generalist = distributions(5, 7, 0)
    assert torch.equal(combine(generalist, []), generalist)


def test_with_one_specialist_the_combination_is_the_mean_on_its_classes():
    generalist, p = distributions(1, 5, 0), distributions(1, 3, 1)
    q = combine(generalist, [(torch.tensor([0]), torch.tensor([1, 3]), p)])
    torch.testing.assert_close(q[0, [1, 3]], (generalist[0, [1, 3]] + p[0, :2]) / 2)
    others = generalist[0, [0, 2, 4]]
    mass = (others.sum() + p[0, 2]) / 2
    torch.testing.assert_close(q[0, [0, 2, 4]], mass * others / others.sum())


def test_the_covariance_is_that_of_all_frames():
    table = distributions(50, 4, 0)
    expected = np.cov(table.numpy().T, bias=True)
    np.testing.assert_allclose(covariance(table.float().split(7)).numpy(), expected, atol=1e-6)


@pytest.mark.parametrize("seed", range(5))
def test_classes_that_are_predicted_together_are_a_cluster(seed):
    generator = torch.Generator().manual_seed(seed)
    groups = [[0, 5, 6], [1, 3, 8], [2, 4, 7]]
    rows = []
    for frame in range(300):  # the mass of a frame is on one group, divided at random
        row = torch.full((9,), 0.01)
        row[groups[frame % 3]] += torch.rand(3, generator=generator)
        rows.append(row / row.sum())
    found = cluster(covariance([torch.stack(rows)]).numpy(), 3, 3, seed)
    assert all(subset in groups for subset in found)


def test_a_specialist_starts_with_the_generalists_weights(tmp_path):
    trainer(tmp_path).run()
    generalist = load_model(tmp_path)
    classes = [2, 0, 4]
    dimension, count = (generalist.description[key] for key in ("dimension", "classes"))
    network = build_network(MODEL, dimension, len(classes) + 1).eval()
    start_from(network, tmp_path, classes)
    windows = torch.randn(6, MODEL.left_frames + 1 + MODEL.right_frames, dimension)
    with torch.no_grad():
        logits, expected = network(windows), generalist(windows)
    torch.testing.assert_close(logits[:, :-1], expected[:, classes])
    others = [n for n in range(count) if n not in classes]
    dustbin = expected[:, others].mean(-1) + math.log(len(others))
    torch.testing.assert_close(logits[:, -1], dustbin)


def test_half_of_the_frames_of_an_epoch_are_of_the_specialists_classes():
    random = np.random.default_rng(0)
    lengths = random.integers(1, 9, 40)
    block, original = np.arange(40) // 4, np.arange(40) // 2
    copies = Copies(lengths, block, original, [f"u{n}" for n in range(20)])
    special = random.random(lengths.sum()) < 0.2
    sizes = np.bincount(block, lengths).astype(np.int64)
    sampler = Balanced(copies, special, np.cumsum(sizes))
    utterance, others = np.repeat(np.arange(40), lengths), set()
    for epoch in range(30):
        drawn = copies.draw(3, epoch).is_drawn[utterance]
        plan = plan_epoch(sizes, 2, 16, 3, epoch, 2, sampler)
        assert plan.frames == 2 * (special & drawn).sum()
        seen, share = np.zeros(len(special), bool), share_of_process(0, 1, 2)
        for chunk in range(2):
            blocks = plan.blocks(chunk, share)
            places = np.flatnonzero(np.isin(block[utterance], blocks))
            for frames, _ in plan.batches(chunk, share):
                seen[places[frames.numpy()]] = True
        assert (seen & special).sum() == (drawn & special).sum() == (seen & ~special).sum()
        assert not (seen & ~drawn).any()
        others |= set(np.flatnonzero(seen & ~special))
    assert len(others) > 0.9 * (~special).sum()  # other ones in each epoch


def test_the_dustbin_is_the_last_class():
    labels = subset_labels(Classes(6, "x"), [4, 1])
    assert labels.targets("u", np.arange(6)).tolist() == [2, 1, 2, 2, 0, 2]
    assert labels.classes.count == 3 and labels.classes.inventory != "x"


@given(st.floats(0.01, 0.99), st.floats(0.01, 0.99))
def test_the_shift_of_the_dustbin_undoes_the_sampling(share, posterior):
    """Of a frame with the true posterior of the subset, after training on half of each kind; a
    subset with more than half of all frames is trained on all.
    """
    own = max(0.5, share)
    odds = posterior / (1 - posterior) * (own / share) / ((1 - own) / (1 - share))
    shifted = math.log(odds) - Subset([0], share).dustbin_shift
    assert 1 / (1 + math.exp(-shifted)) == pytest.approx(posterior)


def test_a_class_that_the_generalist_excludes_may_get_mass_of_a_dustbin():
    generalist = torch.tensor([[1.0, 0, 0, 0]])
    q = combine(generalist, [(torch.tensor([0]), torch.tensor([0]), torch.tensor([[0.4, 0.6]]))])
    torch.testing.assert_close(q, torch.tensor([[0.7, 0.1, 0.1, 0.1]]))


def test_everything_is_on_the_device_of_the_generalist():
    """With tensors that have a device and no content; it ends where a number is needed."""
    with FakeTensorMode():
        blocks = [torch.zeros(4, 6, device="cuda") for _ in range(2)]
        assert covariance(blocks).shape == (6, 6)
        rows, classes = torch.arange(3, device="cuda"), torch.arange(2, device="cuda")
        with pytest.raises(DataDependentOutputException):
            combine(blocks[0], [(rows, classes, torch.ones(3, 3, device="cuda"))])


def test_an_epoch_without_a_frame_of_the_classes_is_refused():
    sampler = Balanced(None, np.zeros(9, bool), np.array([9]))
    with pytest.raises(UserError, match="no frame of its classes"):
        sampler.draw(0, 0)
