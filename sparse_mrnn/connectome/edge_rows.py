"""Edge rows as numbers: which neurons a row connects, its weight, and whether it is kept."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sparse_mrnn.connectome.column_table import ColumnTable, Ids, arrow, comparable, dictionary_column, listed
from sparse_mrnn.connectome.settings import ImportSettings
from sparse_mrnn.errors import ConnectomeError, suggest

Int32 = NDArray[np.int32]
Bool = NDArray[np.bool_]


@dataclass(frozen=True, eq=False, kw_only=True)
class ConnectomeTables:
    """Two tables that an importer found, and the columns of them that matter.

    The default column names are the ones that `indexed_edges` and `node_table` give.
    """

    label: str  # what was imported, for the report
    edges: ColumnTable
    source: str = "(source)"  # columns of ``edges`` with neuron ids
    target: str = "(target)"
    weight: str | None = "weight"  # None: every row is one synapse
    neurons: ColumnTable | None = None  # None: the neurons are the ends of the edges
    neuron: str = "(neuron)"  # column of ``neurons`` with ids
    positions: NDArray[np.float64] | None = None  # shape (rows of ``neurons``, dimensions)
    notes: tuple[str, ...] = ()
    not_read: Mapping[str, tuple[str, ...]] | None = None  # as in the report; None: as the tables know

    def has(self, column: str) -> bool:
        """Say whether the neuron table has a column."""
        return self.neurons is not None and column in self.neurons.columns

    def check(self, columns: list[str]) -> None:
        """Fail early for a column that neither table has."""
        tables = [table for table in (self.neurons, self.edges) if table is not None]
        for column in columns:
            if not any(column in table.columns for table in tables):
                known = list(dict.fromkeys(c for table in tables for c in (table.known or table.columns)))
                where = " and ".join(table.name for table in tables)
                raise ConnectomeError(f"{where}: column {column!r} is missing. {listed(column, known)}")


def indexed_edges(
    name: str, ids: Sequence[str], source: NDArray[Any], target: NDArray[Any], columns: Mapping[str, Any],
    known: Sequence[str] = (),
) -> ColumnTable:
    """Make an edge table whose ends are indices into a list of ids; ``known`` columns may not all be read."""
    ends = {"(source)": dictionary_column(source, ids), "(target)": dictionary_column(target, ids)}
    return ColumnTable(name, arrow().table({**columns, **ends}), known=tuple(known), names=True)


def node_table(
    name: str, ids: Sequence[str], columns: Mapping[str, Any], known: Sequence[str] = ()
) -> ColumnTable:
    """Make a neuron table of a list of ids and the columns beside it; ``known`` as for `indexed_edges`."""
    pa = arrow()
    data = pa.table({**columns, "(neuron)": pa.array(ids, pa.string())})
    return ColumnTable(name, data, known=tuple(known), names=True)


@dataclass(eq=False)
class EdgeRows:
    """The neurons, and for each edge row the neurons it connects, its weight, and whether it counts."""

    ids: Any  # pyarrow array, one per neuron
    added: int  # how many of the neurons, the last ones, are in the edge table only
    selected: Bool  # one per neuron
    source: Int32  # indices into ``ids``; -1: the neuron table does not have the neuron
    target: Int32
    weight: NDArray[np.float64]
    kept: Bool
    dropped: dict[str, int]  # how many rows and neurons were left out, by reason

    @property
    def neurons(self) -> int:
        """The number of neurons."""
        return len(self.ids)

    def drop(self, reason: str, rows: Bool) -> None:
        """Leave out some of the rows that are kept so far."""
        self.dropped[reason] = int(rows.sum())
        self.kept &= ~rows

    def in_order(self, units: NDArray[np.intp]) -> None:
        """Keep some neurons, numbered anew in this order, and number the ends of the rows likewise."""
        number = np.full(self.neurons + 1, -1, dtype=np.int32)  # the last entry keeps -1, unknown, as it is
        number[units] = np.arange(len(units), dtype=np.int32)
        self.source, self.target = number[self.source], number[self.target]
        self.ids, self.selected = self.ids.take(arrow().array(units)), self.selected[units]

    def of_table(self, values: Any, missing: Any = None) -> NDArray[Any]:
        """Extend values of the neuron table's rows to all neurons; the others get ``missing`` ("" or NaN)."""
        if missing is None:
            missing = "" if values.dtype.kind == "O" else np.nan
        if not self.added:
            return np.asarray(values)
        return np.concatenate([values, np.full(self.added, missing, dtype=values.dtype)])


