"""Mixtures of diagonal Gaussians, one for each HMM state, trained on frames whose state is known.

Shapes: `T` frames, `D` feature dimension, `K` states, `G` Gaussians a state. A state may have fewer
than G: the others have weight 0.
"""

from dataclasses import dataclass

import numpy as np

MIN_VARIANCE_SHARE = 0.01  # of the variance of all frames: no Gaussian is narrower
MIN_FRAMES = 10.0  # a Gaussian of fewer frames is dropped
SPLIT_OFFSET_SD = 0.2  # standard deviations by which each half of a split Gaussian is moved
LOG_ZERO = np.float32(-1e10)  # log-weight of an unused Gaussian; finite, so that 0 times it is 0


@dataclass(frozen=True)
class Mixtures:
    """The model.

    Attributes:
        weights: float64 [K, G], each row sums to 1.
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
            weight = np.maximum(np.log(self.weights.T.ravel()), LOG_ZERO)
        constant = weight - 0.5 * (
            np.log(2 * np.pi / precision).sum(1) + (mean * mean * precision).sum(1)
        )
        frames = frames.astype(np.float32)
        logs = frames @ (mean * precision).T.astype(np.float32)
        logs -= np.square(frames) @ (0.5 * precision).T.astype(np.float32)
        logs += constant.astype(np.float32)
        return logs.reshape(-1, number, states)


def log_likelihoods(components: np.ndarray) -> np.ndarray:
    """ln density of every frame in every state [T, K], from its components [T, G, K]."""
    if components.shape[1] == 1:
        return components[:, 0]
    top = components.max(axis=1)
    return top + np.log(np.exp(components - top[:, None]).sum(axis=1))


def responsibilities(components: np.ndarray, states: np.ndarray) -> np.ndarray:
    """Posteriors of the Gaussians of each frame's state, float64 [T, G]; each row sums to 1.

    Args:
        components: [T, G, K].
        states: int [T], the state of each frame.
    """
    logs = np.take_along_axis(components, states[:, None, None], axis=2)[:, :, 0].astype(np.float64)
    likelihoods = np.exp(logs - logs.max(axis=1, keepdims=True))
    return likelihoods / likelihoods.sum(axis=1, keepdims=True)


def accumulate(frames: np.ndarray, states: np.ndarray, share: np.ndarray, count: int) -> np.ndarray:
    """Count, sum and sum of squares of the frames of every Gaussian.

    Args:
        frames: [T, D].
        states: int [T].
        share: [T, G], from `responsibilities`.
        count: K.

    Returns:
        float64 [K, G, 1 + 2·D].
    """
    frames = frames.astype(np.float64)
    moments = np.zeros((count, share.shape[1], 1 + 2 * frames.shape[1]))
    order = np.argsort(states, kind="stable")
    seen, first = np.unique(states[order], return_index=True)
    rows = np.concatenate([np.ones((len(frames), 1)), frames, np.square(frames)], axis=1)[order]
    for number, column in enumerate(share[order].T):
        moments[seen, number] = np.add.reduceat(rows * column[:, None], first)
    return moments


def estimate(moments: np.ndarray, previous: Mixtures | None = None) -> Mixtures:
    """Maximum-likelihood mixtures of the frames in the moments that `accumulate` returns.

    A Gaussian of too few frames is dropped. A state without any Gaussian left keeps its previous
    mixture, or gets the Gaussian of all frames if there is no previous mixture.
    """
    count, dimension = moments[:, :, :1], moments.shape[2] // 2
    total = moments.sum(axis=(0, 1))
    overall = total[1 : 1 + dimension] / max(total[0], 1)
    spread = total[1 + dimension :] / max(total[0], 1) - np.square(overall)
    floor = np.maximum(MIN_VARIANCE_SHARE * spread, 1e-6)
    used = count[:, :, 0] >= MIN_FRAMES
    safe = np.maximum(count, 1)
    means = np.where(used[:, :, None], moments[:, :, 1 : 1 + dimension] / safe, overall)
    variances = moments[:, :, 1 + dimension :] / safe - np.square(means)
    variances = np.where(used[:, :, None], np.maximum(variances, floor), np.maximum(spread, floor))
    weights = np.where(used, count[:, :, 0], 0.0)
    empty = ~used.any(axis=1)
    weights[empty, 0] = 1.0
    weights /= weights.sum(axis=1, keepdims=True)
    if previous is not None:
        weights[empty], means[empty] = previous.weights[empty], previous.means[empty]
        variances[empty] = previous.variances[empty]
    return Mixtures(weights, means, variances)


def split(mixtures: Mixtures, moments: np.ndarray) -> Mixtures:
    """Split each Gaussian that has enough frames for two into two with slightly different means.

    Args:
        mixtures: of G Gaussians a state; the result has 2·G.
        moments: those that the mixtures were estimated from.
    """
    halves = (moments[:, :, 0] >= 2 * MIN_FRAMES) & (mixtures.weights > 0)
    weights = mixtures.weights * np.where(halves, 0.5, 1.0)
    step = SPLIT_OFFSET_SD * np.sqrt(mixtures.variances) * halves[:, :, None]
    return Mixtures(
        np.concatenate([weights, np.where(halves, weights, 0.0)], axis=1),
        np.concatenate([mixtures.means + step, mixtures.means - step], axis=1),
        np.concatenate([mixtures.variances, mixtures.variances], axis=1),
    )
