"""Where two descriptions differ, in words."""

from __future__ import annotations

import json
from typing import Any


def differences(old: Any, new: Any, where: str = "") -> list[str]:
    """Where two descriptions differ, in words.

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


def first_of(found: list[str]) -> str:
    """The first few differences, and how many more there are.

    >>> first_of(["a: 1 then, 2 now"])
    'a: 1 then, 2 now'
    """
    return "; ".join(found[:5]) + (f"; and {len(found) - 5} more" if len(found) > 5 else "")


def _short(value: Any) -> str:
    text = json.dumps(value)
    return text if len(text) <= 40 else text[:37] + "..."
