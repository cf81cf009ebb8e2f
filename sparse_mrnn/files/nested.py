"""Nested Python values as JSON and tensors, and back: states of optimisers, schedulers and generators."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping
from typing import Any

import numpy as np
from torch import Tensor

from sparse_mrnn.errors import SavedFileError


def pack(value: Any, name: str, tensors: dict[str, Tensor]) -> Any:
    """A value as JSON; each tensor in it goes into ``tensors`` under a name that begins with ``name``.

    None, numbers, text, lists, tuples, dictionaries with any such keys, counters, arrays and tensors.

    Raises
    ------
    SavedFileError
        If there is anything else in it; the message says where.

    Examples
    --------
    >>> tensors = {}
    >>> pack({0: (1.5, True)}, "state", tensors)
    {'dict': [[0, {'tuple': [1.5, True]}]]}
    >>> unpack(pack({0: (1.5, True)}, "state", tensors), tensors)
    {0: (1.5, True)}
    """
    if isinstance(value, np.generic):
        value = value.item()
    if value is None or isinstance(value, bool | int | str):
        return value
    if isinstance(value, float):
        return value if math.isfinite(value) else {"float": repr(value)}
    if isinstance(value, Tensor):
        while name in tensors:  # of {0: ..., "0": ...}, say
            name += "~"
        tensors[name] = value
        return {"tensor": name}
    if isinstance(value, np.ndarray) and value.dtype.kind in "biuf":
        return {"array": value.dtype.str, "shape": list(value.shape), "values": value.ravel().tolist()}
    if isinstance(value, list | tuple):
        items = [pack(item, f"{name}.{k}", tensors) for k, item in enumerate(value)]
        return items if isinstance(value, list) else {"tuple": items}
    if isinstance(value, dict):
        pairs = [[pack(k, name, tensors), pack(v, f"{name}.{k}", tensors)] for k, v in value.items()]
        return {"counter" if isinstance(value, Counter) else "dict": pairs}
    raise SavedFileError(f"{name} is a {type(value).__name__}, which a file without pickle cannot hold.")


def unpack(packed: Any, tensors: Mapping[str, Tensor]) -> Any:
    """The value that `pack` made JSON of.

    Raises
    ------
    SavedFileError
        If it is not of `pack`.
    """
    if packed is None or isinstance(packed, bool | int | float | str):
        return packed
    if isinstance(packed, list):
        return [unpack(item, tensors) for item in packed]
    try:
        if "array" in packed:
            return np.array(packed["values"], dtype=packed["array"]).reshape(packed["shape"])
        (kind, inside), = packed.items()
        if kind == "float":
            return float(inside)
        if kind == "tensor":
            return tensors[inside].clone()  # the file's are mapped from it
        if kind == "tuple":
            return tuple(unpack(item, tensors) for item in inside)
        if kind in ("dict", "counter"):
            pairs = {unpack(k, tensors): unpack(v, tensors) for k, v in inside}
            return Counter(pairs) if kind == "counter" else pairs
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise SavedFileError(f"a value of the file cannot be read: {error!r}.") from None
    raise SavedFileError(f"a value of the file is of unknown kind {kind!r}.")
