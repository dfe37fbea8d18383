"""How much memory tensors need at once, whatever the allocator keeps."""

import weakref
from collections.abc import Callable
from typing import Any

from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode


class Memory(TorchDispatchMode):
    """Within it, the bytes of the tensors that operations make and `counts` holds of.

    Attributes:
        most: that were alive at once.
    """

    def __init__(self, counts: Callable[[Tensor], bool]) -> None:
        super().__init__()
        self.counts, self.most = counts, 0
        self._alive: dict[int, int] = {}

    def __torch_dispatch__(
        self, function: Callable, types: Any, arguments: tuple = (), options: dict | None = None
    ) -> Any:
        """Count what an operation makes, for as long as its memory is held."""
        result = function(*arguments, **(options or {}))
        if isinstance(result, Tensor) and self.counts(result):
            storage = result.untyped_storage()
            key = storage.data_ptr()
            if key not in self._alive:
                self._alive[key] = storage.nbytes()
                weakref.finalize(storage, self._alive.pop, key, None)
                self.most = max(self.most, sum(self._alive.values()))
        return result