def edge_rows(tables: ConnectomeTables, settings: ImportSettings) -> EdgeRows:
    """Match the edges of two tables to their neurons, and leave out those that the settings exclude."""
    ids, added, source, target, missing = _matched(tables, settings)
    weight = _weights(tables, settings)
    selected = _selected(tables, settings, ids, added)
    known = (source >= 0) & (target >= 0)
    rows = EdgeRows(ids, added, selected, source, target, weight, known, _counted(tables))
    if added:
        rows.dropped["(neurons added from the edge table, without any other column)"] = added
    if missing is not None:
        rows.dropped["edges whose source or target has no id"] = int(missing.sum())
    if not known.all():
        unknown = int((~known if missing is None else ~known & ~missing).sum())
        if unknown:
            rows.dropped["edges with a neuron that the neuron table does not have"] = unknown
    if settings.select is not None:
        outside = known & ~(selected[source] & selected[target])
        rows.drop("edges with a neuron outside the selection", outside)
        rows.dropped["neurons outside the selection"] = int((~selected).sum())
    if not settings.self_connections:
        rows.drop("connections of a neuron with itself", rows.kept & (source == target))
    return rows


def _counted(tables: ConnectomeTables) -> dict[str, int]:
    """Return how many rows were left out as the tables were read."""
    neurons = {} if tables.neurons is None else tables.neurons.dropped
    return {**tables.edges.dropped, **neurons}


def _matched(
    tables: ConnectomeTables, settings: ImportSettings
) -> tuple[Any, int, Int32, Int32, Bool | None]:
    """Number the neurons: their ids, how many the edge table alone has, both ends of every row.

    The last array marks the rows without an id at one end; None if there are none.
    """
    ends: list[Ids] = []
    for column, again in ((tables.source, {tables.target}), (tables.target, set())):
        ends.append(tables.edges.ids(column, settings.missing_ids))
        tables.edges.forget({column} - set(settings.edge_columns()) - again)
    missing = (ends[0].codes < 0) | (ends[1].codes < 0)
    without = missing if missing.any() else None
    if tables.neurons is None:
        ends = comparable(*ends)
        ids = _sorted_union(ends)
        return ids, 0, *_indices(ids, ends), without
    own = tables.neurons.ids(tables.neuron, settings.missing_ids)
    if len(own) == 0:
        raise ConnectomeError(f"{tables.neurons.name}: there is a header but no rows.")
    refuse_repeats(tables.neurons, tables.neuron, own)
    own, *ends = comparable(own, *ends)
    ids = own.rows
    source, target = _indices(ids, ends)
    unknown = ((source < 0) | (target < 0)) & ~missing
    if not unknown.any() or settings.unknown == "drop":
        return ids, 0, source, target, without
    if settings.unknown == "error":
        row = int(np.flatnonzero(unknown)[0])
        end, column = (0, tables.source) if source[row] < 0 else (1, tables.target)
        value = ends[end].values[int(ends[end].codes[row])].as_py()
        raise ConnectomeError(
            f"{tables.edges.location(row, column)}: neuron {value} is not in {tables.neurons.name} "
            f"({int(unknown.sum()):,} of {len(unknown):,} edges have such a neuron). Choose unknown='drop' "
            "to leave these edges out (they are counted) or unknown='keep' to add the neurons."
        )
    pa = arrow()
    union = _sorted_union(ends)
    new = union.filter(pa.compute.invert(pa.compute.is_in(union, value_set=ids)))
    ids = pa.concat_arrays([ids, new])
    return ids, len(new), *_indices(ids, ends), without


def _sorted_union(columns: Sequence[Ids]) -> Any:
    pa = arrow()
    ids = pa.compute.unique(pa.chunked_array([column.values for column in columns]))
    return ids.take(pa.compute.sort_indices(ids))


def _indices(ids: Any, ends: Sequence[Ids]) -> tuple[Int32, Int32]:
    """Give both ends of every row as indices into ``ids``; -1 if an id is not there, or missing."""
    index_in = arrow().compute.index_in
    of_values = (index_in(end.values, value_set=ids).fill_null(-1) for end in ends)
    source, target = (
        np.append(index.to_numpy(zero_copy_only=False), np.int32(-1))[end.codes]
        for index, end in zip(of_values, ends, strict=True)
    )
    return source, target


