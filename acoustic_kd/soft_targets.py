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

    def on(self, device: torch.device, count: int) -> tuple[Tensor | None, Tensor]:
        """Classes int64 [T, k] and probabilities [T, k] on a device, for `distillation_loss`.

        Where all `count` classes were kept the probabilities are put in the order of the classes,
        which then go without saying (None): the dense loss is the same, and cheaper.
        """
        classes, probabilities = self.classes.to(device).long(), self.probabilities.to(device)
        if classes.shape[1] < count:
            return classes, probabilities
        return None, torch.zeros_like(probabilities).scatter_(1, classes, probabilities)


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
    rows = {name: number for number, name in enumerate(frames.ids)}
    lengths = np.diff(frames.offsets)
    found = np.zeros(len(rows), bool)
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
        # The store may cover more than this training uses: what it does not is left out (-1).
        places = np.array([rows.get(name, -1) for name in names], np.int64)
        here = np.flatnonzero(places >= 0)
        there = places[here]
        kept = np.diff(offsets)[here]
        for number in np.flatnonzero(kept != lengths[there]):
            raise UserError(
                f"{path}: utterance '{names[here[number]]}' has {kept[number]} frames of soft "
                f"targets but {lengths[there[number]]} of features; make the soft targets again"
            )
        source, target = (
            np.repeat(first - np.cumsum(kept) + kept, kept) + np.arange(kept.sum())
            for first in (offsets[here], frames.offsets[there])
        )
        classes[target], probabilities[target] = stored_classes[source], stored[source]
        found[there] = True
    missing = np.flatnonzero(~found)
    if len(missing):
        raise UserError(
            f"{directory}: no soft targets for {len(missing)} of {len(frames.ids)} utterances, "
            f"'{frames.ids[missing[0]]}' among them; run soft-targets on this transfer set"
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
