"""Tools of all figures: new figures and axes, colours, and the names of many regions beside an axis."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.optimize import isotonic_regression

from sparse_mrnn.errors import MissingExtraError

if TYPE_CHECKING:
    from matplotlib.axes import Axes as Axes
else:  # matplotlib is an extra
    Axes = Any

PIXELS = 600
"""Largest side of a drawn matrix; above it units are binned."""
EXCITATORY, INHIBITORY, UNSIGNED = "#c0392b", "#2c6fbb", "#7f7f7f"
TALLEST, SMALLEST_FONT, LONGEST_NAME = 20.0, 5.0, 32


def new_figure(size: tuple[float, float]) -> Any:
    """An empty figure for a file, inches wide and high; pyplot does not know of it.

    `MissingExtraError` without matplotlib.
    """
    try:
        from matplotlib.figure import Figure
    except ImportError:
        missing = "plots need matplotlib; install it with: pip install 'sparse-mrnn[plot]'"
        raise MissingExtraError(missing) from None
    return Figure(figsize=size, layout="constrained")


def without_display() -> None:
    """Draw to files only from now on, also without a display; `MissingExtraError` without matplotlib."""
    new_figure((1, 1))
    import matplotlib

    matplotlib.use("agg")


def axes_or_new(ax: Axes | None, size: tuple[float, float]) -> Any:
    """The given axes, or those of a new figure of pyplot."""
    if ax is not None:
        return ax
    new_figure(size)  # raises without matplotlib
    import matplotlib.pyplot as plt

    return plt.subplots(figsize=size, layout="constrained")[1]


def height_for(rows: int, least: float = 6.0) -> float:
    """Inches of a figure in which so many rows can be named."""
    return float(np.clip(1.2 + 0.15 * rows, least, TALLEST))


def short(name: str) -> str:
    """A name of at most 32 characters: a longer one loses its middle.

    >>> short("a name that nobody wants to read in a figure")
    'a name that nobo…read in a figure'
    """
    half = (LONGEST_NAME - 1) // 2 + 1
    return name if len(name) <= LONGEST_NAME + 1 else f"{name[:half]}…{name[-half:]}"


def spread(positions: ArrayLike, apart: float, low: float, high: float) -> NDArray[np.float64]:
    """Move ascending positions to be ``apart``, and between ``low`` and ``high`` if they fit.

    The nearest such positions, by least squares: an isotonic regression of what is left of each distance.

    >>> spread([0.0, 1.0, 9.0], 2.0, -5.0, 12.0).tolist()
    [-0.5, 1.5, 9.0]
    """
    ascending = np.asarray(positions, dtype=float)
    if not len(ascending):
        return ascending
    steps = apart * np.arange(len(ascending))
    found = isotonic_regression(ascending - steps).x
    moved: NDArray[np.float64] = np.clip(found, low, low + max(high - low - steps[-1], 0.0)) + steps
    return moved


def name_rows(ax: Any, ptr: NDArray[Any], names: Sequence[str]) -> None:
    """Name ranges of rows beside the y axis, each at its middle; lines lead to those that are moved apart.

    If not all fit, the largest are named, and the axis says how many.
    """
    sizes, middles, total = np.diff(ptr), (ptr[:-1] + ptr[1:]) / 2, float(ptr[-1])
    inches = 0.85 * ax.figure.get_figheight()
    fits = int(72 * inches / (1.2 * SMALLEST_FONT))
    shown = np.sort(np.argsort(-sizes, kind="stable")[:fits])
    font = float(np.clip(72 * inches / (1.2 * max(len(shown), 1)), SMALLEST_FONT, 8.0))
    apart = 1.2 * font / 72 / inches * total
    at = spread(middles[shown], apart, min(apart / 2, total / 2), max(total - apart / 2, total / 2))
    ax.set_yticks([])
    beside = ax.get_yaxis_transform()
    style: dict[str, Any] = dict(xycoords=beside, textcoords=beside, annotation_clip=False, fontsize=font)
    style["arrowprops"] = dict(arrowstyle="-", lw=0.4, color="0.6", shrinkA=0, shrinkB=0)
    for k, y in zip(shown.tolist(), at.tolist(), strict=True):
        name = short(str(names[k]))
        ax.annotate(name, (0, middles[k]), (-0.035, y), ha="right", va="center", **style)
    if len(shown) < len(names):
        ax.set_ylabel(f"the {len(shown):,} largest of {len(names):,} regions are named", fontsize=8)


def label_decades(axis: Any, low: float, high: float) -> None:
    """Write plain numbers at every decade of a logarithmic axis, and between decades if there are few."""
    from matplotlib.ticker import LogLocator, NullFormatter, StrMethodFormatter

    axis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0) if high < 300 * low else (1.0,), numticks=20))
    axis.set_major_formatter(StrMethodFormatter("{x:,.6g}"))
    axis.set_minor_formatter(NullFormatter())
