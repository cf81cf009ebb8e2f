"""read_matrix: matrices (.npz, .npy, .mtx, .mat, text, in memory), in a stated or detected orientation."""

from __future__ import annotations

import csv
import os
import re
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal, Unpack

import networkx as nx
import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray

from sparse_mrnn.connectome.assemble import graph_from_tables
from sparse_mrnn.connectome.column_names import plain_name
from sparse_mrnn.connectome.column_table import dictionary_column
from sparse_mrnn.connectome.delimited_text import TextOptions, cells_of, likely_delimiter, opened, split_lines
from sparse_mrnn.connectome.edge_rows import ConnectomeTables, indexed_edges, node_table
from sparse_mrnn.connectome.formats.edge_list import read_neurons
from sparse_mrnn.connectome.formats.matrix_files import LabelledMatrix, in_memory, load
from sparse_mrnn.connectome.report import ImportReport
from sparse_mrnn.connectome.settings import ImportOptions, ImportSettings
from sparse_mrnn.declaration.graph import RegionGraph
from sparse_mrnn.errors import ConnectomeError

Orientation = Literal["target_source", "source_target"]
Triangle = Literal["mirror", "directed"]
HEADERS = ("x", "name", "names", "label", "labels", "id", "ids", "neuron", "neurons", "region", "regions")
"""Names of a column of labels, as `plain_name` writes them."""
TOTALS = ("sum", "sums", "total", "totals", "all", "grand total")
ENDS = {"target_source": ("targets", "sources"), "source_target": ("sources", "targets")}


def read_matrix(
    matrix: str | os.PathLike[str] | Any,
    *,
    orientation: Orientation | None = None,
    triangle: Triangle | None = None,
    labels: str | os.PathLike[str] | Sequence[str] | None = None,
    neurons: Any = None,
    neuron: str | None = None,
    variable: str | None = None,
    delimiter: str | None = None,
    comment: str | None = None,
    decimal: str | None = None,
    **options: Unpack[ImportOptions],
) -> tuple[RegionGraph, ImportReport]:
    """Import a connectivity matrix. A zero or a blank cell means no connection.

    Parameters
    ----------
    matrix : path, array, scipy.sparse matrix, DataFrame or networkx graph
        A file is .npz (scipy sparse, or arrays), .npy, .mtx, .mat (before version 7.3), or text (.csv, .tsv,
        .txt, perhaps compressed), with names of rows and columns, of either, or without. If rows and columns
        have names of their own, such as 20 sources and 30 targets, they become two regions, sources and
        targets, unless ``regions`` or ``neurons`` say otherwise; neurons that are in both are one.
    orientation : {"target_source", "source_target"}
        Whether entry (i, j) is from j to i (rows are targets, as in this library) or from i to j. Needed
        unless the matrix is symmetric, or the file says so: a corner cell such as "pre/post" in a .csv, an
        entry "orientation" in a .npz, names of a DataFrame's index and columns.
    triangle : {"mirror", "directed"}
        Needed if only one side of the diagonal has entries: "mirror" if that is half of a symmetric matrix,
        as MRtrix writes it, "directed" if all connections are there.
    labels : path or sequence of str, optional
        A name per neuron, or a text file with one a line, or all on one line. Default: those in the file, or
        0, 1, ....
    neurons : path or table, or list of these, optional
        Table with a row per neuron, whose ids (``neuron``) are the labels, for regions and signs.
    variable : str, optional
        Name of the matrix in a .npz or .mat with several.
    delimiter, comment, decimal : str, optional
        Of text, as for `read_table`.
    **options
        See `ImportSettings`. Here ``counts`` is False, ``scale`` "none" and ``mixed`` "free" unless given:
        weights are real and may be negative, and a neuron with weights of both signs has none itself.

    Raises
    ------
    ConnectomeError
        If the orientation is unknown, an unlabelled matrix is not square, or labels do not fit.

    Examples
    --------
    >>> weights = np.array([[0, 2.0], [1.0, 0]])
    >>> graph, report = read_matrix(weights, orientation="target_source", labels=["a", "b"])
    >>> graph.n_units, report.merged
    (2, 2)
    """
    if triangle not in (None, "mirror", "directed"):
        raise ConnectomeError(f"triangle is {triangle!r}; use 'mirror' or 'directed'.")
    text = TextOptions(delimiter=delimiter, comment=comment, decimal=decimal)
    if isinstance(matrix, (str, os.PathLike)):
        file = Path(matrix)
        source, name = str(file), file.name.split(".")[0]
        content = load(file, variable, text, labels is None)
    else:
        source, name = f"a {type(matrix).__name__}", getattr(matrix, "name", None) or "matrix"
        content = in_memory(_of_graph(matrix) if isinstance(matrix, nx.Graph) else matrix)
    settings = ImportSettings.of(options, counts=False, scale="none", mixed="free", name=str(name))
    names, of_row, of_column = _names(source, labels, content)
    _refuse_totals(source, names, content.matrix)
    rows_are, evidence = _orientation(source, orientation, triangle, content)
    entries = content.matrix
    notes = [f"rows of the matrix are {rows_are.partition('_')[0]}s ({evidence})", *content.notes]
    row, col, value = of_row[entries.row], of_column[entries.col], entries.data.astype(np.float64)
    if (triangle is not None or content.orientation is None) and np.array_equal(of_row, of_column):
        row, col, value = _whole_triangle(source, triangle, entries, notes)
    target, source_of = (row, col) if rows_are == "target_source" else (col, row)
    columns: dict[str, Any] = {}
    if neurons is None:
        if len(of_row) + len(of_column) == len(names) and not np.array_equal(of_row, of_column):
            sides = dictionary_column(np.repeat([0, 1], [len(of_row), len(of_column)]), ENDS[rows_are])
            columns, regions = {"(side)": sides}, settings.regions or "(side)"
            settings = replace(settings, regions=regions)
        table, identity = node_table(f"{Path(source).name} (labels)", names, columns), "(neuron)"
    else:
        table, identity = read_neurons(neurons, neuron, settings)
    tables = ConnectomeTables(
        label=source, edges=indexed_edges(Path(source).name, names, source_of, target, {"weight": value}),
        neurons=table, neuron=identity, notes=tuple(notes),
    )  # fmt: skip
    return graph_from_tables(tables, settings)


