"""Weights: the matrix, what training changed, and how many synapses units have."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from sparse_mrnn.errors import ShapeError
from sparse_mrnn.plot.figure import PIXELS, Axes, axes_or_new, height_for, label_decades, name_rows
from sparse_mrnn.plot.sources import MatrixSource, Weights


def plot_weights(
    source: MatrixSource, ax: Axes | None = None, *, regions: Sequence[str] | None = None
) -> Axes:
    """Draw effective recurrent weights, rows = targets, with lines between regions.

    Colours follow the square root of the weight and end at its 98th percentile, so that weak synapses stay
    visible. In a network of more than 600 units a pixel is the sum of its weights.

    Parameters
    ----------
    source : mRNN, ElmanmRNN, RegionGraph, or square matrix (dense or sparse)
    ax : Axes, optional
    regions : sequence of str, optional
        Only the weights among these regions or parents.

    Raises
    ------
    UnknownNameError
        If a region does not exist.

    Examples
    --------
    >>> from sparse_mrnn import RegionGraph, mRNN
    >>> g = RegionGraph(); g.add_region("a", 3); g.add_projection("a", "a")
    >>> plot_weights(mRNN(g, device="cpu")).get_xlabel()
    'source unit (rows are targets)'
    """
    weights = Weights.of(source, regions)
    ax = axes_or_new(ax, (8, height_for(len(weights.names))))
    matrix, n = weights.matrix.tocoo(), weights.matrix.shape[0]
    bins = min(n, PIXELS)
    row, col = (index.astype(np.int64) * bins // n for index in (matrix.row, matrix.col))
    image = np.bincount(row * bins + col, matrix.data, minlength=bins**2).reshape(bins, bins)
    limit = float(np.quantile(np.abs(image[image != 0]), 0.98)) if image.any() else 1.0
    extent = (0, n, n, 0)
    style: dict[str, Any] = dict(cmap="RdBu_r", norm=_signed_root(limit), interpolation="nearest")
    drawn = ax.imshow(image, aspect="auto", extent=extent, **style)
    for border in weights.ptr[1:-1] if len(weights.names) < 100 else ():
        ax.axhline(border, color="0.6", lw=0.4)
        ax.axvline(border, color="0.6", lw=0.4)
    name_rows(ax, weights.ptr, weights.names)
    ax.set_title(f"{weights.label}: {weights.synapses:,} synapses, {n:,} units")
    ax.set_xlabel("source unit (rows are targets)")
    each = -(-n // bins)
    label = "weight" if each == 1 else f"weight, summed over {each} x {each} units"
    bar = ax.figure.colorbar(drawn, ax=ax, label=label, extend="both", aspect=30)
    largest = max(step * 10.0**k for k in range(-12, 13) for step in (1, 2, 5) if step * 10.0**k <= limit)
    ticks = [largest * share for share in (-1, -0.5, -0.1, 0, 0.1, 0.5, 1)]
    bar.set_ticks(ticks, labels=[f"{tick:.6g}" for tick in ticks])
    return ax


def _signed_root(limit: float) -> Any:
    from matplotlib.colors import FuncNorm

    def forward(x: Any) -> Any:
        return np.sign(x) * np.sqrt(np.abs(x))

    def inverse(x: Any) -> Any:
        return np.sign(x) * np.square(x)

    return FuncNorm((forward, inverse), -limit, limit)


def plot_weight_change(before: MatrixSource, after: MatrixSource, ax: Axes | None = None) -> Axes:
    """Draw weights after against before: how many synapses have each pair of values; the diagonal: no change.

    Synapses that are in only one of the two have weight 0 in the other.

    Parameters
    ----------
    before, after : mRNN, ElmanmRNN, or square matrix (dense or sparse)
        Weights of the same units. A network changes in place; keep a copy of its weights,
        ``net.effective_W_rec.detach().clone()``.
    ax : Axes, optional

    Raises
    ------
    ShapeError
        If they have different numbers of units.

    Examples
    --------
    >>> import numpy as np
    >>> plot_weight_change(np.eye(3), 2 * np.eye(3)).get_ylabel()
    'weight after'
    """
    old, new = Weights.of(before).matrix, Weights.of(after).matrix
    if old.shape != new.shape:
        raise ShapeError(f"weights of shapes {old.shape} and {new.shape} are not of the same units.")
    ax = axes_or_new(ax, (6, 5.2))
    either = (abs(old) + abs(new)).tocoo()
    x, y = (np.asarray(w[either.row, either.col]).ravel() for w in (old, new))
    reach = float(np.abs([x, y]).max(initial=0.0)) or 1.0
    drawn = ax.hexbin(x, y, gridsize=60, bins="log", cmap="viridis", mincnt=1, extent=(-reach, reach) * 2)
    ax.axline((0, 0), slope=1, color="0.4", lw=0.8, ls="--")
    low = min(float(x.min(initial=0)), float(y.min(initial=0)))
    high = max(float(x.max(initial=0)), float(y.max(initial=0)))
    margin = 0.05 * (high - low or 1.0)
    ax.set(xlim=(low - margin, high + margin), ylim=(low - margin, high + margin))
    changed, gone, made = float((x != y).sum()) / max(len(x), 1), int((y == 0).sum()), int((x == 0).sum())
    title = f"{len(x):,} synapses: {changed:.0%} changed"
    title += f", {gone:,} gone, {made:,} new" if gone or made else ""
    ax.set(xlabel="weight before", ylabel="weight after", title=title)
    bar = ax.figure.colorbar(drawn, ax=ax, label="synapses", aspect=30)
    label_decades(bar.ax.yaxis, *drawn.get_clim())
    return ax


def plot_degrees(
    source: MatrixSource, ax: Axes | None = None, *, regions: Sequence[str] | None = None
) -> Axes:
    """Draw the distributions of in-degree and out-degree: how many units have at least so many synapses.

    Parameters
    ----------
    source : mRNN, ElmanmRNN, RegionGraph, or square matrix (dense or sparse)
    ax : Axes, optional
    regions : sequence of str, optional
        Only the synapses among these regions or parents.

    Examples
    --------
    >>> import numpy as np
    >>> plot_degrees(np.ones((3, 3))).get_ylabel()
    'fraction of units with at least as many'
    """
    weights = Weights.of(source, regions)
    ax = axes_or_new(ax, (6, 4.5))
    n = weights.matrix.shape[0]
    degrees = {"in": np.diff(weights.matrix.indptr), "out": np.bincount(weights.matrix.indices, minlength=n)}
    for (name, degree), colour in zip(degrees.items(), ("#2c3e50", "#e67e22"), strict=True):
        ordered = np.sort(degree)
        label = f"{name}: mean {degree.mean():.3g}, largest {int(degree.max(initial=0)):,}"
        none = float((degree == 0).mean()) if n else 0.0
        label += f", none {none:.0%}" if none else ""
        ax.step(ordered, 1 - np.arange(n) / n, where="pre", color=colour, lw=1.4, label=label)
    ax.set(xscale="log", yscale="log", xlabel="synapses of a unit")
    ax.set_ylabel("fraction of units with at least as many")
    label_decades(ax.xaxis, *ax.get_xlim())
    label_decades(ax.yaxis, *ax.get_ylim())
    ax.grid(True, which="major", color="0.92", lw=0.6)
    ax.legend(frameon=False, fontsize=8)
    ax.set_title(f"{weights.label}: degrees of {n:,} units")
    return ax