def refuse_repeats(neurons: ColumnTable, column: str, ids: Ids) -> None:
    """Refuse a table that has a neuron twice."""
    times = np.bincount(ids.codes, minlength=len(ids.values))
    repeated = np.flatnonzero(times[ids.codes] > 1)
    if len(repeated):
        code = ids.codes[repeated[0]]
        row = int(np.flatnonzero(ids.codes == code)[1])
        several = f"is there {times[code]} times ({int((times > 1).sum()):,} neurons are repeated)"
        neuron = f"{neurons.location(row, column)}: neuron {ids.values[int(code)].as_py()}"
        raise ConnectomeError(f"{neuron} {several}. Keep one row for each neuron.")


def _weights(tables: ConnectomeTables, settings: ImportSettings) -> NDArray[np.float64]:
    """Read the synapse count (checked) or the real weight of every row."""
    if tables.weight is None:
        return np.ones(len(tables.edges))
    whole = tables.edges.is_whole(tables.weight)
    weight = tables.edges.numbers(tables.weight)
    tables.edges.forget({tables.weight} - set(settings.edge_columns()))
    fine = whole and weight.min(initial=0) >= 0 and weight.max(initial=0) <= 2**53
    if settings.counts and not fine:
        kinds = (
            ("negative", weight < 0), ("not a whole number", weight != np.floor(weight)),
            ("too large", weight > 2**53),
        )  # fmt: skip
        for what, bad in kinds:
            if bad.any():
                row = int(np.flatnonzero(bad)[0])
                where = tables.edges.location(row, tables.weight)
                problem = f"the synapse count {weight[row]:g} is {what} ({int(bad.sum()):,} are)"
                advice = "Correct it, or say counts=False if these are real-valued weights."
                raise ConnectomeError(f"{where}: {problem}. {advice}")
    elif not settings.counts and (settings.transmitter or settings.sign) and (weight < 0).any():
        row = int(np.flatnonzero(weight < 0)[0])
        column = settings.transmitter or settings.sign
        problem = f"is negative, but signs come from column {column!r}. Give one or the other."
        where = tables.edges.location(row, tables.weight)
        raise ConnectomeError(f"{where}: the weight {weight[row]:g} {problem}")
    return weight


def _selected(tables: ConnectomeTables, settings: ImportSettings, ids: Any, added: int) -> Bool:
    """Mark the neurons that ``select`` keeps."""
    if settings.select is None:
        return np.ones(len(ids), dtype=bool)
    if not isinstance(settings.select, Mapping):
        return _selected_ids(list(settings.select), ids)
    if tables.neurons is None:
        raise ConnectomeError("select by column needs a neuron table; give neurons=, or select by ids.")
    selected = np.ones(len(ids), dtype=bool)
    selected[len(ids) - added :] = False
    for column, values in settings.select.items():
        codes, labels = tables.neurons.labels(tables.neurons.need(column))
        wanted = {str(value) for value in ([values] if isinstance(values, (str, int)) else values)}
        for value in sorted(wanted.difference(labels)):
            hint = suggest(value, labels, what="values")
            raise ConnectomeError(f"select: column {column!r} has no value {value!r}. {hint}")
        selected[: len(codes)] &= np.array([*(label in wanted for label in labels), False])[codes]
    return selected


def _selected_ids(wanted: list[Any], ids: Any) -> Bool:
    pa = arrow()
    values = pa.array(wanted)
    if pa.types.is_floating(values.type):
        problem = "ids are floating-point numbers, and 64-bit ids lose their last digits so"
        raise ConnectomeError(f"select: {problem}; give integers or text.")
    try:
        values = values.cast(ids.type)
    except pa.ArrowInvalid as error:
        raise ConnectomeError(f"select: {error}; the ids are of type {ids.type}.") from None
    absent = values.filter(pa.compute.invert(pa.compute.is_in(values, value_set=ids)))
    if len(absent):
        raise ConnectomeError(f"select: {len(absent)} ids are not here, first {absent[0].as_py()}.")
    selected: Bool = pa.compute.is_in(ids, value_set=values).to_numpy(zero_copy_only=False)
    return selected