def _of_graph(graph: nx.Graph) -> LabelledMatrix:
    """Make the matrix of a graph; its rows are sources."""
    names = [str(node) for node in graph]
    if not names:
        raise ConnectomeError("the graph has no nodes.")
    matrix = sp.coo_array(nx.to_scipy_sparse_array(graph, dtype=np.float64))
    return LabelledMatrix(matrix, names, "source_target", "an edge is from source to target", names)


def _orientation(
    source: str, stated: str | None, triangle: str | None, content: LabelledMatrix
) -> tuple[str, str]:
    """Find the orientation of a matrix, and the evidence for it."""
    if stated not in (None, "target_source", "source_target"):
        raise ConnectomeError(f"orientation is {stated!r}; use 'target_source' or 'source_target'.")
    if stated is not None:
        if content.orientation not in (None, stated):
            problem = f"orientation={stated!r} is given, but {content.evidence}. Correct one of them."
            raise ConnectomeError(f"{source}: {problem}")
        return stated, "as stated"
    if content.orientation is not None:
        return content.orientation, content.evidence
    rows, columns = content.matrix.shape
    if rows == columns and (content.columns is None or content.columns == content.labels):
        if triangle == "mirror" or (triangle is None and _is_one_sided(content.matrix)):
            return "target_source", "the matrix is half of a symmetric one, so it does not matter"
        csr = content.matrix.tocsr()
        difference = abs(csr - csr.T)
        if difference.nnz == 0 or difference.max() == 0:
            return "target_source", "the matrix is symmetric, so it does not matter"
    raise ConnectomeError(
        f"{source}: it is not known whether entry (i, j) is from j to i or from i to j. Give "
        "orientation='target_source' (rows are targets) or orientation='source_target' (rows are sources)."
    )


