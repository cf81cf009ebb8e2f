"""The digest of the package: BLAKE2b of JSON, bytes, arrays and tensors. It needs no torch."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from functools import singledispatch
from typing import Any

import numpy as np


class Digest:
    """A digest of parts that are added one after another; 16 bytes.

    A part is bytes, an array, a tensor (`files.tensors` registers them), a mapping of names to any of these,
    or a value that JSON has. Arrays and tensors count with their type and shape.

    Examples
    --------
    >>> Digest(np.zeros(2)).hexdigest() == Digest(np.zeros(2, np.float32)).hexdigest()
    False
    """

    def __init__(self, *parts: Any) -> None:
        self._found = hashlib.blake2b(digest_size=16)
        for part in parts:
            self.add(part)

    def add(self, part: Any) -> None:
        """Add a part. Nothing is copied that is contiguous and on the CPU."""
        add_part(part, self)

    def add_named(self, name: str, part: Any) -> None:
        """Add a part as an entry of a mapping."""
        self._found.update(f"\0{name}\0".encode())
        add_part(part, self)

    def add_bytes(self, *parts: bytes | memoryview) -> None:
        """Add bytes as they are."""
        for part in parts:
            self._found.update(part)

    def hexdigest(self) -> str:
        """The digest of all parts, 32 hexadecimal digits."""
        return self._found.hexdigest()


@singledispatch
def add_part(part: Any, found: Digest) -> None:
    """Add a part of any type to a digest; JSON unless something else is registered for its type."""
    found.add_bytes(json.dumps(part, sort_keys=True).encode(), b"\0")


@add_part.register
def _(part: bytes, found: Digest) -> None:
    found.add_bytes(part)


@add_part.register
def _(part: np.ndarray, found: Digest) -> None:
    found.add_bytes(f"{part.dtype.str}\0{part.shape}\0".encode(), np.ascontiguousarray(part).data)


@add_part.register(Mapping)
def _(part: Mapping[str, Any], found: Digest) -> None:
    try:
        found.add_bytes(json.dumps(part, sort_keys=True).encode(), b"\0")
    except TypeError:  # of arrays, say: name by name
        for name in sorted(part):
            found.add_named(name, part[name])


def digest(*parts: Any) -> str:
    """Digest of parts as `Digest` takes them, 32 hexadecimal digits.

    Examples
    --------
    >>> digest({"a": 1}, np.zeros(2)) == digest({"a": 1}, np.zeros(2))
    True
    >>> digest({"a": np.zeros(2)}) == digest({"b": np.zeros(2)})
    False
    """
    return Digest(*parts).hexdigest()
