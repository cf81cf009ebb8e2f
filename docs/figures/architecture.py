"""The drawing of docs/architecture.md: packages of sparse_mrnn and their imports, read from the code.

    python docs/figures/architecture.py

A package stands above everything it imports. An arrow is an import that no chain of other arrows implies.
"""

from __future__ import annotations

import ast
from pathlib import Path

import matplotlib

matplotlib.use("agg")
import matplotlib.pyplot as plt
import networkx as nx

PACKAGE = Path(__file__).parents[2] / "sparse_mrnn"
FAMILIES = {
    "declare": ("#f4d58d", "declaration stimulus recording"),
    "lower and compute": ("#a8d5ba", "ops lowering models spectral state"),
    "use a network": ("#b7cdea", "simulation training tasks analysis plot benchmark distributed fly_vision"),
    "exchange": ("#e3bfd9", "connectome interop data files"),
}
HELPERS = ("errors", "checks", "display", "runtime")
"""Imported from anywhere, and not drawn."""
FILL = {name: colour for colour, names in FAMILIES.values() for name in names.split()}


def imports() -> nx.DiGraph:
    """Top-level packages and modules; an edge from each to those it imports."""
    graph = nx.DiGraph()
    for path in PACKAGE.rglob("*.py"):
        here = path.relative_to(PACKAGE).parts[0].removesuffix(".py")
        if here == "__init__":
            continue
        graph.add_node(here)
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("sparse_mrnn."):
                there = str(node.module).split(".")[1]
                if there != here:
                    graph.add_edge(here, there)
    return graph


def draw(graph: nx.DiGraph, path: Path) -> None:
    """Boxes by the longest chain of imports below them."""
    graph = graph.copy()
    graph.remove_nodes_from(HELPERS)
    level = {}
    for name in reversed(list(nx.topological_sort(graph))):
        level[name] = 1 + max((level[below] for below in graph.successors(name)), default=-1)
    rows: dict[int, list[str]] = {}
    for name in graph:
        rows.setdefault(level[name], []).append(name)
    figure, ax = plt.subplots(figsize=(13, 0.85 * len(rows) + 0.6), layout="constrained")
    centre = {}
    for height, names in sorted(rows.items()):
        # Beside what they import, so that arrows are short.
        below = {n: [centre[b][0] for b in graph.successors(n)] for n in names}
        names.sort(key=lambda n: (sum(below[n]) / max(len(below[n]), 1), n))
        for k, name in enumerate(names):
            centre[name] = ((k + 0.5) * 10 / len(names), height)
    for above, below in nx.transitive_reduction(graph).edges:
        (x0, y0), (x1, y1) = centre[above], centre[below]
        style = {"arrowstyle": "-|>", "color": "0.55", "lw": 0.8, "shrinkA": 0, "shrinkB": 0}
        ax.annotate("", (x1, y1 + 0.2), (x0, y0 - 0.2), arrowprops=style)
    for name, (x, y) in centre.items():
        box = {"boxstyle": "round,pad=0.35", "fc": FILL.get(name, "#e6e6e6"), "ec": "0.4", "lw": 0.8}
        ax.text(x, y, name, ha="center", va="center", fontsize=9, family="monospace", bbox=box)
    for family, (colour, _) in FAMILIES.items():
        ax.plot([], [], "s", color=colour, mec="0.4", ms=9, label=family)
    ax.legend(loc="upper center", bbox_to_anchor=(0.5, 0), ncols=len(FAMILIES), fontsize=8, frameon=False)
    ax.set(xlim=(0, 10), ylim=(-0.5, len(rows) - 0.5))
    ax.set_axis_off()
    figure.savefig(path, dpi=110)


if __name__ == "__main__":
    draw(imports(), Path(__file__).with_name("architecture.png"))
