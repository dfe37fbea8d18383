"""Encodings of a frame's soft target: which classes are stored, and in how many bits.

Four encodings share one flat layout: the entries of frame after frame. An entry is a class and a
code for its probability.

    dense    all K classes, in their order; the classes themselves are not stored
    top-k    the k most probable classes, most probable first
    top-p    as many of the most probable classes as hold the mass p, at least one, at most k
    sampled  the distinct classes of k draws with replacement from the prediction; the stored
             probability is (times drawn) / k, with the true one as its expectation (importance
             sampling as in "Sparse Logit Sampling", 2025; the stored rows sum to 1, without a tail)

At 16 bits a code is a float16 probability: relative error at most 2^-11 from 6.1e-5 up, absolute
error at most 2^-25 below. At 8 bits it is logarithmic, p = 2^(-code / 16): code 0 is 1, 254 is
1.7e-5, 255 is 0; the relative error is at most 2^(1/32) - 1 = 2.2 %. Such errors exceed the mass of
the classes that were not kept, so at 8 bits this mass is stored too, as one more code per frame.
Counts of draws are exact.

Shapes: B frames, K classes, k kept classes, N entries.
"""

from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import pad

from acoustic_kd.system.errors import UserError
from acoustic_kd.system.files import json_sha256

NAMES, BITS = ("dense", "top-k", "top-p", "sampled"), (8, 16)
CODES_PER_OCTAVE = 16  # codes to a factor of 2
ZERO_CODE = 255  # of probability 0
MAX_DRAWS_PER_CLASS, MIN_DRAW_LIMIT = 10, 5000  # more draws cost more than all classes
DRAW_FRAMES = 512  # to draw from at once: the sums are in float64


class SparseTargets(NamedTuple):
    """Classes int64 [B, k] and probabilities [B, k] of the k most probable classes of each frame.

    Of one frame both are [k]; a DataLoader stacks them. What a row lacks to 1 is the mass of all
    other classes. An entry of probability 0 is padding.
    """

    classes: Tensor
    probabilities: Tensor

    @classmethod
    def from_logprobs(cls, classes: Tensor, logprobs: Tensor) -> "SparseTargets":
        """From natural logarithms of probabilities, as servers of language models return them.

        Store and learn them at the server's temperature, mostly 1.
        """
        return cls(classes, logprobs.exp())

    def to(self, device: torch.device | str) -> "SparseTargets":
        """On a device."""
        return SparseTargets(*(tensor.to(device) for tensor in self))

    def top(self, k: int) -> "SparseTargets":
        """The k most probable classes, most probable first, padded with the first."""
        p, order = pad(self.probabilities, (0, k)).sort(-1, descending=True)
        classes = pad(self.classes, (0, k)).gather(-1, order)[:, :k]
        return SparseTargets(torch.where(p[:, :k] > 0, classes, classes[:, :1]), p[:, :k])


@dataclass(frozen=True)
class Encoding:
    """Which classes are kept, and the code of their probabilities.

    Attributes:
        name: dense, top-k, top-p or sampled.
        kept_classes: k of top-k, the maximum of top-p, the number of draws of sampled.
        kept_mass: p of top-p.
        bits: of a code, 16 or 8.
        seed: of the draws.

    Raises:
        ValueError: a value is not as described.
    """

    name: str = "top-k"
    kept_classes: int = 20
    kept_mass: float = 0.98
    bits: int = 16
    seed: int = 0

    def __post_init__(self) -> None:
        if self.name not in NAMES or self.bits not in BITS:
            given = f"encoding is '{self.name}' at {self.bits} bits"
            raise ValueError(f"{given}, expected one of {NAMES} at 8 or 16 bits")
        if not (self.kept_classes >= 1 and 0 < self.kept_mass <= 1):
            given = f"kept_classes is {self.kept_classes} and kept_mass {self.kept_mass}"
            raise ValueError(f"{given}, expected kept_classes ≥ 1 and 0 < kept_mass ≤ 1")

    def of(self, count: int, sparse: bool = False) -> "Encoding":
        """This encoding for K = `count` classes; values that have no effect get fixed values."""
        name, kept = self.name, self.kept_classes
        if sparse and (name != "top-k" or count == 1):
            raise UserError(
                f"sparse predictions of {count} classes are stored as top-k, not {name}"
            )
        if not sparse and (name == "dense" or count == 1 or (name == "top-k" and kept >= count)):
            name, kept = "dense", count
            if self.bits == 8 and count > 1 << 15:
                raise UserError(
                    f"dense soft targets of {count} classes need 16 bits, because at 8 bits the "
                    "smallest probability is 1.7e-5; set soft_targets.bits=16"
                )
        elif name == "sampled":
            if self.bits == 8 and kept > 255:
                raise UserError(f"{kept} draws need 16 bits; set soft_targets.bits=16")
            if kept > (limit := max(MIN_DRAW_LIMIT, MAX_DRAWS_PER_CLASS * count)):
                raise UserError(
                    f"setting 'soft_targets.kept_classes' is {kept}; it must be at most {limit} "
                    f"for draws of {count} classes: soft_targets.encoding=dense stores less"
                )
        else:  # all classes but one say as much as all: the last one has the missing mass
            kept = min(kept, count - 1)
        mass = self.kept_mass if name == "top-p" else 1.0
        seed = self.seed if name == "sampled" else 0
        return replace(self, name=name, kept_classes=kept, kept_mass=mass, seed=seed)

    @property
    def varies(self) -> bool:
        """Whether frames differ in their number of entries."""
        return self.name in ("top-p", "sampled")

    @property
    def has_tail(self) -> bool:
        """Whether the mass of the classes that were not kept is stored."""
        return self.bits == 8 and self.name in ("top-k", "top-p")

    def arrays(self, count: int) -> dict[str, np.dtype]:
        """The stored arrays for K = `count` classes, with their types."""
        dtypes = {}
        if self.varies:
            dtypes["counts"] = np.min_scalar_type(self.kept_classes)
        if self.name != "dense":
            dtypes["classes"] = np.dtype(np.uint16 if count <= 1 << 16 else np.uint32)
        wide = np.uint16 if self.name == "sampled" else np.float16
        dtypes["codes"] = np.dtype(np.uint8 if self.bits == 8 else wide)
        if self.has_tail:
            dtypes["tails"] = np.dtype(np.uint8)
        return dtypes

    def __str__(self) -> str:
        text = {
            "dense": "dense",
            "top-k": f"top-k, k = {self.kept_classes}",
            "top-p": f"top-p, p = {self.kept_mass:g} of at most {self.kept_classes} classes",
            "sampled": f"sampled, {self.kept_classes} draws",
        }
        return f"{text[self.name]}, {self.bits} bits"


