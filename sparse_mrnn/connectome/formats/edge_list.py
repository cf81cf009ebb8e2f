"""read_table: any edge list, with or without tables of neurons."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import replace
from typing import Any, Unpack

import networkx as nx
import numpy as np
from numpy.typing import NDArray

from sparse_mrnn.connectome.assemble import graph_from_tables
from sparse_mrnn.connectome.column_names import IDS, NUMBERED, SOURCES, TARGETS, WEIGHTS, plain_name
from sparse_mrnn.connectome.column_table import ColumnTable, arrow, comparable
from sparse_mrnn.connectome.delimited_text import (
    DELIMITERS,
    Named,
    TextOptions,
    is_nameless,
    is_number,
)  # fmt: skip
from sparse_mrnn.connectome.edge_rows import ConnectomeTables, refuse_repeats
from sparse_mrnn.connectome.formats.networks import from_networkx
from sparse_mrnn.connectome.report import ImportReport
from sparse_mrnn.connectome.settings import ImportOptions, ImportSettings
from sparse_mrnn.connectome.table_files import ROOM, TableSource
from sparse_mrnn.declaration.graph import RegionGraph
from sparse_mrnn.errors import ConnectomeError


def read_table(
    edges: str | os.PathLike[str] | Any,
    neurons: str | os.PathLike[str] | Any = None,
    *,
    source: str | None = None,
    target: str | None = None,
    weight: str | None = None,
    neuron: str | None = None,
    delimiter: str | None = None,
    columns: Sequence[str] | None = None,
    comment: str | None = None,
    decimal: str | None = None,
    undirected: bool | None = None,
    **options: Unpack[ImportOptions],
) -> tuple[RegionGraph, ImportReport]:
    """Import an edge list.

    Parameters
    ----------
    edges : path, DataFrame, mapping of columns, pyarrow.Table, structured array or networkx graph
        One row per connection (or synapse). Text (.csv, .tsv, .txt, or any other suffix; also .gz, .bz2,
        .zst), .parquet or .feather.
    neurons : path or table, or list of these, optional
        One row per neuron. Default: the neurons that have edges. Of several tables, the first says which
        neurons there are, and the others' columns are joined to it by id.
    source, target, weight, neuron : str, optional
        Columns. Default: recognised by common names (such as pre_root_id, bodyId_post, syn_count). Without a
        weight column, or with weight="", each row is one synapse.
    delimiter : str, optional
        Of text files; found in the first lines by default.
    columns : sequence of str, optional
        Column names of an edge list without a header line. Without them, two columns are source and target,
        and a third of numbers is the weight, as the report says.
    comment : str, optional
        Lines that start with it are left out. Default: lines with #, % or // above the table, and with the
        same sign below. "": no line is a comment.
    decimal : str, optional
        Decimal sign of text files; found in the first rows by default, where a comma does not delimit.
    undirected : bool, optional
        Each row is a connection in both directions. Default: False, unless the comments of the file say "sym"
        (KONECT) or "undirected".
    **options
        See `ImportSettings`.

    Raises
    ------
    ConnectomeError
        If a file, a column or a value cannot be used; the message says where.

    Examples
    --------
    >>> edges = {"pre": ["a", "b", "a"], "post": ["b", "a", "b"], "count": [3, 1, 2]}
    >>> graph, report = read_table(edges, scale="none")
    >>> print(graph.n_units, report.merged, report.synapses)
    2 2 6.0
    """
    if isinstance(edges, nx.Graph):
        if neurons is not None:
            raise ConnectomeError("neurons= is for tables; a networkx graph has attributes of its nodes.")
        return from_networkx(edges, weight="weight" if weight is None else weight, **options)
    settings = ImportSettings.of(options)
    text = TextOptions(delimiter=delimiter, columns=columns, comment=comment, decimal=decimal)
    wanted = [column for column in (source, target, weight) if column]

    def named(cells: Sequence[str]) -> bool:
        plain = {plain_name(cell) for cell in cells}
        ends = all(any(plain_name(name) in plain for name in usual) for usual in (SOURCES, TARGETS))
        return set(wanted) <= set(cells) and (ends or (source in cells and target in cells))

    table = TableSource.of(edges, "edges", text, named, edge_columns)
    source = table.recognised(source, SOURCES, "source", "the source")
    target = table.recognised(target, TARGETS, "target", "the target")
    if weight == "":
        weight = None
    else:
        weight = table.pick(weight, WEIGHTS, "weight")
        others = [column for column in table.columns if column not in (source, target)]
        numbered = is_nameless(others[0]) or plain_name(others[0]) in NUMBERED if len(others) == 1 else True
        if weight is None and not numbered and table.has_numbers(others[0]):
            problem = f"column {others[0]!r} may be the weight; name it with weight="
            raise ConnectomeError(f"{table.label}: {problem}, or give weight='' if every row is one synapse.")
    numbers = [] if weight is None else [weight]
    text_columns = [*settings.edge_columns(), *([] if undirected is not None else ["Type"])]
    edge_table = table.read(ids=[source, target], text=text_columns, numbers=numbers)
    _refuse_row_as_header(edge_table, source, target)
    notes = []
    if undirected or (undirected is None and _is_undirected(table, source, target)):
        edge_table = _in_both_directions(edge_table, source, target)
        notes.append("the graph is undirected: every row was taken in both directions")
    elif undirected is None and (either := _undirected_rows(edge_table)) is not None:
        edge_table = _in_both_directions(edge_table, source, target, either)
        count = f"{int(either.sum()):,} rows"
        notes.append(f"column 'Type' says Undirected: {count} were taken in both directions")
    elif "Type" in edge_table.columns and "Type" not in settings.edge_columns():
        edge_table = replace(edge_table, data=edge_table.data.drop_columns(["Type"]))  # it says other things
    neuron_table, identity = None, ""
    if neurons is not None:
        neuron_table, identity = read_neurons(neurons, neuron, settings, text)
    tables = ConnectomeTables(
        label=table.label, edges=edge_table, source=source, target=target, weight=weight,
        neurons=neuron_table, neuron=identity, notes=tuple(notes),
    )  # fmt: skip
    del edge_table  # which lets go of what was read
    return graph_from_tables(tables, settings)


def edge_columns(rows: Sequence[Sequence[str]], comments: Sequence[str]) -> list[str] | None:
    """Name the columns of an edge list without a header: source and target, perhaps a weight, or None."""
    kind = comments[0].split()[:1] if comments else []
    if kind == ["bip"]:
        problem = "the comment says bip: the graph is bipartite, and ids of the columns are different nodes"
        raise ConnectomeError(f"{problem}. Write them as different names, and give columns= for the header.")
    names = ["source", "target", "weight", "timestamp"]
    width = len(rows[0])
    if width == 4 and kind not in (["sym"], ["asym"]):
        return None
    if any(len(cells) != width for cells in rows) or any("GMT" in comment for comment in comments):
        return None  # an adjacency list, as networkx writes it
    if width == 2:
        return names[:2]
    if width not in (3, 4) or not all(is_number(cells[2]) for cells in rows if len(cells) > 2):
        return None
    first, second, third = ([cells[k] for cells in rows if len(cells) > 2] for k in range(3))
    counted = [str(k) for k in range(len(first) + 1)]
    if len(first) > 2 and first in (counted[:-1], counted[1:]) and not set(first) & set(second):
        return None  # the first column numbers the rows
    if width == 3 and all(is_whole(cell) and int(cell) > 10**8 for cell in third):
        return None  # ids or times
    return names[:width]


def is_whole(text: str) -> bool:
    """Tell if text is a whole number in digits.

    >>> is_whole("12"), is_whole("1.5")
    (True, False)
    """
    return text.isascii() and text.isdigit() and len(text) < 20


def _refuse_row_as_header(edges: ColumnTable, source: str, target: str) -> None:
    """Refuse a header whose names are ids as well, unless they are usual names of columns: it is a row."""
    if edges.dialect is None or not edges.dialect.header:
        return
    usual = {plain_name(name) for name in (*SOURCES, *TARGETS)}
    pa = arrow()
    for name in (source, target):
        ends = (edges.data.column(column).cast(pa.string()) for column in (source, target))
        there = (pa.compute.any(pa.compute.equal(end, name)).as_py() for end in ends)
        if plain_name(name) not in usual and any(there):
            problem = f"the header has {name!r}, which is a neuron below, too, so it looks like a row"
            raise ConnectomeError(f"{edges.path}: {problem}. Name all columns with columns=, in their order.")


def _is_undirected(table: TableSource, source: str, target: str) -> bool:
    """Tell if the comments say that edges have no direction; refuse a file where that is not clear."""
    comments = () if table.dialect is None else table.dialect.comments
    said = " ".join(comments).lower()
    if comments and comments[0].split()[:1] == ["sym"]:
        return True
    if "undirected" in said:
        if "saved once" in said:
            return True
        problem = "the comments say undirected, which may mean that every edge is there once or twice"
        raise ConnectomeError(f"{table.label}: {problem}. Give undirected=True (once) or undirected=False.")
    return False


def _undirected_rows(edges: ColumnTable) -> NDArray[np.bool_] | None:
    """Mark the rows that Gephi calls Undirected, in a column of Directed and Undirected; None if none is."""
    if "Type" not in edges.columns:
        return None
    codes, labels = edges.labels("Type")
    kinds = [label.lower() for label in labels]
    if "undirected" not in kinds or not {"directed", "undirected"} >= set(kinds):
        return None
    return np.asarray(codes == kinds.index("undirected"))


def _in_both_directions(
    edges: ColumnTable, source: str, target: str, rows: NDArray[np.bool_] | None = None
) -> ColumnTable:
    """Add every row, or some of them, in the other direction, if its ends differ."""
    pa = arrow()
    both = edges.data.select([source, target, *(c for c in edges.columns if c not in (source, target))])
    ends = [both.column(k).cast(pa.string()) for k in (0, 1)]
    differ = pa.compute.fill_null(pa.compute.not_equal(*ends), False).combine_chunks()
    if rows is not None:
        differ = pa.compute.and_(differ, pa.array(rows))
    other = both.filter(differ)
    other = other.rename_columns([target, source, *both.column_names[2:]]).select(both.column_names)
    text = pa.schema([f.with_type(pa.string()) if f.name in (source, target) else f for f in both.schema])
    origin = np.arange(len(edges)) if edges.origin is None else edges.origin
    origin = np.concatenate([origin, origin[differ.to_numpy(zero_copy_only=False)]])
    return replace(edges, data=pa.concat_tables([both.cast(text), other.cast(text)]), origin=origin)


def read_neurons(
    neurons: Any, neuron: str | None, settings: ImportSettings, text: TextOptions | None = None
) -> tuple[ColumnTable, str]:
    """Read the columns of the neuron table(s) that are needed; return them and the name of the id column."""
    several = list(neurons) if isinstance(neurons, (list, tuple)) else [neurons]
    if not several:
        raise ConnectomeError("neurons is an empty list; give a table, or leave it out.")
    text = replace(text or TextOptions(), columns=None)
    if text.delimiter in DELIMITERS:  # of the edges; this one is found as well
        text = replace(text, delimiter=None)
    named = known_ids(neuron)
    sources = [TableSource.of(table, "neurons", text, named, neuron_columns) for table in several]
    identities = [_identity(source, neuron, k > 0) for k, source in enumerate(sources)]
    return joined(sources, settings, identities), identities[0]


def known_ids(neuron: str | None) -> Named:
    """Return the test that tells if cells are the header of a neuron table."""

    def named(cells: Sequence[str]) -> bool:
        if neuron is not None:
            return neuron in cells
        plain = {plain_name(cell) for cell in cells}
        return any(plain_name(name) in plain for name in IDS)

    return named


def _identity(source: TableSource, neuron: str | None, by_name: bool) -> str:
    """Find the column of ids; in a further table, its usual name is enough."""
    wanted = None if by_name and neuron not in source.columns else neuron
    return source.recognised(wanted, IDS, "neuron", "the neuron's id")


def neuron_columns(rows: Sequence[Sequence[str]], comments: Sequence[str]) -> list[str] | None:
    """Name the column of a list of ids; a table of neurons with more columns needs a header."""
    return ["id"] if max(map(len, rows)) == 1 else None


def _of_each_neuron(table: ColumnTable, identity: str, settings: ImportSettings) -> ColumnTable:
    """Leave out rows without an id, and rows of neurons that have several, as the settings say."""
    table = table.with_ids(identity, settings.missing_ids)
    if settings.repeated_ids == "error":
        return table
    codes = table.ids(identity, settings.missing_ids).codes
    if settings.repeated_ids == "first":
        kept = np.zeros(len(codes), dtype=bool)
        kept[np.unique(codes, return_index=True)[1]] = True
    else:
        kept = np.bincount(codes, minlength=1)[codes] == 1
    return table.only(kept, f"rows of {table.name} with a neuron's id that is repeated")


def joined(
    sources: Sequence[TableSource], settings: ImportSettings, identities: Sequence[str]
) -> ColumnTable:
    """Join columns of the other tables to the first table of neurons; notes say what was left out."""
    pa = arrow()
    columns = settings.neuron_columns()
    others = [source.columns if settings.keep is None else () for source in sources]
    table = sources[0].read(ids=[identities[0]], text=columns, others=others[0], room=ROOM)
    first = _of_each_neuron(table, identities[0], settings)
    ids, data, notes = first.ids(identities[0], settings.missing_ids), first.data, list(first.notes)
    origins = {}
    for source, identity, more in zip(sources[1:], identities[1:], others[1:], strict=True):
        new, there = ([c for c in some if c not in data.column_names] for some in (columns, more))
        room = max(ROOM - data.nbytes, 0)
        table = source.read(ids=[identity], text=new, others=there, room=room)
        new = [column for column in table.columns if column != identity]
        if not new:
            continue
        notes += table.notes
        named = any(column in columns for column in new)
        table = _of_each_neuron(table, identity, settings if named else replace(settings, missing_ids="drop"))
        if not named and len(table) > len(pa.compute.unique(table.data.column(identity))):
            notes.append(f"{table.name} has neurons several times; no option names its columns: not read")
            continue
        other = table.ids(identity, settings.missing_ids)
        refuse_repeats(table, identity, other)
        here, there = (column.rows for column in comparable(ids, other))
        index = pa.compute.index_in(here, value_set=there)
        lost = len(there) - (len(index) - index.null_count)
        if lost:
            notes.append(f"{lost:,} neurons of {table.name} are not in {first.name} and were left out")
        rows = index.fill_null(-1).to_numpy(zero_copy_only=False).astype(np.int64)
        for column in new:
            data = data.append_column(column, table.data.column(column).combine_chunks().take(index))
            origins[column] = replace(table, data=table.data.select([])), rows
    known = list(sources[0].columns)
    for source, identity in zip(sources[1:], identities[1:], strict=True):
        known += [column for column in source.columns if column not in (identity, *known)]
    return replace(first, data=data, known=tuple(known), notes=tuple(notes), joined=origins)
