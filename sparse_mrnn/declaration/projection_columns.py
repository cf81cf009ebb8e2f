"""Projections in columns: regions by number, equal settings once, synapses as ranges of shared arrays.

A connectome by cell type has a million projections. Here they are a few arrays; a `Projection`, or the
dictionaries of networkx, are made of one when someone asks for it (docs/decisions/0032).
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, TypeAlias, overload

import numpy as np
from numpy.typing import DTypeLike, NDArray

from sparse_mrnn.declaration.explicit_synapses import SynapseArrays, SynapseBlock
from sparse_mrnn.declaration.projections import (
    PROJECTION_FIELDS,
    PROJECTION_SIGNS,
    Projection,
    ProjectionKey,
    pair_of,
    projection_label,
    rule_of,
)
from sparse_mrnn.declaration.regions import Region
from sparse_mrnn.declaration.sharing import Sharing

Attributes = dict[str, Any]
Edge: TypeAlias = tuple[str, str, str, Attributes]
"""A projection as networkx has it: source, target, key, attributes."""
INHERITED = 2
"""Stands for the sign of the source, among the signs of projections."""
Int32 = NDArray[np.int32]
Int64 = NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class ProjectionNames:
    """Names of projections: regions and keys by their number; as tuples when first asked for.

    Parameters
    ----------
    regions, keys : tuple of str
    source, target, key : ndarray of int32, shape (projections,)

    Examples
    --------
    >>> names = ProjectionNames(("b", "a"), ("k",), *np.array([[0, 1, 1], [1, 1, 0], [0, 0, 0]], np.int32))
    >>> names.tuples[0], names.alphabetical().tolist()
    (('b', 'a', 'k'), [1, 2, 0])
    """

    regions: tuple[str, ...]
    keys: tuple[str, ...]
    source: Int32
    target: Int32
    key: Int32

    def __len__(self) -> int:
        return len(self.source)

    def __getitem__(self, k: int) -> ProjectionKey:
        return self.regions[self.source[k]], self.regions[self.target[k]], self.keys[self.key[k]]

    @cached_property
    def tuples(self) -> tuple[ProjectionKey, ...]:
        """All names: (source, target, key)."""
        ends = (map(self.regions.__getitem__, end.tolist()) for end in (self.source, self.target))
        return tuple(zip(*ends, map(self.keys.__getitem__, self.key.tolist()), strict=True))

    def codes(self) -> Int64:
        """A number for each name, equal for equal ones."""
        n, keys = len(self.regions), len(self.keys)
        return (self.source.astype(np.int64) * n + self.target) * keys + self.key

    def take(self, which: Int64) -> ProjectionNames:
        """Some of the names, in this order."""
        return replace(self, source=self.source[which], target=self.target[which], key=self.key[which])

    def places_in(self, others: ProjectionNames) -> Int64:
        """Place of each name among the same names in another order."""
        found = np.empty(len(self), dtype=np.int64)
        found[self.alphabetical()] = others.alphabetical()
        return found

    def alphabetical(self) -> Int64:
        """Order that sorts the names as Python sorts their tuples."""
        region, key = _ranks(self.regions), _ranks(self.keys)
        return np.lexsort((key[self.key], region[self.target], region[self.source]))


def _ranks(names: Sequence[str]) -> Int64:
    rank = np.empty(len(names), dtype=np.int64)
    rank[sorted(range(len(names)), key=names.__getitem__)] = np.arange(len(names))
    return rank


@dataclass(frozen=True, eq=False)
class ProjectionColumns:
    """Projections as arrays of shape (projections,).

    Parameters
    ----------
    source, target : ndarray of int32
        Numbers of the regions in their graph.
    setting : ndarray of int32
        Which of the ``settings`` each has.
    settings : tuple of (str, dict)
        Keys with the attributes of networkx edges, without the synapses that are in ``arrays``.
    table : ndarray of int32
        Which of the ``arrays`` has the synapses; -1: none of them.
    start, stop : ndarray of int64
        Their range there.
    arrays : tuple of SynapseArrays
    """

    source: Int32
    target: Int32
    setting: Int32
    settings: tuple[tuple[str, Attributes], ...]
    table: Int32
    start: Int64
    stop: Int64
    arrays: tuple[SynapseArrays, ...] = ()

    @classmethod
    def of_edges(cls, edges: Iterable[Edge], numbers: Mapping[str, int]) -> ProjectionColumns:
        """Columns of single projections, each with settings of its own; regions by their ``numbers``."""
        listed = list(edges)
        source = np.array([numbers[source] for source, _, _, _ in listed], dtype=np.int32)
        target = np.array([numbers[target] for _, target, _, _ in listed], dtype=np.int32)
        settings = tuple((key, attrs) for _, _, key, attrs in listed)
        return cls.of_ranges(source, target, np.arange(len(listed)), settings)

    @classmethod
    def of_ranges(
        cls, source: NDArray[Any], target: NDArray[Any], setting: NDArray[Any],
        settings: tuple[tuple[str, Attributes], ...], arrays: SynapseArrays | None = None,
        start: Int64 | None = None, stop: Int64 | None = None,
    ) -> ProjectionColumns:
        """Columns whose synapses, if they are given, are ranges of the same arrays."""
        n = len(source)
        return cls(
            source=source.astype(np.int32, copy=False),
            target=target.astype(np.int32, copy=False),
            setting=setting.astype(np.int32, copy=False),
            settings=settings,
            table=np.full(n, -1 if arrays is None else 0, dtype=np.int32),
            start=np.zeros(n, dtype=np.int64) if start is None else start,
            stop=np.zeros(n, dtype=np.int64) if stop is None else stop,
            arrays=() if arrays is None else (arrays,),
        )

    @classmethod
    def joined(cls, parts: Sequence[ProjectionColumns]) -> ProjectionColumns:
        """All projections of several tables, one after another."""
        if len(parts) == 1:
            return parts[0]
        before = np.cumsum([0, *(len(part.settings) for part in parts)]).tolist()
        tables = np.cumsum([0, *(len(part.arrays) for part in parts)]).tolist()
        none32, none64 = np.empty(0, dtype=np.int32), np.empty(0, dtype=np.int64)
        setting = [part.setting + np.int32(first) for part, first in zip(parts, before, strict=False)]
        table = [
            np.where(part.table < 0, -1, part.table + first).astype(np.int32)
            for part, first in zip(parts, tables, strict=False)
        ]
        return cls(
            source=np.concatenate([none32, *(part.source for part in parts)]),
            target=np.concatenate([none32, *(part.target for part in parts)]),
            setting=np.concatenate([none32, *setting]),
            settings=tuple(own for part in parts for own in part.settings),
            table=np.concatenate([none32, *table]),
            start=np.concatenate([none64, *(part.start for part in parts)]),
            stop=np.concatenate([none64, *(part.stop for part in parts)]),
            arrays=tuple(arrays for part in parts for arrays in part.arrays),
        )

    def __len__(self) -> int:
        return len(self.source)

    def take(self, which: NDArray[Any]) -> ProjectionColumns:
        """Some of the projections, by number or mask, in this order."""
        names = ("source", "target", "setting", "table", "start", "stop")
        return replace(self, **{name: getattr(self, name)[which] for name in names})

    @cached_property
    def pair(self) -> Int64:
        """One number for the two regions of each."""
        return (self.source.astype(np.int64) << 32) | self.target

    @cached_property
    def _by_pair(self) -> tuple[Int64 | None, Int64]:
        """Order by regions (None: as they are), and the pairs in this order."""
        if (np.diff(self.pair) >= 0).all():
            return None, self.pair
        order = np.argsort(self.pair, kind="stable")
        return order, self.pair[order]

    def find(self, source: int, target: int, key: str) -> int | None:
        """Find a projection by its regions and its key; None if it is not here. O(log projections)."""
        order, pairs = self._by_pair
        pair = (source << 32) | target
        for k in range(*np.searchsorted(pairs, [pair, pair + 1]).tolist()):
            number = k if order is None else int(order[k])
            if self.settings[self.setting[number]][0] == key:
                return number
        return None

    def in_networkx_order(self) -> ProjectionColumns:
        """Sort as networkx lists edges: by source, then in the order in which its targets were declared."""
        if (np.diff(self.pair) > 0).all():
            return self
        _, first, which = np.unique(self.pair, return_index=True, return_inverse=True)
        order = np.lexsort((first[which.reshape(-1)], self.source))
        return self if (np.diff(order) == 1).all() else self.take(order)

    def from_settings(self, read: Callable[[Attributes], Any], dtype: DTypeLike) -> NDArray[Any]:
        """Read something from the attributes of each projection, into an array; once for each setting."""
        found = np.empty(len(self.settings), dtype=dtype)
        for k, (_, attrs) in enumerate(self.settings):
            found[k] = read(attrs)
        return found[self.setting]

    def names(self, regions: tuple[str, ...]) -> ProjectionNames:
        """Names of the projections, from those of all regions."""
        keys: dict[str, int] = {}
        number = np.array([keys.setdefault(key, len(keys)) for key, _ in self.settings], dtype=np.int32)
        return ProjectionNames(regions, tuple(keys), self.source, self.target, number[self.setting])

    def attributes(self, k: int, sizes: Sequence[int]) -> Attributes:
        """Attributes of the networkx edge of a projection; ``sizes`` are the units of all regions."""
        attrs: Attributes = self.settings[self.setting[k]][1]
        if self.table[k] < 0:
            return attrs
        shape = sizes[self.target[k]], sizes[self.source[k]]
        ends = int(self.start[k]), int(self.stop[k])
        return {**attrs, "weights": SynapseBlock(self.arrays[self.table[k]], *ends, shape)}

    def edges(self, regions: tuple[str, ...], sizes: Sequence[int]) -> Iterator[Edge]:
        """Make each a networkx edge with attributes of its own; ``regions`` are the names of all."""
        for k, name in enumerate(self.names(regions).tuples):
            yield (*name, {**self.attributes(k, sizes)})


@dataclass(frozen=True, eq=False)
class Projections(Sequence[Projection]):
    """Projections of a graph: their columns, and the objects made of one when it is asked for.

    Parameters
    ----------
    regions : tuple of Region
        All regions of the graph.
    columns : ProjectionColumns

    Examples
    --------
    >>> from sparse_mrnn import RegionGraph
    >>> g = RegionGraph(); g.add_region("a", 3); g.add_projection("a", "a", fan_in=2)
    >>> found = g.projection_columns()
    >>> len(found), found[0].rule, found.expected_synapses().tolist()
    (1, FixedFanIn(fan_in=2), [6.0])
    """

    regions: tuple[Region, ...]
    columns: ProjectionColumns

    def __len__(self) -> int:
        return len(self.columns)

    @overload
    def __getitem__(self, k: int) -> Projection: ...
    @overload
    def __getitem__(self, k: slice) -> tuple[Projection, ...]: ...
    def __getitem__(self, k: int | slice) -> Projection | tuple[Projection, ...]:
        if isinstance(k, slice):
            return tuple(self[each] for each in range(len(self))[k])
        columns, k = self.columns, range(len(self))[k]
        if k in self._made:
            return self._made[k]
        source, target = self.regions[columns.source[k]], self.regions[columns.target[k]]
        key = columns.settings[columns.setting[k]][0]
        attrs = columns.attributes(k, self._sizes)
        label = projection_label(source.name, target.name, key)
        made = Projection(
            source.name,
            target.name,
            key,
            pair=pair_of(source, target, key, attrs),
            rule=None if "weights" in attrs or "rank" in attrs else rule_of(attrs, label),
            synapses=attrs.get("weights"),
            initializer=attrs.get("initializer"),
            share=Sharing.of(attrs),
            **{name: attrs[name] for name in PROJECTION_FIELDS if name in attrs},
        )
        if columns.table[k] < 0:  # of the others there may be a million
            self._made[k] = made
        return made

    def __iter__(self) -> Iterator[Projection]:
        return map(self.__getitem__, range(len(self)))

    def take(self, which: NDArray[Any]) -> Projections:
        """Some of the projections, by number or mask, in this order."""
        return replace(self, columns=self.columns.take(which))

    @property
    def names(self) -> ProjectionNames:
        """Names of the projections."""
        return self.columns.names(tuple(region.name for region in self.regions))

    @cached_property
    def _made(self) -> dict[int, Projection]:
        return {}

    @cached_property
    def _sizes(self) -> list[int]:
        return [region.n for region in self.regions]

    @cached_property
    def sizes(self) -> tuple[Int64, Int64]:
        """Units of the source and of the target region of each."""
        n = np.array(self._sizes, dtype=np.int64)
        return n[self.columns.source], n[self.columns.target]

    def field(self, name: str, dtype: DTypeLike) -> NDArray[Any]:
        """A declared field of each projection."""
        default = PROJECTION_FIELDS[name].default
        return self.columns.from_settings(lambda attrs: attrs.get(name, default), dtype)

    def own_signs(self) -> NDArray[np.int8]:
        """Sign that each projection gives its synapses: +1, -1, 0 for either, or `INHERITED`."""
        numbers = {"inherit": INHERITED, **PROJECTION_SIGNS}
        return self.columns.from_settings(lambda attrs: numbers[attrs.get("sign", "inherit")], np.int8)

    def has(self, name: str) -> NDArray[np.bool_]:
        """Tell which projections have an attribute."""
        return self.columns.from_settings(lambda attrs: name in attrs, np.bool_)

    @property
    def is_electrical(self) -> NDArray[np.bool_]:
        """Tell which projections have electrical synapses."""
        return self.columns.from_settings(lambda attrs: attrs.get("kind") == "electrical", np.bool_)

    @property
    def has_synapses(self) -> NDArray[np.bool_]:
        """Tell which projections have chemical synapses: not electrical ones, and not those of low rank."""
        return ~(self.has("rank") | self.is_electrical)

    @property
    def in_arrays(self) -> NDArray[np.bool_]:
        """Tell which projections have their synapses in shared arrays."""
        return self.columns.table >= 0

    @property
    def is_explicit(self) -> NDArray[np.bool_]:
        """Tell which projections have explicit synapses."""
        return self.in_arrays | self.has("weights")

    def weight_dtypes(self) -> set[np.dtype[Any]]:
        """Types of the explicit weights."""
        columns = self.columns
        found = {columns.arrays[k].values.dtype for k in np.unique(columns.table).tolist() if k >= 0}
        single = np.flatnonzero(~self.in_arrays & self.has("weights"))
        return found | {columns.settings[k][1]["weights"].dtype for k in columns.setting[single].tolist()}

    def expected_synapses(self) -> NDArray[np.float64]:
        """Synapses that each will have, as `Projection.expected_synapses`."""
        found = (self.columns.stop - self.columns.start).astype(np.float64)
        for k in np.flatnonzero(~self.in_arrays).tolist():
            found[k] = self[k].expected_synapses
        return found


class DeclaredProjections:
    """Projections in the order of their declaration, as long as networkx has not asked for its dictionaries.

    Single ones are in dictionaries by name; many at once are columns. ``numbers`` has the number of each
    region; the graph adds to it.
    """

    def __init__(self, numbers: Mapping[str, int] | None = None) -> None:
        self.numbers = dict(numbers or {})
        self._parts: list[dict[ProjectionKey, Attributes] | ProjectionColumns] = []
        self._joined: ProjectionColumns | None = None

    def __len__(self) -> int:
        return sum(map(len, self._parts))

    def copy(self) -> DeclaredProjections:
        """Copy the attributes of single projections; columns are never changed, and shared."""
        made = DeclaredProjections(self.numbers)
        made._parts = [
            {name: attrs.copy() for name, attrs in part.items()} if isinstance(part, dict) else part
            for part in self._parts
        ]
        return made

    def add(self, name: ProjectionKey, attrs: Attributes) -> None:
        """Add a projection that is not there yet."""
        last = self._parts[-1] if self._parts else None
        if not isinstance(last, dict):
            last = {}
            self._parts.append(last)
        last[name], self._joined = attrs, None

    def extend(self, columns: ProjectionColumns) -> None:
        """Add projections, none of which is there yet."""
        if len(columns):
            self._parts.append(columns)
            self._joined = None

    def find(self, name: ProjectionKey) -> Attributes | None:
        """Attributes of a projection, without synapses that are in shared arrays; None if it is not here."""
        source, target = (self.numbers.get(region, -1) for region in name[:2])
        for part in self._parts:
            if isinstance(part, dict):
                if name in part:
                    return part[name]
            elif (k := part.find(source, target, name[2])) is not None:
                attrs: Attributes = part.settings[part.setting[k]][1]
                return attrs
        return None

    def columns(self) -> ProjectionColumns:
        """All projections in the order in which networkx would list them."""
        if self._joined is None:
            parts = [self._as_columns(part) for part in self._parts]
            self._joined = ProjectionColumns.joined(parts).in_networkx_order()
        return self._joined

    def with_keys(self, keys: Collection[str]) -> ProjectionColumns:
        """Projections of parts in which some have one of these keys."""
        parts = map(self._as_columns, self._parts)
        return ProjectionColumns.joined(
            [part for part in parts if any(key in keys for key, _ in part.settings)]
        )

    def edges(self, sizes: Sequence[int]) -> Iterator[Edge]:
        """Each projection as a networkx edge, in the order of declaration; ``sizes`` as of `attributes`."""
        for part in self._parts:
            if isinstance(part, dict):
                yield from ((*name, attrs) for name, attrs in part.items())
            else:
                yield from part.edges(tuple(self.numbers), sizes)

    def _as_columns(self, part: dict[ProjectionKey, Attributes] | ProjectionColumns) -> ProjectionColumns:
        if isinstance(part, ProjectionColumns):
            return part
        return ProjectionColumns.of_edges(((*name, attrs) for name, attrs in part.items()), self.numbers)
