"""A dataset of one's own with its soft targets, for a DataLoader."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from torch.utils.data import Dataset, Subset

from acoustic_kd.soft_targets.read import read_soft_targets
from acoustic_kd.soft_targets.targets import SoftTargets
from acoustic_kd.system.errors import UserError


def positions(dataset: Any) -> list[str]:
    """The keys of items without names, "0", "1", …; a Subset's are those in the whole dataset."""
    if isinstance(dataset, Subset):
        whole = positions(dataset.dataset)
        return [whole[number] for number in dataset.indices]
    return [str(number) for number in range(len(dataset))]


class WithSoftTargets(Dataset[tuple[Any, ...]]):
    """A map-style dataset whose item n is (*dataset[n], its soft targets), found by key.

    They are dense or `SparseTargets`: [K] or [k] if every item has one frame, otherwise [T, K] or
    [T, k].

    Args:
        dataset: each item is a tuple, or a single value such as a tensor.
        soft: a store, or soft targets in memory.
        keys: of the items; None: their positions, as `capture` numbers them.
        temperature: for `DistillationLoss`, also an attribute; None: that of the store.

    Raises:
        UserError: an item has no soft targets, or they cannot be read at this temperature.
    """

    def __init__(
        self,
        dataset: Any,
        soft: SoftTargets | str | Path,
        keys: Sequence[str] | None = None,
        temperature: float | None = None,
    ) -> None:
        if not isinstance(soft, SoftTargets):
            soft = read_soft_targets(soft, temperature=temperature)
        self.dataset, self.soft, self.temperature = dataset, soft, soft.temperature
        if temperature not in (None, soft.temperature):
            raise UserError(f"temperature is {soft.temperature}, but training needs {temperature}")
        self.keys, count = positions(dataset) if keys is None else list(keys), len(dataset)
        if len(self.keys) != count:
            raise UserError(f"there are {len(self.keys)} keys for {count} items")
        if missing := [key for key in self.keys if key not in soft.numbers]:
            raise UserError(
                f"no soft targets for {len(missing)} of {count} items, such as '{missing[0]}'; "
                "capture them, or give the keys of the items"
            )
        while isinstance(dataset, Subset):
            dataset = dataset.dataset
        if keys is None and str(len(dataset)) in soft.numbers:
            raise UserError(
                f"the soft targets are of more than these {len(dataset)} items, so positions may "
                "differ; give keys, or use torch.utils.data.Subset"
            )
        numbers = [soft.numbers[key] for key in self.keys]
        self._spans = np.stack([soft.offsets[:-1], soft.offsets[1:]], 1)[numbers]
        self._single = bool((np.diff(self._spans) == 1).all())

    def __len__(self) -> int:
        return len(self.keys)

    def __getitem__(self, number: int) -> tuple[Any, ...]:
        item = self.dataset[number]
        first, last = map(int, self._spans[number])
        soft = self.soft[first if self._single else slice(first, last)]
        return (*item, soft) if isinstance(item, tuple | list) else (item, soft)
