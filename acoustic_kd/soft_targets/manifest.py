"""The manifest entry beside each shard: `shard-00000.json` describes `shard-00000.h5`.

It is written after the shard: a shard without it counts as unfinished.
"""

import math
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from acoustic_kd.soft_targets.encoding import SparseTargets
from acoustic_kd.soft_targets.header import Header
from acoustic_kd.soft_targets.shard import FORMAT
from acoustic_kd.soft_targets.targets import SoftTargets
from acoustic_kd.system.errors import UserError
from acoustic_kd.system.files import json_sha256, read_json, sha256, write_json
from acoustic_kd.system.memory import rows_per_block

DIVERGENCE_FRAMES = 64  # of a block, about, whose divergence is measured
MIN_TAIL = 2.0**-24  # mass of the classes that were not kept, when it is measured
DIGITS = 6  # of the measured numbers


@dataclass
class Measured:
    """Sums over the frames of a shard that measure the loss of its encoding."""

    frames: int = 0
    mass: float = 0.0
    entropy: float | None = 0.0
    divergence: float = 0.0
    divergence_frames: int = 0

    def add(self, probabilities: Tensor | SparseTargets, decoded: SoftTargets) -> None:
        """Add a block.

        Args:
            probabilities: [B, K], the predictions; if they are sparse, entropy and divergence are
                unknown.
            decoded: their soft targets.
        """
        self.frames += (total := len(decoded))
        if isinstance(probabilities, SparseTargets):
            self.mass += float(probabilities.top(decoded.width).probabilities.sum())
            self.entropy = None
            return
        self.entropy = (self.entropy or 0.0) + entropy(probabilities)
        for frames in torch.arange(total, device=probabilities.device).split(1024):
            block = probabilities[frames[0] : frames[-1] + 1]
            self.mass += float(kept_mass(block, decoded, frames))
        chosen = torch.arange(
            0, total, max(1, total // DIVERGENCE_FRAMES), device=probabilities.device
        )
        if decoded.encoding.name != "sampled":
            self.divergence += float(divergence(probabilities[chosen], decoded, chosen).sum())
            self.divergence_frames += len(chosen)

    def as_json(self) -> dict[str, Any]:
        """Means: kept mass (a share), entropy, KL(predictions ‖ decoded) in nats; None: unknown."""
        frames, measured = max(self.frames, 1), self.divergence_frames
        return {
            "kept_mass": _rounded(self.mass / frames),
            "entropy": None if self.entropy is None else _rounded(self.entropy / frames),
            "divergence": _rounded(self.divergence / measured) if measured else None,
            "divergence_frames": measured,
        }


def entropy(probabilities: Tensor) -> float:
    """The sum over rows of [B, K] of their entropy, in nats."""
    smallest = torch.finfo(probabilities.dtype).tiny  # 0 log 0 is 0
    total = sum(
        float(block.clamp(min=smallest).log_().mul_(block).sum(-1).sum(dtype=torch.float64))
        for block in probabilities.split(rows_per_block(probabilities))
    )
    return -total


def kept_mass(probabilities: Tensor, decoded: SoftTargets, frames: Tensor) -> Tensor:
    """Σ p [B, K] over the kept classes, summed over the frames."""
    classes, _ = decoded.batch(frames)
    if classes is None:
        return probabilities.sum(-1).sum(dtype=torch.float64)
    kept = probabilities.gather(-1, classes)
    if decoded.counts is not None:  # rows are padded with their first class
        steps = torch.arange(classes.shape[-1], device=frames.device)
        kept = kept * (steps < decoded.counts[frames, None])
    return kept.sum(-1).sum(dtype=torch.float64)


def divergence(probabilities: Tensor, decoded: SoftTargets, frames: Tensor) -> Tensor:
    """KL(p ‖ decoded) of each frame, float64 [B], nats.

    The missing mass is spread evenly over the classes that were not kept. Sampled soft targets
    have infinite divergence, because most of their classes have probability 0.

    Args:
        probabilities: [B, K], the predictions p for `frames`.
    """
    p = probabilities.double()
    classes, values = decoded.batch(frames)
    values = values.double()
    if classes is None:
        q = values.clamp(min=MIN_TAIL)
    else:
        kept = torch.zeros_like(p, dtype=torch.bool).scatter_(-1, classes, True)
        others = (~kept).sum(-1, keepdim=True)
        rest = (1 - values.sum(-1, keepdim=True)).clamp(min=MIN_TAIL) / others.clamp(min=1)
        # scatter_add, because padding has the class of an entry and probability 0.
        q = torch.where(kept, 0.0, rest).scatter_add(-1, classes, values).clamp(min=2.0**-60)
    # With q - p, which sums to 0 up to rounding, no term is negative.
    return (torch.xlogy(p, p) - p * q.log() + q - p).sum(-1)


@dataclass(frozen=True)
class Entry:
    """A manifest entry.

    Attributes:
        header: of the shard.
        sha256: of the file.
        bytes: its size.
        measured: see `Measured.as_json`.
    """

    header: Header
    sha256: str
    bytes: int
    measured: dict[str, Any] = field(default_factory=dict)


def entry_path(shard: Path) -> Path:
    """The path of the manifest entry of a shard."""
    return Path(shard).with_suffix(".json")


def write_entry(shard: Path, header: Header, measured: Measured) -> Entry:
    """Write the manifest entry of a new shard."""
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
    """Read the manifest entry of a shard."""
    path = entry_path(shard)
    if not path.exists():
        raise UserError(
            f"{shard}: {path.name} is missing, so the shard is unfinished; run soft-targets"
        )
    values = read_json(path)
    try:
        if values["format"] != FORMAT:
            raise UserError(f"{path}: format is '{values['format']}', expected '{FORMAT}'")
        if values.pop("digest") != json_sha256(values):
            raise ValueError
        if values["file"] != Path(shard).name:
            raise UserError(f"{path}: describes '{values['file']}', not '{Path(shard).name}'")
        header, measured = Header.from_json(values), dict(values["measured"])
        integers = (values["bytes"], measured["divergence_frames"])
        numbers = [measured[name] or 0 for name in ("kept_mass", "entropy", "divergence")]
        if not all(type(number) is int for number in integers) or not all(
            map(math.isfinite, numbers)
        ):
            raise ValueError
        if not isinstance(values["sha256"], str):
            raise TypeError
        return Entry(header, values["sha256"], values["bytes"], measured)
    except (KeyError, TypeError, ValueError, AttributeError, OverflowError):
        raise UserError(
            f"{path}: is damaged or was changed; delete it and run soft-targets again"
        ) from None


def is_finished(shard: Path) -> bool:
    """Whether a shard exists with the size in its manifest entry."""
    try:
        return Path(shard).stat().st_size == read_entry(shard).bytes
    except (OSError, UserError):
        return False


def check_pair(shard: Path, header: Header, entry: Entry) -> None:
    """Refuse a shard whose header or size differs from its manifest entry."""
    expected = entry.header.as_json()
    for key, value in header.as_json().items():
        if expected[key] != value:
            raise UserError(
                f"{shard}: {key} is {value}, but {entry_path(shard).name} says {expected[key]}; "
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
