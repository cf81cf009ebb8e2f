"""read_matrix: labelled matrices (.npz, .npy, .mtx, .mat, .csv), in a stated or detected orientation."""

from __future__ import annotations

import csv
import os
import re
import zipfile
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Unpack

import numpy as np
import scipy.io
import scipy.sparse as sp

from sparse_mrnn.connectome.archive import checked
from sparse_mrnn.connectome.assemble import graph_from_tables
from sparse_mrnn.connectome.delimited_text import is_number, sniff
from sparse_mrnn.connectome.edge_list import read_neurons
from sparse_mrnn.connectome.edge_rows import ConnectomeTables, indexed_edges, node_table
from sparse_mrnn.connectome.report import ImportReport
from sparse_mrnn.connectome.settings import ImportOptions, ImportSettings
from sparse_mrnn.errors import ConnectomeError
from sparse_mrnn.graph import RegionGraph

Orientation = Literal["target_source", "source_target"]
SOURCE, TARGET = r"(pre\w*|source\w*|from\w*)", r"(post\w*|target\w*|to\w*)"
CORNERS = {
    "source_target": re.compile(rf"^\W*{SOURCE}\W+{TARGET}\W*$", re.IGNORECASE),
    "target_source": re.compile(rf"^\W*{TARGET}\W+{SOURCE}\W*$", re.IGNORECASE),
}
"""What a corner cell says of rows and columns."""


DAMAGE = (
    ValueError, OSError, EOFError, NotImplementedError, KeyError, TypeError, zipfile.BadZipFile, zlib.error,
)  # fmt: skip
"""What numpy, scipy and zipfile raise for damaged files."""


