"""Matrix files (.npz, .npy, .mtx, .mat, text) with labels and orientation. Headers are checked first."""

from __future__ import annotations

import io
import math
import re
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import scipy.sparse as sp
from numpy.lib import format as npy
from numpy.typing import NDArray

from sparse_mrnn.connectome.column_table import arrow
from sparse_mrnn.connectome.delimited_text import TextOptions
from sparse_mrnn.connectome.formats.downloads import checked, content
from sparse_mrnn.connectome.formats.matrix_text import read_text_matrix
from sparse_mrnn.connectome.sandbox import ReadingError, read_mat
from sparse_mrnn.connectome.table_files import is_dataframe, is_pandas
from sparse_mrnn.errors import ConnectomeError

SOURCE, TARGET = r"(pre\w*|source\w*|from\w*)", r"(post\w*|target\w*|to\w*)"
CORNERS = {
    "source_target": re.compile(rf"^\W*{SOURCE}\W+{TARGET}\W*$", re.IGNORECASE),
    "target_source": re.compile(rf"^\W*{TARGET}\W+{SOURCE}\W*$", re.IGNORECASE),
}
"""Corner cells that say what rows and columns are."""
LABELS = ("labels", "names", "neurons")
SPARSE_PARTS = ("format", "shape", "data", "indices", "indptr", "row", "col", "coords")
"""Arrays of scipy.sparse.save_npz."""
HEADER_BYTES = 1 << 16
"""Bytes of an array's file that have its header."""
ROWS_SPARED = 1_000_000
"""A matrix may have so many rows, or as many as its file has bytes; more are taken for damage."""


@dataclass(frozen=True)
class LabelledMatrix:
    """A matrix as it was given, with labels (of rows) if there are any, and the orientation with evidence."""

    matrix: sp.coo_array
    labels: list[str] | None = None
    orientation: str | None = None
    evidence: str = ""
    columns: list[str] | None = None  # names of the columns, if they have their own
    notes: tuple[str, ...] = ()


class DamageError(ValueError):
    """A file is damaged; `load` adds its name to the message."""


def load(file: Path, variable: str | None, options: TextOptions, labelled: bool = True) -> LabelledMatrix:
    """Read a matrix by the suffix of its file; ``variable`` names one of several.

    Labels of a .npz are not read unless ``labelled``.
    """
    text = partial(_text, options=options)
    readers: dict[str, Callable[[Path, str | None], LabelledMatrix]] = {
        ".npz": partial(_npz, labelled=labelled), ".npy": _npy, ".mtx": _mtx, ".mat": _mat,
        **dict.fromkeys((".csv", ".tsv", ".txt", ".dat", ".asc", ".tab", ".edge"), text),
    }  # fmt: skip
    if not file.is_file():
        raise ConnectomeError(f"{file} does not exist.")
    suffix = file.suffix
    if suffix in (".gz", ".bz2", ".zst") and readers.get(file.with_suffix("").suffix) is text:
        suffix = file.with_suffix("").suffix
    if suffix not in readers:
        kind = suffix or "a file without suffix"
        raise ConnectomeError(f"{file}: {kind} is not a matrix format here; use {', '.join(readers)}.")
    if file.stat().st_size == 0:
        raise ConnectomeError(f"{file}: the file is empty.")
    try:
        found = readers[suffix](file, variable)
    except (DamageError, ReadingError, OSError, UnicodeDecodeError) as error:
        raise ConnectomeError(f"{file}: cannot be read as {suffix[1:]}: {error}.") from None
    matrix = found.matrix
    _refuse_not_finite(file, matrix)
    if max(matrix.shape) > max(ROWS_SPARED, file.stat().st_size):
        shape = f"{matrix.shape[0]:,} x {matrix.shape[1]:,}"
        size = f"{file.stat().st_size:,} bytes"
        raise ConnectomeError(f"{file}: a matrix of {shape} does not fit a file of {size}.")
    return found


