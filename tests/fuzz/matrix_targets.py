"""Matrices: .npy, .npz (dense, CSR, CSC, COO), .mtx, .mat and text."""

from __future__ import annotations

import csv
import io
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import scipy.io
import scipy.sparse as sp

from fuzz.mutate import INTEGERS, Rng, encoded, of_bytes, of_text, of_zip, pick
from fuzz.plain import LINE, NUMBER, SIGNS, as_dict, number, only, read_text
from fuzz.registry import InvalidInputError, register
from sparse_mrnn.connectome import read_matrix


def some_matrix(rng: Rng) -> np.ndarray:
    """Rows are targets; about half of the entries are zero."""
    n = int(rng.integers(1, 6))
    return np.where(rng.random((n, n)) < 0.5, 0, rng.integers(-4, 9, (n, n)) / 2)


def load(folder: Path) -> Any:
    return as_dict(read_matrix(only(folder), orientation="target_source", name="net")[0])


def as_network(
    entries: dict[tuple[int, int], float], rows: int, columns: int, labels: list[str] | None = None
) -> Any:
    """Describe the network of a matrix with some entries (row, column)."""
    if rows != columns or not rows:
        raise InvalidInputError(f"the matrix is {rows} x {columns}")
    if any(not np.isfinite(value) for value in entries.values()):
        raise InvalidInputError("a weight is not finite")
    names = [str(k) for k in range(rows)] if labels is None else [name.strip() for name in labels]
    if len(set(names)) != rows or "" in names:
        raise InvalidInputError("labels repeat, or do not fit")
    if len(names) < rows:
        raise InvalidInputError("there are too few labels")
    weights = {(names[j], names[i]): value for (i, j), value in entries.items() if value}
    return {"regions": {"net": sorted(names)}, "weights": weights}


def dense_entries(array: np.ndarray) -> dict[tuple[int, int], float]:
    return {(i, j): float(array[i, j]) for i, j in np.argwhere(array != 0).tolist()}


def judge_array(array: np.ndarray, labels: list[str] | None = None) -> Any:
    if array.ndim != 2 or array.dtype.kind not in "biuf":
        raise InvalidInputError(f"an array of shape {array.shape} and type {array.dtype}")
    return as_network(dense_entries(array), *array.shape, labels)


# ---------------------------------------------------------------- numpy


def npy(array: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, array)
    return buffer.getvalue()


def odd(array: np.ndarray, rng: Rng) -> np.ndarray:
    """The array, seldom of another type, shape or order."""
    kinds = ["<f4", ">f8", "<i4", "<i8", "<u8", "<f2", "bool", "<c16", "<U3", "S2", "<M8[s]", "V4"]
    way = int(rng.integers(8))
    if way == 0:
        return array.astype(pick(rng, kinds[:7]))
    if way == 1:
        return np.zeros(array.shape, pick(rng, kinds))
    if way == 2:
        one, fortran = np.array(array[0, 0]), np.asfortranarray(array)
        return pick(rng, [array[None], array[0], array[:, :0], array[:1], one, fortran])
    if way == 3 and array.size:
        array = array.copy()
        array.flat[int(rng.integers(array.size))] = pick(rng, [np.nan, np.inf, 1e39, -1e308, 1e-320])
    return array


def header_changed(data: bytes, rng: Rng) -> bytes:
    """Another shape, type or length in the header."""
    way = int(rng.integers(5))
    if way == 0:
        return data.replace(b"(", f"({pick(rng, INTEGERS)}, ".encode(), 1)
    if way == 1:
        return data.replace(b"<f8", pick(rng, [b"<f4", b"|O8", b"<i8", b"<U9", b"|V8", b"<c8", b"<x8"]), 1)
    if way == 2:
        return data.replace(b"False", pick(rng, [b"True ", b"None ", b"[[[]]"]), 1)
    return of_bytes(data, rng)


def make_npy(folder: Path, rng: Rng) -> None:
    (folder / "net.npy").write_bytes(header_changed(npy(odd(some_matrix(rng), rng)), rng))


