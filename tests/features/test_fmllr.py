"""Constrained MLLR: its likelihood, its Gaussians, its files."""

import json

import numpy as np
import pytest
import torch
from scipy.fft import dct

from acoustic_kd.features.fmllr import (
    Labelled,
    SpeakerSpace,
    cosine_basis,
    read_speaker_space,
    read_transforms,
    train_speaker_space,
    write_transforms,
)
from acoustic_kd.system.errors import UserError

CLASSES, CEPSTRA, DIMENSION = 30, 4, 9


@pytest.fixture
def rng():
    return np.random.default_rng(1)


@pytest.fixture
def space(rng):
    shape = CLASSES, CEPSTRA
    return SpeakerSpace(2 * rng.normal(size=shape), rng.uniform(0.2, 1, shape), DIMENSION)


def speaker(space, rng, frames):
    """Frames of a speaker, their classes, and the speaker's transform."""
    matrix = np.eye(CEPSTRA) + 0.2 * rng.normal(size=(CEPSTRA, CEPSTRA))
    offset = rng.normal(size=CEPSTRA)
    classes = rng.integers(0, CLASSES, frames)
    noise = rng.normal(size=(frames, CEPSTRA))
    heard = space.means[classes] + np.sqrt(space.variances[classes]) * noise
    cepstra = (heard - offset) @ np.linalg.inv(matrix).T
    rest = rng.normal(size=(frames, DIMENSION))
    rest -= rest @ space.basis.T @ space.basis
    return cepstra @ space.basis + rest, classes, np.column_stack([matrix, offset])


def transform_of(space, frames, classes):
    return space.transforms([Labelled("anna", frames, classes)])["anna"]


def test_the_basis_is_the_orthonormal_cosine_transform():
    expected = dct(np.eye(DIMENSION), axis=0, norm="ortho")[:CEPSTRA]
    np.testing.assert_allclose(cosine_basis(CEPSTRA, DIMENSION), expected, atol=1e-15)


def test_a_speakers_transform_is_found(space, rng):
    frames, classes, matrix = speaker(space, rng, 100_000)
    np.testing.assert_allclose(transform_of(space, frames, classes).matrix, matrix, atol=0.02)


def test_it_maximises_the_likelihood(space, rng, monkeypatch):
    """As PyTorch's L-BFGS does, from the definition: Gales (1998), without the prior."""
    monkeypatch.setattr("acoustic_kd.features.fmllr.PRIOR_FRAMES", 0)
    frames, classes, _ = speaker(space, rng, 500)
    x = torch.from_numpy(np.column_stack([frames @ space.basis.T, np.ones(500)]))
    means, variances = (torch.from_numpy(v[classes]) for v in (space.means, space.variances))
    matrix = torch.eye(CEPSTRA, CEPSTRA + 1, dtype=torch.float64, requires_grad=True)
    optimizer = torch.optim.LBFGS(
        [matrix], max_iter=500, tolerance_grad=1e-12, line_search_fn="strong_wolfe"
    )

    def cost():
        optimizer.zero_grad()
        distance = ((x @ matrix.T - means) ** 2 / variances).sum() / 2
        value = distance / 500 - torch.linalg.slogdet(matrix[:, :CEPSTRA])[1]
        value.backward()
        return value

    optimizer.step(cost)
    found = transform_of(space, frames, classes).matrix
    np.testing.assert_allclose(found, matrix.detach().numpy(), atol=1e-4)


def test_frames_beyond_the_cepstra_stay(space, rng):
    frames, classes, _ = speaker(space, rng, 300)
    changed = transform_of(space, frames, classes)(frames)
    rest = frames - frames @ space.basis.T @ space.basis
    assert changed.dtype == np.float32
    np.testing.assert_allclose(changed - changed @ space.basis.T @ space.basis, rest, atol=1e-5)


@pytest.mark.parametrize(("frames", "most"), [(0, 1e-12), (10, 0.4)])
def test_few_frames_change_little(space, rng, frames, most):
    given, classes, _ = speaker(space, rng, frames)
    found = transform_of(space, given, classes).matrix
    assert np.abs(found - np.eye(CEPSTRA, CEPSTRA + 1)).max() <= most


def test_training_brings_speakers_together(space, rng):
    """Frames of each class differ less between speakers than before, in the right proportion."""
    spoken = [(name, *speaker(space, rng, 3000)[:2]) for name in "abcdefgh"]
    labelled = [Labelled(*one) for one in spoken]
    trained, transforms = train_speaker_space(lambda: labelled, CLASSES, CEPSTRA)
    apart = np.concatenate([frames @ trained.basis.T for _, frames, _ in spoken])
    together = np.concatenate(
        [transforms[name](frames) @ trained.basis.T for name, frames, _ in spoken]
    )
    classes = np.concatenate([classes for *_, classes in spoken])

    def within(cepstra):
        means = np.stack([cepstra[classes == k].mean(0) for k in range(CLASSES)])
        return np.square(cepstra - means[classes]).mean() / cepstra.var()

    assert within(together) < 0.7 * within(apart)
    means = np.stack([together[classes == k].mean(0) for k in range(CLASSES)])
    np.testing.assert_allclose(trained.means, means, atol=1e-4)


def test_files_are_read_back(space, rng, tmp_path):
    space.write(tmp_path / "space.json")
    read = read_speaker_space(tmp_path / "space.json", CLASSES)
    np.testing.assert_array_equal(read.means, space.means)
    np.testing.assert_array_equal(read.variances, space.variances)
    frames, classes, _ = speaker(space, rng, 100)
    transform = transform_of(space, frames, classes)
    write_transforms(tmp_path / "transforms.json", {"anna": transform}, DIMENSION)
    again = read_transforms(tmp_path / "transforms.json")["anna"]
    np.testing.assert_array_equal(again(frames), transform(frames))


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("means", [[0.0]], "does not fit the model's classes"),
        ("variances", [[0.0] * CEPSTRA] * CLASSES, "does not fit"),
        ("dimension", 2, "does not fit"),
        ("means", [[0.0] * CEPSTRA, [0.0]], "rows of different lengths"),
        ("means", [], "rows of different lengths"),
        ("variances", "none", "not the Gaussians of speakers' transforms"),
    ],
)
def test_damaged_files_are_refused(space, tmp_path, key, value, message):
    path = tmp_path / "space.json"
    space.write(path)
    path.write_text(json.dumps(json.loads(path.read_text()) | {key: value}))
    with pytest.raises(UserError, match=message):
        read_speaker_space(path, CLASSES)