def in_memory(source: Any) -> LabelledMatrix:
    """Look at an array, a scipy.sparse matrix or a DataFrame, whose index and columns are labels."""
    if isinstance(source, LabelledMatrix):
        return source
    labels = columns = orientation = None
    evidence, notes = "", tuple[str, ...]()
    where = f"a {type(source).__name__}"
    try:
        if is_dataframe(source):
            if is_pandas(source):
                if len(source.columns) > 1:
                    firsts, others = source.iloc[:, 0], [str(name) for name in source.columns[1:]]
                    if firsts.dtype.kind not in "biuf" or [str(name) for name in firsts] == others:
                        source = source.set_index(source.columns[0])
                labels = [str(name) for name in source.index]
                corner = f"{source.index.name}/{source.columns.name}"
                orientation, evidence = orientation_of(corner), f"index and columns are called {corner!r}"
            columns = [str(name) for name in source.columns]
            source, notes = _filled(source)
        if sp.issparse(source):
            coo = source.tocoo()
            if coo.ndim != 2:
                raise DamageError(f"it is of shape {coo.shape}; rows and columns are needed")
            matrix = _entries(coo.data, coo.row, coo.col, coo.shape)
        else:
            matrix = _dense(np.asarray(source))
    except (DamageError, TypeError, ValueError, RuntimeError) as error:
        advice = "Give a path, an array, a scipy.sparse matrix, a DataFrame of numbers or a networkx graph."
        raise ConnectomeError(f"{where} cannot be read as a matrix: {error}. {advice}") from None
    _refuse_not_finite(where, matrix)
    return LabelledMatrix(matrix, labels, orientation, evidence, columns, notes)


def _filled(frame: Any) -> tuple[NDArray[Any], tuple[str, ...]]:
    """Convert a data frame; its missing values, which a file has as blank cells, become 0."""
    values = frame.to_numpy()
    if is_pandas(frame) and all(kind.kind in "biuf" for kind in frame.dtypes):
        blank = frame.isna().to_numpy()
        if blank.any():
            values = np.where(blank, 0.0, frame.to_numpy(dtype=np.float64, na_value=0.0))
            return values, (f"{int(blank.sum()):,} missing values were taken as 0",)
        if values.dtype == object:  # pandas' Int64, say
            return frame.to_numpy(dtype=np.float64), ()
    return values, ()


def _refuse_not_finite(where: object, matrix: sp.coo_array) -> None:
    for k in np.flatnonzero(~np.isfinite(matrix.data))[:1]:
        entry = f"entry ({matrix.row[k]}, {matrix.col[k]}) is {matrix.data[k]}"
        raise ConnectomeError(f"{where}: {entry}; weights must be finite.")


def _numbers(values: NDArray[Any]) -> NDArray[np.float64]:
    """Convert real numbers to float64, and refuse whole ones that it cannot hold."""
    if values.dtype.kind not in "biuf":
        problem = f"the matrix is of shape {values.shape} and type {values.dtype}"
        raise DamageError(f"{problem}; real numbers are needed")
    if values.dtype.kind in "iu" and values.size and max(-int(values.min()), int(values.max())) > 2**53:
        raise DamageError("a whole number is beyond 2^53, which a weight cannot hold")
    with np.errstate(over="ignore"):
        return values.astype(np.float64)


def _dense(values: NDArray[Any]) -> sp.coo_array:
    if values.ndim != 2:
        raise DamageError(f"the matrix is of shape {values.shape}; rows and columns are needed")
    return sp.coo_array(_numbers(values))


def _entries(
    data: NDArray[Any], row: NDArray[Any], col: NDArray[Any], shape: tuple[int, int]
) -> sp.coo_array:
    """Make a matrix of entries; repeated ones add."""
    if not data.shape == row.shape == col.shape == (len(data),):
        raise DamageError(f"there are {data.size} values for {row.size} rows and {col.size} columns")
    for index, size in ((row, shape[0]), (col, shape[1])):
        inside = not len(index) or 0 <= int(index.min()) <= int(index.max()) < size
        if index.dtype.kind not in "iu" or not inside:
            raise DamageError(f"an index lies outside of the matrix of {shape[0]} x {shape[1]}")
    if max(shape) >= 2**31:
        raise DamageError(f"a matrix of {shape[0]} x {shape[1]} is too large")
    row, col = row.astype(np.int32, copy=False), col.astype(np.int32, copy=False)
    with np.errstate(over="ignore"):
        matrix = sp.coo_array((_numbers(data), (row, col)), shape=shape)
        by_row, by_col = np.diff(row), np.diff(col)
        if not ((by_row > 0) | ((by_row == 0) & (by_col > 0))).all():  # else sorted, without repeats
            matrix.sum_duplicates()
    return matrix


# ---------------------------------------------------------------- numpy and scipy