def oracle_npy(folder: Path) -> Any:
    try:
        array = np.load(only(folder), allow_pickle=False)
    except Exception as error:  # any damage
        raise InvalidInputError(f"numpy says: {error}") from error
    return judge_array(array)


register("matrix, npy", make_npy, load, oracle_npy)


def make_npz(folder: Path, rng: Rng) -> None:
    w = some_matrix(rng)
    buffer = io.BytesIO()
    way = int(rng.integers(4))
    if way == 0:
        names = np.array([f"n{k}" for k in range(len(w))])
        if rng.integers(4) == 0:
            numbers, one = np.arange(len(w)), np.array("n0")
            names = pick(rng, [names[:-1], names[None], names.astype("S4"), numbers, one, names[:0]])
        np.savez(buffer, w=odd(w, rng), **({"labels": names} if rng.integers(2) else {}))
    else:
        kind = [sp.csr_array, sp.csc_array, sp.coo_array][way - 1]
        sp.save_npz(buffer, kind(w), compressed=bool(rng.integers(2)))
    with zipfile.ZipFile(buffer) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}

    def change(name: str, data: bytes) -> bytes:
        array = np.load(io.BytesIO(data), allow_pickle=False)
        if array.dtype.kind not in "iu" or not array.size or rng.integers(3) == 0:
            return header_changed(data, rng)
        array = array.copy()
        way = int(rng.integers(5))
        if way == 0:
            value = np.array(pick(rng, [-1, 0, 1, 2, 3, 7, 2**31 - 1])).astype(array.dtype)
            array.flat[int(rng.integers(array.size))] = value
        elif way == 1:
            array = rng.permutation(array)
        elif way == 2:
            longer, other = np.append(array, array[-1:]), array.astype(pick(rng, ["f8", "i1"]))
            array = pick(rng, [array[:-1], longer, array[None], other])
        elif way == 3:
            array = np.full(array.shape, pick(rng, [-1, 0, 1, 10**9])).astype(array.dtype)
        return npy(array)

    (folder / "net.npz").write_bytes(of_zip(members, rng, change))


def oracle_npz(folder: Path) -> Any:
    try:
        with np.load(only(folder), allow_pickle=False) as data:
            arrays = {name: data[name] for name in data.files}
    except Exception as error:  # any damage of an archive
        raise InvalidInputError(f"numpy says: {error}") from error
    labels = arrays.pop("labels", None)
    texts = None if labels is None else labels.ravel().tolist()
    names = texts and [text.decode() if isinstance(text, bytes) else str(text) for text in texts]
    if not {"format", "shape"} <= set(arrays):
        matrices = [array for array in arrays.values() if isinstance(array, np.ndarray) and array.ndim == 2]
        return judge_array(matrices[0], names) if len(matrices) == 1 else None
    kind, shape = str(np.asarray(arrays["format"]).ravel()[:1]), arrays["shape"].tolist()
    if "csr" in kind or "csc" in kind:
        pointers, indices = arrays.get("indptr"), arrays.get("indices")
        complete = pointers is not None and indices is not None and "data" in arrays
        if not complete or not isinstance(shape, list) or len(shape) != 2:
            raise InvalidInputError("an array is missing")
        lengths = np.diff(pointers.astype(object)).ravel()
        line = [k for k, n in enumerate(lengths) for _ in range(n)]
        if min([*lengths, 0]) < 0 or len(pointers) != shape["csc" in kind] + 1:
            raise InvalidInputError("indptr does not rise, or does not fit")
        row, col = (line, indices.tolist()) if "csr" in kind else (indices.tolist(), line)
    elif "coords" in arrays:
        row, col = arrays["coords"].tolist()
    elif "row" in arrays and "col" in arrays:
        row, col = arrays["row"].tolist(), arrays["col"].tolist()
    else:
        return None
    entries: dict[tuple[int, int], float] = {}
    values = arrays["data"].tolist()
    if not isinstance(values, list) or not len(row) == len(col) == len(values):
        raise InvalidInputError("the arrays have different lengths")
    for i, j, value in zip(row, col, values, strict=True):
        if not (isinstance(i, int) and isinstance(j, int) and 0 <= i < shape[0] and 0 <= j < shape[1]):
            raise InvalidInputError(f"entry ({i}, {j}) is outside of {shape}")
        entries[i, j] = entries.get((i, j), 0) + value
    return as_network(entries, *shape, names)


