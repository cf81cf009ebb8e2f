"""Matrix files (.npz, .npy, .mtx, .mat, text) with labels and orientation. Headers are checked first."""

from __future__ import annotations

import io
import math
import re
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import scipy.sparse as sp
from numpy.lib import format as npy
from numpy.typing import NDArray

from sparse_mrnn.connectome.column_table import arrow
from sparse_mrnn.connectome.delimited_text import HEAD, is_number, likely_delimiter, parsed, split_lines
from sparse_mrnn.connectome.formats.downloads import checked, content
from sparse_mrnn.connectome.sandbox import ReadingError, read_mat
from sparse_mrnn.errors import ConnectomeError

SOURCE, TARGET = r"(pre\w*|source\w*|from\w*)", r"(post\w*|target\w*|to\w*)"
CORNERS = {
    "source_target": re.compile(rf"^\W*{SOURCE}\W+{TARGET}\W*$", re.IGNORECASE),
    "target_source": re.compile(rf"^\W*{TARGET}\W+{SOURCE}\W*$", re.IGNORECASE),
}
"""Corner cells that say what rows and columns are."""
LABELS = ("labels", "names", "neurons")
ROWS_SPARED = 1_000_000
"""A matrix may have so many rows, or as many as its file has bytes; more are taken for damage."""


@dataclass(frozen=True)
class LabelledMatrix:
    """A matrix as a file has it, with labels if it has any, and the orientation with its evidence."""

    matrix: sp.coo_array
    labels: list[str] | None = None
    orientation: str | None = None
    evidence: str = ""


class DamageError(ValueError):
    """A file is damaged; `load` adds its name to the message."""


def load(file: Path, variable: str | None) -> LabelledMatrix:
    """Read a matrix by the suffix of its file; ``variable`` names one of several."""
    readers: dict[str, Callable[[Path, str | None], LabelledMatrix]] = {
        ".npz": _npz, ".npy": _npy, ".mtx": _mtx, ".mat": _mat, ".csv": _text, ".tsv": _text, ".txt": _text,
    }  # fmt: skip
    if not file.is_file():
        raise ConnectomeError(f"{file} does not exist.")
    if file.suffix not in readers:
        kind = file.suffix or "a file without suffix"
        raise ConnectomeError(f"{file}: {kind} is not a matrix format here; use {', '.join(readers)}.")
    if file.stat().st_size == 0:
        raise ConnectomeError(f"{file}: the file is empty.")
    try:
        labelled = readers[file.suffix](file, variable)
    except (DamageError, ReadingError, OSError, UnicodeDecodeError) as error:
        raise ConnectomeError(f"{file}: cannot be read as {file.suffix[1:]}: {error}.") from None
    matrix = labelled.matrix
    for k in np.flatnonzero(~np.isfinite(matrix.data))[:1]:
        entry = f"entry ({matrix.row[k]}, {matrix.col[k]}) is {matrix.data[k]}"
        raise ConnectomeError(f"{file}: {entry}; weights must be finite.")
    if max(matrix.shape) > max(ROWS_SPARED, file.stat().st_size):
        shape = f"{matrix.shape[0]:,} x {matrix.shape[1]:,}"
        size = f"{file.stat().st_size:,} bytes"
        raise ConnectomeError(f"{file}: a matrix of {shape} does not fit a file of {size}.")
    return labelled


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


def _npz(file: Path, variable: str | None) -> LabelledMatrix:
    members = {name.removesuffix(".npy"): name for name in checked(file) if name.endswith(".npy")}

    def array(name: str) -> NDArray[Any]:
        data = content(file, members[name])
        return _array(io.BytesIO(data), len(data))

    texts = {name: array(name) for name in (*LABELS, "orientation") if name in members}
    if {"format", "shape"} <= set(members):
        matrix = _sparse({name: array(name) for name in members if name not in texts})
    else:
        arrays = {name: array(name) for name in members if name not in texts}
        choices = [name for name, values in arrays.items() if values.ndim == 2]
        matrix = _dense(arrays[_choose(file, choices, variable)])
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


def _text(file: Path, _: str | None) -> LabelledMatrix:
    """Read a table of numbers, with or without a header line and a first column of labels."""
    text = file.read_bytes().decode("utf-8-sig")
    if not text.strip():
        raise ConnectomeError(f"{file}: the file is empty.")
    delimiter = likely_delimiter(split_lines(text.lstrip("\r\n")[:HEAD]))
    rows: Iterator[tuple[int, list[str]]] = parsed(io.StringIO(text, newline=""), delimiter, file)
    if delimiter == " " or (file.suffix == ".txt" and "," not in text[:HEAD]):
        rows = ((k, line.split()) for k, line in enumerate(split_lines(text), start=1))
    table = [(line, [cell.strip() for cell in cells]) for line, cells in rows if cells]
    head = table[0][1]
    has_head = any(not is_number(cell) for cell in head[1:]) or (len(head) > 1 and not is_number(head[0]))
    body = table[1:] if has_head else table
    first = body[0][1] if body else []
    has_names = bool(first) and (
        not is_number(first[0]) or (has_head and len(first) == len(head) and not is_number(head[0]))
    )
    for line, cells in body:
        if len(cells) != len(first):
            problem = f"{len(cells)} columns, but the first row has {len(first)}."
            raise ConnectomeError(f"{file}, line {line}: {problem}")
    if len(body) != len(first) - has_names:
        shape = f"{len(body)} x {len(first) - has_names}"
        problem = f"the matrix is {shape}; a row and a column for every neuron are needed."
        raise ConnectomeError(f"{file}: {problem}")
    out = np.zeros((len(body), len(body)))
    for r, (line, cells) in enumerate(body):
        for c, cell in enumerate(cells[has_names:]):
            if not is_number(cell):
                where = f"{file}, line {line}, column {c + has_names + 1}"
                raise ConnectomeError(f"{where}: {cell!r:.80} is not a number.")
            out[r, c] = float(cell)
    labels = [cells[0] for _, cells in body] if has_names else None
    columns = head[len(head) - len(body) :] if has_head else None
    if labels is not None and columns is not None and labels != columns:
        pairs = enumerate(zip(labels, columns, strict=False))
        k = next((k for k, (row, column) in pairs if row != column), min(len(labels), len(columns)))
        problem = f"first at {k}: {labels[k : k + 1]} and {columns[k : k + 1]}."
        raise ConnectomeError(f"{file}: rows and columns are labelled differently, {problem}")
    corner = head[0] if has_head and has_names else ""
    orientation = next((name for name, pattern in CORNERS.items() if pattern.match(corner)), None)
    return LabelledMatrix(_dense(out), labels or columns, orientation, f"the corner cell says {corner!r}")
