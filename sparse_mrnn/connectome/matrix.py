"""read_matrix: connectivity matrices with labels (.npz, .npy, .mtx, .mat, .csv), whose orientation is stated or detected."""

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
from sparse_mrnn.connectome.assemble import ConnectomeTables, graph_from_tables
from sparse_mrnn.connectome.column_table import ColumnTable, arrow
from sparse_mrnn.connectome.delimited_text import sniff
from sparse_mrnn.connectome.edge_list import read_neurons
from sparse_mrnn.connectome.report import ImportReport
from sparse_mrnn.connectome.settings import Options, Settings
from sparse_mrnn.errors import ConnectomeError
from sparse_mrnn.graph import RegionGraph

Orientation = Literal["target_source", "source_target"]
ROWS_ARE_SOURCES = re.compile(r"^\W*(pre\w*|source\w*|from\w*)\W+(post\w*|target\w*|to\w*)\W*$", re.IGNORECASE)
ROWS_ARE_TARGETS = re.compile(r"^\W*(post\w*|target\w*|to\w*)\W+(pre\w*|source\w*|from\w*)\W*$", re.IGNORECASE)


@dataclass(frozen=True)
class Found:
    """A matrix, labels if the file has them, and the orientation if it says so."""

    matrix: sp.coo_array
    labels: list[str] | None = None
    orientation: str | None = None
    how: str = ""


def read_matrix(
    path: str | os.PathLike[str],
    *,
    orientation: Orientation | None = None,
    labels: str | os.PathLike[str] | Sequence[str] | None = None,
    neurons: Any = None,
    neuron: str | None = None,
    variable: str | None = None,
    **options: Unpack[Options],
) -> tuple[RegionGraph, ImportReport]:
    """Import a connectivity matrix. Its zeros are no connections.

    Parameters
    ----------
    path : path
        .npz (scipy sparse, or arrays), .npy, .mtx, .mat (before version 7.3), .csv, .tsv or .txt.
    orientation : {"target_source", "source_target"}
        Whether entry (i, j) is from j to i (rows are targets, as in this library) or from i to j. Needed unless the
        matrix is symmetric, or the file says so: a corner cell such as "pre/post" in a .csv, an entry
        "orientation" in a .npz.
    labels : path or sequence of str, optional
        A name per neuron, or a text file with one a line. Default: those in the file, or 0, 1, ....
    neurons : path or DataFrame, optional
        ColumnTable with a row per neuron, whose ids (``neuron``) are the labels, for regions and signs.
    variable : str, optional
        Name of the matrix in a .npz or .mat with several.
    **options
        See `Settings`. Here ``counts`` is False, ``scale`` "none" and ``mixed`` "free" unless given: weights are
        real and may be negative, and a neuron with weights of both signs has none itself.

    Returns
    -------
    RegionGraph, ImportReport

    Raises
    ------
    ConnectomeError
        If the orientation is unknown, the matrix is not square, or labels do not fit.
    """
    file = Path(path)
    settings = Settings.of(options, counts=False, scale="none", mixed="free", name=file.name.split(".")[0])
    found = _load(file, variable)
    matrix = found.matrix
    if matrix.shape[0] != matrix.shape[1]:
        raise ConnectomeError(
            f"{file}: the matrix is {matrix.shape[0]} x {matrix.shape[1]}; a row and a column for every neuron are needed."
        )
    if orientation not in (None, "target_source", "source_target"):
        raise ConnectomeError(f"orientation is {orientation!r}; use 'target_source' or 'source_target'.")
    if orientation is not None and found.orientation not in (None, orientation):
        raise ConnectomeError(f"{file}: orientation={orientation!r} is given, but {found.how}. Correct one of them.")
    chosen, how = orientation or found.orientation, "as stated" if orientation else found.how
    if chosen is None:
        if _symmetric(matrix):
            chosen, how = "target_source", "the matrix is symmetric, so it does not matter"
        else:
            raise ConnectomeError(
                f"{file}: it is not known whether entry (i, j) is from j to i or from i to j. Give orientation='target_source' "
                "(rows are targets) or orientation='source_target' (rows are sources)."
            )
    names = _labels(file, labels, found.labels, matrix.shape[0])
    pa = arrow()
    source, target = (matrix.col, matrix.row) if chosen == "target_source" else (matrix.row, matrix.col)
    entry = [pa.DictionaryArray.from_arrays(pa.array(index.astype(np.int32)), pa.array(names)) for index in (source, target)]
    edges = ColumnTable(file.name, pa.table({"source": entry[0], "target": entry[1], "weight": matrix.data.astype(np.float64)}))
    notes = [f"rows of the matrix are {'targets' if chosen == 'target_source' else 'sources'} ({how})"]
    if neurons is None:
        table, identity = ColumnTable(f"{file.name} (labels)", pa.table({"neuron": names})), "neuron"
    else:
        table, identity = read_neurons(neurons, neuron, settings)
    return graph_from_tables(ConnectomeTables(str(file), edges, "source", "target", "weight", table, identity, notes=tuple(notes)), settings)