register("matrix, npz", make_npz, load, oracle_npz)


# ---------------------------------------------------------------- Matrix Market, MATLAB


def make_mtx(folder: Path, rng: Rng) -> None:
    w = some_matrix(rng)
    way = int(rng.integers(4))
    w = [w, w + w.T, w - w.T, w][way]
    buffer = io.BytesIO()
    symmetry = ["general", "symmetric", "skew-symmetric", "AUTO"][way]
    scipy.io.mmwrite(buffer, w if rng.integers(2) else sp.coo_array(w), symmetry=symmetry)
    text = buffer.getvalue().decode()
    if rng.integers(5) == 0:
        text = of_text(text, rng, " ").removesuffix("\n") + pick(rng, ["", " 1", "x", "%", "\n\n", "1 1"])
    (folder / "net.mtx").write_bytes(encoded(of_text(text, rng, " "), rng))


def oracle_mtx(folder: Path) -> Any:
    try:
        text = only(folder).read_bytes().decode()
    except UnicodeDecodeError as error:
        raise InvalidInputError("it is not text") from error
    lines = LINE.split(text)
    head = lines[0].lower().split()
    if len(head) != 5 or head[:2] != ["%%matrixmarket", "matrix"]:
        raise InvalidInputError("there is no header")
    while lines and (not lines[0].strip() or lines[0].startswith("%")):
        lines.pop(0)
    if not lines:
        raise InvalidInputError("there are no sizes")
    body = [line.split() for line in lines[1:] if line.strip()]
    try:
        sizes = [int(cell) for cell in lines[0].split()]
    except ValueError as error:
        raise InvalidInputError("sizes are not numbers") from error
    layout, kind, symmetry = head[2:]
    entries: dict[tuple[int, int], float] = {}
    if layout == "coordinate":
        width = 2 if kind == "pattern" else 3
        if len(sizes) != 3 or len(body) != sizes[2] or any(len(cells) != width for cells in body):
            raise InvalidInputError("there are other entries than promised")
        cells = [(number(c[0]), number(c[1]), 1.0 if width == 2 else number(c[2])) for c in body]
    else:
        if len(sizes) != 2 or any(len(c) != 1 for c in body):
            raise InvalidInputError("there are other values than promised")
        rows, columns = sizes
        below = {"general": 0, "symmetric": 0, "skew-symmetric": 1}.get(symmetry, 0)
        everywhere = [(i, j) for j in range(columns) for i in range(rows)]
        order = [(i, j) for i, j in everywhere if symmetry == "general" or i >= j + below]
        if len(order) != len(body):
            raise InvalidInputError("there are other values than promised")
        cells = [(i + 1.0, j + 1.0, number(c[0])) for (i, j), c in zip(order, body, strict=True)]
    for i, j, value in cells:
        if i != int(i) or j != int(j) or not (1 <= i <= sizes[0] and 1 <= j <= sizes[1]):
            raise InvalidInputError("an entry lies outside")
        pairs = {(int(i) - 1, int(j) - 1): value}
        if symmetry != "general" and i != j:
            pairs[int(j) - 1, int(i) - 1] = -value if symmetry == "skew-symmetric" else value
        for pair, part in pairs.items():
            entries[pair] = entries.get(pair, 0) + part
    return as_network(entries, *sizes[:2])


register("matrix, mtx", make_mtx, load, oracle_mtx)


def make_mat(folder: Path, rng: Rng) -> None:
    w = some_matrix(rng)
    names = np.array([f"n{k}" for k in range(len(w))], dtype=object)
    content = {"W": sp.csc_array(w) if rng.integers(2) else odd(w, rng)}
    if rng.integers(2):
        content["labels"] = names
    buffer = io.BytesIO()
    try:
        scipy.io.savemat(buffer, content, format=pick(rng, ["4", "5"]), do_compression=bool(rng.integers(2)))
    except (TypeError, ValueError):
        buffer = io.BytesIO()
        scipy.io.savemat(buffer, {"W": w})
    (folder / "net.mat").write_bytes(of_bytes(buffer.getvalue(), rng))