def _array(stream: BinaryIO, size: int) -> NDArray[Any]:
    """Read an array of numbers or text in numpy's format, if its header and its ``size`` in bytes agree."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # numpy's, of names of types that it calls old
            if npy.read_magic(stream) == (1, 0):
                shape, _, kind = npy.read_array_header_1_0(stream)
            else:
                shape, _, kind = npy.read_array_header_2_0(stream)
            if kind.kind not in "biufcUS" or kind.itemsize == 0:
                raise DamageError(f"an array of type {kind} cannot be read (allow_pickle is never used)")
            if min(shape, default=0) < 0 or stream.tell() + math.prod(shape) * kind.itemsize != size:
                promised = f"{math.prod(shape):,} values of {kind.itemsize} bytes"
                raise DamageError(f"the header promises {promised}, but there are {size:,} bytes")
            stream.seek(0)
            values: NDArray[Any] = npy.read_array(stream, allow_pickle=False)
            return values
    except DamageError:
        raise
    except Exception as error:  # of many kinds, from the reader of headers, which evaluates a literal
        raise DamageError(f"the header of an array is damaged ({error})") from None


def _shape_and_type(data: bytes, size: int) -> tuple[tuple[int, ...], np.dtype[Any]]:
    """Read the header of an array, and refuse one that does not agree with its ``size`` in bytes."""
    stream = io.BytesIO(data)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            first = npy.read_magic(stream) == (1, 0)
            shape, _, kind = (npy.read_array_header_1_0 if first else npy.read_array_header_2_0)(stream)
    except Exception as error:  # of many kinds
        raise DamageError(f"the header of an array is damaged ({error})") from None
    if kind.kind != "O" and stream.tell() + math.prod(shape) * kind.itemsize != size:
        raise DamageError(f"the header of an array of {size:,} bytes promises {math.prod(shape):,} values")
    return shape, kind


def _words(values: NDArray[Any]) -> list[str]:
    """Convert an array to text, and refuse numbers that are not letters."""
    try:
        words = [w.decode("latin-1") if isinstance(w, bytes) else str(w) for w in values.ravel().tolist()]
        "".join(words).encode()
    except (ValueError, SystemError):
        raise DamageError("an array of text has numbers that are not letters") from None
    return words


def _npy(file: Path, _: str | None) -> LabelledMatrix:
    with file.open("rb") as stream:
        return LabelledMatrix(_dense(_array(stream, file.stat().st_size)))


def _npz(file: Path, variable: str | None, labelled: bool) -> LabelledMatrix:
    infos = checked(file)
    members = {name.removesuffix(".npy"): name for name in infos if name.endswith(".npy")}

    def array(name: str) -> NDArray[Any]:
        data = content(file, members[name])
        return _array(io.BytesIO(data), len(data))

    heads = {
        name: _shape_and_type(content(file, member, HEADER_BYTES, cut=True), infos[member].file_size)
        for name, member in members.items()
    }
    texts = {}
    for name in (*(LABELS if labelled else ()), "orientation"):
        if name in members and name != variable:
            if heads[name][1].kind == "O":
                problem = f"{name!r} is an array of Python objects, which is never read"
                raise ConnectomeError(f"{file}: {problem}. Give labels=, or save it as text (dtype=str).")
            texts[name] = array(name)
    if {"format", "shape"} <= set(members):
        matrix = _sparse({name: array(name) for name in SPARSE_PARTS if name in members})
    else:
        choices = [
            name for name, (shape, kind) in heads.items()
            if len(shape) == 2 and (name == variable or (kind.kind != "O" and name not in LABELS))
        ]  # fmt: skip
        matrix = _dense(array(_choose(file, choices, variable)))
    labels = next((texts[name] for name in LABELS if name in texts), None)
    orientation = ", ".join(_words(texts["orientation"])) if "orientation" in texts else None
    if orientation not in (None, "target_source", "source_target"):
        problem = f"its orientation is {orientation!r:.80}; it must be 'target_source' or 'source_target'."
        raise ConnectomeError(f"{file}: {problem}")
    names = None if labels is None else _words(labels)
    return LabelledMatrix(matrix, names, orientation, f"the file says orientation {orientation!r}")


def _sparse(arrays: dict[str, NDArray[Any]]) -> sp.coo_array:
    """Make a matrix of the arrays of scipy.sparse.save_npz, checked before scipy's code sees them."""
    name, shape = "".join(_words(arrays["format"])), arrays["shape"]
    if shape.shape != (2,) or shape.dtype.kind not in "iu" or not (shape >= 0).all():
        raise DamageError(f"the shape of the matrix is {shape.tolist()}")
    rows, columns = map(int, shape)
    needed = {"coo": ("data",), "csr": ("data", "indices", "indptr"), "csc": ("data", "indices", "indptr")}
    if name not in needed:
        raise DamageError(f"the format of the sparse matrix is {name!r:.80}; save it as csr, csc or coo")
    for part in needed[name]:
        if part not in arrays:
            raise DamageError(f"the array {part!r} is missing")
    data = arrays["data"]
    if name == "coo":
        ends = arrays["coords"] if "coords" in arrays else [arrays.get("row"), arrays.get("col")]
        if len(ends) != 2 or ends[0] is None or ends[1] is None:
            raise DamageError("the arrays 'row' and 'col' are missing")
        return _entries(data, ends[0], ends[1], (rows, columns))
    indices, pointers, lines = arrays["indices"], arrays["indptr"], rows if name == "csr" else columns
    if pointers.shape != (lines + 1,) or pointers.dtype.kind not in "iu" or indices.ndim != 1:
        problem = f"shape {pointers.shape} and type {pointers.dtype}, not {lines + 1} integers"
        raise DamageError(f"indptr has {problem}")
    lengths = np.diff(pointers.astype(np.int64))
    if pointers[0] != 0 or (lengths < 0).any() or pointers[-1] != len(indices):
        raise DamageError(f"indptr does not rise from 0 to {len(indices)}, the number of entries")
    line = np.repeat(np.arange(lines), lengths.tolist())
    row, col = (line, indices) if name == "csr" else (indices, line)
    return _entries(data, row, col, (rows, columns))


