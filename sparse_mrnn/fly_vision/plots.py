"""Figures of an eye: values and optic flow of its hexagonal columns; tuning curves over directions."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from sparse_mrnn.errors import GraphError, ShapeError
from sparse_mrnn.fly_vision.lattice import hex_centres, hex_columns, hex_extent
from sparse_mrnn.plot.figure import Axes, axes_or_new, new_figure

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
        Speed of an arrow as long as columns are apart. Default: the fastest.
    columns : array of int, shape (columns, 2), optional
        Axial coordinates of the columns. Default: those of a hexagon, ordered as `hex_columns`.
    label : str
        Name of the values with their unit, written beside the colour bar.
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
    """Ends of the colour bar: the range of the values, about 0 if some are negative."""
    finite = values[np.isfinite(values)]
    low, high = (float(finite.min()), float(finite.max())) if finite.size else (0.0, 1.0)
    if low < 0:
        high = max(-low, high)
        return -high, high
    return (low, high) if high > low else (0.0, high or 1.0)


DISTINCT = ("#0072b2", "#e69f00", "#009e73", "#cc79a7", "#56b4e9", "#d55e00", "#f0e442", "#000000")
"""Colours that the colour-blind can tell apart (Okabe and Ito 2008)."""


def plot_tuning(
    directions: ArrayLike, curves: Mapping[str, ArrayLike], ax: Axes | None = None, *,
    preferred: Mapping[str, float] | None = None, label: str = "response",
) -> Axes:
    """Draw tuning curves on polar axes: direction as the angle, 0 to the right and 90 up, response as radius.

    Parameters
    ----------
    directions : array, shape (directions,)
        Degrees, in any order.
    curves : mapping of name to responses, shape (directions,)
        At least 0.
    ax : Axes, optional
        Polar axes (``projection="polar"``).
    preferred : mapping of name to float, optional
        Directions to mark on the rim in the colour of a curve of that name, degrees; NaN is left out. For
        published preferred directions, say.
    label : str
        Name of the responses with their unit.

    Raises
    ------
    GraphError
        If the axes are not polar, or a preferred direction belongs to no curve.
    ShapeError
        If a curve does not have a response of at least 0 for each direction.

    Examples
    --------
    >>> ax = plot_tuning([0, 90, 180, 270], {"T4a": [1, 2, 5, 2]}, preferred={"T4a": 180})
    >>> ax.name, ax.get_legend_handles_labels()[1]
    ('polar', ['T4a'])
    """
    angles = np.asarray(directions, dtype=float)
    sizes = {name: np.asarray(curve, dtype=float) for name, curve in curves.items()}
    if angles.ndim != 1 or not angles.size or not np.isfinite(angles).all():
        raise ShapeError(f"plot_tuning: directions have shape {angles.shape}; give finite (directions,).")
    for name, size in sizes.items():
        if size.shape != angles.shape or not (size >= 0).all():
            wanted = f"{angles.size} responses of at least 0"
            raise ShapeError(f"plot_tuning: curve {name!r} of shape {size.shape} is not {wanted}.")
    unknown = sorted(set(preferred or ()) - set(sizes))
    if unknown:
        raise GraphError(f"plot_tuning: preferred has {unknown[0]!r}, which is not among the curves.")
    if ax is None:
        new_figure((4.4, 4.4))  # raises without matplotlib
        import matplotlib.pyplot as plt

        ax = plt.figure(figsize=(4.4, 4.4), layout="constrained").add_subplot(projection="polar")
    if ax.name != "polar":
        raise GraphError("plot_tuning: the axes are not polar; make them with projection='polar'.")
    order = np.argsort(angles % 360, kind="stable")
    ring = np.radians(np.append(angles[order], angles[order[0]]))
    top = max((float(size.max()) for size in sizes.values()), default=0.0) or 1.0
    ax.set_prop_cycle(color=DISTINCT)
    for name, size in sizes.items():
        (line,) = ax.plot(ring, np.append(size[order], size[order[0]]), lw=1.6, label=name)
        marked = (preferred or {}).get(name, np.nan)
        if np.isfinite(marked):
            mark: dict[str, Any] = dict(ms=8, mec="w", mew=0.6, clip_on=False, zorder=5)
            ax.plot(np.radians(marked), 1.1 * top, "v", color=line.get_color(), **mark)
    ax.set(ylim=(0, 1.1 * top), xlabel=label, rlabel_position=22.5)
    ax.set_xticks(np.radians(np.arange(0, 360, 45)))
    ax.set_yticks(top * np.array([0.25, 0.5, 0.75, 1.0]), ["", f"{top / 2:.2g}", "", f"{top:.2g}"])
    ax.tick_params(labelsize=8)
    if len(sizes) > 1:
        ax.legend(frameon=False, fontsize=8, loc="upper left", bbox_to_anchor=(0.98, 1.0))
    return ax
