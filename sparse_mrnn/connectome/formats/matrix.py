"""read_matrix: labelled matrices (.npz, .npy, .mtx, .mat, .csv), in a stated or detected orientation."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, Literal, Unpack

import numpy as np

from sparse_mrnn.connectome.assemble import graph_from_tables
from sparse_mrnn.connectome.delimited_text import split_lines
from sparse_mrnn.connectome.edge_rows import ConnectomeTables, indexed_edges, node_table
from sparse_mrnn.connectome.formats.edge_list import read_neurons
from sparse_mrnn.connectome.formats.matrix_files import LabelledMatrix, load
from sparse_mrnn.connectome.report import ImportReport
from sparse_mrnn.connectome.settings import ImportOptions, ImportSettings
from sparse_mrnn.declaration.graph import RegionGraph
from sparse_mrnn.errors import ConnectomeError

Orientation = Literal["target_source", "source_target"]


def read_matrix(
    path: str | os.PathLike[str],
    *,
    orientation: Orientation | None = None,
    labels: str | os.PathLike[str] | Sequence[str] | None = None,
    neurons: Any = None,
    neuron: str | None = None,
    variable: str | None = None,
    **options: Unpack[ImportOptions],
) -> tuple[RegionGraph, ImportReport]:
    """Import a connectivity matrix. A zero means no connection.

    Parameters
    ----------
    path : path
        .npz (scipy sparse, or arrays), .npy, .mtx, .mat (before version 7.3), .csv, .tsv or .txt.
    orientation : {"target_source", "source_target"}
        Whether entry (i, j) is from j to i (rows are targets, as in this library) or from i to j. Needed
        unless the matrix is symmetric, or the file says so: a corner cell such as "pre/post" in a .csv, an
        entry "orientation" in a .npz.
    labels : path or sequence of str, optional
        A name per neuron, or a text file with one a line. Default: those in the file, or 0, 1, ....
    neurons : path or DataFrame, optional
        Table with a row per neuron, whose ids (``neuron``) are the labels, for regions and signs.
    variable : str, optional
        Name of the matrix in a .npz or .mat with several.
    **options
        See `ImportSettings`. Here ``counts`` is False, ``scale`` "none" and ``mixed`` "free" unless given:
        weights are real and may be negative, and a neuron with weights of both signs has none itself.

    Raises
    ------
    ConnectomeError
        If the orientation is unknown, the matrix is not square, or labels do not fit.
    """
    file = Path(path)
    defaults = dict(counts=False, scale="none", mixed="free", name=file.name.split(".")[0])
    settings = ImportSettings.of(options, **defaults)
    content = load(file, variable)
    matrix = content.matrix
    rows, columns = matrix.shape
    if rows != columns:
        problem = f"the matrix is {rows} x {columns}; a row and a column for every neuron are needed."
        raise ConnectomeError(f"{file}: {problem}")
    rows_are, evidence = _orientation(file, orientation, content)
    names = _labels(file, labels, content.labels, rows)
    target, source = (matrix.row, matrix.col) if rows_are == "target_source" else (matrix.col, matrix.row)
    weight = {"weight": matrix.data.astype(np.float64)}
    if neurons is None:
        table, identity = node_table(f"{file.name} (labels)", names, {}), "(neuron)"
    else:
        table, identity = read_neurons(neurons, neuron, settings)
    tables = ConnectomeTables(
        label=str(file), edges=indexed_edges(file.name, names, source, target, weight), neurons=table,
        neuron=identity, notes=(f"rows of the matrix are {rows_are.partition('_')[0]}s ({evidence})",),
    )
    return graph_from_tables(tables, settings)


def _orientation(file: Path, stated: str | None, content: LabelledMatrix) -> tuple[str, str]:
    """Find the orientation of a matrix, and the evidence for it."""
    if stated not in (None, "target_source", "source_target"):
        raise ConnectomeError(f"orientation is {stated!r}; use 'target_source' or 'source_target'.")
    if stated is not None:
        if content.orientation not in (None, stated):
            problem = f"orientation={stated!r} is given, but {content.evidence}. Correct one of them."
            raise ConnectomeError(f"{file}: {problem}")
        return stated, "as stated"
    if content.orientation is not None:
        return content.orientation, content.evidence
    csr = content.matrix.tocsr()
    difference = abs(csr - csr.T)
    if difference.nnz == 0 or difference.max() == 0:
        return "target_source", "the matrix is symmetric, so it does not matter"
    raise ConnectomeError(
        f"{file}: it is not known whether entry (i, j) is from j to i or from i to j. Give "
        "orientation='target_source' (rows are targets) or orientation='source_target' (rows are sources)."
    )


def _labels(file: Path, stated: Any, in_file: list[str] | None, n: int) -> list[str]:
    where = f"{file}: labels"
    if isinstance(stated, (str, os.PathLike)):
        where = str(stated)
        try:
            lines = split_lines(Path(stated).read_text(encoding="utf-8-sig"))
        except (OSError, UnicodeDecodeError) as error:
            raise ConnectomeError(f"{where}: cannot be read: {error}.") from None
        names = [line.strip() for line in lines if line.strip()]
    elif isinstance(stated, Iterable):
        names = [str(name) for name in stated]
    elif stated is not None:
        problem = "give a name per neuron, or a text file with one a line."
        raise ConnectomeError(f"labels are {stated!r}; {problem}")
    else:
        names = [str(k) for k in range(n)] if in_file is None else in_file
    if len(names) != n:
        problem = f"there are {len(names)} labels for a matrix of {n} x {n}; give one a row."
        raise ConnectomeError(f"{where}: {problem}")
    first: dict[str, int] = {}
    for row, name in enumerate(names):
        if first.setdefault(name, row) != row:
            problem = f"label {name!r} names rows {first[name]} and {row}; labels must differ."
            raise ConnectomeError(f"{where}: {problem}")
    return names
