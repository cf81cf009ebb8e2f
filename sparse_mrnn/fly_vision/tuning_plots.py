"""Tuning curves over directions."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from sparse_mrnn.errors import GraphError, ShapeError
from sparse_mrnn.plot.figure import Axes, new_figure

DISTINCT = ("#0072b2", "#e69f00", "#009e73", "#cc79a7", "#56b4e9", "#d55e00", "#f0e442", "#000000")
"""Colours that the colour-blind can tell apart (Okabe and Ito 2008)."""


def plot_tuning(
    directions: ArrayLike,
    curves: Mapping[str, ArrayLike],
    ax: Axes | None = None,
    *,
    preferred: Mapping[str, float] | None = None,
    label: str = "response",
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
        What responses are, with their unit.

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
        raise GraphError(f"plot_tuning: there is no curve {unknown[0]!r} for a preferred direction.")
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
