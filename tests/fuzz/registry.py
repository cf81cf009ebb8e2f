"""Targets of the fuzzer: how to make a valid input, load it, and parse it independently.

To add one, write a module that calls `register` and name it in MODULES.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

MODULES = tuple(
    f"fuzz.{name}_targets" for name in ("table", "matrix", "graph", "sonata", "network", "recording", "fault")
)
"""Modules with targets."""


class InvalidInputError(Exception):
    """An oracle found that an input must not be accepted."""


class UnjudgedError(Exception):
    """An oracle cannot say what an input means."""


@dataclass(frozen=True)
class Target:
    """One kind of input.

    Parameters
    ----------
    name : str
    make : function of (folder, generator)
        Writes an input that is valid into an empty folder, before or with the change that is fuzzed.
    load : function of folder
        What the package reads, in a form that compares with ``==`` or `same`. Refuses with a SparseMRNNError.
    oracle : function of folder, optional
        The same by an independent parse; raises `InvalidInputError` for an input that must be refused, and
        returns None (or raises `UnjudgedError`) where it cannot judge.
    share : int
        How many cases it gets of a round, by how long one takes; 0: only where it is named.
    """

    name: str
    make: Callable[[Path, np.random.Generator], None]
    load: Callable[[Path], Any]
    oracle: Callable[[Path], Any] | None = None
    share: int = 4


TARGETS: dict[str, Target] = {}


def register(name: str, make: Any, load: Any, oracle: Any = None, share: int = 4) -> None:
    """Add a target; names are unique."""
    if name in TARGETS:
        raise ValueError(f"there is a target {name!r} already")
    TARGETS[name] = Target(name, make, load, oracle, share)


def targets() -> dict[str, Target]:
    """All targets, by name."""
    for module in MODULES:
        importlib.import_module(module)
    return TARGETS


def in_turn(names: list[str] | None = None) -> list[str]:
    """One round of the targets, of which each has its share."""
    known = targets()
    shares = {name: target.share for name, target in known.items() if target.share}
    if names is not None:
        shares = {name: known[name].share or 1 for name in names}
    return [name for turn in range(max(shares.values())) for name in shares if turn < shares[name]]


def same(found: Any, expected: Any) -> bool:
    """Equality of nested dicts and lists, with numbers as close as float32 holds them."""
    if isinstance(found, dict) and isinstance(expected, dict):
        return found.keys() == expected.keys() and all(same(found[key], expected[key]) for key in found)
    if isinstance(found, (list, tuple)) and isinstance(expected, (list, tuple)):
        return len(found) == len(expected) and all(map(same, found, expected))
    if isinstance(found, float) or isinstance(expected, float):
        numbers = isinstance(found, (int, float)) and isinstance(expected, (int, float))
        return numbers and bool(np.isclose(found, expected, rtol=1e-5, atol=1e-40))
    return bool(found == expected)
