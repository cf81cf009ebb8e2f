"""Weights: the matrix, what training changed, how many synapses units have, and the eigenvalues."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from sparse_mrnn.declaration.graph import RegionGraph
from sparse_mrnn.errors import ShapeError
from sparse_mrnn.models.network import mRNNBase
from sparse_mrnn.plot.figure import PIXELS, Axes, axes_or_new, height_for, label_decades, name_rows
from sparse_mrnn.plot.sources import MatrixSource, Weights, network_of
from sparse_mrnn.spectral import disc_radius, leading_eigenpairs


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
    from matplotlib.colors import FuncNorm

    matrix, n = weights.matrix.tocoo(), weights.matrix.shape[0]
    bins = min(n, PIXELS)
    row, col = (index.astype(np.int64) * bins // n for index in (matrix.row, matrix.col))
    image = np.bincount(row * bins + col, matrix.data, minlength=bins**2).reshape(bins, bins)
    limit = float(np.quantile(np.abs(image[image != 0]), 0.98)) if image.any() else 1.0
    extent = (0, n, n, 0)
    root, square = (lambda x: np.sign(x) * np.sqrt(np.abs(x))), (lambda x: np.sign(x) * np.square(x))
    norm = FuncNorm((root, square), -limit, limit)
    style: dict[str, Any] = dict(cmap="RdBu_r", norm=norm, interpolation="nearest")
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


def plot_spectrum(
    source: mRNNBase | RegionGraph | ArrayLike, disc: float | None = None, radius: float | None = None,
    ax: Axes | None = None, *, k: int = 60,
) -> Axes:
    """Draw eigenvalues in the complex plane: the leading ones of a network or a graph, or those given.

    Parameters
    ----------
    source : mRNN, ElmanmRNN, RegionGraph, or array of complex
        A graph gets the weights of seed 0. Of electrical synapses there are none: the eigenvalues are those
        of the weights of chemical ones.
    disc : float, optional
        Radius of the disc that theory expects, drawn filled; see `sparse_mrnn.spectral.disc_radius`. Of a
        network it is found.
    radius : float, optional
        Spectral radius, drawn as a dashed circle. Of a network it is found.
    ax : Axes, optional
    k : int
        Eigenvalues that are found of a network.

    Raises
    ------
    SpectralError
        If the eigenvalues of a network cannot be certified.

    Examples
    --------
    >>> plot_spectrum([0.5, 0.2 + 0.3j, 0.2 - 0.3j], radius=0.5).get_xlabel()
    'real part'
    """
    values, title = source, ""
    if isinstance(source, mRNNBase | RegionGraph):
        net = network_of(source)
        layout = net.layout()
        weights = net if net.electrical is None else net.to_scipy()
        values, _ = leading_eigenpairs(weights, min(k, layout.n), vectors=False)
        disc = disc_radius(weights, layout.ptr) if disc is None else disc
        radius = float(np.abs(values).max(initial=0.0)) if radius is None else radius
        title = f"{net.graph.name or 'network'}: {len(values)} leading eigenvalues of {layout.n:,}"
    points = np.asarray(values)
    ax = axes_or_new(ax, (5.4, 6.2))
    from matplotlib.patches import Circle

    if disc is not None:
        look: dict[str, Any] = dict(color="#dfe6e9", lw=0, zorder=0)
        ax.add_patch(Circle((0, 0), disc, label=f"disc of theory, {disc:.4g}", **look))
    if radius is not None:
        look = dict(fill=False, ls="--", color="0.4")
        ax.add_patch(Circle((0, 0), radius, label=f"spectral radius, {radius:.4g}", **look))
    ax.plot(points.real, points.imag, "o", ms=3, color="#2c6fbb", label=f"{len(points)} eigenvalues")
    reach = 1.1 * max(float(np.abs(points).max(initial=0)), disc or 0, radius or 0) or 1.0
    ax.set(xlim=(-reach, reach), ylim=(-reach, 1.3 * reach), aspect="equal", title=title)
    ax.set(xlabel="real part", ylabel="imaginary part")
    ax.legend(loc="upper center", ncols=2, fontsize=7, frameon=False)
    return ax