def _is_one_sided(matrix: sp.coo_array) -> bool:
    """Tell if three or more entries are all above or all below the diagonal."""
    row, col = matrix.row[matrix.data != 0], matrix.col[matrix.data != 0]
    above, below = int((col > row).sum()), int((col < row).sum())
    return min(above, below) == 0 and max(above, below) > 2


def _whole_triangle(
    source: str, triangle: str | None, matrix: sp.coo_array, notes: list[str]
) -> tuple[NDArray[Any], NDArray[Any], NDArray[Any]]:
    """Ask what is on the other side of the diagonal, and put it there."""
    there = matrix.data != 0
    row, col, value = matrix.row[there], matrix.col[there], matrix.data[there].astype(np.float64)
    other = row != col
    sides = {bool(side) for side in np.unique(col[other] > row[other])}
    if triangle == "mirror":
        if len(sides) > 1:
            problem = "triangle='mirror' is given, but there are entries on both sides of the diagonal"
            raise ConnectomeError(f"{source}: {problem}; leave it out.")
        notes.append("entries on one side of the diagonal were taken for the other side, too")
        row, col = np.concatenate([row, col[other]]), np.concatenate([col, row[other]])
        return row, col, np.concatenate([value, value[other]])
    if triangle is None and _is_one_sided(matrix):
        side = "above" if True in sides else "below"
        raise ConnectomeError(
            f"{source}: all entries are {side} the diagonal. Give triangle='mirror' if this is half of a "
            "symmetric matrix (as MRtrix writes it), or triangle='directed' and an orientation if it is all."
        )
    return row, col, value


def _names(
    source: str, stated: Any, content: LabelledMatrix
) -> tuple[list[str], NDArray[np.int64], NDArray[np.int64]]:
    """Return the neurons' names, and which of them each row and each column is."""
    rows, columns = content.matrix.shape
    of_rows, of_columns = content.labels, content.columns
    if stated is not None:
        if rows != columns:
            problem = f"labels are for a square matrix; this one is {rows} x {columns}"
            raise ConnectomeError(f"{source}: {problem}. Name rows and columns in the file or a DataFrame.")
        of_rows = of_columns = _stated_labels(source, stated, rows)
    if rows == columns and of_rows is not None and of_columns is not None and of_rows != of_columns:
        if _are_counted(of_rows):  # by pandas or R, and the columns have names
            of_rows = None
        elif _are_counted(of_columns):
            of_columns = None
        if of_rows is None and _are_counted(of_columns or ()):  # V1, V2, ... over 1, 2, ...
            of_columns = [name.lstrip("VX") for name in of_columns or ()]
    named = [names for names in (of_rows, of_columns) if names is not None]
    if rows != columns and len(named) < 2:
        what = "has names for one of them only" if named else "has no names"
        problem = f"the matrix is {rows} x {columns} and {what}"
        advice = "a row and a column for every neuron are needed, or names of all rows and columns"
        raise ConnectomeError(f"{source}: {problem}; {advice}.")
    if not named:
        named = [[str(k) for k in range(rows)]]
    for names, what in zip(named, ("rows", "columns"), strict=False):
        n = rows if names is of_rows or len(named) == 1 else columns
        if len(names) != n:
            problem = f"there are {len(names)} labels for a matrix of {rows} x {columns}; give one a row."
            raise ConnectomeError(f"{source}: labels: {problem}")
        _refuse_repeats(source, names, what)
    first, last = named[0], named[-1]
    every = np.arange(rows)
    if first == last:
        return first, every, every
    place = {name: k for k, name in enumerate(first)}
    both = sum(name in place for name in last)
    if rows == columns and 0 < both < rows:
        k = next(k for k, name in enumerate(last) if name not in place)
        problem = f"column {k} is {last[k]!r}, which is not a row, but {both:,} of {rows:,} are"
        raise ConnectomeError(f"{source}: rows and columns are labelled differently: {problem}.")
    names = [*first, *(name for name in last if name not in place)]
    place = {name: k for k, name in enumerate(names)}
    return names, every, np.array([place[name] for name in last], dtype=np.int64)


