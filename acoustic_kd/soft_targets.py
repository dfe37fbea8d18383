"""HDF5 soft-target shards: the ensemble's tempered predictions, keyed by utterance and frame.

Shard n holds the soft targets of the utterances of frame shard n:

    classes        [T, k]  uint16 or uint32, the k most probable classes of each frame
    probabilities  [T, k]  float16, theirs, most probable first
    ids            [U]     UTF-8, the utterances
    offsets        [U + 1] int64, utterance u is frames offsets[u] … offsets[u + 1] - 1

with attributes `format`, `num_classes` (K), `inventory` (hash of the classes), `temperature`,
`mean` (how the members were averaged), `members` (their digests) and `kept_mass` (mean Σ p over
the kept classes). The mass of a frame's other classes is 1 - Σ p.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import h5py
import numpy as np
import torch
from torch import Tensor

from acoustic_kd.errors import UserError
from acoustic_kd.files import atomic_path
from acoustic_kd.frames import Classes, Frames, open_shard, shard_paths

FORMAT = "acoustic_kd soft targets 1"


@dataclass(frozen=True)
class Origin:
    """Where soft targets come from.

    Attributes:
        temperature: of the members' predictions.
        members: digests of the members that were averaged.
        mean: how.
    """

    temperature: float
    members: tuple[str, ...]
    mean: str = "arithmetic"


@dataclass(frozen=True)
class SoftTargets:
    """Soft targets in memory, frame for frame those of a `Frames`.

    Attributes:
        classes: int [T, k], the kept classes.
        probabilities: float16 [T, k].
        temperature: at which they were made, and at which they must be learnt.
    """

    classes: Tensor
    probabilities: Tensor
    temperature: float


def write_shard(
    path: Path,
    frames: Frames,
    predict: Callable[[Tensor], Tensor],
    origin: Origin,
    kept: int,
    batch: int = 4096,
) -> float:
    """Write the soft targets of `frames` as one shard; returns the mean kept mass.

    Args:
        predict: frame numbers int64 [B] → probabilities [B, K] at `origin.temperature`.
        kept: k, how many classes a frame keeps (all of them where K is smaller).
    """
    count = frames.classes.count
    kept = min(kept, count)
    classes = np.empty((len(frames), kept), np.uint16 if count <= 1 << 16 else np.uint32)
    probabilities = np.empty((len(frames), kept), np.float16)
    mass = 0.0
    for start in range(0, len(frames), batch):
        numbers = torch.arange(start, min(start + batch, len(frames)))
        top = predict(numbers).topk(kept, dim=-1)
        span = slice(start, start + len(numbers))
        classes[span] = top.indices.cpu().numpy()
        probabilities[span] = top.values.cpu().numpy()
        mass += float(top.values.double().sum())
    mass /= max(len(frames), 1)
    with atomic_path(path) as temporary, h5py.File(temporary, "w") as file:
        file.attrs["format"] = FORMAT
        file.attrs["num_classes"] = count
        file.attrs["inventory"] = frames.classes.inventory
        file.attrs["temperature"] = origin.temperature
        file.attrs["mean"] = origin.mean
        file.attrs["members"] = list(origin.members)
        file.attrs["kept_mass"] = mass
        file.create_dataset("classes", data=classes)
        file.create_dataset("probabilities", data=probabilities)
        file.create_dataset("ids", data=frames.ids, dtype=h5py.string_dtype())
        file.create_dataset("offsets", data=frames.offsets)
    return mass


def read_soft_targets(directory: Path, frames: Frames, temperature: float) -> SoftTargets:
    """Read the soft targets of `frames`, found by utterance, in whatever order they were stored.

    Raises:
        UserError: an utterance is missing, or frame count, classes, class inventory or temperature
            differ from what training asks for; both sides are named.
    """
    rows = {name: span for name, span in frames.spans()}
    classes = probabilities = None
    for path in shard_paths(directory):
        with open_shard(path, FORMAT) as file:
            _check(path, file, frames.classes, temperature)
            stored_classes, stored = file["classes"][:], file["probabilities"][:]
            offsets = file["offsets"][:]
            names = file["ids"].asstr()[:]
        if classes is None:
            classes = np.zeros((len(frames), stored.shape[1]), stored_classes.dtype)
            probabilities = np.zeros((len(frames), stored.shape[1]), np.float16)
        for number, name in enumerate(names):
            span = rows.pop(name, None)
            if span is None:
                continue  # the store may cover more than this training uses
            here = slice(offsets[number], offsets[number + 1])
            if here.stop - here.start != span.stop - span.start:
                raise UserError(
                    f"{path}: utterance '{name}' has {here.stop - here.start} frames of soft "
                    f"targets but {span.stop - span.start} of features; make the soft targets again"
                )
            classes[span], probabilities[span] = stored_classes[here], stored[here]
    if rows:
        raise UserError(
            f"{directory}: no soft targets for {len(rows)} of {len(frames.ids)} utterances, "
            f"'{next(iter(rows))}' among them; run soft-targets on this transfer set"
        )
    return SoftTargets(
        torch.from_numpy(classes.astype(np.int32)), torch.from_numpy(probabilities), temperature
    )


def _check(path: Path, file: h5py.File, classes: Classes, temperature: float) -> None:
    facts = [
        ("number of classes", int(file.attrs["num_classes"]), classes.count),
        ("class inventory", str(file.attrs["inventory"]), classes.inventory),
        ("temperature", float(file.attrs["temperature"]), float(temperature)),
    ]
    for what, found, expected in facts:
        if found != expected:
            raise UserError(f"{path}: {what} is {found}, but training asks for {expected}")
