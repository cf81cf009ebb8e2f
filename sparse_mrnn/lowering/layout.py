"""Unit order of a network, and the one way from a name (region, parent, unit id) to the units it stands for.

A cell type is a region. Unit ids are text: an integer id is looked up as its digits.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sparse_mrnn.checks import name_text
from sparse_mrnn.declaration.graph import Region, RegionGraph
from sparse_mrnn.declaration.regions import MOST_UNITS
from sparse_mrnn.errors import GraphError, SparseMRNNError, UnknownNameError, suggest

Int64 = NDArray[np.int64]
KINDS = ("recurrent", "input")


@dataclass(frozen=True, eq=False)
class Layout:
    """The units of one kind of regions: region after region, in insertion order.

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
        """Lay out the "recurrent" or "input" regions of a graph."""
        regions = tuple(graph.regions(kind))
        if (n := sum(region.n for region in regions)) >= MOST_UNITS:
            raise GraphError(f"{n:,} units are more than a network can have, {MOST_UNITS - 1:,}.")
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

    def members(self, *names: str) -> tuple[str, ...]:
        """Regions behind region and parent names: names in the order given, each in unit order, no repeats.

        Raises
        ------
        UnknownNameError
            If a name is neither a region nor a parent.
        """
        for name in names:
            if name not in self.groups:
                hint = suggest(name, self.groups, what="regions")
                raise UnknownNameError(f"unknown region {name!r}. {hint}")
        return tuple(dict.fromkeys(member for name in names for member in self.groups[name]))

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
        parts = [np.arange(start, stop) for start, stop in self.ranges(self.members(*names)).tolist()]
        return np.concatenate(parts) if parts else np.empty(0, dtype=np.int64)

    def cut(self, units: Int64) -> Layout:
        """Cut the regions to some units, ascending; a region may be left without any."""
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
        """Find the region of a unit, and the unit's index there, from its number."""
        k = int(np.searchsorted(self.ptr, unit, side="right")) - 1
        return self.regions[k], unit - int(self.ptr[k])

    @cached_property
    def unit_ids(self) -> tuple[str, ...]:
        """Id of every unit, in unit order; a unit without one is called ``region[k]``."""
        ids = (r.unit_ids or [f"{r.name}[{k}]" for k in range(r.n)] for r in self.regions)
        return tuple(unit for part in ids for unit in part)

    @cached_property
    def units_by_id(self) -> dict[str, list[int]]:
        """Numbers of the units of each id; ids are unique within a region, not among regions."""
        found: dict[str, list[int]] = {}
        for k, unit in enumerate(self.unit_ids):
            found.setdefault(unit, []).append(k)
        return found

    @cached_property
    def table(self) -> dict[str, NDArray[Any]]:
        """Columns of the regions' tables of units, in unit order; "" or NaN for a region without one."""
        tables = [region.unit_table or {} for region in self.regions]
        found = {}
        for name in dict.fromkeys(name for table in tables for name in table):
            own = [table[name] for table in tables if name in table]
            text = any(values.dtype.kind == "O" for values in own)
            if len(own) < len(tables) and not text:  # NaN makes floats of integers, of which ids lose digits
                text = any(values.dtype.kind == "i" and np.abs(values).max() > 2**53 for values in own)
            parts = [
                table.get(name, np.full(region.n, "" if text else np.nan, object if text else None))
                for table, region in zip(tables, self.regions, strict=True)
            ]
            if text:
                parts = [part.astype(str).astype(object) for part in parts]
            found[name] = np.concatenate(parts)
        return found

    def labels(self) -> tuple[NDArray[np.str_], NDArray[np.str_]]:
        """Region and id of every unit, shape (units,) each."""
        names = np.array([r.name for r in self.regions] or [""], dtype=np.str_)
        region = np.repeat(names[: len(self.regions)], [r.n for r in self.regions])
        return region, np.array(self.unit_ids, dtype=np.str_)

    @property
    def unit_signs(self) -> NDArray[np.int8]:
        """Sign of every unit: +1, -1, or 0 without one."""
        return np.concatenate([np.empty(0, np.int8), *(region.unit_signs for region in self.regions)])


