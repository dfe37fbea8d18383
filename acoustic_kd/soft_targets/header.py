"""The description of the soft targets in a shard."""

import json
import math
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Any

from acoustic_kd.soft_targets.encoding import BITS, NAMES, Encoding

STORE_FIELDS = ("num_classes", "inventory", "temperature", "mean", "weights", "members", "encoding")
RANGES = {  # the smallest and the largest value of each integer
    "num_classes": (1, (1 << 31) - 1),
    "frames": (0, 1 << 40),
    "utterances": (0, 1 << 40),
    "block_frames": (1, 1 << 40),
    "kept_classes": (1, (1 << 31) - 1),
    "seed": (0, math.inf),
}
CHOICES = {
    "mean": ("arithmetic", "geometric"),
    "encoding": NAMES,
    "bits": BITS,
}


@dataclass(frozen=True)
class Header:
    """The description of a shard's soft targets.

    Attributes:
        num_classes: K.
        inventory: hash of the classes.
        temperature: of the members' predictions.
        mean: arithmetic or geometric.
        weights: of the members in the mean, with the sum 1; None: equal.
        members: digests of the members.
        encoding: for K classes.
        frames, utterances: their numbers T and U.
        block_frames: frames in each block but the last.
    """

    num_classes: int
    inventory: str
    temperature: float
    mean: str
    weights: tuple[float, ...] | None
    members: tuple[str, ...]
    encoding: Encoding
    frames: int
    utterances: int
    block_frames: int

    @property
    def blocks(self) -> range:
        """The numbers of the blocks."""
        return range(-(-self.frames // self.block_frames))

    def span(self, block: int, stop: int | None = None) -> slice:
        """The frames of a block, or of those from `block` to `stop` - 1."""
        stop, size = block + 1 if stop is None else stop, self.block_frames
        return slice(block * size, min(stop * size, self.frames))

    def differences_from(self, other: "Header", name: str) -> Iterator[str]:
        """What must be equal in a store and differs from `other`, the header of shard `name`."""
        for field in STORE_FIELDS:
            value, expected = getattr(self, field), getattr(other, field)
            if value != expected:
                yield f"{field} is {value}, but in {name} it is {expected}"

    def as_json(self) -> dict[str, Any]:
        """Plain values; the encoding's fields are beside the others."""
        values = asdict(self)
        encoding = values.pop("encoding")
        encoding["encoding"] = encoding.pop("name")
        plain: dict[str, Any] = json.loads(json.dumps(values | encoding))
        return plain

    @classmethod
    def from_json(cls, values: dict[str, Any]) -> "Header":
        """The header of values by `as_json`; KeyError, TypeError or ValueError if there is none."""
        _check(values)
        kept = {key: values[key] for key in Encoding.__dataclass_fields__ if key != "name"}
        plain = {key: values[key] for key in cls.__dataclass_fields__}
        for key in ("members", "weights"):
            plain[key] = None if plain[key] is None else tuple(plain[key])
        return cls(**plain | {"encoding": Encoding(values["encoding"], **kept)})


def _check(values: dict[str, Any]) -> None:
    """Refuse values that no header has, by a ValueError that names the first one."""
    encoding, classes, members = values["encoding"], values["num_classes"], values["members"]
    right = {
        name: type(values[name]) is int and least <= values[name] <= most
        for name, (least, most) in RANGES.items()
    }
    right |= {name: values[name] in choices for name, choices in CHOICES.items()}
    right["inventory"] = isinstance(values["inventory"], str)
    right["temperature"] = _is_positive(values["temperature"])
    right["members"] = isinstance(members, list) and all(isinstance(m, str) for m in members)
    right["kept_mass"] = _is_positive(values["kept_mass"]) and values["kept_mass"] <= 1
    if weights := values["weights"]:
        fits = isinstance(weights, list) and right["members"] and len(weights) == len(members)
        right["weights"] = fits and all(w == 0 or _is_positive(w) for w in weights)
    for name in (name for name, is_right in right.items() if not is_right):
        raise ValueError(f"'{name}' is {str(values[name])[:50]}")
    kept = values["kept_classes"]
    if encoding == "dense" and kept != classes:
        raise ValueError(f"'kept_classes' is {kept}, but dense has {classes} classes")
    if encoding in ("top-k", "top-p") and kept > classes:
        raise ValueError(f"'kept_classes' is {kept} of {classes} classes")


def _is_positive(number: object) -> bool:
    return type(number) in (int, float) and 0 < float(number) < math.inf  # type: ignore[arg-type]
