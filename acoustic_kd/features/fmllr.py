"""An affine transform of each speaker's frames: constrained MLLR, also called fMLLR.

The first cepstra of normalised log-mels are a Gaussian with a diagonal covariance in each class of
frames (senone). A speaker's transform A x + b gives the speaker's frames, with their classes, the
greatest likelihood under these Gaussians; ln |det A| counts for each frame (the constrained
transform of Gales, "Maximum likelihood linear transformations for HMM-based speech recognition",
1998). `train_speaker_space` alternates: the Gaussians of all transformed frames, each speaker's
transform for these Gaussians.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import NamedTuple, TypedDict

import numpy as np

from acoustic_kd.system.errors import UserError
from acoustic_kd.system.files import AGAIN, read_json, write_json

ITERATIONS = 2  # of `train_speaker_space`; further ones change nothing
SWEEPS = 10  # over the rows of a transform
PRIOR_FRAMES = 200  # that each speaker seems to have besides; they need no transform
POOLED_FRAMES = 50  # of the variance within all classes, that each class seems to have


class Labelled(NamedTuple):
    """Frames of a speaker.

    Attributes:
        speaker: who speaks.
        frames: normalised log-mels [T, D].
        classes: int [T].
    """

    speaker: str
    frames: np.ndarray
    classes: np.ndarray


@dataclass(frozen=True)
class Transform:
    """A x + b of the cepstra of frames.

    Attributes:
        matrix: [C, C + 1], A and b.
        basis: [C, D], rows of the discrete cosine transform.
    """

    matrix: np.ndarray
    basis: np.ndarray

    def __call__(self, frames: np.ndarray) -> np.ndarray:
        """Transformed frames [T, D], in float32; what higher cepstra say stays."""
        cepstra = frames @ self.basis.T
        changed: np.ndarray = frames + (_extended(cepstra) @ self.matrix.T - cepstra) @ self.basis
        return changed.astype(np.float32)


@dataclass
class _SpeakerSums:
    """What a speaker's transform depends on; C cepstra.

    Attributes:
        outer: [C, C + 1, C + 1], Σ x xᵀ / variance, by dimension of the variance.
        cross: [C, C + 1], Σ x mean / variance.
        frames: their number.
    """

    outer: np.ndarray
    cross: np.ndarray
    frames: int


@dataclass(frozen=True)
class SpeakerSpace:
    """The Gaussians that transforms of speakers are found for.

    Attributes:
        means, variances: [K, C].
        dimension: D of a frame.
    """

    means: np.ndarray
    variances: np.ndarray
    dimension: int

    @cached_property
    def basis(self) -> np.ndarray:
        """[C, D] rows of the orthonormal discrete cosine transform."""
        return cosine_basis(self.means.shape[1], self.dimension)

    def transforms(self, utterances: Iterable[Labelled]) -> dict[str, Transform]:
        """Each speaker's transform."""
        precision = 1 / self.variances
        sums: dict[str, _SpeakerSums] = {}
        for speaker, frames, classes in utterances:
            own = sums.setdefault(speaker, _SpeakerSums(*self._prior))
            x, weights = _extended(frames @ self.basis.T), precision[classes]
            own.outer = own.outer + np.einsum("tc,tj,tk->cjk", weights, x, x, optimize=True)
            own.cross = own.cross + (weights * self.means[classes]).T @ x
            own.frames += len(x)
        return {
            speaker: Transform(_maximise(own.outer, own.cross, own.frames), self.basis)
            for speaker, own in sums.items()
        }

    @cached_property
    def _prior(self) -> tuple[np.ndarray, np.ndarray, int]:
        """The sums of PRIOR_FRAMES frames that the Gaussians give: they need no transform."""
        weights = PRIOR_FRAMES / len(self.means) / self.variances
        x = _extended(self.means)
        outer = np.einsum("kc,ki,kj->cij", weights, x, x, optimize=True)
        spread = np.pad(weights.T @ self.variances, ((0, 0), (0, 1)))
        return (
            outer + spread[:, None] * np.eye(x.shape[1]),
            (weights * self.means).T @ x,
            PRIOR_FRAMES,
        )

    def write(self, path: Path) -> None:
        """Write the Gaussians as JSON."""
        values = {"means": self.means.tolist(), "variances": self.variances.tolist()}
        write_json(path, {"dimension": self.dimension, **values})


class _Gaussians(TypedDict):
    dimension: int
    means: list[list[float]]
    variances: list[list[float]]


class _Transforms(TypedDict):
    dimension: int
    speakers: dict[str, list[list[float]]]