class UnitNames:
    """Every name in a network, and the units it stands for, among its "recurrent" and its "input" units.

    Examples
    --------
    >>> g = RegionGraph(); g.add_region("touch", 2, unit_ids=["ALML", 7205759406]); g.add_input("u", 1)
    >>> names = UnitNames(g)
    >>> names.find("touch"), names.find(7205759406), names.kind_of("u")
    (('recurrent', array([0, 1])), ('recurrent', array([1])), 'input')
    """

    def __init__(self, graph: RegionGraph) -> None:
        self.layouts = {kind: Layout.of(graph, kind) for kind in KINDS}

    def kind_of(self, region: str) -> str:
        """Tell if a region, parent or input is "recurrent" or "input".

        Raises
        ------
        UnknownNameError
            If nothing of these has that name.
        """
        for kind in KINDS:
            if region in self.layouts[kind].groups:
                return kind
        known = [name for layout in self.layouts.values() for name in layout.groups]
        raise UnknownNameError(f"unknown region {region!r}. {suggest(region, known, what='regions')}")

    def members(self, *names: str) -> tuple[str, ...]:
        """Regions and inputs behind some names: in the order given, without repeats."""
        found = (self.layouts[self.kind_of(name)].members(name) for name in names)
        return tuple(dict.fromkeys(member for members in found for member in members))

    def find(self, name: str | int | Mapping[str, Any], what: str = "") -> tuple[str, Int64]:
        """Find the kind ("recurrent" or "input") and the units of a region, parent, input, or unit id.

        A region goes before a unit of the same name. A mapping has columns and their values, as `where` takes
        them; so has a text such as ``"cell_type=KC,MBON,side=left"`` that is not a name. ``what`` is what
        asks, for messages.

        Raises
        ------
        UnknownNameError
            If nothing has this name, or units of several regions have it; the message says where it looked.
        """
        if isinstance(name, Mapping):
            return "recurrent", self.where(name, what)
        for kind, layout in self.layouts.items():
            if name in layout.groups:
                return kind, layout.indices(str(name))
        is_id = any(name_text(name) in layout.units_by_id for layout in self.layouts.values())
        if isinstance(name, str) and "=" in name and not is_id:
            return "recurrent", self.where(columns_of(name), what)
        kind, unit = self.unit(name, what)
        return kind, np.array([unit])

    def where(self, wanted: Mapping[str, Any], what: str = "") -> Int64:
        """Find the recurrent units whose columns have some values: each a value, or several to choose from.

        Columns are those of `Layout.table`, "region" (or a parent) and "unit_id".

        Raises
        ------
        UnknownNameError
            If no unit has a column or a value, or none has all of them.
        """
        layout, others = self.layouts["recurrent"], dict(wanted)
        columns = {"unit_id": layout.labels()[1], **layout.table}
        chosen = np.ones(layout.n, dtype=bool)
        if "region" in others:
            given = others.pop("region")
            names = [given] if isinstance(given, str) else list(given)
            chosen = np.isin(np.arange(layout.n), layout.indices(*names))
        chosen &= matching(columns, others, layout.n, what)
        if not chosen.any():
            raise UnknownNameError(f"{f'{what}: ' if what else ''}no unit has {dict(wanted)!r:.200}.")
        return np.flatnonzero(chosen)

    def unit(self, unit_id: str | int, what: str = "") -> tuple[str, int]:
        """Find the kind and the number of one unit by its id; arguments and errors are those of `find`."""
        text, prefix = name_text(unit_id) or "", f"{what}: " if what else ""
        found = [(kind, k) for kind, y in self.layouts.items() for k in y.units_by_id.get(text, ())]
        if len(found) == 1:
            return found[0]
        if found:
            used = " and ".join(repr(self.layouts[kind].region_of(k)[0].name) for kind, k in found)
            advice = "name the region, and the unit in units=" if what else "name the region too"
            raise UnknownNameError(f"{prefix}unit id {unit_id!r} is used in {used}; {advice}.")
        units, inputs = self.layouts["recurrent"], self.layouts["input"]
        known = [*units.groups, *inputs.groups, *units.unit_ids, *inputs.unit_ids]
        parents = len(units.groups) - len(units.regions)
        counts = f"{len(units.regions):,} regions, {parents:,} parents, {len(inputs.regions):,} inputs"
        looked = f"looked at {counts} and the ids of {units.n + inputs.n:,} units"
        hint = suggest(unit_id, known, what="names")
        raise UnknownNameError(f"{prefix}nothing is called {unit_id!r}; {looked}. {hint}")


def columns_of(text: str) -> dict[str, list[str]]:
    """Read columns and the values wanted of each, as a command line has them.

    >>> columns_of("cell_type=KC,MBON,side=left")
    {'cell_type': ['KC', 'MBON'], 'side': ['left']}
    """
    found: dict[str, list[str]] = {}
    column = ""
    for part in text.split(","):
        before, equals, value = part.partition("=")
        column = before.strip() if equals else column
        found.setdefault(column, []).append((value if equals else part).strip())
    return found


def matching(
    columns: Mapping[str, NDArray[Any]], wanted: Mapping[str, Any], n: int, what: str = ""
) -> NDArray[np.bool_]:
    """Mark the rows, of n, whose columns have the values wanted: each a value, or several to choose from.

    Raises
    ------
    UnknownNameError
        If there is no such column, or no row has a value.

    Examples
    --------
    >>> matching({"side": np.array(["l", "r", "l"])}, {"side": "l"}, 3).tolist()
    [True, False, True]
    """
    prefix, chosen = f"{what}: " if what else "", np.ones(n, dtype=bool)
    for column, given in wanted.items():
        if column not in columns:
            hint = suggest(column, ["region", *columns], what="columns")
            raise UnknownNameError(f"{prefix}units have no column {column!r}. {hint}")
        values = list(given) if isinstance(given, Iterable) and not isinstance(given, str) else [given]
        known, same = columns[column], np.zeros(n, dtype=bool)
        for value in values:
            try:
                here = known == (str(value) if known.dtype.kind in "UO" else float(value))
            except (TypeError, ValueError):
                here = np.zeros(n, dtype=bool)
            if not here.any():
                hint = suggest(value, sorted(set(known.tolist())), what="values")
                raise UnknownNameError(f"{prefix}no unit has the {column} {value!r}. {hint}")
            same |= here
        chosen &= same
    return chosen


def find_ids(
    wanted: Iterable[str | int], ids: NDArray[np.str_], what: str, error: type[SparseMRNNError]
) -> Int64:
    """Find the places of some unit ids among others; ``what`` has these, as messages name it.

    Raises
    ------
    error
        If an id is not among them; the message says where it looked.

    Examples
    --------
    >>> find_ids(["AVAR", 12], np.array(["AVAL", "12", "AVAR"]), "the recording", GraphError).tolist()
    [2, 1]
    """
    place = {unit: k for k, unit in enumerate(ids.tolist())}
    found = []
    for unit in wanted:
        k = place.get(name_text(unit) or "")
        if k is None:
            hint = suggest(unit, place, what="unit ids")
            raise error(f"{what} has no unit {unit!r}; looked at {len(ids):,} units. {hint}")
        found.append(k)
    return np.array(found, dtype=np.int64)
