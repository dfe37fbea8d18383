"""A generalist and specialists for classes that it confuses (paper section 5).

A specialist tells the classes of its subset apart; its last class, the dustbin, stands for all
others. Half of the frames that it learns from belong to the subset, so its dustbin is too
improbable; a shift of that logit corrects it.

Shapes: B frames, K classes, S classes of a specialist's subset.
"""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from acoustic_kd.system.errors import UserError
from acoustic_kd.system.files import read_json
from acoustic_kd.system.tensors import load_tensors
from acoustic_kd.training.model import WEIGHTS, load_model
from acoustic_kd.training.precision import logits_of
from acoustic_kd.training.windows import Splicer

SUBSETS = "subsets.json"
PASSES = 20  # of K-means over the classes
TOLERANCE, MAX_UPDATES = 1e-6, 1000  # of a probability, in the search for equation 5's minimum
SMALLEST = 1e-30  # probability, of a class and of a dustbin


@dataclass(frozen=True)
class Subset:
    """What a specialist is for: a row of `subsets.json`.

    Attributes:
        classes: S numbers.
        share: of the train frames, those of these classes.
    """

    classes: list[int]
    share: float

    @property
    def dustbin_shift(self) -> float:
        """The logarithm of the odds by which training has too few frames of other classes."""
        return max(0.0, math.log((1 - self.share) / self.share))


@torch.no_grad()
def covariance(predictions: Iterable[Tensor]) -> Tensor:
    """The covariance [K, K] of predictions, given block after block [B, K]; float64."""
    products = sums = torch.zeros((), dtype=torch.float64)  # a scalar fits any device
    count = 0
    for block in predictions:
        products = products + (block.T @ block).double()
        sums = sums + block.sum(0).double()
        count += len(block)
    mean = sums / count
    return (products / count - torch.outer(mean, mean)).cpu()


def cluster(matrix: np.ndarray, count: int, size: int, seed: int) -> list[list[int]]:
    """Subsets of classes that a generalist often predicts together (section 5.3).

    On-line K-means (MacQueen 1967) on the columns of the covariance of its predictions. Columns
    have unit length, because those of frequent classes would be clusters of their own.

    Args:
        matrix: [K, K].
        count: number of clusters.
        size: of a subset: the classes nearest to the centre of a cluster; subsets may overlap.

    Returns:
        `count` lists of `size` class numbers, ascending.
    """
    norms = np.linalg.norm(matrix, axis=0)
    points = (matrix / np.where(norms > 0, norms, 1)).T
    random = np.random.default_rng(seed)
    centres = points[random.choice(len(points), count, replace=False)].copy()
    members = np.ones(count)
    for _ in range(PASSES):
        for point in points[random.permutation(len(points))]:
            nearest = int(np.square(centres - point).sum(1).argmin())
            members[nearest] += 1
            centres[nearest] += (point - centres[nearest]) / members[nearest]
    distances = (np.square(points - centre).sum(1) for centre in centres)
    return [sorted(d.argsort(kind="stable")[:size].tolist()) for d in distances]


def start_from(network: nn.Module, generalist: Path, classes: Sequence[int]) -> None:
    """Give a specialist's network the weights of the generalist (section 5.1).

    The dustbin starts with the mean weights of the classes that it stands for, and the logarithm of
    their number added to its bias.

    Args:
        network: of the package, with an output for each of `classes` and one more.
        generalist: directory of the model.
    """
    weights = load_tensors(generalist / WEIGHTS)[0]
    own, names = list(classes), ("output.weight", "output.bias")
    if any(name not in weights for name in names):
        raise UserError(f"{generalist}: specialists need a network of the package (model.kind)")
    others = np.setdiff1d(np.arange(len(weights["output.bias"])), own)
    for name in names:
        rest = weights[name][torch.from_numpy(others)].mean(0, keepdim=True)
        weights[name] = torch.cat([weights[name][own], rest])
    weights["output.bias"][-1] += math.log(len(others))
    network.load_state_dict(weights)


# A specialist's prediction [R, S + 1] for some frames: their numbers [R], and its classes [S].
Opinion = tuple[Tensor, Tensor, Tensor]


def combine(generalist: Tensor, opinions: Sequence[Opinion]) -> Tensor:
    """The distribution q of each frame that minimises equation 5.

    KL(p_g, q) + Σ_m KL(p_m, q), where KL(p_m, q) compares the subset's classes and, as one class,
    all others. The paper searches by gradient descent. Here the dustbins are missing data: each
    update divides a dustbin's mass among its classes as q does, and q becomes the mean of all
    counts (expectation maximisation, Dempster et al. 1977). No update raises the sum.

    Args:
        generalist: [B, K], p_g.

    Returns:
        [B, K], the mass of every row is 1.
    """
    q = generalist.clamp_min(SMALLEST)  # else a class could not get mass of a dustbin
    counts, total = q.clone(), torch.ones_like(q[:, :1])
    for rows, classes, p in opinions:
        counts[rows[:, None], classes] += p[:, :-1]
        total[rows] += 1
    for _ in range(MAX_UPDATES if opinions else 0):
        update = counts.clone()
        for rows, classes, p in opinions:
            others = q[rows].index_fill(1, classes, 0)
            mass = others.sum(1, keepdim=True).clamp_min(SMALLEST)
            update.index_add_(0, rows, others * (p[:, -1:] / mass))
        update /= total
        change = float((update - q).abs().max())
        q = update
        if change < TOLERANCE:
            break
    return q


class Specialists:
    """Trained specialists that refine a generalist's predictions.

    Attributes:
        models: the specialists' networks, in evaluation mode.
        subsets: int64 [S], the classes of each.
        digests: of their training.
    """

    def __init__(
        self, directories: Sequence[Path], subsets: Path, device: torch.device, bfloat16: bool
    ) -> None:
        """
        Args:
            directories: of the specialists.
            subsets: `subsets.json`, a row for each.
        """
        rows = read_json(subsets, list[Subset], "the subsets of specialists")
        models = [load_model(directory).to(device) for directory in directories]
        self.models = [model.in_bfloat16() for model in models] if bfloat16 else models
        self.subsets = [torch.tensor(row.classes, device=device) for row in rows]
        self.digests = tuple(model.description["digest"] for model in models)
        self._shifts = [row.dustbin_shift for row in rows]
        self._device, self._bfloat16 = device, bfloat16

    @torch.inference_mode()
    def refine(
        self, generalist: Tensor, frames: Tensor, splicer: Splicer, temperature: float = 1.0
    ) -> Tensor:
        """Predictions [B, K] of generalist and specialists (section 5.4).

        A specialist predicts the frames whose most probable class is in its subset.

        Args:
            generalist: [B, K], its predictions at temperature 1.
            frames: int64 [B], numbers of frames of the splicer, which is on the device.
            temperature: of the result.

        Returns:
            On the device, but of an Apple GPU on the CPU, as `Ensemble.predictions`.
        """
        generalist, frames = generalist.to(self._device), frames.to(self._device)
        best, opinions = generalist.argmax(-1), list[Opinion]()
        for model, classes, shift in zip(self.models, self.subsets, self._shifts, strict=True):
            rows = torch.isin(best, classes).nonzero()[:, 0]
            if len(rows):
                logits = logits_of(
                    model, splicer.around(frames[rows], model.config), self._bfloat16
                )
                logits[:, -1] += shift
                opinions.append((rows, classes, logits.softmax(-1)))
        q = combine(generalist, opinions)
        q = q if temperature == 1 else (q.log() / temperature).softmax(-1)
        return q.cpu() if q.device.type == "mps" else q
