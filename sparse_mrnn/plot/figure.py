"""What the figures share: new figures and axes, colours, and ticks named after regions."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from numpy.typing import NDArray

from sparse_mrnn.errors import MissingExtraError

if TYPE_CHECKING:
    from matplotlib.axes import Axes as Axes
else:  # matplotlib is an extra
    Axes = Any

PIXELS = 600
"""Largest side of a drawn matrix; above it units are binned."""
EXCITATORY, INHIBITORY = "#c0392b", "#2c6fbb"


def new_figure(size: tuple[float, float]) -> Any:
    """An empty figure for a file, inches wide and high; pyplot does not know of it.

    Raises
    ------
    MissingExtraError
        Without matplotlib.
    """
    try:
        from matplotlib.figure import Figure
    except ImportError:
        missing = "plots need matplotlib; install it with: pip install 'sparse-mrnn[plot]'"
        raise MissingExtraError(missing) from None
    return Figure(figsize=size, layout="constrained")


def axes_or_new(ax: Axes | None, size: tuple[float, float]) -> Any:
    """The given axes, or those of a new figure of pyplot."""
    if ax is not None:
        return ax
    new_figure(size)  # raises without matplotlib
    import matplotlib.pyplot as plt

    return plt.subplots(figsize=size, layout="constrained")[1]


def name_regions(ax: Any, ptr: NDArray[Any], names: Sequence[str]) -> None:
    """Name regions on the y axis at their middles; small ones whose labels would overlap are left unnamed."""
    ticks: list[tuple[float, str]] = []
    for middle, name in zip((ptr[:-1] + ptr[1:]) / 2, names, strict=True):
        if not ticks or middle - ticks[-1][0] >= ptr[-1] / 40:
            ticks.append((float(middle), name))
    ax.set_yticks([at for at, _ in ticks], [name for _, name in ticks], fontsize=7)
