"""Posteriors of external models: logits, the best class of each frame, and matching of frames."""

from typing import TypeVar

import numpy as np

from acoustic_kd.kaldi.objects import Sparse
from acoustic_kd.system.errors import UserError

MAX_SUM_ERROR = 0.05  # of the probabilities of a frame, which should sum to 1
MIN_PROBABILITY = np.finfo(np.float32).tiny  # instead of 0


def log_posteriors(posteriors: np.ndarray | Sparse, classes: int, where: str) -> np.ndarray:
    """Logits, natural-log probabilities [T, K], from an archive's posteriors of one utterance.

    A matrix may have probabilities or their logarithms, which is seen from its values. Weights of a
    sparse posterior are divided by their sum in each frame; classes that it lacks have -inf.

    Args:
        classes: K.
        where: archive and utterance, for messages.
    """
    if isinstance(posteriors, Sparse):
        return _of_sparse(posteriors, classes, where)
    if posteriors.shape[1] != classes:
        raise UserError(
            f"{where}: posteriors of {posteriors.shape[1]} classes, but the frames have {classes}; "
            "use a model with the same tree (align.pdfs is its number of pdf-ids)"
        )
    negative = bool((posteriors < 0).any())
    with np.errstate(over="ignore", invalid="ignore"):
        sums = (np.exp(posteriors) if negative else posteriors).sum(1, dtype=np.float64)
    wrong = np.flatnonzero(~(np.abs(sums - 1) <= MAX_SUM_ERROR))  # true for NaN, too
    if len(wrong):
        what = "exponentiated, they sum" if negative else "they sum"
        raise UserError(
            f"{where}: frame {wrong[0]} has neither probabilities nor their logarithms: {what} to "
            f"{sums[wrong[0]]:.4g}, not 1; write them after the softmax and without priors "
            "(copy-matrix --apply-softmax-per-row makes posteriors of raw outputs)"
        )
    if negative:
        return np.where(np.isneginf(posteriors), np.log(MIN_PROBABILITY), posteriors)
    return np.log(np.maximum(posteriors, MIN_PROBABILITY))


def _of_sparse(posteriors: Sparse, classes: int, where: str) -> np.ndarray:
    frames = np.repeat(np.arange(len(posteriors)), np.diff(posteriors.offsets))
    outside = np.flatnonzero((posteriors.classes < 0) | (posteriors.classes >= classes))
    if len(outside):
        raise UserError(
            f"{where}: class {posteriors.classes[outside[0]]} in frame {frames[outside[0]]}, but "
            f"the frames have {classes} (0 to {classes - 1}); give posteriors of pdf-ids of the "
            "same tree (post-to-pdf-post converts those of transition-ids)"
        )
    dense = np.zeros((len(posteriors), classes), np.float32)
    np.add.at(dense, (frames, posteriors.classes), posteriors.weights)
    sums = dense.sum(1, keepdims=True)
    valid = (sums[:, 0] > 0) & np.isfinite(sums[:, 0]) & (dense >= 0).all(1)
    if not valid.all():
        raise UserError(
            f"{where}: frame {np.flatnonzero(~valid)[0]} has no class of positive weight, or a "
            "negative weight; give probabilities"
        )
    with np.errstate(divide="ignore"):
        return np.log(dense / sums)


def best_classes(posteriors: np.ndarray | Sparse, where: str) -> np.ndarray:
    """The most probable class of each frame, int32 [T]; one of several equally probable ones.

    Args:
        where: archive and utterance, for messages.
    """
    if isinstance(posteriors, Sparse):
        counts = np.diff(posteriors.offsets)
        missing, weights = counts == 0, posteriors.weights
        frames = np.repeat(np.arange(len(posteriors)), counts)
        missing[frames[np.isnan(weights)]] = True
    else:
        missing = np.isnan(posteriors).any(1)
    if missing.any():
        raise UserError(
            f"{where}: frame {np.flatnonzero(missing)[0]} has no class, or NaN; give a target for "
            "every frame"
        )
    if not isinstance(posteriors, Sparse):
        return posteriors.argmax(1).astype(np.int32)
    # The frames keep their order; within a frame, the largest weight comes first.
    order = np.lexsort((-weights, frames))
    return posteriors.classes[order[posteriors.offsets[:-1]]]


Rows = TypeVar("Rows", np.ndarray, Sparse)


def frames_as_here(rows: Rows, frames: int, snip_edges: bool, where: str) -> Rows:
    """Select the rows of Kaldi's frames that correspond to the frames of this toolkit.

    With `--snip-edges=false` Kaldi has round(N / S) frames of N samples, with a frame shift of S;
    frame t is centred on sample (t + 1/2)·S. This toolkit has 1 + ⌊(N − 2.5·S) / S⌋ frames; frame t
    begins at t·S. These are always two frames fewer. Kaldi's frame t + 1 is the nearest to frame t
    here, a quarter of the shift (2.5 ms) away. So Kaldi's first and last frames are left out.

    Args:
        rows: one for each of Kaldi's frames.
        frames: number of frames of the utterance in this toolkit.
        snip_edges: the option with which Kaldi computed features of the same sound.
        where: file and utterance, for messages.
    """
    expected = frames if snip_edges else frames + 2
    if len(rows) == expected:
        return rows if snip_edges else rows[1:-1]
    advice = "check that the sound is the same, and not every third frame, as of a chain model"
    if snip_edges and len(rows) == frames + 2:
        advice = "give align.snip_edges=false if Kaldi's features were made with --snip-edges=false"
    elif not snip_edges:
        advice = f"with align.snip_edges=false Kaldi must have {expected}, two more"
    raise UserError(
        f"{where}: {len(rows)} frames in the archive, but {frames} here; both must have the same "
        f"frames of 10 ms ({advice})"
    )