def _choose(file: Path, names: list[str], variable: str | None) -> str:
    if variable is not None:
        if variable not in names:
            listed = ", ".join(names) or "none"
            raise ConnectomeError(f"{file}: matrix {variable!r} is missing; there are {listed}.")
        return variable
    if len(names) != 1:
        problem = f"there are {len(names)} matrices ({', '.join(names)}); choose one with variable=."
        raise ConnectomeError(f"{file}: {problem}")
    return names[0]


# ---------------------------------------------------------------- Matrix Market and MATLAB

MARKET = re.compile(
    rb"%%MatrixMarket[ \t]+matrix[ \t]+(coordinate|array)[ \t]+(real|integer|pattern)[ \t]+"
    rb"(general|symmetric|skew-symmetric)[ \t]*\r?\n?",
    re.IGNORECASE,
)


def _mtx(file: Path, _: str | None) -> LabelledMatrix:
    """Read a Matrix Market file of real numbers: https://math.nist.gov/MatrixMarket/formats.html."""
    # Not by scipy.io.mmread: it accepts missing and surplus entries, and damage crashes it (decision 22).
    with file.open("rb") as stream:
        head = MARKET.fullmatch(stream.readline(1024))
        if head is None:
            raise DamageError("the first line is not '%%MatrixMarket matrix ...' of real numbers")
        layout, kind, symmetry = (word.decode().lower() for word in head.groups())
        line = stream.readline(4096)
        while line and (line.startswith(b"%") or not line.strip()):
            line = stream.readline(4096)
        sizes = line.split()
        whole = all(re.fullmatch(rb"[0-9]{1,18}", size) for size in sizes) and b"\r" not in line.rstrip()
        if len(sizes) != (3 if layout == "coordinate" else 2) or not whole:
            raise DamageError(f"the line of sizes is {line!r:.80}")
        rows, columns, *count = map(int, sizes)
        if symmetry != "general" and rows != columns:
            raise DamageError(f"a {symmetry} matrix cannot be {rows} x {columns}")
        text = stream.read()
    names = (["row", "col"] if layout == "coordinate" else []) + ([] if kind == "pattern" else ["value"])
    if not names:
        raise DamageError("a pattern has coordinates")
    table = _number_table(text, names)
    value = table["value"] if "value" in table else np.ones(len(table["row"]))
    if layout == "array":
        row, col = _column_major(rows, columns, symmetry, len(value))
    else:
        if len(value) != count[0]:
            raise DamageError(f"the header promises {count[0]:,} entries; there are {len(value):,}")
        row, col = table["row"] - 1, table["col"] - 1
    if symmetry != "general":
        if (row < col).any() or (symmetry == "skew-symmetric" and (row == col).any()):
            raise DamageError(f"a {symmetry} matrix has entries below the diagonal only")
        mirrored = row != col
        sign = -1 if symmetry == "skew-symmetric" else 1
        value = np.concatenate([value, sign * value[mirrored]])
        row, col = np.concatenate([row, col[mirrored]]), np.concatenate([col, row[mirrored]])
    matrix = _entries(value, row, col, (rows, columns))
    if layout == "array":
        matrix.eliminate_zeros()
    return LabelledMatrix(matrix)


