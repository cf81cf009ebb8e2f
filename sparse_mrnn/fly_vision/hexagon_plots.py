"""Values and optic flow of the columns of an eye, on their hexagonal lattice."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from sparse_mrnn.errors import GraphError, ShapeError
from sparse_mrnn.fly_vision.lattice import hex_centres, hex_columns, hex_extent
from sparse_mrnn.plot.figure import Axes, axes_or_new

MISSING = "0.85"
"""Grey of a column without a value."""


def plot_hex(
    values: ArrayLike,
    ax: Axes | None = None,
    *,
    flow: ArrayLike | None = None,
    speed: float | None = None,
    columns: ArrayLike | None = None,
    label: str = "activity",
    limits: tuple[float, float] | None = None,
    cmap: str | None = None,
) -> Axes:
    """Draw a value in every column of an eye as the colour of a hexagon, and optic flow as arrows.

    Parameters
    ----------
    values : array, shape (columns,)
        NaN is drawn in light grey.
    ax : Axes, optional
    flow : array, shape (columns, 2), optional
        To the right and up. Columns without any have no arrow.
    speed : float, optional
        Of an arrow as long as columns are apart. Default: the fastest.
    columns : array of int, shape (columns, 2), optional
        Axial coordinates of the columns. Default: those of a hexagon, ordered as `hex_columns`.
    label : str
        What the values are, with their unit; written beside the colour bar.
    limits : (float, float), optional
        Values at the ends of the colour bar. Default: the smallest and the largest; about 0 if some are
        negative.
    cmap : str, optional
        A colour map of matplotlib. Default: one for values about 0 if the limits are, else "viridis".

    Raises
    ------
    GraphError
        If values without ``columns`` are not those of a hexagon.
    ShapeError
        If shapes do not fit.

    Examples
    --------
    >>> ax = plot_hex(np.arange(7.0), flow=np.ones((7, 2)), label="light")
    >>> ax.get_title(), ax.figure.axes[1].get_ylabel()
    ('7 columns', 'light')
    """
    colour = np.asarray(values, dtype=float)
    if colour.ndim != 1 or not colour.size:
        raise ShapeError(f"plot_hex: values have shape {colour.shape}; expected (columns,).")
    lattice = hex_columns(hex_extent(colour.size)) if columns is None else np.asarray(columns)
    arrows = None if flow is None else np.asarray(flow, dtype=float)
    for name, part in (("columns", lattice), ("flow", arrows)):
        if part is not None and part.shape != (colour.size, 2):
            raise ShapeError(f"plot_hex: {name} has shape {part.shape}; expected {(colour.size, 2)}.")
    if not np.issubdtype(lattice.dtype, np.integer):
        raise GraphError(f"plot_hex: columns has dtype {lattice.dtype}; give axial coordinates, integers.")
    low, high = limits if limits is not None else _limits(colour)
    ax = axes_or_new(ax, (5.2, 4.4))
    from matplotlib import colormaps
    from matplotlib.collections import PolyCollection
    from matplotlib.colors import Normalize

    centres = hex_centres(lattice)
    corner = np.radians(np.arange(0, 360, 60))
    hexagon = np.stack([np.cos(corner), np.sin(corner)], axis=1) / np.sqrt(3)
    style: dict[str, Any] = dict(edgecolors="w", linewidths=0.3, norm=Normalize(low, high))
    colours = colormaps[cmap or ("RdBu_r" if low == -high else "viridis")].with_extremes(bad=MISSING)
    cells = PolyCollection(list(centres[:, None] + hexagon), array=colour, cmap=colours, **style)
    ax.add_collection(cells)
    if arrows is not None:
        size = np.nan_to_num(np.hypot(*arrows.T))
        moving = size > 0
        look: dict[str, Any] = dict(angles="xy", scale_units="xy", pivot="mid", width=0.006, color="0.1")
        look["scale"] = speed or float(size.max()) or 1.0
        ax.quiver(*centres[moving].T, *arrows[moving].T, **look)
    ax.figure.colorbar(cells, ax=ax, label=label, fraction=0.046, pad=0.03)
    ax.set(aspect="equal", title=f"{colour.size} columns")
    ax.autoscale_view()
    ax.set_axis_off()
    return ax


def _limits(values: np.ndarray[Any, Any]) -> tuple[float, float]:
    """Ends of the colour bar: the range of the values, about 0 where some are negative."""
    finite = values[np.isfinite(values)]
    low, high = (float(finite.min()), float(finite.max())) if finite.size else (0.0, 1.0)
    if low < 0:
        high = max(-low, high)
        return -high, high
    return (low, high) if high > low else (0.0, high or 1.0)