@dataclass(frozen=True)
class Encoded:
    """Encoded frames; None where the encoding has no such array."""

    counts: Tensor | None  # int64 [B], number of entries of each frame
    classes: Tensor | None  # integers [N]
    codes: Tensor  # [N], float16, uint8, or int64 numbers of draws
    tails: Tensor | None  # uint8 [B], codes of the mass of the classes that were not kept


def encode(probabilities: Tensor | SparseTargets, encoding: Encoding, *key: int | str) -> Encoded:
    """Encode predictions [B, K], on their device, by an encoding for K classes (`Encoding.of`).

    The same key and seed give the same draws.
    """
    if isinstance(probabilities, SparseTargets):
        classes, values = probabilities.top(encoding.kept_classes)
    elif encoding.name == "dense":
        return Encoded(None, None, to_codes(probabilities, encoding.bits).flatten(), None)
    elif encoding.name == "sampled":
        generator = torch.Generator().manual_seed(int(json_sha256([encoding.seed, *key])[:15], 16))
        blocks = probabilities.split(DRAW_FRAMES)
        drawn = [_draw(block, encoding.kept_classes, generator) for block in blocks]
        classes, times = (torch.cat(tensors) for tensors in zip(*drawn, strict=True))
        kept = times > 0
        return Encoded(kept.sum(-1), classes[kept], times[kept], None)
    else:
        values, classes = probabilities.topk(encoding.kept_classes, dim=-1)
    kept = torch.ones_like(classes, dtype=torch.bool)
    if encoding.name == "top-p":
        before = values.double().cumsum(-1) - values  # the mass of the more probable classes
        kept = before < encoding.kept_mass
        kept[:, 0] = True
    tails = None
    if encoding.has_tail:
        if isinstance(probabilities, SparseTargets):
            rest = (1 - values.double().sum(-1)).clamp(min=0)
        else:  # summed over the other classes: 1 - Σ p would lose its digits
            rest = probabilities.scatter(-1, classes, 0).sum(-1) + (values * ~kept).sum(-1)
        tails = to_codes(rest, 8)
    counts = kept.sum(-1) if encoding.varies else None
    return Encoded(counts, classes[kept], to_codes(values[kept], encoding.bits), tails)


def to_codes(probabilities: Tensor, bits: int) -> Tensor:
    """Codes of probabilities of any shape: float16, or logarithmic uint8."""
    if bits == 16:
        return probabilities.half()
    codes = (-CODES_PER_OCTAVE * probabilities.log2()).round().clamp(0, ZERO_CODE)
    return codes.to(torch.uint8)


def from_codes(codes: Tensor) -> Tensor:
    """float32 probabilities of codes of any shape."""
    if codes.dtype != torch.uint8:
        return codes.float()
    # A table of the 256 codes is faster than a power for each number.
    values = torch.exp2(torch.arange(ZERO_CODE + 1, device=codes.device) / -CODES_PER_OCTAVE)
    values[ZERO_CODE] = 0
    return values[codes.int()]


def _draw(probabilities: Tensor, draws: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Draw from [B, K] with replacement; returns classes and how often each was drawn.

    Both are int64 [B, draws]; a row's distinct classes come first, the others have count 0.
    """
    # Drawn on the CPU, so that every device gives the same draws.
    size = len(probabilities), draws
    uniform = torch.rand(size, dtype=torch.float64, generator=generator)
    sums = probabilities.double().cumsum(-1)
    classes = torch.searchsorted(sums, uniform.to(sums.device) * sums[:, -1:], right=True)
    classes = classes.clamp_(max=probabilities.shape[-1] - 1).sort(-1).values
    is_new = torch.ones_like(classes, dtype=torch.bool)
    is_new[:, 1:] = classes[:, 1:] != classes[:, :-1]
    place = is_new.cumsum(-1) - 1
    times = torch.zeros_like(classes).scatter_add_(1, place, torch.ones_like(classes))
    return torch.zeros_like(classes).scatter_(1, place, classes), times
