"""The digest of the package: BLAKE2b of JSON, bytes, arrays and tensors."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor

Part = Any
"""Bytes, an array, a tensor, a mapping of names to arrays or tensors, or a value that JSON has."""


class Digest:
    """A digest of parts that are added one after another; 16 bytes.

    Arrays and tensors count with their type and shape, and mappings of them in the order of their names.

    Examples
    --------
    >>> Digest(np.zeros(2)).hexdigest() == Digest(np.zeros(2, np.float32)).hexdigest()
    False
    """

    def __init__(self, *parts: Part) -> None:
        self._found = hashlib.blake2b(digest_size=16)
        for part in parts:
            self.add(part)

    def add(self, part: Part) -> None:
        """Add a part. Nothing is copied that is contiguous and on the CPU."""
        if isinstance(part, bytes | bytearray | memoryview):
            self._found.update(part)
        elif isinstance(part, Tensor):
            self._found.update(f"{part.dtype}\0{tuple(part.shape)}\0".encode())
            self._found.update(content_of(part))
        elif isinstance(part, np.ndarray):
            self._found.update(f"{part.dtype.str}\0{part.shape}\0".encode())
            self._found.update(np.ascontiguousarray(part).data)
        elif isinstance(part, Mapping) and any(isinstance(v, Tensor | np.ndarray) for v in part.values()):
            for name in sorted(part):
                self._found.update(f"\0{name}\0".encode())
                self.add(part[name])
        else:
            self._found.update(json.dumps(part, sort_keys=True).encode() + b"\0")

    def hexdigest(self) -> str:
        """The digest of all parts, 32 hexadecimal digits."""
        return self._found.hexdigest()


def digest(*parts: Part) -> str:
    """Digest of values, arrays and tensors, 32 hexadecimal digits.

    Examples
    --------
    >>> digest({"a": 1}, torch.zeros(2)) == digest({"a": 1}, torch.zeros(2))
    True
    >>> digest({"a": torch.zeros(2)}) == digest({"b": torch.zeros(2)})
    False
    """
    return Digest(*parts).hexdigest()


def content_of(tensor: Tensor) -> memoryview:
    """The bytes of a tensor, row-major."""
    flat = tensor.detach().cpu().contiguous().reshape(-1)
    if flat.stride(0) != 1:  # one entry, which counts as contiguous whatever its stride
        flat = flat.clone(memory_format=torch.contiguous_format)
    content: memoryview = flat.view(torch.uint8).numpy().data
    return content
