"""The graph of regions: a circle of a few, a table of many with synapses in the colours of their signs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import networkx as nx
import numpy as np
from numpy.typing import NDArray

from sparse_mrnn.declaration.graph import PROJECTION_SIGNS, Projection, RegionGraph
from sparse_mrnn.errors import GraphError, suggest
from sparse_mrnn.lowering.layout import UnitNames
from sparse_mrnn.plot.figure import EXCITATORY, INHIBITORY, UNSIGNED, Axes, axes_or_new, label_decades, short
from sparse_mrnn.plot.sources import NetworkSource, graph_of

VALUES = {
    "synapses": "synapses", "density": "fraction of possible synapses", "fan_in": "synapses onto a unit",
}
NUMBERS = 14
"""Regions up to which every cell holds its number."""
KINDS = {"excitatory": "Reds", "inhibitory": "Blues", "unsigned": "Greys"}


def synapses_by_sign(graph: RegionGraph) -> dict[tuple[str, str], NDArray[np.float64]]:
    """(source, target) -> excitatory, inhibitory and unsigned synapses expected between two regions.

    The projection or its source units give the sign; an explicit weight without one has its own.

    Examples
    --------
    >>> g = RegionGraph()
    >>> g.add_region("a", 3); g.add_region("b", 2, sign="neg"); g.add_projection("b", "a")
    >>> synapses_by_sign(g)["b", "a"].tolist()
    [0.0, 6.0, 0.0]
    """
    found: dict[tuple[str, str], NDArray[np.float64]] = {}
    for projection in graph.projections():
        pair = (projection.source, projection.target)
        found[pair] = found.get(pair, np.zeros(3)) + _by_sign(graph, projection)
    return found


def _by_sign(graph: RegionGraph, projection: Projection) -> NDArray[np.float64]:
    signs = graph.region(projection.source).unit_signs
    if projection.sign != "inherit":
        signs = np.full_like(signs, PROJECTION_SIGNS[projection.sign])
    matrix = projection.weights
    if matrix is None:
        return projection.expected_synapses * np.array([(signs == s).mean() for s in (1, -1, 0)])
    sign = signs[matrix.indices]
    sign = np.where(sign == 0, np.sign(matrix.data).astype(sign.dtype), sign)
    return np.array([(sign == s).sum() for s in (1, -1, 0)], dtype=float)


def plot_connectivity(
    source: NetworkSource, value: str = "synapses", ax: Axes | None = None, *,
    regions: Sequence[str] | None = None,
) -> Axes:
    """Draw how strongly every region is connected to every other, rows = targets, columns = sources.

    Excitatory synapses are red, inhibitory ones blue, those without a sign grey. Where a pair has both, the
    upper left of its cell is of the one, the lower right of the other.

    Parameters
    ----------
    source : mRNN, ElmanmRNN or RegionGraph
    value : {"synapses", "density", "fan_in"}
        Synapses expected, their fraction of the possible ones, or their number for each target unit.
    ax : Axes, optional
    regions : sequence of str, optional
        Only these regions, parents and inputs, in this order.

    Raises
    ------
    GraphError
        If the value is unknown.
    UnknownNameError
        If a region does not exist.

    Examples
    --------
    >>> g = RegionGraph(name="pair"); g.add_region("a", 3); g.add_region("b", 3); g.add_projection("a", "b")
    >>> plot_connectivity(g).get_title()
    'pair: synapses between 2 regions'
    """
    if value not in VALUES:
        raise GraphError(f"plot_connectivity: unknown value {value!r}. {suggest(value, VALUES)}")
    graph = graph_of(source)
    names = list(graph) if regions is None else UnitNames(graph).members(*regions)
    targets = [name for name in names if graph.region(name).kind == "recurrent"]
    amounts = np.zeros((3, len(targets), len(names)))
    row, column = ({name: k for k, name in enumerate(part)} for part in (targets, names))
    for (s, t), synapses in synapses_by_sign(graph).items():
        if s in column and t in row:
            n_s, n_t = graph.region(s).n, graph.region(t).n
            scale = {"synapses": 1, "density": 1 / (n_s * n_t), "fan_in": 1 / n_t}[value]
            amounts[:, row[t], column[s]] = synapses * scale
    side = float(np.clip(0.16 * len(names) + 3, 5.5, 18))
    ax = axes_or_new(ax, (side + 1.6, side))
    _draw_cells(ax, amounts, value)
    for axis, part in ((ax.xaxis, names), (ax.yaxis, targets)):
        font = float(np.clip(72 * 0.8 * side / (1.25 * max(len(part), 1)), 4, 8))
        axis.set_ticks(np.arange(len(part)) + 0.5, [short(name) for name in part], fontsize=font)
    ax.tick_params(axis="x", rotation=90, length=0)
    ax.tick_params(axis="y", length=0)
    title = f"{graph.name or 'network'}: {VALUES[value]} between {len(names)} regions"
    ax.set(xlabel="source", ylabel="target", title=title)
    ax.set(xlim=(0, max(len(names), 1)), ylim=(max(len(targets), 1), 0))
    return ax


def _draw_cells(ax: Any, amounts: NDArray[Any], value: str) -> None:
    """Squares and triangles in the colours of the signs on one logarithmic scale; a bar for each sign."""
    import matplotlib as mpl
    from matplotlib.cm import ScalarMappable
    from matplotlib.collections import PolyCollection
    from matplotlib.colors import LogNorm

    present = amounts[amounts > 0]
    low, high = (float(present.min()), float(present.max())) if present.size else (1.0, 10.0)
    lowest = low / 3 if low == high else low * (low / high) ** 0.25  # so that the least is not white
    norm = LogNorm(lowest, high)
    for k, (kind, colours) in enumerate(KINDS.items()):
        rows, columns = np.nonzero(amounts[k])
        if not len(rows):
            continue
        cells = zip(rows.tolist(), columns.tolist(), strict=True)
        polygons = [_cell(row, column, k, amounts[:, row, column] > 0) for row, column in cells]
        cmap = mpl.colormaps[colours]
        colour = cmap(norm(amounts[k, rows, columns]))
        ax.add_collection(PolyCollection(polygons, facecolors=colour, edgecolors="none"))
        style: dict[str, Any] = dict(label=kind, fraction=0.04, pad=0.01, aspect=30)
        bar = ax.figure.colorbar(ScalarMappable(norm, cmap), ax=ax, **style)
        label_decades(bar.ax.yaxis, low, high)
        bar.ax.minorticks_off()
        bar.ax.tick_params(labelsize=7)
    n_rows, n_columns = amounts.shape[1:]
    if max(n_rows, n_columns) <= NUMBERS:
        total = amounts.sum(axis=0)
        for r, c in zip(*np.nonzero(total), strict=True):
            dark = amounts[:, r, c].max() > (lowest * high) ** 0.5
            text = f"{total[r, c]:.2g}" if value == "density" else f"{total[r, c]:,.4g}"
            style = dict(ha="center", va="center", fontsize=7, color="w" if dark else "0.2")
            ax.text(c + 0.5, r + 0.5, text, **style)
    for k in range(1, n_rows):
        ax.axhline(k, color="0.9", lw=0.4, zorder=0)
    for k in range(1, n_columns):
        ax.axvline(k, color="0.9", lw=0.4, zorder=0)


def _cell(row: int, column: int, kind: int, present: NDArray[np.bool_]) -> list[tuple[int, int]]:
    """Corners of a square, or of half of it if synapses of several kinds are present."""
    a, b, c, d = (column, row), (column + 1, row), (column + 1, row + 1), (column, row + 1)
    kinds = np.flatnonzero(present)
    if len(kinds) == 1:
        return [a, b, c, d]
    return [a, b, d] if kind == kinds[0] else [b, c, d]


MOST_ON_A_CIRCLE = 12
STYLES = ("circle", "matrix")
COLOURS = {"excitatory": EXCITATORY, "inhibitory": INHIBITORY, "unsigned": UNSIGNED}


def plot_regions(source: NetworkSource, ax: Axes | None = None, *, style: str | None = None) -> Axes:
    """Draw regions and the projections between and within them.

    Up to a dozen regions stand on a circle, area by units; arrows are projections, width and opacity by
    synapses, excitatory ones red, inhibitory ones blue, others grey. More are a table: `plot_connectivity`.

    Parameters
    ----------
    source : mRNN, ElmanmRNN or RegionGraph
    ax : Axes, optional
    style : {"circle", "matrix"}, optional

    Raises
    ------
    GraphError
        If the style is unknown.

    Examples
    --------
    >>> g = RegionGraph(name="pair"); g.add_region("a", 3); g.add_region("b", 3); g.add_projection("a", "b")
    >>> plot_regions(g).get_title()
    'pair: 2 regions, 9 synapses'
    """
    graph = graph_of(source)
    if style is not None and style not in STYLES:
        raise GraphError(f"plot_regions: unknown style {style!r}. {suggest(style, STYLES)}")
    if style == "matrix" or (style is None and len(graph) > MOST_ON_A_CIRCLE):
        return plot_connectivity(graph, ax=ax)
    ax = axes_or_new(ax, (8, 6.4))
    position = nx.circular_layout(graph)
    most = max((graph.region(name).n for name in graph), default=1)
    radius = {name: 0.05 + 0.09 * (graph.region(name).n / most) ** 0.5 for name in graph}
    synapses = synapses_by_sign(graph)
    largest = max((float(s.max()) for s in synapses.values()), default=1.0)
    for pair, by_sign in sorted(synapses.items(), key=lambda item: float(item[1].max())):  # strongest on top
        for k, colour in enumerate(COLOURS.values()):
            if by_sign[k] > 0:
                share = float(by_sign[k] / largest) ** 0.5
                look: dict[str, Any] = dict(color=colour, lw=0.5 + 3 * share, alpha=0.3 + 0.6 * share)
                if pair[0] == pair[1]:
                    _loop(ax, position[pair[0]], radius[pair[0]], k, **look)
                else:
                    _arrow(ax, position, radius, pair, 0.1 + 0.08 * k, **look)
    for name in graph:
        beyond = radius[name] + (0.3 if (name, name) in synapses else 0.14)
        _node(ax, graph, name, position[name], radius[name], beyond)
    total = sum(float(s.sum()) for s in synapses.values())
    title = f"{graph.name or 'network'}: {len(graph)} regions, {total:,.0f} synapses"
    ax.set(title=title, xlim=(-1.75, 1.75), ylim=(-1.4, 1.5), aspect="equal")
    present = np.sum(list(synapses.values()), axis=0) > 0 if synapses else np.zeros(3, bool)
    for (kind, colour), there in zip(COLOURS.items(), present, strict=True):
        if there:
            ax.plot([], [], color=colour, lw=2, label=kind)
    if present.any():
        ax.legend(loc="lower right", frameon=False, fontsize=8)
    ax.set_axis_off()
    return ax


def _arrow(ax: Any, position: Any, radius: Any, pair: tuple[str, str], bend: float, **look: Any) -> None:
    """A bent arrow from the edge of one region to that of another."""
    from matplotlib.patches import FancyArrowPatch

    start, end = (np.asarray(position[name], dtype=float) for name in pair)
    towards = (end - start) / np.linalg.norm(end - start)
    start, end = start + radius[pair[0]] * towards, end - radius[pair[1]] * towards
    shape: dict[str, Any] = dict(arrowstyle="-|>", mutation_scale=7 + 2 * look["lw"], shrinkA=0, shrinkB=0)
    curve = f"arc3,rad={bend}"
    ax.add_patch(FancyArrowPatch(tuple(start), tuple(end), connectionstyle=curve, **shape, **look))


def _loop(ax: Any, at: Any, radius: float, k: int, **look: Any) -> None:
    """A projection within a region: a ring at its outer edge, with an arrow where it comes back."""
    from matplotlib.patches import Arc, FancyArrowPatch

    x, y = at
    angle = float(np.degrees(np.arctan2(y, x))) if np.hypot(x, y) > 1e-6 else 90.0
    size = 0.08 + 0.03 * k
    out = np.array([np.cos(np.radians(angle)), np.sin(np.radians(angle))])
    centre = np.array([x, y]) + (radius + 0.55 * size) * out
    ax.add_patch(Arc(tuple(centre), 2 * size, 2 * size, angle=angle, theta1=-130, theta2=130, **look))
    tip = np.radians(angle + 130)
    end = centre + size * np.array([np.cos(tip), np.sin(tip)])
    before = end - 0.02 * np.array([-np.sin(tip), np.cos(tip)])
    shape: dict[str, Any] = dict(arrowstyle="-|>", mutation_scale=7 + 2 * look["lw"], shrinkA=0, shrinkB=0)
    ax.add_patch(FancyArrowPatch(tuple(before), tuple(end), **shape, **look))


def _node(ax: Any, graph: RegionGraph, name: str, at: Any, radius: float, beyond: float) -> None:
    """A region and, so far beyond its middle, its name."""
    from matplotlib.patches import Circle

    region, (x, y) = graph.region(name), at
    face = "#f4d58d" if region.kind == "input" else "#dfe6e9"
    ax.add_patch(Circle((x, y), radius, fc=face, ec="0.3", lw=1, zorder=3))
    unit = "channel" if region.kind == "input" else "unit"
    text = f"{short(name)}\n{region.n:,} {unit}{'' if region.n == 1 else 's'}"
    distance = float(np.hypot(x, y))
    if distance < 1e-6:
        ax.text(x, y - radius - 0.12, text, ha="center", va="top", fontsize=8, linespacing=1.1)
        return
    out = 1 + beyond / distance
    side = "center" if abs(x) < 0.25 else "left" if x > 0 else "right"
    ax.text(out * x, out * y, text, ha=side, va="center", fontsize=8, linespacing=1.1, zorder=4)