def _symmetric(matrix: sp.coo_array) -> bool:
    csr = matrix.tocsr()
    return bool(abs(csr - csr.T).nnz == 0 or abs(csr - csr.T).max() == 0)


def _labels(file: Path, given: Any, own: list[str] | None, n: int) -> list[str]:
    where = f"{file}: labels"
    if isinstance(given, (str, os.PathLike)):
        where = str(given)
        try:
            lines = Path(given).read_text(encoding="utf-8-sig").splitlines()
        except (OSError, UnicodeDecodeError) as error:
            raise ConnectomeError(f"{where}: cannot be read: {error}.") from None
        names = [line.strip() for line in lines if line.strip()]
    elif given is not None:
        names = [str(name) for name in given]
    else:
        names = own if own is not None else [str(k) for k in range(n)]
    if len(names) != n:
        raise ConnectomeError(f"{where}: there are {len(names)} labels for a matrix of {n} x {n}; give one a row.")
    twice = sorted({name for name in names if names.count(name) > 1}) if len(set(names)) < n else []
    if twice:
        first = names.index(twice[0])
        again = names.index(twice[0], first + 1)
        raise ConnectomeError(f"{where}: label {twice[0]!r} names rows {first} and {again}; labels must differ.")
    return names


def _load(file: Path, variable: str | None) -> Found:
    if not file.is_file():
        raise ConnectomeError(f"{file} does not exist.")
    readers = {".npz": _npz, ".npy": _npy, ".mtx": _mtx, ".mat": _mat, ".csv": _text, ".tsv": _text, ".txt": _text}
    if file.suffix not in readers:
        raise ConnectomeError(f"{file}: {file.suffix or 'a file without suffix'} is no matrix format here; use {', '.join(readers)}.")
    if file.stat().st_size == 0:
        raise ConnectomeError(f"{file}: the file is empty.")
    try:
        found = readers[file.suffix](file, variable)
    except ConnectomeError:
        raise
    except (ValueError, OSError, EOFError, NotImplementedError, KeyError, TypeError, zipfile.BadZipFile, zlib.error) as error:
        raise ConnectomeError(f"{file}: cannot be read as {file.suffix[1:]}: {error}") from None
    bad = np.flatnonzero(~np.isfinite(found.matrix.data))
    if len(bad):
        k = bad[0]
        raise ConnectomeError(
            f"{file}: entry ({found.matrix.row[k]}, {found.matrix.col[k]}) is {found.matrix.data[k]}; weights must be finite."
        )
    return found


def _sparse(value: Any) -> sp.coo_array:
    if not sp.issparse(value):
        value = np.asarray(value)
        if value.ndim != 2 or not (np.issubdtype(value.dtype, np.number) or value.dtype == bool) or np.iscomplexobj(value):
            raise ConnectomeError(
                f"the matrix is of shape {value.shape} and type {value.dtype}; real numbers in rows and columns are needed."
            )
    matrix = sp.coo_array(value)
    matrix.sum_duplicates()
    return matrix


def _npz(file: Path, variable: str | None) -> Found:
    checked(file)
    with np.load(file, allow_pickle=False) as data:
        names = list(data.files)
        sparse = {"format", "shape"} <= set(names)
        extra = {name: data[name] for name in names if name in ("labels", "orientation", "names", "neurons")}
        if sparse:
            value: Any = sp.load_npz(file)
        else:
            value = data[_choose(file, [n for n in names if data[n].ndim == 2], variable)]
    labels = next((extra[k] for k in ("labels", "names", "neurons") if k in extra), None)
    said = str(extra["orientation"]) if "orientation" in extra else None
    if said not in (None, "target_source", "source_target"):
        raise ConnectomeError(f"{file}: its orientation is {said!r}; it must be 'target_source' or 'source_target'.")
    return Found(_sparse(value), None if labels is None else [str(v) for v in labels.tolist()], said, f"the file says orientation {said!r}")


