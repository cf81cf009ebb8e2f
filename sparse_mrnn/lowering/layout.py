"""Unit order of a network: which units belong to which region."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from sparse_mrnn.declaration.graph import Region, RegionGraph
from sparse_mrnn.errors import GraphError, UnknownNameError, suggest

Int64 = NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class Layout:
    """Which units belong to which region: region after region, in insertion order.

    Parameters
    ----------
    regions : tuple of Region
    groups : dict of str to tuple of str
        The regions behind each region's and parent's name.

    Examples
    --------
    >>> g = RegionGraph()
    >>> g.add_region("a", 2, parent_region="all"); g.add_region("b", 3, parent_region="all")
    >>> layout = Layout.of(g)
    >>> layout.slice("b"), layout.indices("all").tolist()
    (slice(2, 5, None), [0, 1, 2, 3, 4])
    """

    regions: tuple[Region, ...]
    groups: dict[str, tuple[str, ...]]

    @classmethod
    def of(cls, graph: RegionGraph, kind: str = "recurrent") -> Layout:
        """The layout of a graph's "recurrent" or "input" regions."""
        regions = tuple(graph.regions(kind))
        names = [r.name for r in regions]
        known = set(names)
        groups: dict[str, tuple[str, ...]] = {name: (name,) for name in names}
        for parent in graph.parents if kind == "recurrent" else ():
            groups[parent] = tuple(member for member in graph.members(parent) if member in known)
        return cls(regions, groups)

    @cached_property
    def ptr(self) -> Int64:
        """First unit of each region, and the total at the end."""
        return np.concatenate([[0], np.cumsum([r.n for r in self.regions], dtype=np.int64)]).astype(np.int64)

    @cached_property
    def index(self) -> dict[str, int]:
        """Position of each region."""
        return {region.name: k for k, region in enumerate(self.regions)}

    @property
    def n(self) -> int:
        """Units in all."""
        return int(self.ptr[-1])

    def members(self, name: str) -> tuple[str, ...]:
        """Regions behind a region or parent name, in unit order."""
        if name not in self.groups:
            raise UnknownNameError(f"unknown region {name!r}. {suggest(name, self.groups, what='regions')}")
        return self.groups[name]

    def slice(self, name: str) -> slice:
        """Unit range of a region, or of a parent whose regions are neighbours."""
        regions = [self.index[member] for member in self.members(name)]
        if regions != list(range(regions[0], regions[-1] + 1)):
            raise GraphError(
                f"parent {name!r} groups regions that are not neighbours ({', '.join(self.members(name))}), "
                "so it has no single unit range; use unit_indices or get_region_activity."
            )
        return slice(int(self.ptr[regions[0]]), int(self.ptr[regions[-1] + 1]))

    def indices(self, *names: str) -> Int64:
        """Units of regions or parents: names in the order given, each in unit order, without repeats."""
        members = dict.fromkeys(member for name in names for member in self.members(name))
        parts = [np.arange(self.ptr[k], self.ptr[k + 1]) for k in map(self.index.__getitem__, members)]
        return np.concatenate(parts) if parts else np.empty(0, dtype=np.int64)

    def cut(self, units: Int64) -> Layout:
        """The regions cut to some units, ascending; a region may be left without any."""
        ends = np.searchsorted(units, self.ptr)
        parts = (
            region.cut(units[ends[k] : ends[k + 1]] - self.ptr[k]) for k, region in enumerate(self.regions)
        )
        return Layout(tuple(parts), self.groups)

    def ranges(self, names: Sequence[str]) -> Int64:
        """First unit, and last unit + 1, of each of these regions, shape (names, 2)."""
        index = np.array([self.index[name] for name in names], dtype=np.int64)
        return np.stack([self.ptr[index], self.ptr[index + 1]], axis=1)

    def region_of(self, unit: int) -> tuple[Region, int]:
        """The region of a unit, and its index there, from its number."""
        k = int(np.searchsorted(self.ptr, unit, side="right")) - 1
        return self.regions[k], unit - int(self.ptr[k])

    @cached_property
    def unit_ids(self) -> tuple[str, ...]:
        """Name of every unit, in unit order; one without an id is called ``region[k]``."""
        ids = (r.unit_ids or [f"{r.name}[{k}]" for k in range(r.n)] for r in self.regions)
        return tuple(unit for part in ids for unit in part)

    @cached_property
    def units_by_id(self) -> dict[str, list[int]]:
        """Numbers of the units of each name; ids are unique within a region, not among regions."""
        found: dict[str, list[int]] = {}
        for k, unit in enumerate(self.unit_ids):
            found.setdefault(unit, []).append(k)
        return found

    @property
    def unit_signs(self) -> NDArray[np.int8]:
        """Sign of every unit: +1, -1, or 0 without one."""
        return np.concatenate([np.empty(0, np.int8), *(region.unit_signs for region in self.regions)])
