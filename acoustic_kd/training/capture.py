"""Soft targets of any classifiers, captured from a DataLoader into a store."""

import hashlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.data import BatchSampler, DataLoader, SequentialSampler

from acoustic_kd.features.frame_sequence import Classes
from acoustic_kd.soft_targets.dataset import positions
from acoustic_kd.soft_targets.encoding import Encoding
from acoustic_kd.soft_targets.manifest import Entry
from acoustic_kd.soft_targets.predictions import Batch
from acoustic_kd.soft_targets.write import DEFAULT, Provenance, write_batches
from acoustic_kd.system.errors import UserError
from acoustic_kd.system.parallel import progress
from acoustic_kd.training.ensemble import Mean, mean_of


def capture(
    models: Sequence[Callable[..., Tensor]] | nn.ModuleList,
    loader: Iterable[Any],
    directory: Path,
    temperature: float,
    mean: str = "arithmetic",
    weights: Sequence[float] | None = None,
    encoding: Encoding = DEFAULT,
    classes: Classes | None = None,
) -> list[Entry]:
    """Store the mean of the models' tempered predictions for the batches of a loader.

    Modules are in evaluation mode meanwhile, and get the inputs on their device.

    Args:
        models: each maps inputs to logits [B, K].
        loader: mostly a `torch.utils.data.DataLoader`. A batch is a tensor of inputs, (inputs, …)
            or (keys, inputs, …), where keys is a list of strings; without keys the positions in
            the dataset are the keys.
        directory: must not hold a store yet.
        temperature: T of the predictions, and later of the loss.
        mean, weights: see `mean_of`.
        classes: what the classes mean; None: their number alone.

    Returns:
        The manifest entries of the shards.

    Raises:
        UserError: a batch or logits are not as described; an item is missing or comes twice; the
            directory holds a store. No file is left.
    """
    if not isinstance(models, list | tuple | nn.ModuleList):
        raise TypeError(f"models is a {type(models).__name__}, expected a list of models")
    members = list(models)
    Mean(temperature, mean, weights).check(len(members))
    shares = None if weights is None else tuple(map(float, weights))
    origin = Provenance(temperature, tuple(map(_digest, members)), mean, shares)
    with _evaluating(members):
        batches = _predictions(members, loader, origin, classes.count if classes else None)
        return write_batches(directory, batches, classes, origin, encoding)


def _predictions(
    members: list[Any], loader: Any, origin: Provenance, count: int | None
) -> Iterator[Batch]:
    """The keys of batch after batch, and the predictions for them."""
    numbered: list[str] | None = None
    place = 0
    for batch in progress(loader, "capture"):
        keys, inputs = _split(batch)
        if keys is None:
            numbered = _positions(loader) if numbered is None else numbered
            keys = numbered[place : place + len(inputs)]
            place += len(inputs)
        if not keys:
            continue
        with torch.inference_mode():
            logits = _logits(members, inputs, len(keys), count)
            predictions = mean_of(logits, origin.temperature, origin.mean, origin.weights)
        count = predictions.shape[-1]
        yield keys, [1] * len(keys), predictions
    if numbered is not None and place != len(numbered):
        raise UserError(f"the loader gave {place} of the {len(numbered)} items of its dataset")
    if count is None:
        raise UserError("the loader gives no batch, so there is nothing to store")


def _split(batch: Any) -> tuple[list[str] | None, Any]:
    """The keys of a batch, if it has any, and its inputs."""
    parts, keys = list(batch) if isinstance(batch, list | tuple) else [batch], None
    if parts and isinstance(parts[0], list | tuple) and all(isinstance(k, str) for k in parts[0]):
        keys = list(parts.pop(0))
    if not parts or (keys is None and not isinstance(parts[0], Tensor)):
        raise UserError(
            f"a batch is a {type(batch).__name__} without keys or inputs; expected a tensor of "
            "inputs, (inputs, …) or (keys, inputs, …) with keys as a list of strings"
        )
    return keys, parts[0]


def _positions(loader: Any) -> list[str]:
    in_order = isinstance(loader, DataLoader) and isinstance(loader.sampler, SequentialSampler)
    if not in_order or type(loader.batch_sampler) is not BatchSampler or loader.drop_last:
        raise UserError(
            "the loader does not give all items in order, so positions cannot be their keys; use a "
            "DataLoader without shuffle, sampler and drop_last, or put keys before the inputs"
        )
    return positions(loader.dataset)


def _logits(members: list[Any], inputs: Any, frames: int, count: int | None) -> Iterator[Tensor]:
    """The logits [B, K] of model after model, all on one device."""
    home = None
    for number, model in enumerate(members, 1):
        weight: Any = next(model.parameters(), None) if isinstance(model, nn.Module) else None
        moves = weight is not None and hasattr(inputs, "to")
        logits = model(inputs.to(weight.device) if moves else inputs)
        is_tensor = isinstance(logits, Tensor)
        count = logits.shape[-1] if is_tensor and count is None and logits.ndim else count
        if not is_tensor or logits.shape != (frames, count):
            what = list(logits.shape) if is_tensor else type(logits).__name__
            raise UserError(
                f"model {number} gives {what}, expected logits [{frames}, {count or 'K'}]"
            )
        home = home or logits.device
        yield logits.to(home, torch.promote_types(logits.dtype, torch.float32))


def _digest(model: Any) -> str:
    """SHA-256 of a module's weights; the name of another function."""
    if not isinstance(model, nn.Module):
        return str(getattr(model, "__qualname__", type(model).__qualname__))
    digest = hashlib.sha256()
    for name, value in sorted(model.state_dict().items()):
        if isinstance(value, Tensor):
            digest.update(f"{name} {value.dtype} {list(value.shape)}\n".encode())
            digest.update(value.cpu().contiguous().view(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()


@contextmanager
def _evaluating(members: list[Any]) -> Iterator[None]:
    """Modules are in evaluation mode within the block, and as before after it."""
    parts = [part for m in members if isinstance(m, nn.Module) for part in m.modules()]
    modes = [part.training for part in parts]
    try:
        for part in parts:
            part.eval()
        yield
    finally:
        for part, training in zip(parts, modes, strict=True):
            part.training = training
