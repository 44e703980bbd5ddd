"""The bytes of all tensors that are alive at once: a count, the same in every run, where a process's memory is a measurement."""

from __future__ import annotations

import weakref
from collections.abc import Callable
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves


class LiveBytes(TorchDispatchMode):
    """Counts the storages of tensors that are made while it is entered, saved ones of autograd's graphs included.

    Tensors that lie on another's memory (views) count once. What was made before, such as a network's weights, does not count;
    nor does memory that a kernel takes and gives back within one operation.

    Attributes:
        live: bytes now. peak: the most so far.
    """

    def __init__(self) -> None:
        super().__init__()
        self.live = self.peak = 0
        self._sizes: dict[int, int] = {}

    def __torch_dispatch__(
        self, function: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        found = function(*args, **(kwargs or {}))
        for tensor in tree_leaves(found):
            if isinstance(tensor, torch.Tensor):
                storage = tensor.untyped_storage()
                if storage._cdata not in self._sizes:
                    self._sizes[storage._cdata] = storage.nbytes()
                    self.live += storage.nbytes()
                    self.peak = max(self.peak, self.live)
                    weakref.finalize(storage, self._gone, storage._cdata)
        return found

    def _gone(self, key: int) -> None:
        self.live -= self._sizes.pop(key)