def oracle_mat(folder: Path) -> Any:
    """scipy's reader, after it read the same bytes in a child without harm."""
    try:
        data = scipy.io.loadmat(only(folder))
    except Exception as error:  # any damage
        raise InvalidInputError(f"scipy says: {error}") from error
    variables = [value for name, value in data.items() if not name.startswith("__")]
    matrices = [v for v in variables if sp.issparse(v) or (np.ndim(v) == 2 and min(v.shape) > 1)]
    if len(matrices) != 1 or (not sp.issparse(matrices[0]) and matrices[0].dtype.kind not in "biuf"):
        return None
    labels = data.get("labels")
    names = None
    if labels is not None and labels.dtype.kind in "OU" and labels.size == matrices[0].shape[0]:
        names = [str(np.squeeze(label)) for label in labels.ravel()]
    array = matrices[0].toarray() if sp.issparse(matrices[0]) else matrices[0]
    return judge_array(array, names)


register("matrix, mat", make_mat, load, oracle_mat, share=1)


# ---------------------------------------------------------------- text


def make_text(folder: Path, rng: Rng) -> None:
    w = some_matrix(rng)
    rows = [[f"{value:g}" for value in row] for row in w]
    names = [f"n{k}" for k in range(len(w))]
    labelled = bool(rng.integers(2))
    if labelled:
        rows = [["to/from", *names], *([name, *row] for name, row in zip(names, rows, strict=True))]
    (folder / "labelled").write_text(str(labelled))
    text = "\n".join(",".join(row) for row in rows) + "\n"
    (folder / "net.csv").write_bytes(encoded(of_text(text, rng) if rng.integers(5) else text, rng))


def load_text(folder: Path) -> Any:
    return as_dict(read_matrix(folder / "net.csv", orientation="target_source", name="net")[0])


def oracle_text(folder: Path) -> Any:
    """Judges what still looks as it was made: a header with a corner and labels, or numbers only."""
    text = read_text((folder / "net.csv").read_bytes())
    lines = csv.reader(io.StringIO(text, newline=""), delimiter=",")
    rows = [[cell.strip() for cell in row] for row in lines if "".join(row).strip()]
    comments = any(line.strip().startswith(SIGNS) for line in LINE.split(text))
    if not rows or "," not in text or '"' in text or comments:
        return None
    if rows and (not any(rows[-1]) or not any(row[-1] for row in rows)):
        return None  # blank lines and columns at the end are left out
    labels = None
    if (folder / "labelled").read_text() == "True":
        labels, firsts = rows[0][1:], [row[0] for row in rows[1:]]
        if rows[0][0] != "to/from" or not all(name.startswith("n") for name in labels + firsts):
            return None
        if any(any(row[len(labels) + 1 :]) for row in rows[1:]):
            raise InvalidInputError("a line is longer than that of names")
        if not set(labels) & set(firsts) or len(labels) != len(firsts):
            return None  # two regions
        if set(firsts) != set(labels):
            raise InvalidInputError("rows and columns are labelled differently")
        place = {name: k for k, name in enumerate(labels)}
        rows = [[row[0], *(row[1:][place[name]] for name in firsts)] for row in rows[1:] if len(row) > len(labels)]
        labels, rows = firsts, [row[1:] for row in rows]
    elif not all(NUMBER.fullmatch(cell) for cell in rows[0] + [row[0] for row in rows]):
        return None
    if len({len(row) for row in rows}) > 1:
        raise InvalidInputError("rows have different lengths")
    values = np.array([[number(cell or "0") for cell in row] for row in rows]).reshape(len(rows), -1)
    if labels is None and abs(len(rows) - len(rows[0])) == 1:
        return None  # the first line or column may be names
    return as_network(dense_entries(values), *values.shape, labels)


register("matrix, text", make_text, load_text, oracle_text)