def _refuse_totals(source: str, names: Sequence[str], matrix: sp.coo_array) -> None:
    """Refuse a last row or column with the sums of the others, as Excel and pandas (margins) add them."""
    if not names or names[-1].strip().lower() not in TOTALS or len(names) < 3:
        return
    csr = matrix.tocsr()
    for axis, part in (("row", csr), ("column", csr.T.tocsr())):
        if part.shape[0] > 2 and np.allclose(part[:-1].sum(axis=0), part[[-1]].toarray()[0]):
            problem = f"{names[-1]!r}, the last {axis}, has the sums of the others"
            raise ConnectomeError(f"{source}: {problem}; leave sums out of the matrix.")


def _are_counted(names: Sequence[str]) -> bool:
    """Tell if names are numbers as pandas and R give to rows and columns: 0, 1, ..., or 1, ..., or V1, ....

    >>> _are_counted(["V1", "V2"]), _are_counted(["0", "2"])
    (True, False)
    """
    n = len(names)
    counted = ([f"{letter}{k + first}" for k in range(n)] for letter in ("", "V", "X") for first in (0, 1))
    return any(list(names) == numbers for numbers in counted)


def _refuse_repeats(source: str, names: Sequence[str], what: str) -> None:
    first: dict[str, int] = {}
    for k, name in enumerate(names):
        if first.setdefault(name, k) != k:
            problem = f"label {name!r} names {what} {first[name]} and {k}; labels must differ."
            raise ConnectomeError(f"{source}: labels: {problem}")
        if not name:
            raise ConnectomeError(f"{source}: labels: {what[:-1]} {k} has a blank name.")


def _stated_labels(source: str, stated: Any, n: int) -> list[str]:
    """Read labels that a caller gives: names, or a text file with one a line, or all on one line."""
    where = f"{source}: labels"
    if isinstance(stated, (str, os.PathLike)):
        where = str(stated)
        try:
            with opened(Path(stated)) as stream:
                lines = split_lines(stream.read().decode("utf-8-sig"))
        except (OSError, UnicodeDecodeError, ValueError) as error:
            raise ConnectomeError(f"{where}: cannot be read: {error}.") from None
        names = _labels_of([line.strip() for line in lines if line.strip()], n, where)
    elif isinstance(stated, Iterable):
        names = [str(name) for name in stated]
    else:
        problem = "give a name per neuron, or a text file with one a line."
        raise ConnectomeError(f"labels are {stated!r}; {problem}")
    if len(names) != n:
        problem = f"there are {len(names)} labels for a matrix of {n} x {n}; give one a row."
        raise ConnectomeError(f"{where}: {problem}")
    return names


def _labels_of(lines: Sequence[str], n: int, where: str) -> list[str]:
    """Read names from a text: one a line, perhaps below a header or beside numbers, or all on one line."""
    if len(lines) == 1 and n > 1:
        line = re.sub(r"^\[(.*)\]$", r"\1", lines[0])  # as Python writes a list
        return [name.strip("'") for name in cells_of(line, likely_delimiter([line])) if name]
    rows = [cells_of(line, likely_delimiter(lines)) for line in lines]
    header = len(lines) == n + 1 and plain_name(rows[0][-1]) in HEADERS
    rows, lines = rows[header:], lines[header:]
    firsts, several = [cells[0] for cells in rows], {len(cells) for cells in rows} - {1}
    if rows and len(several) == 1 and _are_counted(firsts):
        if several != {2}:
            problem = f"its lines have {several.pop()} columns, and names are wanted"
            raise ConnectomeError(f"{where}: {problem}. Give a file of names alone, or a list.")
        return [cells[1] for cells in rows]
    return [next(csv.reader([line]))[0].strip() if line.startswith('"') else line for line in lines]
