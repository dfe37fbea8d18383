"""Predictions before they are encoded: matched with utterances, joined into blocks, checked."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path

import torch
from torch import Tensor
from torch.nn.functional import pad

from acoustic_kd.soft_targets.encoding import SparseTargets
from acoustic_kd.system.errors import UserError

BLOCK_FRAMES = 4096  # predicted at once, with one check sum
ROUNDING = 0.01  # of a sum of probabilities
LEAST = 1e-7  # of the largest sparse probability: a smaller one may be stored as 0

Predictions = Tensor | SparseTargets  # [B, K], or of the k most probable classes [B, k]
Batch = tuple[Sequence[str], Sequence[int], Predictions]  # utterances, their frames, predictions


def whole_utterances(
    lengths: Mapping[str, int], predictions: Iterable[Predictions], count: int, directory: Path
) -> Iterator[Batch]:
    """Match predictions with `lengths`, in its order; each is of one or several whole utterances.

    `count` is K; messages name the directory of the store.
    """
    remaining = iter(lengths.items())
    for prediction in predictions:
        parts = tensors_of(prediction)
        shapes = [list(part.shape) for part in parts]
        names, sizes = list[str](), list[int]()
        total = 0
        for name, length in remaining:
            names.append(name)
            sizes.append(length)
            total += length
            if total >= sum(shapes[0][:1]):
                break
        if not names:
            raise UserError(f"{directory}: more predictions than the {len(lengths)} lengths")
        where = f"{directory}: the prediction for utterance '{names[0]}' is"
        kept, width = (count, [count]) if len(parts) == 1 else ("k", shapes[0][-1:])
        if any(shape != [total, *width] or 0 in shape for shape in shapes):
            raise UserError(
                f"{where} {' and '.join(map(str, shapes))}, not {sizes[0]} frames of {kept} "
                "classes, nor those of several whole utterances"
            )
        if [part.is_floating_point() for part in parts] != [False, True][-len(parts) :]:
            raise UserError(
                f"{where} {' and '.join(str(part.dtype) for part in parts)}, expected floating "
                "probabilities, where they are sparse after integer classes"
            )
        yield names, sizes, prediction
    for name, _ in remaining:
        raise UserError(f"{directory}: there is no prediction for utterance '{name}'")


def in_blocks(predictions: Iterable[Predictions]) -> Iterator[Predictions]:
    """The predictions of any numbers of frames in blocks of `BLOCK_FRAMES`."""
    pending: list[tuple[Tensor, ...]] = []
    room = BLOCK_FRAMES
    for prediction in predictions:
        parts, first = tensors_of(prediction), 0
        while first < len(parts[0]):
            rows = tuple(part[first : first + room] for part in parts)
            pending.append(rows)
            first, room = first + len(rows[0]), room - len(rows[0])
            if not room:
                yield _join(pending)
                pending, room = [], BLOCK_FRAMES
    if pending:
        yield _join(pending)


def tensors_of(predictions: Predictions) -> tuple[Tensor, ...]:
    """Probabilities; of sparse predictions classes and probabilities."""
    return (predictions,) if isinstance(predictions, Tensor) else predictions


def _join(pending: list[tuple[Tensor, ...]]) -> Predictions:
    """One after the other; sparse ones are padded to one width."""
    width = max(rows[0].shape[-1] for rows in pending)
    *classes, p = (
        torch.cat([t if t.shape[-1] == width else pad(t, (0, width - t.shape[-1])) for t in parts])
        for parts in zip(*pending, strict=True)
    )
    return SparseTargets(classes[0].long(), p.detach()) if classes else p.detach()


def problem_of(predictions: Predictions, count: int) -> tuple[int, str] | None:
    """The first row that is no distribution over K = `count` classes, and what is wrong with it."""
    if isinstance(predictions, Tensor):
        p, sums = predictions, predictions.sum(-1)
        right = (sums - 1).abs() < ROUNDING
        text = "not 1; the member's output is invalid (NaN?)"
    else:
        classes, p = predictions
        sums = p.sum(-1)
        right = (p >= 0).all(-1) & (sums < 1 + ROUNDING) & (p.amax(-1) > LEAST)
        text = "expected at most 1, of probabilities, not their logarithms"
        outside = (p > 0) & ((classes < 0) | (classes >= count))
        for row, column in outside.nonzero()[:1].tolist():
            return row, f"has class {classes[row, column]}, but there are {count} classes"
        padding = -1 - torch.arange(p.shape[-1], device=p.device)
        ordered = torch.where(p > 0, classes, padding).sort(-1).values
        for row, column in (ordered[:, 1:] == ordered[:, :-1]).nonzero()[:1].tolist():
            return row, f"has class {ordered[row, column]} twice"
    for row in right.logical_not().nonzero()[:1, 0].tolist():  # NaN is not right
        return row, f"sums to {float(sums[row]):g}, {text}"
    for row in (p.amin(-1) < 0).nonzero()[:1, 0].tolist():
        return row, "has a negative probability"
    return None