def _column_major(
    rows: int, columns: int, symmetry: str, n: int
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Give row and column of each of the ``n`` values of a dense Matrix Market file."""
    skew = symmetry == "skew-symmetric"
    promised = rows * columns if symmetry == "general" else rows * (rows + (-1 if skew else 1)) // 2
    if promised != n:
        raise DamageError(f"the header promises {promised:,} values; there are {n:,}")
    if symmetry == "general":
        col, row = np.divmod(np.arange(n), max(rows, 1))
    else:
        col, row = np.triu_indices(rows, 1 if skew else 0)
    return row, col


def _number_table(text: bytes, names: list[str]) -> dict[str, NDArray[Any]]:
    """Read lines of numbers between blanks: indices, and a value if the last name is "value"."""
    pa = arrow()
    if text.translate(None, b"0123456789eE+-. \t\r\nainftyAINFTY"):
        raise DamageError("there is something else than numbers below the line of sizes")
    lines = text.strip()
    if any(blanks in lines for blanks in (b"  ", b"\t", b" \n", b"\n ", b" \r", b"\r ")):
        lines = re.sub(rb"[ \t]*[\r\n]+[ \t]*", b"\n", re.sub(rb"[ \t]+", b" ", lines))
    types = {name: pa.float64() if name == "value" else pa.int64() for name in names}
    if not lines:
        return {name: np.empty(0, kind.to_pandas_dtype()) for name, kind in types.items()}
    options = (
        pa.csv.ReadOptions(column_names=names), pa.csv.ParseOptions(delimiter=" ", quote_char=False),
        pa.csv.ConvertOptions(column_types=types, null_values=[]),
    )
    try:
        table = pa.csv.read_csv(pa.BufferReader(lines), *options)
    except pa.ArrowException as error:
        raise DamageError(str(error).partition("\n")[0]) from None
    return {name: table.column(name).to_numpy() for name in names}


def _mat(file: Path, variable: str | None) -> LabelledMatrix:
    with file.open("rb") as stream:
        head = stream.read(16)
    if head.startswith(b"MATLAB 7.3") or b"HDF" in head:
        problem = "MATLAB's version 7.3 format is not read here; save it with save(..., '-v7')."
        raise ConnectomeError(f"{file}: {problem}")
    variables = read_mat(file)
    sparse = [name for name, parts in variables.items() if "row" in parts]
    dense = [name for name, parts in variables.items() if min(parts.get("matrix", np.empty(0)).shape) > 1]
    parts = variables[_choose(file, sparse + dense, variable)]
    if "row" in parts:
        matrix = _entries(parts["data"], parts["row"], parts["col"], (parts["shape"][0], parts["shape"][1]))
    else:
        matrix = _dense(parts["matrix"])
    named = (value for name, value in variables.items() if name.lower() in LABELS and "text" in value)
    labels = next((value["text"] for value in named if len(value["text"]) == matrix.shape[0]), None)
    return LabelledMatrix(matrix, labels)


# ---------------------------------------------------------------- text


def _text(file: Path, _: str | None, options: TextOptions) -> LabelledMatrix:
    """Read a table of numbers, with or without names of rows and columns."""
    found = read_text_matrix(file, options)
    corner = found.corner
    orientation = orientation_of(corner)
    return LabelledMatrix(
        found.matrix, found.rows, orientation, f"the corner cell says {corner!r}", found.columns, found.notes
    )


def orientation_of(corner: str) -> str | None:
    """Tell what rows and columns are, if a corner cell says it.

    >>> orientation_of("pre/post"), orientation_of("id")
    ('source_target', None)
    """
    return next((name for name, pattern in CORNERS.items() if pattern.match(corner)), None)
