"""C: which triphones a graph needs, and what their HMM states are."""

from dataclasses import dataclass
from typing import Protocol

import numpy as np

STATES = 3  # HMM states a phone


class Inventory(Protocol):
    """What the graph needs of a senone inventory; P phones.

    Attributes:
        phones: the phones, silence first.
        table: int32 [P, P, P, 3], (left, centre, right phone, HMM state) → senone.
        num_senones: number of senones, K.
    """

    @property
    def phones(self) -> tuple[str, ...]: ...

    @property
    def table(self) -> np.ndarray: ...

    @property
    def num_senones(self) -> int: ...


@dataclass
class Contexts:
    """Phones after their left neighbour, and triphones; those with the same senones are one.

    A pair is a phone (the centre) after another, waiting for the phone to its right to be known.

    Attributes:
        pair: int32 [P, P] left and centre phone → pair; Q pairs.
        centre: int32 [Q].
        hmm: int32 [Q, P] pair and right phone → HMM.
        senones: int32 [HMMs, 3] the different HMMs, sorted.
    """

    pair: np.ndarray
    centre: np.ndarray
    hmm: np.ndarray
    senones: np.ndarray


def contexts_of(inventory: Inventory) -> Contexts:
    """Join pairs that no right phone tells apart, and triphones of the same senones."""
    table = np.asarray(inventory.table)
    count = len(inventory.phones)
    # Each HMM as one number: whole rows take twenty times as long to sort.
    shape = (inventory.num_senones,) * STATES
    numbers, hmm = np.unique(
        np.ravel_multi_index(tuple(np.moveaxis(table, -1, 0)), shape), return_inverse=True
    )
    senones = np.stack(np.unravel_index(numbers, shape), axis=1).astype(np.int32)
    hmm = hmm.reshape(count, count, count).astype(np.int32)
    pair = np.zeros((count, count), np.int32)
    centre: list[int] = []
    rows: list[np.ndarray] = []
    for phone in range(count):
        kinds, which = np.unique(hmm[:, phone], axis=0, return_inverse=True)
        pair[:, phone] = len(centre) + which.reshape(-1)
        centre += [phone] * len(kinds)
        rows.append(kinds)
    return Contexts(pair, np.array(centre, np.int32), np.concatenate(rows), senones)
