"""The manifest entry beside each shard: `shard-00000.json` says what `shard-00000.h5` must be.

It is written after the shard: a shard without it counts as not written.
"""

import math
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from acoustic_kd.soft_targets.shard import FORMAT, Header
from acoustic_kd.soft_targets.targets import SoftTargets
from acoustic_kd.system.errors import UserError
from acoustic_kd.system.files import json_sha256, read_json, sha256, write_json
from acoustic_kd.system.memory import rows_per_block

SAMPLED = 64  # frames of a block whose divergence is measured
FLOOR = 2.0**-24  # mass of the classes that were not kept, at the least, when it is measured
DIGITS = 6  # of the measured numbers


@dataclass
class Measured:
    """Sums over the frames of a shard of what its encoding keeps."""

    frames: int = 0
    mass: float = 0.0
    entropy: float = 0.0
    divergence: float = 0.0
    divergence_frames: int = 0

    def add(self, probabilities: Tensor, decoded: SoftTargets) -> None:
        """Take a block into account.

        Args:
            probabilities: [B, K], the predictions.
            decoded: theirs, encoded.
        """
        total = len(probabilities)
        self.frames += total
        self.entropy += entropy(probabilities)
        for part in torch.arange(total, device=probabilities.device).split(1024):
            self.mass += float(kept_mass(probabilities[part[0] : part[-1] + 1], decoded, part))
        chosen = torch.arange(0, total, max(1, total // SAMPLED), device=probabilities.device)
        if decoded.encoding.name != "sampled":
            self.divergence += float(divergence(probabilities[chosen], decoded, chosen).sum())
            self.divergence_frames += len(chosen)

    def as_json(self) -> dict[str, Any]:
        """Means: kept mass (a share), entropy and KL(predictions ‖ decoded), in nats."""
        frames, some = max(self.frames, 1), self.divergence_frames
        return {
            "kept_mass": _rounded(self.mass / frames),
            "entropy": _rounded(self.entropy / frames),
            "divergence": _rounded(self.divergence / some) if some else None,
            "divergence_frames": some,
        }


def entropy(probabilities: Tensor) -> float:
    """The entropy of each row of [B, K], nats, summed over the rows."""
    smallest = torch.finfo(probabilities.dtype).tiny  # 0 log 0 is 0
    total = sum(
        float(part.clamp(min=smallest).log_().mul_(part).sum(-1).sum(dtype=torch.float64))
        for part in probabilities.split(rows_per_block(probabilities))
    )
    return -total


def kept_mass(probabilities: Tensor, decoded: SoftTargets, frames: Tensor) -> Tensor:
    """Σ p [B, K] over the kept classes of `frames`, summed over them too."""
    classes, _ = decoded.batch(frames)
    if classes is None:
        return probabilities.sum(-1).sum(dtype=torch.float64)
    kept = probabilities.gather(-1, classes)
    if decoded.counts is not None:  # a row is filled up with a class that it has already
        filled = (
            torch.arange(classes.shape[-1], device=frames.device) < decoded.counts[frames, None]
        )
        kept = kept * filled
    return kept.sum(-1).sum(dtype=torch.float64)


def divergence(probabilities: Tensor, decoded: SoftTargets, frames: Tensor) -> Tensor:
    """KL(p ‖ decoded) of each frame, float64 [B], nats.

    The mass that is missing is spread evenly over the classes that were not kept. It is infinite
    for sampled ones, most of whose classes have probability 0.

    Args:
        probabilities: [B, K], the predictions p for `frames`.
    """
    p = probabilities.double()
    classes, found = decoded.batch(frames)
    found = found.double()
    if classes is None:
        q = found.clamp(min=FLOOR)
    else:
        kept = torch.zeros_like(p, dtype=torch.bool).scatter_(-1, classes, True)
        others = (~kept).sum(-1, keepdim=True)
        rest = (1 - found.sum(-1, keepdim=True)).clamp(min=FLOOR) / others.clamp(min=1)
        # Added, because a padded entry has the class of a real one and probability 0.
        q = torch.where(kept, 0.0, rest).scatter_add(-1, classes, found).clamp(min=2.0**-60)
    # With q - p, which sum to nothing but for their rounding, no term is negative.
    return (torch.xlogy(p, p) - p * q.log() + q - p).sum(-1)


@dataclass(frozen=True)
class Entry:
    """A manifest entry.

    Attributes:
        header: as it must stand in the shard.
        sha256: of the file.
        bytes: its size.
        measured: what the encoding keeps, `Measured.as_json`.
    """

    header: Header
    sha256: str
    bytes: int
    measured: dict[str, Any] = field(default_factory=dict)


def entry_path(shard: Path) -> Path:
    """Where the manifest entry of a shard is."""
    return Path(shard).with_suffix(".json")


def write_entry(shard: Path, header: Header, measured: Measured) -> Entry:
    """Write the manifest entry of a shard that has just been written."""
    size = shard.stat().st_size
    entry = Entry(header, sha256(shard), size, measured.as_json())
    values = {"format": FORMAT, "file": shard.name, "bytes": size, "sha256": entry.sha256}
    values |= header.as_json() | {
        "bytes_per_frame": _rounded(size / max(header.frames, 1)),
        "measured": entry.measured,
    }
    write_json(entry_path(shard), values | {"digest": json_sha256(values)})
    return entry


def read_entry(shard: Path) -> Entry:
    """The manifest entry of a shard."""
    path = entry_path(shard)
    if not path.exists():
        raise UserError(
            f"{shard}: there is no {path.name} beside it, so it was not finished; run soft-targets"
        )
    values = read_json(path)
    try:
        if values["format"] != FORMAT:
            raise UserError(f"{path}: format is '{values['format']}', expected '{FORMAT}'")
        if values.pop("digest") != json_sha256(values):
            raise ValueError
        if values["file"] != Path(shard).name:
            raise UserError(f"{path}: describes '{values['file']}', not '{Path(shard).name}'")
        header = Header.from_json(values)
        return Entry(header, values["sha256"], values["bytes"], dict(values["measured"]))
    except (KeyError, TypeError, ValueError, AttributeError):
        raise UserError(
            f"{path}: not a manifest entry, or changed; delete it and run soft-targets again"
        ) from None


def is_finished(shard: Path) -> bool:
    """Whether a shard and its manifest entry are there, and fit together in size."""
    try:
        return Path(shard).stat().st_size == read_entry(shard).bytes
    except (OSError, UserError):
        return False


def check_pair(shard: Path, header: Header, entry: Entry) -> None:
    """Whether a shard's header is that of its manifest entry."""
    inside, outside = header.as_json(), entry.header.as_json()
    for key, value in inside.items():
        if outside[key] != value:
            raise UserError(
                f"{shard}: {key} is {value}, but {entry_path(shard).name} says {outside[key]}; "
                "delete both and run soft-targets again"
            )
    size = Path(shard).stat().st_size
    if size != entry.bytes:
        raise UserError(
            f"{shard}: {size} bytes, but {entry_path(shard).name} says {entry.bytes}; delete both "
            "and run soft-targets again"
        )


def _rounded(number: float) -> float:
    return float(f"{number:.{DIGITS}g}") if math.isfinite(number) else 0.0
