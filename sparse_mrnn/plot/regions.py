"""The graph of regions: a circle of a few, a table of many."""

from __future__ import annotations

from typing import Any

import networkx as nx
import numpy as np

from sparse_mrnn.declaration.graph import RegionGraph
from sparse_mrnn.errors import GraphError, suggest
from sparse_mrnn.plot.connectivity import plot_connectivity, synapses_by_sign
from sparse_mrnn.plot.figure import EXCITATORY, INHIBITORY, UNSIGNED, Axes, axes_or_new, short
from sparse_mrnn.plot.sources import NetworkSource, graph_of

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
        If there is no such style.

    Examples
    --------
    >>> g = RegionGraph(name="pair"); g.add_region("a", 3); g.add_region("b", 3); g.add_projection("a", "b")
    >>> plot_regions(g).get_title()
    'pair: 2 regions, 9 synapses'
    """
    graph = graph_of(source)
    if style is not None and style not in STYLES:
        raise GraphError(f"plot_regions: there is no style {style!r}. {suggest(style, STYLES)}")
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
