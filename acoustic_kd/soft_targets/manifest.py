"""The manifest entry beside each shard: `shard-00000.json` describes `shard-00000.h5`.

It is written after the shard: a shard without it counts as unfinished.
"""

import math
from dataclasses import dataclass
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
        """Add a block: predictions [B, K] and their soft targets.

        Entropy and divergence of sparse predictions are unknown.
        """
        self.frames += (total := len(decoded))
        if isinstance(probabilities, SparseTargets):
            self.mass += float(probabilities.top(decoded.width).probabilities.sum())
            self.entropy = None
            return
        smallest = torch.finfo(probabilities.dtype).tiny  # 0 log 0 is 0
        every = torch.arange(total, device=probabilities.device)
        for frames in every.split(rows_per_block(probabilities)):
            p = probabilities[frames[0] : frames[-1] + 1]
            logs = p.clamp(min=smallest).log_()
            entropy = -float(logs.mul_(p).sum(-1).sum(dtype=torch.float64))
            self.entropy = (self.entropy or 0.0) + entropy
            if (classes := decoded.batch(frames)[0]) is not None:
                p = p.gather(-1, classes)
            if decoded.counts is not None:  # rows are padded with their first class
                p = p * (torch.arange(p.shape[-1], device=p.device) < decoded.counts[frames, None])
            self.mass += float(p.sum(-1).sum(dtype=torch.float64))
        if decoded.encoding.name != "sampled":
            chosen = every[:: max(1, total // DIVERGENCE_FRAMES)]
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


def divergence(probabilities: Tensor, decoded: SoftTargets, frames: Tensor) -> Tensor:
    """KL(p ‖ decoded), float64 [B], nats, of some frames with the predictions p [B, K].

    The missing mass is spread evenly over the classes that were not kept. Sampled soft targets
    have infinite divergence, because most of their classes have probability 0.
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
    """A manifest entry: of the shard its header, check sum, size, and `Measured.as_json`."""

    header: Header
    sha256: str
    bytes: int
    measured: dict[str, Any]


def entry_path(shard: Path) -> Path:
    """The path of the manifest entry of a shard."""
    return Path(shard).with_suffix(".json")


def write_entry(shard: Path, header: Header, measured: Measured) -> Entry:
    """Write the manifest entry of a new shard."""
    size = shard.stat().st_size
    entry = Entry(header, sha256(shard), size, measured.as_json())
    values = {"format": FORMAT, "file": shard.name, "bytes": size, "sha256": entry.sha256}
    values |= header.as_json() | {"bytes_per_frame": _rounded(size / max(header.frames, 1))}
    values["measured"] = entry.measured
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
        numbers = [measured[name] or 0 for name in ("kept_mass", "entropy", "divergence")]
        types = type(values["sha256"]), type(values["bytes"]), type(measured["divergence_frames"])
        if types != (str, int, int) or not all(map(math.isfinite, numbers)):
            raise ValueError
        return Entry(header, values["sha256"], values["bytes"], measured)
    except (KeyError, TypeError, ValueError, AttributeError, OverflowError):
        raise UserError(
            f"{path}: is damaged or was changed; delete it and run soft-targets again"
        ) from None


def is_finished(shard: Path) -> bool:
    """Whether a shard exists with the size in its manifest entry."""
    try:
        return not size_problem(shard, read_entry(shard))
    except (OSError, UserError):
        return False


def size_problem(shard: Path, entry: Entry) -> str:
    """What is wrong with the size of a shard; "" if nothing."""
    if not Path(shard).exists():
        return f"{shard}: is missing, but {entry_path(shard).name} exists"
    if (size := Path(shard).stat().st_size) == entry.bytes:
        return ""
    says = f"{entry_path(shard).name} says {entry.bytes}"
    return f"{shard}: {size} bytes, but {says}; delete both and run soft-targets again"


def check_pair(shard: Path, header: Header, entry: Entry) -> None:
    """Refuse a shard whose header or size differs from its manifest entry."""
    expected = entry.header.as_json()
    for key, value in header.as_json().items():
        if expected[key] != value:
            raise UserError(
                f"{shard}: {key} is {value}, but {entry_path(shard).name} says {expected[key]}; "
                "delete both and run soft-targets again"
            )
    if problem := size_problem(shard, entry):
        raise UserError(problem)


def _rounded(number: float) -> float:
    return float(f"{number:.{DIGITS}g}") if math.isfinite(number) else 0.0