def _choose(file: Path, names: list[str], variable: str | None) -> str:
    if variable is not None:
        if variable not in names:
            raise ConnectomeError(f"{file}: there is no matrix {variable!r}; there are {', '.join(names) or 'none'}.")
        return variable
    if len(names) != 1:
        raise ConnectomeError(f"{file}: there are {len(names)} matrices ({', '.join(names)}); choose one with variable=.")
    return names[0]


def _npy(file: Path, _: str | None) -> Found:
    return Found(_sparse(np.load(file, allow_pickle=False)))


def _mtx(file: Path, _: str | None) -> Found:
    return Found(_sparse(scipy.io.mmread(file)))


def _mat(file: Path, variable: str | None) -> Found:
    with file.open("rb") as head:
        if head.read(10).startswith(b"MATLAB 7.3") or b"HDF" in head.read(16):
            raise ConnectomeError(f"{file}: MATLAB's version 7.3 format is not read here; save it with save(..., '-v7').")
    data: Mapping[str, Any] = scipy.io.loadmat(file)
    matrices = [
        k
        for k, v in data.items()
        if not k.startswith("__") and (sp.issparse(v) or (np.ndim(v) == 2 and min(np.shape(v)) > 1 and np.issubdtype(v.dtype, np.number)))
    ]
    name = _choose(file, matrices, variable)
    size = data[name].shape[0]
    labels = next((v for k, v in data.items() if k.lower() in ("labels", "names", "neurons") and np.size(v) == size), None)
    names = None if labels is None else [str(np.squeeze(v)).strip() for v in np.ravel(labels)]
    return Found(_sparse(data[name]), names)


def _text(file: Path, _: str | None) -> Found:
    """Numbers, with or without a header line and a first column of labels."""
    delimiter = sniff(file, None, None).delimiter if file.suffix != ".txt" or "," in file.read_text(errors="replace")[:4096] else None
    with file.open(newline="", encoding="utf-8-sig") as stream:
        lines = csv.reader(stream, delimiter=delimiter) if delimiter else (line.split() for line in stream)
        table = [(k, [cell.strip() for cell in row]) for k, row in enumerate(lines, start=1) if row]
    if not table:
        raise ConnectomeError(f"{file}: the file is empty.")
    head = table[0][1]
    has_head = any(not _number(cell) for cell in head[1:]) or (len(head) > 1 and not _number(head[0]))
    body = table[1:] if has_head else table
    has_names = bool(body) and (not _number(body[0][1][0]) or (has_head and len(body[0][1]) == len(head) and not _number(head[0])))
    width = len(body[0][1]) if body else 0
    out = np.zeros((len(body), width - has_names))
    for r, (line, cells) in enumerate(body):
        if len(cells) != width:
            raise ConnectomeError(f"{file}, line {line}: {len(cells)} columns where the first row has {width}.")
        for c, cell in enumerate(cells[has_names:]):
            if not _number(cell):
                raise ConnectomeError(f"{file}, line {line}, column {c + has_names + 1}: {cell!r} is no number.")
            out[r, c] = float(cell)
    rows = [cells[0] for _, cells in body] if has_names else None
    columns = head[len(head) - out.shape[1] :] if has_head else None
    if rows is not None and columns is not None and rows != columns:
        k = next((k for k, (a, b) in enumerate(zip(rows, columns, strict=False)) if a != b), min(len(rows), len(columns)))
        raise ConnectomeError(
            f"{file}: rows and columns are labelled differently, first at {k}: {rows[k : k + 1]} and {columns[k : k + 1]}."
        )
    corner = head[0] if has_head and has_names else ""
    said = "source_target" if ROWS_ARE_SOURCES.match(corner) else "target_source" if ROWS_ARE_TARGETS.match(corner) else None
    return Found(_sparse(out), rows or columns, said, f"the corner cell says {corner!r}")


def _number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True
