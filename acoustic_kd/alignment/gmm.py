"""Mixtures of diagonal Gaussians, one for each HMM state, learnt from frames whose state is known.

Shapes: `T` frames, `D` feature dimension, `K` states, `G` Gaussians a state. A state may have fewer
than G: the others have weight 0.
"""

from dataclasses import dataclass

import numpy as np

FLOOR = 0.01  # of the variance of all frames: no Gaussian is narrower
FEWEST = 10.0  # frames of a Gaussian; one of fewer is dropped
APART = 0.2  # standard deviations that the halves of a Gaussian are moved by, one each way
DARK = np.float32(-1e10)  # log-weight of a Gaussian that is not there; finite, so that 0 · it is 0


@dataclass(frozen=True)
class Mixtures:
    """The model.

    Attributes:
        weights: float64 [K, G], each row adding up to 1.
        means, variances: float64 [K, G, D].
    """

    weights: np.ndarray
    means: np.ndarray
    variances: np.ndarray

    def components(self, frames: np.ndarray) -> np.ndarray:
        """ln(weight · density) of `frames` [T, D] in every Gaussian, float32 [T, G, K]."""
        states, number, dimension = self.means.shape
        precision = 1 / self.variances.swapaxes(0, 1).reshape(-1, dimension)
        mean = self.means.swapaxes(0, 1).reshape(-1, dimension)
        with np.errstate(divide="ignore"):
            weight = np.maximum(np.log(self.weights.T.ravel()), DARK)
        constant = weight - 0.5 * (
            np.log(2 * np.pi / precision).sum(1) + (mean * mean * precision).sum(1)
        )
        frames = frames.astype(np.float32)
        found = frames @ (mean * precision).T.astype(np.float32)
        found -= np.square(frames) @ (0.5 * precision).T.astype(np.float32)
        found += constant.astype(np.float32)
        return found.reshape(-1, number, states)


def log_likelihoods(components: np.ndarray) -> np.ndarray:
    """ln density of every frame in every state [T, K], from its components [T, G, K]."""
    if components.shape[1] == 1:
        return components[:, 0]
    top = components.max(axis=1)
    return top + np.log(np.exp(components - top[:, None]).sum(axis=1))


def shares(components: np.ndarray, states: np.ndarray) -> np.ndarray:
    """Each frame shared out among the Gaussians of its state, [T, G], rows adding up to 1.

    Args:
        components: [T, G, K].
        states: int [T], the state of each frame.
    """
    own = np.take_along_axis(components, states[:, None, None], axis=2)[:, :, 0].astype(np.float64)
    own = np.exp(own - own.max(axis=1, keepdims=True))
    return own / own.sum(axis=1, keepdims=True)


def gather(frames: np.ndarray, states: np.ndarray, share: np.ndarray, count: int) -> np.ndarray:
    """Count, sum and sum of squares of the frames of every Gaussian.

    Args:
        frames: [T, D].
        states: int [T].
        share: [T, G], as `shares` gives it.
        count: K.

    Returns:
        float64 [K, G, 1 + 2·D].
    """
    frames = frames.astype(np.float64)
    moments = np.zeros((count, share.shape[1], 1 + 2 * frames.shape[1]))
    if not len(frames):
        return moments
    order = np.argsort(states, kind="stable")
    seen, first = np.unique(states[order], return_index=True)
    rows = np.concatenate([np.ones((len(frames), 1)), frames, np.square(frames)], axis=1)[order]
    for number, column in enumerate(share[order].T):
        moments[seen, number] = np.add.reduceat(rows * column[:, None], first)
    return moments


def fit(moments: np.ndarray, before: Mixtures | None = None) -> Mixtures:
    """The most likely mixtures of the frames that `gather` has seen.

    A Gaussian of too few frames is dropped; a state of which all are is as it was before, and if
    there was nothing before, the Gaussian of all frames together.
    """
    count, dimension = moments[:, :, :1], moments.shape[2] // 2
    total = moments.sum(axis=(0, 1))
    overall = total[1 : 1 + dimension] / max(total[0], 1)
    spread = total[1 + dimension :] / max(total[0], 1) - np.square(overall)
    floor = np.maximum(FLOOR * spread, 1e-6)
    alive = count[:, :, 0] >= FEWEST
    safe = np.maximum(count, 1)
    means = np.where(alive[:, :, None], moments[:, :, 1 : 1 + dimension] / safe, overall)
    variances = moments[:, :, 1 + dimension :] / safe - np.square(means)
    variances = np.where(alive[:, :, None], np.maximum(variances, floor), np.maximum(spread, floor))
    weights = np.where(alive, count[:, :, 0], 0.0)
    empty = ~alive.any(axis=1)
    weights[empty, 0] = 1.0
    weights /= weights.sum(axis=1, keepdims=True)
    if before is not None:
        weights[empty], means[empty] = before.weights[empty], before.means[empty]
        variances[empty] = before.variances[empty]
    return Mixtures(weights, means, variances)


def split(mixtures: Mixtures, moments: np.ndarray) -> Mixtures:
    """Twice as many Gaussians: each that has frames enough for two becomes two, a little apart.

    Args:
        moments: what the mixtures were fitted to.
    """
    halves = (moments[:, :, 0] >= 2 * FEWEST) & (mixtures.weights > 0)
    weights = mixtures.weights * np.where(halves, 0.5, 1.0)
    step = APART * np.sqrt(mixtures.variances) * halves[:, :, None]
    return Mixtures(
        np.concatenate([weights, np.where(halves, weights, 0.0)], axis=1),
        np.concatenate([mixtures.means + step, mixtures.means - step], axis=1),
        np.concatenate([mixtures.variances, mixtures.variances], axis=1),
    )
