"""Posteriors of external models, as logits or as the best class of each frame, and whether their
frames match the features here.
"""

from typing import Any, Protocol, TypeVar

import numpy as np

from acoustic_kd.kaldi.objects import Sparse
from acoustic_kd.system.errors import UserError

TOLERANCE = 0.05  # by which the probabilities of a frame may sum to something else than 1
TINY = np.finfo(np.float32).tiny  # stands for a probability that was too small for a float


def log_posteriors(found: np.ndarray | Sparse, classes: int, where: str) -> np.ndarray:
    """Logits, natural-log probabilities [T, K], of what an archive has of one utterance.

    A matrix may hold probabilities or their logarithms: its rows say which. Weights of a sparse
    posterior are divided by their sum in each frame; the classes it does not name have none, -inf.

    Args:
        classes: K.
        where: archive and utterance, for messages.
    """
    if isinstance(found, Sparse):
        return _of_sparse(found, classes, where)
    if found.shape[1] != classes:
        raise UserError(
            f"{where}: posteriors of {found.shape[1]} classes, but the frames have {classes}; take "
            "a model of the same tree (align.pdfs says how many pdf-ids it has)"
        )
    negative = bool((found < 0).any())
    with np.errstate(over="ignore", invalid="ignore"):
        sums = (np.exp(found) if negative else found).sum(1, dtype=np.float64)
    wrong = np.flatnonzero(~(np.abs(sums - 1) <= TOLERANCE))  # so put, NaN is wrong too
    if len(wrong):
        what = "exponentiated, they sum" if negative else "they sum"
        raise UserError(
            f"{where}: frame {wrong[0]} has neither probabilities nor their logarithms: {what} to "
            f"{sums[wrong[0]]:.4g}, not 1; write them after the softmax and without priors "
            "(copy-matrix --apply-softmax-per-row makes posteriors of raw outputs)"
        )
    if negative:
        return np.where(np.isneginf(found), np.log(TINY), found)
    return np.log(np.maximum(found, TINY))


def _of_sparse(found: Sparse, classes: int, where: str) -> np.ndarray:
    frames = np.repeat(np.arange(len(found)), np.diff(found.offsets))
    outside = np.flatnonzero((found.classes < 0) | (found.classes >= classes))
    if len(outside):
        raise UserError(
            f"{where}: class {found.classes[outside[0]]} in frame {frames[outside[0]]}, but the "
            f"frames have {classes} (0 to {classes - 1}); give posteriors of pdf-ids of the same "
            "tree (post-to-pdf-post makes them of those of transition-ids)"
        )
    dense = np.zeros((len(found), classes), np.float32)
    np.add.at(dense, (frames, found.classes), found.weights)
    sums = dense.sum(1, keepdims=True)
    sound = (sums[:, 0] > 0) & np.isfinite(sums[:, 0]) & (dense >= 0).all(1)
    if not sound.all():
        raise UserError(
            f"{where}: frame {np.flatnonzero(~sound)[0]} has no class of positive weight, or a "
            "negative weight; such weights are no probabilities"
        )
    with np.errstate(divide="ignore"):
        return np.log(dense / sums)


def best_classes(found: np.ndarray | Sparse, where: str) -> np.ndarray:
    """The most probable class of each frame, int32 [T]; of several as good, one of them.

    Args:
        where: archive and utterance, for messages.
    """
    if isinstance(found, Sparse):
        counts = np.diff(found.offsets)
        without, weights = counts == 0, found.weights
        frames = np.repeat(np.arange(len(found)), counts)
        without[frames[np.isnan(weights)]] = True
    else:
        without = np.isnan(found).any(1)
    if without.any():
        raise UserError(
            f"{where}: frame {np.flatnonzero(without)[0]} has no class, or no number; a target is "
            "needed for every frame"
        )
    if not isinstance(found, Sparse):
        return found.argmax(1).astype(np.int32)
    # Frames are in order already: within each, the greatest weight comes first.
    order = np.lexsort((-weights, frames))
    return found.classes[order[found.offsets[:-1]]]


class Sliceable(Protocol):
    """Rows of which some that lie together can be taken: an array, or sparse posteriors."""

    def __len__(self) -> int: ...

    def __getitem__(self, part: slice, /) -> Any: ...


Rows = TypeVar("Rows", bound=Sliceable)


def frames_as_here(rows: Rows, frames: int, snip_edges: bool, where: str) -> Rows:
    """What Kaldi has of each frame of an utterance, of the frames that there are here.

    With `--snip-edges=false` Kaldi has round(N / S) frames of N samples, S a frame's shift, frame t
    centred on sample (t + 1/2)·S; here there are 1 + ⌊(N − 2.5·S) / S⌋, frame t beginning at t·S.
    That is two fewer whatever N is, and theirs that is nearest to ours of number t, a quarter of
    the shift (2.5 ms) from it, is number t + 1: so their first and last frames are left out.

    Args:
        rows: one a frame.
        frames: of the utterance, here.
        snip_edges: as Kaldi's features were made, from the same sound.
        where: file and utterance, for messages.
    """
    expected = frames if snip_edges else frames + 2
    if len(rows) == expected:
        return rows if snip_edges else rows[1:-1]
    why = "not of a chain model's every third; is it the same sound?"
    if snip_edges and len(rows) == frames + 2:
        why = "give align.snip_edges=false if Kaldi's features were made with --snip-edges=false"
    elif not snip_edges:
        why = f"with align.snip_edges=false Kaldi must have {expected}, two more"
    raise UserError(
        f"{where}: {len(rows)} frames there, but {frames} here; they must be the same frames of "
        f"10 ms ({why})"
    )