def read_speaker_space(path: Path, classes: int) -> SpeakerSpace:
    """The Gaussians of a file, of as many classes as the model has."""
    read = read_json(path, _Gaussians, "the Gaussians of speakers' transforms")
    means, variances = _matrix(path, read["means"]), _matrix(path, read["variances"])
    fits = means.shape == variances.shape and len(means) == classes
    if not fits or read["dimension"] < means.shape[1] or not (variances > 0).all():
        raise UserError(f"{path}: does not fit the model's classes; {AGAIN}")
    return SpeakerSpace(means, variances, read["dimension"])


def write_transforms(path: Path, transforms: Mapping[str, Transform], dimension: int) -> None:
    """Write the transforms of speakers as JSON."""
    speakers = {name: transform.matrix.tolist() for name, transform in transforms.items()}
    write_json(path, {"dimension": dimension, "speakers": speakers})


def read_transforms(path: Path) -> dict[str, Transform]:
    """The transforms of a file, by speaker."""
    read = read_json(path, _Transforms, "transforms of speakers")
    transforms = {}
    for speaker, rows in read["speakers"].items():
        matrix = _matrix(path, rows)
        transforms[speaker] = Transform(matrix, cosine_basis(len(matrix), read["dimension"]))
    return transforms


def _matrix(path: Path, rows: list[list[float]]) -> np.ndarray:
    if not rows or not rows[0] or len({len(row) for row in rows}) != 1:
        raise UserError(f"{path}: a matrix has rows of different lengths; {AGAIN}")
    return np.array(rows, np.float64)


def cosine_basis(count: int, dimension: int) -> np.ndarray:
    """[count, dimension], the first rows of the orthonormal discrete cosine transform (type II)."""
    rows, columns = np.arange(count)[:, None], np.arange(dimension)
    basis: np.ndarray = np.cos(np.pi * rows * (2 * columns + 1) / (2 * dimension))
    basis *= np.where(rows == 0, np.sqrt(1 / dimension), np.sqrt(2 / dimension))
    return basis


def train_speaker_space(
    utterances: Callable[[], Iterable[Labelled]], classes: int, cepstra: int
) -> tuple[SpeakerSpace, dict[str, Transform]]:
    """The Gaussians of speaker-adaptive training, and the transform of each speaker.

    Args:
        utterances: gives all of train, once for each pass.
        classes: K.
        cepstra: C.
    """
    found: dict[str, Transform] = {}
    for _ in range(ITERATIONS):
        space = _gaussians(utterances(), found, classes, cepstra)
        found = space.transforms(utterances())
    return _gaussians(utterances(), found, classes, cepstra), found


def _gaussians(
    utterances: Iterable[Labelled], found: dict[str, Transform], classes: int, cepstra: int
) -> SpeakerSpace:
    """The Gaussians of the frames that the transforms give."""
    frames_of, dimension = np.zeros((classes, 1)), 0
    sums, squares = np.zeros((2, classes, cepstra))
    for speaker, frames, labels in utterances:
        dimension = frames.shape[1]
        x = frames @ cosine_basis(cepstra, dimension).T
        if speaker in found:
            x = _extended(x) @ found[speaker].matrix.T
        np.add.at(frames_of[:, 0], labels, 1)
        np.add.at(sums, labels, x)
        np.add.at(squares, labels, np.square(x))
    means = sums / np.maximum(frames_of, 1)
    within = squares - frames_of * np.square(means)
    pooled = within.sum(0) / frames_of.sum()
    variances = (within + POOLED_FRAMES * pooled) / (frames_of + POOLED_FRAMES)
    return SpeakerSpace(means, variances, dimension)


def _extended(x: np.ndarray) -> np.ndarray:
    """[T, C + 1], with a column of ones."""
    return np.pad(x.astype(np.float64), ((0, 0), (0, 1)), constant_values=1.0)


def _maximise(outer: np.ndarray, cross: np.ndarray, frames: float) -> np.ndarray:
    """The transform [C, C + 1] of the greatest likelihood, row by row.

    A row is a multiple of its cofactors plus `cross`, times the inverse of `outer`; the multiple
    solves a quadratic equation, of whose roots the one with the greater likelihood counts.
    """
    count = len(cross)
    inverse = np.linalg.inv(outer)
    matrix = np.eye(count, count + 1)
    for _ in range(SWEEPS):
        for row in range(count):
            cofactors = np.append(np.linalg.inv(matrix[:, :count])[:, row], 0)
            a = cofactors @ inverse[row] @ cofactors
            b = cofactors @ inverse[row] @ cross[row]
            root = np.sqrt(b * b + 4 * a * frames)
            candidates = [
                (share * cofactors + cross[row]) @ inverse[row]
                for share in ((root - b) / (2 * a), (-root - b) / (2 * a))
            ]
            matrix[row] = max(
                candidates,
                key=lambda w: (
                    frames * np.log(abs(w @ cofactors)) + w @ cross[row] - w @ outer[row] @ w / 2
                ),
            )
    return matrix
