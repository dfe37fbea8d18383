"""The senone inventory: which class every state of every triphone belongs to.

A senone is a leaf of a phonetic decision tree (built in `tree`): a rectangle of contexts, left
phones × right phones, for one state of one centre phone. The rectangles of a state cover all
contexts, so every triphone, seen in training or not, has its senone.
"""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from itertools import product
from pathlib import Path
from typing import Literal, TypedDict

import numpy as np

from acoustic_kd.alignment.segmentation import Segmentation
from acoustic_kd.decoding.graph.contexts import STATES
from acoustic_kd.features.frame_sequence import Classes
from acoustic_kd.language.lexicon import SILENCE
from acoustic_kd.system.errors import UserError
from acoustic_kd.system.files import AGAIN, json_sha256, read_json, write_json

FORMAT = "acoustic_kd senones 1"
UNSEEN_FRAMES = 1e-3  # of a context that no frame has


@dataclass(frozen=True)
class Leaf:
    """One senone: state `state` of phone `phone` between any of `left` and any of `right`."""

    phone: str
    state: int
    left: tuple[str, ...]
    right: tuple[str, ...]


@dataclass(frozen=True)
class SenoneInventory:
    """All senones, numbered in the order of `leaves`.

    Attributes:
        phones: P phones; the first is silence, whose states do not depend on context.
        leaves: K senones.
    """

    phones: tuple[str, ...]
    leaves: tuple[Leaf, ...]

    @property
    def num_senones(self) -> int:
        """K, the number of classes of the acoustic model."""
        return len(self.leaves)

    @cached_property
    def index(self) -> dict[str, int]:
        """Phone → its number."""
        return {phone: number for number, phone in enumerate(self.phones)}

    @cached_property
    def table(self) -> np.ndarray:
        """int32 [P, P, P, 3]: left phone, centre phone, right phone, HMM state → senone."""
        count = len(self.phones)
        table = np.full((count, count, count, STATES), -1, np.int32)
        for senone, leaf in enumerate(self.leaves):
            left = [self.index[phone] for phone in leaf.left]
            right = [self.index[phone] for phone in leaf.right]
            table[np.ix_(left, [self.index[leaf.phone]], right, [leaf.state])] = senone
        if (table < 0).any():
            centre, state = np.argwhere(table < 0)[0][[1, 3]]
            raise UserError(
                f"senone inventory: state {state} of phone '{self.phones[centre]}' has contexts "
                "without a senone; build the tree again"
            )
        return table

    @cached_property
    def classes(self) -> Classes:
        """Number and hash of the classes, as stores of frames and soft targets record them."""
        return Classes(self.num_senones, json_sha256(self._json())[:32])

    def names(self) -> list[str]:
        """A short readable name a senone, such as `AH_1.17`: phone, state, number."""
        return [f"{leaf.phone}_{leaf.state}.{n}" for n, leaf in enumerate(self.leaves)]

    def contexts(self, phones: Iterable[str]) -> np.ndarray:
        """Triphones of a phone sequence; beyond its ends is silence.

        Returns:
            int64 [N, 3]: left, centre and right phone of each of the N phones.
        """
        try:
            numbers = np.array([self.index[phone] for phone in phones], np.int64)
        except KeyError as error:
            raise UserError(f"phone {error} is not in the senone inventory") from None
        left = np.concatenate([[0], numbers[:-1]])
        right = np.concatenate([numbers[1:], [0]])
        return np.stack([left, numbers, right], axis=1)

    def targets(self, segmentation: Segmentation) -> np.ndarray:
        """The senone of every frame, int32 [T]."""
        return np.repeat(*self.visits(segmentation))

    def visits(self, segmentation: Segmentation) -> tuple[np.ndarray, np.ndarray]:
        """The senones an utterance passes through, int32 [3·N], and frames in each, int64."""
        left, centre, right = self.contexts(segmentation.phones).T
        return self.table[left, centre, right].ravel(), segmentation.durations.ravel()

    def segmentation(self, name: str, targets: np.ndarray) -> Segmentation:
        """The segmentation whose senones are `targets`, int [T]; every state has a frame.

        A leaf belongs to one phone and one state, so the segments end where the state changes: a
        phone that follows itself begins where state 0 follows state 2.
        """
        states = np.array([leaf.state for leaf in self.leaves])[targets]
        first = np.flatnonzero(np.diff(states, prepend=-1))
        if len(first) % STATES or (states[first] != np.arange(len(first)) % STATES).any():
            raise ValueError(f"{name}: the senones do not go through whole phones")
        durations = np.diff(first, append=len(targets)).reshape(-1, STATES)
        phones = tuple(self.leaves[senone].phone for senone in targets[first[::STATES]])
        return Segmentation(name, phones, durations.astype(np.int64))

    def _json(self) -> dict:
        leaves = [vars(leaf) for leaf in self.leaves]
        return {"format": FORMAT, "phones": self.phones, "leaves": leaves}

    def write(self, path: Path) -> None:
        """Write the inventory as JSON."""
        write_json(path, self._json())


