"""The hexagonal lattice of columns of an eye: axial coordinates (u, v), their order, and their centres."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from sparse_mrnn.errors import GraphError

Columns = NDArray[np.int64]


def hex_columns(extent: int) -> Columns:
    """Axial coordinates (u, v) of every column within ``extent`` of the centre, by u and then v.

    Parameters
    ----------
    extent : int
        Radius in columns, at least 0.

    Returns
    -------
    ndarray of int64, shape (3 extent (extent + 1) + 1, 2)

    Raises
    ------
    GraphError
        If the extent is not a whole number of at least 0.

    Examples
    --------
    >>> hex_columns(1).tolist()
    [[-1, 0], [-1, 1], [0, -1], [0, 0], [0, 1], [1, -1], [1, 0]]
    """
    if isinstance(extent, bool) or not isinstance(extent, int | np.integer) or extent < 0:
        raise GraphError(f"extent is {extent!r}; it must be a whole number of columns, at least 0.")
    axis = np.arange(-extent, extent + 1)
    u, v = np.meshgrid(axis, axis, indexing="ij")
    inside = np.abs(u + v) <= extent
    return np.stack([u[inside], v[inside]], axis=1)


def hex_centres(columns: Columns) -> NDArray[np.float64]:
    """Centres (x, y) of columns in the visual field, x to the right and y up; neighbours are at distance 1.

    The axis u points down, v to the right and down, as in flyvis' movies.

    >>> hex_centres(np.array([[0, 0], [1, 0], [-1, 2]])).round(2).tolist()
    [[0.0, 0.0], [0.0, -1.0], [1.73, 0.0]]
    """
    u, v = columns[:, 0], columns[:, 1]
    return np.stack([v * np.sqrt(3) / 2, -(u + v / 2)], axis=1) + 0.0  # no -0.0


def hex_extent(columns: int) -> int:
    """Extent of the hexagon that has this many columns.

    Raises
    ------
    GraphError
        If none has.

    Examples
    --------
    >>> hex_extent(721)
    15
    """
    extent = round(math.sqrt((4 * columns - 1) / 12) - 0.5) if columns > 0 else 0
    if 3 * extent * (extent + 1) + 1 != columns:
        nearest = ", ".join(str(3 * e * (e + 1) + 1) for e in range(max(extent - 1, 0), extent + 2))
        raise GraphError(f"{columns} columns do not fill a hexagon; it takes {nearest}, ... columns.")
    return extent


def hex_positions(centres: NDArray[np.float64]) -> Columns:
    """Axial coordinates (u, v) of positions on the lattice, such as those of a region's units.

    Parameters
    ----------
    centres : ndarray, shape (units, 2)
        Centres as `hex_centres` makes them.

    Raises
    ------
    GraphError
        If a position is the centre of no column.

    Examples
    --------
    >>> hex_positions(hex_centres(np.array([[2, -1]]))).tolist()
    [[2, -1]]
    """
    centres = np.asarray(centres, dtype=np.float64)
    if centres.ndim != 2 or centres.shape[1] != 2:
        raise GraphError(f"positions have shape {centres.shape}; expected (units, 2).")
    v = centres[:, 0] * 2 / np.sqrt(3)
    exact = np.stack([-centres[:, 1] - v / 2, v], axis=1)
    columns = np.rint(exact)
    bad = np.flatnonzero(~(np.abs(exact - columns) < 1e-3).all(axis=1))
    if len(bad):
        where = f"position {bad[0]}, ({centres[bad[0], 0]:g}, {centres[bad[0], 1]:g}),"
        raise GraphError(f"{where} is not the centre of a column of the hexagonal lattice.")
    whole: Columns = columns.astype(np.int64)
    return whole
