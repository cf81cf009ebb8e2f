"""Compare descriptions, and say in words how they differ."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from sparse_mrnn.errors import SavedFileError, StateDictError
from sparse_mrnn.files.digest import digest

STRUCTURE = ("crow", "col", "ptr", "order", "perm", "group", "gain_index", "sign", "synapse_sign")
"""Entries of a matrix in a state dict that say which synapses it has, and of what."""


def differences(old: Any, new: Any, where: str = "") -> list[str]:
    """Say in words how two descriptions differ.

    Examples
    --------
    >>> differences({"batch": 1, "seed": 0}, {"batch": 2, "seed": 0})
    ['batch: 1 then, 2 now']
    """
    if isinstance(old, dict) and isinstance(new, dict):
        keys = dict.fromkeys([*old, *new])
        pairs = ((old.get(k), new.get(k), f"{where}.{k}" if where else str(k)) for k in keys)
        return [difference for pair in pairs for difference in differences(*pair)]
    if isinstance(old, list) and isinstance(new, list) and len(old) == len(new):
        pairs = ((a, b, f"{where}[{k}]") for k, (a, b) in enumerate(zip(old, new, strict=True)))
        return [difference for pair in pairs for difference in differences(*pair)]
    return [] if old == new else [f"{where}: {_short(old)} then, {_short(new)} now"]


def refuse_another(what: str, found: list[str]) -> None:
    """Raise an error if differences were found between what is in a file and what is here.

    Raises
    ------
    SavedFileError
        The message says of what.
    """
    if found:
        raise SavedFileError(f"this is another {what}: {first_of(found)}")


def first_of(found: list[str]) -> str:
    """The first few differences, and how many more there are.

    >>> first_of(["a: 1 then, 2 now"])
    'a: 1 then, 2 now'
    """
    return "; ".join(found[:5]) + (f"; and {len(found) - 5} more" if len(found) > 5 else "")


def declared_differences(saved: Any, own: dict[str, Any]) -> list[str]:
    """Say how a saved network is declared otherwise.

    Parameters
    ----------
    saved : Tensor
        The ``_extra_state`` of its state dict.
    own : dict
        What `declared` says of the network that is to load it.

    Raises
    ------
    StateDictError
        If ``saved`` is damaged.
    """
    then = decode(saved)
    then.pop("structure", None)  # synapses may be others
    regions = then.get("regions")
    for name, region in own["regions"].items():
        other = regions.get(name) if isinstance(regions, dict) else None
        if isinstance(other, dict) and ("unit_ids" in region) != ("unit_ids" in other):
            for entry in (region, other):  # units without ids may be any
                entry.pop("unit_ids", None)
    return differences(then, own)


def structure_digest(entries: Mapping[str, Tensor]) -> str:
    """Digest of the whole numbers that say which synapses a matrix has, of its entries of a state dict.

    Examples
    --------
    >>> col = torch.tensor([0, 2])
    >>> structure_digest({"col": col}) == structure_digest({"col": col, "values": torch.ones(2)})
    True
    """
    return digest({name: entries[name] for name in STRUCTURE if name in entries})


def encode(described: dict[str, Any]) -> Tensor:
    """A description as a tensor of bytes, shape (bytes,), which every format of state dicts can hold."""
    return torch.frombuffer(bytearray(json.dumps(described).encode()), dtype=torch.uint8)


def decode(state: Any) -> dict[str, Any]:
    """The description in such a tensor.

    Raises
    ------
    StateDictError
        If it holds something else.
    """
    try:
        found = json.loads(state.detach().cpu().numpy().tobytes())
        if isinstance(found, dict):
            return found
    except (AttributeError, TypeError, ValueError, RecursionError, RuntimeError):
        pass
    raise StateDictError(
        "the state dict is damaged or computed: its _extra_state does not describe a network. To average "
        "networks, average named_parameters(), or use torch.optim.swa_utils.AveragedModel."
    )


def _short(value: Any) -> str:
    text = json.dumps(value)
    return text if len(text) <= 40 else text[:37] + "..."
