"""The graph of regions."""

from __future__ import annotations

import networkx as nx
import numpy as np

from sparse_mrnn.graph import RegionGraph
from sparse_mrnn.plot.figure import EXCITATORY, INHIBITORY, Axes, axes_or_new


def plot_regions(graph: RegionGraph, ax: Axes | None = None) -> Axes:
    """Draw regions on a circle, area by units, and projections between them, width and opacity by synapses.

    Projections from excitatory regions are red, from inhibitory ones blue, others grey.

    Examples
    --------
    >>> g = RegionGraph(name="pair"); g.add_region("a", 3); g.add_region("b", 3); g.add_projection("a", "b")
    >>> plot_regions(g).get_title()
    'pair: 2 regions'
    """
    ax = axes_or_new(ax, (8, 6.2))
    layout = nx.circular_layout(graph)
    units = np.array([graph.region(name).n for name in graph], dtype=float)
    total: dict[tuple[str, str], float] = {}
    for p in graph.projections():
        total[p.source, p.target] = total.get((p.source, p.target), 0.0) + p.expected_synapses
    strongest_last = sorted((pair for pair in total if pair[0] != pair[1]), key=total.__getitem__)
    strength = np.sqrt([total[pair] for pair in strongest_last])
    strength = strength / strength.max(initial=1e-9)
    sizes = 80 + 900 * units / units.max(initial=1)
    plain = nx.DiGraph(strongest_last)
    plain.add_nodes_from(graph)
    nodes = dict(nodelist=list(graph), node_size=sizes, ax=ax)
    for pair, part in zip(strongest_last, strength, strict=True):
        sign = int(np.sign(graph.region(pair[0]).unit_signs.sum(dtype=int)))
        style = dict(width=0.4 + 2.2 * part, arrowsize=6 + 5 * part, alpha=0.15 + 0.6 * part)
        style["edge_color"] = {1: EXCITATORY, -1: INHIBITORY}.get(sign, "0.5")
        curve = "arc3,rad=0.12"
        nx.draw_networkx_edges(plain, layout, edgelist=[pair], connectionstyle=curve, **style, **nodes)
    face = ["#f4d58d" if graph.region(name).kind == "input" else "#dfe6e9" for name in graph]
    nx.draw_networkx_nodes(plain, layout, node_color=face, edgecolors="0.3", **nodes)
    for name, (x, y) in layout.items():
        side = "center" if abs(x) < 0.2 or len(graph) == 1 else "left" if x > 0 else "right"
        ax.text(1.13 * x, 1.13 * y, name, ha=side, va="center", fontsize=8)
    ax.set(title=f"{graph.name or 'network'}: {len(graph)} regions", xlim=(-1.6, 1.6), ylim=(-1.25, 1.25))
    ax.set_aspect("equal")
    ax.set_axis_off()
    return ax