@dataclass(frozen=True)
class LabelledMatrix:
    """A matrix as a file has it: labels if there are any, and the orientation with the evidence for it."""

    matrix: sp.coo_array
    labels: list[str] | None = None
    orientation: str | None = None
    evidence: str = ""


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
    """Import a connectivity matrix. Its zeros are no connections.

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
    content = _load(file, variable)
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
        label=str(file),
        edges=indexed_edges(file.name, names, source, target, weight),
        neurons=table,
        neuron=identity,
        notes=(f"rows of the matrix are {rows_are.partition('_')[0]}s ({evidence})",),
    )
    return graph_from_tables(tables, settings)


def _orientation(file: Path, stated: str | None, content: LabelledMatrix) -> tuple[str, str]:
    """The orientation of a matrix, and how it is known."""
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
            lines = Path(stated).read_text(encoding="utf-8-sig").splitlines()
        except (OSError, UnicodeDecodeError) as error:
            raise ConnectomeError(f"{where}: cannot be read: {error}.") from None
        names = [line.strip() for line in lines if line.strip()]
    elif stated is not None:
        names = [str(name) for name in stated]
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


def _load(file: Path, variable: str | None) -> LabelledMatrix:
    if not file.is_file():
        raise ConnectomeError(f"{file} does not exist.")
    text = dict.fromkeys((".csv", ".tsv", ".txt"), _text)
    readers = {".npz": _npz, ".npy": _npy, ".mtx": _mtx, ".mat": _mat, **text}
    if file.suffix not in readers:
        kind = file.suffix or "a file without suffix"
        raise ConnectomeError(f"{file}: {kind} is no matrix format here; use {', '.join(readers)}.")
    if file.stat().st_size == 0:
        raise ConnectomeError(f"{file}: the file is empty.")
    try:
        content = readers[file.suffix](file, variable)
    except ConnectomeError:
        raise
    except DAMAGE as error:
        raise ConnectomeError(f"{file}: cannot be read as {file.suffix[1:]}: {error}") from None
    matrix = content.matrix
    bad = np.flatnonzero(~np.isfinite(matrix.data))
    if len(bad):
        k = bad[0]
        entry = f"entry ({matrix.row[k]}, {matrix.col[k]}) is {matrix.data[k]}"
        raise ConnectomeError(f"{file}: {entry}; weights must be finite.")
    return content


def _sparse(value: Any) -> sp.coo_array:
    if not sp.issparse(value):
        value = np.asarray(value)
        real = (np.issubdtype(value.dtype, np.number) or value.dtype == bool) and not np.iscomplexobj(value)
        if value.ndim != 2 or not real:
            problem = f"the matrix is of shape {value.shape} and type {value.dtype}"
            raise ConnectomeError(f"{problem}; real numbers in rows and columns are needed.")
    matrix = sp.coo_array(value)
    matrix.sum_duplicates()
    return matrix


def _npz(file: Path, variable: str | None) -> LabelledMatrix:
    checked(file)
    with np.load(file, allow_pickle=False) as data:
        names = list(data.files)
        extra = {name: data[name] for name in names if name in ("labels", "orientation", "names", "neurons")}
        if {"format", "shape"} <= set(names):
            value: Any = sp.load_npz(file)
        else:
            value = data[_choose(file, [n for n in names if data[n].ndim == 2], variable)]
    labels = next((extra[k].tolist() for k in ("labels", "names", "neurons") if k in extra), None)
    orientation = str(extra["orientation"]) if "orientation" in extra else None
    if orientation not in (None, "target_source", "source_target"):
        problem = f"its orientation is {orientation!r}; it must be 'target_source' or 'source_target'."
        raise ConnectomeError(f"{file}: {problem}")
    return LabelledMatrix(
        _sparse(value),
        labels=None if labels is None else [str(label) for label in labels],
        orientation=orientation,
        evidence=f"the file says orientation {orientation!r}",
    )


def _choose(file: Path, names: list[str], variable: str | None) -> str:
    if variable is not None:
        if variable not in names:
            listed = ", ".join(names) or "none"
            raise ConnectomeError(f"{file}: there is no matrix {variable!r}; there are {listed}.")
        return variable
    if len(names) != 1:
        problem = f"there are {len(names)} matrices ({', '.join(names)}); choose one with variable=."
        raise ConnectomeError(f"{file}: {problem}")
    return names[0]


def _npy(file: Path, _: str | None) -> LabelledMatrix:
    return LabelledMatrix(_sparse(np.load(file, allow_pickle=False)))


def _mtx(file: Path, _: str | None) -> LabelledMatrix:
    return LabelledMatrix(_sparse(scipy.io.mmread(file)))


def _mat(file: Path, variable: str | None) -> LabelledMatrix:
    with file.open("rb") as stream:
        head = stream.read(16)
    if head.startswith(b"MATLAB 7.3") or b"HDF" in head:
        problem = "MATLAB's version 7.3 format is not read here; save it with save(..., '-v7')."
        raise ConnectomeError(f"{file}: {problem}")
    data: Mapping[str, Any] = scipy.io.loadmat(file)
    matrices = [name for name, value in data.items() if not name.startswith("__") and _is_matrix(value)]
    name = _choose(file, matrices, variable)
    n = data[name].shape[0]
    named = (value for key, value in data.items() if key.lower() in ("labels", "names", "neurons"))
    labels = next((value for value in named if np.size(value) == n), None)
    names = None if labels is None else [str(np.squeeze(value)).strip() for value in np.ravel(labels)]
    return LabelledMatrix(_sparse(data[name]), names)


def _is_matrix(value: Any) -> bool:
    if sp.issparse(value):
        return True
    return np.ndim(value) == 2 and min(np.shape(value)) > 1 and np.issubdtype(value.dtype, np.number)


def _text(file: Path, _: str | None) -> LabelledMatrix:
    """Numbers, with or without a header line and a first column of labels."""
    blanks = file.suffix == ".txt" and "," not in file.read_text(errors="replace")[:4096]
    with file.open(newline="", encoding="utf-8-sig") as stream:
        split = (line.split() for line in stream)
        lines = split if blanks else csv.reader(stream, delimiter=sniff(file).delimiter)
        table = [(k, [cell.strip() for cell in cells]) for k, cells in enumerate(lines, start=1) if cells]
    if not table:
        raise ConnectomeError(f"{file}: the file is empty.")
    head = table[0][1]
    has_head = any(not is_number(cell) for cell in head[1:]) or (len(head) > 1 and not is_number(head[0]))
    body = table[1:] if has_head else table
    first = body[0][1] if body else []
    has_names = bool(first) and (
        not is_number(first[0]) or (has_head and len(first) == len(head) and not is_number(head[0]))
    )
    out = np.zeros((len(body), len(first) - has_names))
    for r, (line, cells) in enumerate(body):
        if len(cells) != len(first):
            problem = f"{len(cells)} columns where the first row has {len(first)}."
            raise ConnectomeError(f"{file}, line {line}: {problem}")
        for c, cell in enumerate(cells[has_names:]):
            if not is_number(cell):
                where = f"{file}, line {line}, column {c + has_names + 1}"
                raise ConnectomeError(f"{where}: {cell!r} is no number.")
            out[r, c] = float(cell)
    rows = [cells[0] for _, cells in body] if has_names else None
    columns = head[len(head) - out.shape[1] :] if has_head else None
    if rows is not None and columns is not None and rows != columns:
        pairs = enumerate(zip(rows, columns, strict=False))
        k = next((k for k, (row, column) in pairs if row != column), min(len(rows), len(columns)))
        problem = f"first at {k}: {rows[k : k + 1]} and {columns[k : k + 1]}."
        raise ConnectomeError(f"{file}: rows and columns are labelled differently, {problem}")
    corner = head[0] if has_head and has_names else ""
    orientation = next((name for name, pattern in CORNERS.items() if pattern.match(corner)), None)
    return LabelledMatrix(_sparse(out), rows or columns, orientation, f"the corner cell says {corner!r}")
