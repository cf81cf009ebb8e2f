"""Memory for the states of many time steps, which is used again once every tensor in it is gone."""

from __future__ import annotations

import math

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

SMALLEST, LARGEST = 2**20, 2**28
"""Bytes of a buffer from which it is worth keeping, and of all that are kept for later."""
ALIGNMENT = 64
"""Bytes by which buffers are aligned, as torch's own are."""
TYPES = {torch.float32: "<f4", torch.float64: "<f8"}
_kept: dict[int, list[NDArray[np.uint8]]] = {}
"""Blocks that nothing uses, by size."""


class _Lease:
    """A block of memory in use, held by numpy's array of it and so by torch's tensor and its views."""

    def __init__(self, block: NDArray[np.uint8], shape: tuple[int, ...], dtype: str) -> None:
        first = block.ctypes.data - block.ctypes.data % -ALIGNMENT
        self.block = block
        self.__array_interface__ = {"version": 3, "shape": shape, "typestr": dtype, "data": (first, False)}

    def __del__(self) -> None:
        # Copies of the lists, as tensors end in any thread
        kept = sum(size * len(blocks) for size, blocks in list(_kept.items()))
        if kept + len(self.block) > LARGEST:
            _kept.clear()
        _kept.setdefault(len(self.block), []).append(self.block)


def new_buffer(like: Tensor, *shape: int) -> Tensor:
    """An uninitialised tensor of the type and device of another.

    Every pass makes its states anew, for they are what it returns. The first write to fresh memory costs more
    than what is written to it: at 10,000 units a tenth of a training step. So blocks are used again.

    Examples
    --------
    >>> states = new_buffer(torch.zeros(1), 300, 1000)
    >>> address = states.data_ptr()
    >>> del states
    >>> new_buffer(torch.zeros(1), 300, 1000).data_ptr() == address
    True
    """
    size = math.prod(shape) * like.element_size()
    pooled = type(like) is Tensor and like.device.type == "cpu" and like.dtype in TYPES
    if not pooled or not SMALLEST <= size <= LARGEST:
        return like.new_empty(shape)
    try:
        block = _kept[size + ALIGNMENT].pop()
    except (KeyError, IndexError):
        block = np.empty(size + ALIGNMENT, np.uint8)
    return torch.from_numpy(np.asarray(_Lease(block, shape, TYPES[like.dtype])))