def conversion(
    source: SenoneInventory, target: SenoneInventory, segmentations: Iterable[Segmentation]
) -> np.ndarray:
    """P(senone of `target` | senone of `source`), float32 [K source, K target]; rows sum to 1.

    Counted over the frames of some segmentations, as in Wong and Gales, *Student-teacher training
    with diverse decision tree ensembles* (2017). Contexts that both leaves have count a little
    without frames, too.
    """
    counts = np.zeros((source.num_senones, target.num_senones))
    np.add.at(counts, (source.table.ravel(), target.table.ravel()), UNSEEN_FRAMES)
    for segmentation in segmentations:
        senones, frames = source.visits(segmentation)
        np.add.at(counts, (senones, target.visits(segmentation)[0]), frames)
    shares: np.ndarray = (counts / counts.sum(1, keepdims=True)).astype(np.float32)
    return shares


def monophones(phones: tuple[str, ...]) -> SenoneInventory:
    """One senone a state of each phone, whatever its context; state s of phone p is 3·p + s."""
    return SenoneInventory(
        phones, tuple(Leaf(p, state, phones, phones) for p in phones for state in range(STATES))
    )


class _Leaf(TypedDict):
    phone: str
    state: Literal[0, 1, 2]
    left: tuple[str, ...]
    right: tuple[str, ...]


class _Inventory(TypedDict):
    format: str
    phones: tuple[str, ...]
    leaves: list[_Leaf]


def read_inventory(path: Path) -> SenoneInventory:
    """Read what `SenoneInventory.write` wrote."""
    value = read_json(path)
    if not isinstance(value, dict) or value.get("format") != FORMAT:
        raise UserError(f"{path}: not a senone inventory ('{FORMAT}')")
    value = read_json(path, _Inventory, "a senone inventory")
    phones = value["phones"]
    leaves = tuple(Leaf(r["phone"], r["state"], r["left"], r["right"]) for r in value["leaves"])
    if phones[:1] != (SILENCE,):
        raise UserError(f"{path}: the first phone must be {SILENCE}")
    covered: Counter[tuple[str, int]] = Counter()
    for leaf in leaves:
        covered[leaf.phone, leaf.state] += len(leaf.left) * len(leaf.right)
    named = {phone for leaf in leaves for phone in (leaf.phone, *leaf.left, *leaf.right)}
    everything = dict.fromkeys(product(phones, range(STATES)), len(phones) ** 2)
    if covered != everything or not named <= set(phones):
        raise UserError(f"{path}: its leaves do not cover each context once; {AGAIN}")
    return SenoneInventory(phones, leaves)


class Occupancies(TypedDict):
    """The content of `statistics.json`: frames and visits of each senone on train."""

    frames: list[int]
    visits: list[int]


def read_statistics(path: Path) -> tuple[np.ndarray, np.ndarray]:
    """Log priors [K] and mean durations in frames [K] of the senones on the train split.

    A senone that never occurs counts as one visit of one frame.

    Args:
        path: `statistics.json` of the frames stage.
    """
    statistics = read_json(path, Occupancies, "the frequencies of senones")
    if not 0 < len(statistics["frames"]) == len(statistics["visits"]):
        raise UserError(f"{path}: its two lists differ in length; {AGAIN}")
    frames = np.maximum(np.array(statistics["frames"], np.float64), 1)
    visits = np.maximum(np.array(statistics["visits"], np.float64), 1)
    return np.log(frames / frames.sum()), frames / visits
