"""CSR order of coordinates, in numpy, so that building a network needs no torch before its parameters."""

from __future__ import annotations

from typing import Any

import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray

INT32_ENTRIES = 2**31
"""From this many entries on, indices are int64."""

Index = NDArray[np.integer[Any]]


def index_type(entries: int) -> type[np.int32] | type[np.int64]:
    """Choose the integer type of a matrix's indices: MKL and cuSPARSE are fastest with int32."""
    return np.int32 if entries < INT32_ENTRIES else np.int64


def counting_sort(keys: Index, n: int) -> tuple[Index, Index]:
    """Sort integers below n stably by counting them, in O(len + n).

    Returns the first place of each key in the order, and their number at the end, shape (n + 1,); and the
    order, shape (keys,).

    Examples
    --------
    >>> ptr, order = counting_sort(np.array([2, 0, 2, 1]), 3)
    >>> ptr.tolist(), order.tolist()
    ([0, 1, 2, 4], [1, 3, 0, 2])
    """
    kind = np.int32 if index_type(len(keys)) is np.int32 and n < INT32_ENTRIES else np.int64
    order, ends = np.arange(len(keys), dtype=kind), np.array([0, len(keys)], kind)
    # scipy's conversion of a one-row CSR matrix to CSC is a counting sort of its columns.
    row = sp.csr_array((order, keys.astype(kind, copy=False), ends), shape=(1, max(n, 1)))
    by_key = row.tocsc()
    return by_key.indptr[: n + 1], by_key.data


def csr_order(row: Index, col: Index, shape: tuple[int, int]) -> tuple[Index, Index, Index | None]:
    """Bring coordinates into the order of a CSR matrix; repeats stay apart, in the order given.

    O(entries + rows + columns). Returns crow, of shape (rows + 1,), col and the order: entry e of the matrix
    is coordinate ``order[e]``. The order is None if the coordinates are sorted already.

    Examples
    --------
    >>> crow, col, order = csr_order(np.array([1, 0, 0]), np.array([0, 1, 0]), (2, 2))
    >>> crow.tolist(), col.tolist(), order.tolist()
    ([0, 2, 3], [0, 1, 0], [2, 1, 0])
    """
    index: Any = index_type(len(row))
    back = (row[1:] < row[:-1]) | ((row[1:] == row[:-1]) & (col[1:] < col[:-1]))
    if not back.any():
        # Bounds of the rows' own type: numpy would otherwise copy all rows into a wider one.
        crow = np.searchsorted(row, np.arange(shape[0] + 1, dtype=row.dtype))
        return crow.astype(index), col.astype(index, copy=False), None
    _, by_col = counting_sort(col, shape[1])
    ptr, by_row = counting_sort(row[by_col], shape[0])
    order: Index = by_col[by_row].astype(index, copy=False)
    return ptr.astype(index, copy=False), col[order].astype(index, copy=False), order
