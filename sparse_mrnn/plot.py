"""Figures: weight matrix by region blocks, activity by region, and the graph of regions.

Every function draws on given axes (or new ones) and returns them. Large nets are binned before they are
drawn, so no picture needs a dense matrix.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from sparse_mrnn.errors import MissingExtraError, RecordingError
from sparse_mrnn.graph import RegionGraph
from sparse_mrnn.models.base import mRNNBase
from sparse_mrnn.ops.pattern import to_scipy

if TYPE_CHECKING:
    import xarray
    from matplotlib.axes import Axes

PIXELS = 600
"""Largest side of a drawn matrix; above it units are binned."""

EXCITATORY, INHIBITORY = "#c0392b", "#2c6fbb"


def _pyplot() -> Any:
    try:
        import matplotlib.pyplot as plt
    except ImportError:
        raise MissingExtraError("plots need matplotlib; install it with: pip install 'sparse-mrnn[plot]'") from None
    return plt


def _axes(ax: Axes | None, size: tuple[float, float]) -> Any:
    return _pyplot().subplots(figsize=size, layout="constrained")[1] if ax is None else ax


def plot_weights(net: mRNNBase, ax: Axes | None = None) -> Axes:
    """Draw the effective recurrent weights, rows = targets, with lines between regions.

    Colour is the signed square root of the (binned) weight, saturated at its 98th percentile, so weak synapses
    stay visible.

    Examples
    --------
    >>> from sparse_mrnn import RegionGraph, mRNN
    >>> g = RegionGraph(); g.add_region("a", 3); g.add_projection("a", "a")
    >>> plot_weights(mRNN(g, device="cpu")).get_xlabel()
    'source unit'
    """
    ax = _axes(ax, (7.5, 6))
    matrix = to_scipy(net.effective_W_rec).tocoo()
    n = matrix.shape[0]
    bins = min(n, PIXELS)
    place = [axis.astype(np.int64) * bins // n for axis in (matrix.row, matrix.col)]
    image = np.bincount(place[0] * bins + place[1], matrix.data, minlength=bins * bins).reshape(bins, bins)
    shown = np.sign(image) * np.sqrt(np.abs(image))
    limit = float(np.quantile(np.abs(shown[shown != 0]), 0.98)) if shown.any() else 1.0
    drawn = ax.imshow(shown, cmap="RdBu_r", vmin=-limit, vmax=limit, extent=(0, n, n, 0), interpolation="nearest")
    layout = net.layout()
    for border in layout.ptr[1:-1]:
        ax.axhline(border, color="0.6", lw=0.4)
        ax.axvline(border, color="0.6", lw=0.4)
    _region_ticks(ax, "y", layout.ptr, [r.name for r in layout.regions])
    title = f"{net.graph.name or 'network'}: {net.W_rec.values().numel():,} synapses, {n:,} units"
    ax.set(xlabel="source unit", ylabel="target unit", title=title)
    ax.figure.colorbar(drawn, ax=ax, label="sign(w) sqrt|w|" + (" (summed per bin)" if bins < n else ""), extend="both")
    return ax


def _region_ticks(ax: Any, which: str, ptr: Any, names: list[str]) -> None:
    """Name regions at their middles; small ones whose labels would overlap are left unnamed."""
    middle = (ptr[:-1] + ptr[1:]) / 2
    apart = ptr[-1] / 40
    ticks: list[tuple[float, str]] = []
    for where, name in zip(middle, names, strict=True):
        if not ticks or where - ticks[-1][0] >= apart:
            ticks.append((float(where), name))
    getattr(ax, f"set_{which}ticks")([t for t, _ in ticks], [name for _, name in ticks], fontsize=7)


def plot_activity(recording: xarray.Dataset, trial: int = 0, ax: Axes | None = None) -> Axes:
    """Draw the first variable of a recording as a heat map, units by region (or means of regions) over time in ms.

    Colours of non-negative activity follow its square root, so weakly active units stay visible. A recording on disk is
    read piece by piece, so it may be larger than memory.

    Raises
    ------
    RecordingError
        If there is no such trial, or nothing was recorded.
    """
    name = next(iter(recording.data_vars))
    h = recording[name]
    if not 0 <= trial < h.shape[0] or h.shape[1] == 0:
        raise RecordingError(f"trial {trial} of a recording of shape {h.shape} {h.dims} has nothing to draw.")
    ax = _axes(ax, (8, 6))
    from matplotlib.colors import Normalize, PowerNorm

    steps, n = h.shape[1:]
    rows = np.unique(np.linspace(0, n, min(n, PIXELS), endpoint=False).astype(int))
    columns = np.unique(np.linspace(0, steps, min(steps, 2 * PIXELS), endpoint=False).astype(int))
    image = np.empty((len(rows), len(columns)))
    borders = [*columns.tolist(), steps]
    piece = max(1, 2**24 // (n * max(1, steps // len(columns))))  # columns of the image read at a time
    for k in range(0, len(columns), piece):
        ends = borders[k : k + piece + 1]
        part = h[trial, ends[0] : ends[-1]].values.astype(np.float64)
        binned = np.add.reduceat(np.add.reduceat(part, np.array(ends[:-1]) - ends[0], axis=0), rows, axis=1)
        image[:, k : k + piece] = binned.T
    image = image / np.outer(np.diff([*rows, n]), np.diff(borders))
    time = recording["time"].values
    step = time[0] if steps == 1 else time[1] - time[0]
    top = float(np.quantile(np.abs(image), 0.995)) or 1.0
    low = -top if image.min() < 0 else 0.0
    extent = (time[0] - step, time[-1], n, 0)
    colours = Normalize(low, top) if low else PowerNorm(0.5, 0.0, top)
    drawn = ax.imshow(image, aspect="auto", cmap="RdBu_r" if low else "magma", norm=colours, extent=extent, interpolation="nearest")
    labels = recording["region" if h.dims[2] == "unit" else "group"].values
    first = np.concatenate([[0], np.flatnonzero(labels[1:] != labels[:-1]) + 1])
    ptr = np.concatenate([first, [n]])
    for border in ptr[1:-1] if h.dims[2] == "unit" else ():
        ax.axhline(border, color="0.6", lw=0.4)
    _region_ticks(ax, "y", ptr, labels[first].tolist())
    ax.set(xlabel="time (ms)", title=f"activity {name} by region" if name == "h" else f"{name} by region")
    ax.figure.colorbar(drawn, ax=ax, label=str(name), extend="both" if low else "max")
    return ax


def plot_spectrum(values: Any, disc: float | None = None, radius: float | None = None, ax: Axes | None = None) -> Axes:
    """Draw eigenvalues in the complex plane.

    Parameters
    ----------
    values : array of complex
    disc : float, optional
        Radius of the disc that theory expects, drawn filled; see `sparse_mrnn.spectral.disc_radius`.
    radius : float, optional
        Spectral radius, drawn as a dashed circle.
    ax : Axes, optional
    """
    ax = _axes(ax, (5.4, 6.2))
    from matplotlib.patches import Circle

    if disc is not None:
        ax.add_patch(Circle((0, 0), disc, color="#dfe6e9", lw=0, zorder=0, label=f"disc of theory, {disc:.4g}"))
    if radius is not None:
        ax.add_patch(Circle((0, 0), radius, fill=False, ls="--", color="0.4", label=f"spectral radius, {radius:.4g}"))
    points = np.asarray(values)
    ax.plot(points.real, points.imag, "o", ms=3, color=INHIBITORY, label=f"{len(points)} eigenvalues")
    reach = 1.1 * max(float(np.abs(points).max(initial=0)), disc or 0, radius or 0) or 1.0
    ax.set(xlim=(-reach, reach), ylim=(-reach, 1.3 * reach), aspect="equal", xlabel="real part", ylabel="imaginary part")
    ax.legend(loc="upper center", ncols=2, fontsize=7, frameon=False)
    return ax


def plot_regions(graph: RegionGraph, ax: Axes | None = None) -> Axes:
    """Draw regions on a circle, area by units, and projections between them, width and opacity by expected synapses.

    Projections from excitatory regions are red, from inhibitory ones blue, others grey.
    """
    import networkx as nx

    ax = _axes(ax, (8, 6.2))
    place = nx.circular_layout(graph)
    units = np.array([graph.region(name).n for name in graph], dtype=float)
    total: dict[tuple[str, str], float] = {}
    for p in graph.projections():
        total[p.source, p.target] = total.get((p.source, p.target), 0.0) + p.expected_synapses
    pairs = sorted((pair for pair in total if pair[0] != pair[1]), key=total.__getitem__)  # the strongest on top
    strength = np.sqrt([total[pair] for pair in pairs])
    strength = strength / (strength.max() if len(pairs) else 1)
    sizes = 80 + 900 * units / units.max() if len(units) else []
    plain = nx.DiGraph(pairs)
    plain.add_nodes_from(graph)
    for pair, part in zip(pairs, strength, strict=True):
        sign = int(np.sign(graph.region(pair[0]).unit_signs.sum(dtype=int)))
        nx.draw_networkx_edges(
            plain, place, edgelist=[pair], width=0.4 + 2.2 * part, arrowsize=6 + 5 * part, alpha=0.15 + 0.6 * part, ax=ax,
            edge_color={1: EXCITATORY, -1: INHIBITORY}.get(sign, "0.5"), node_size=sizes, nodelist=list(graph),
            connectionstyle="arc3,rad=0.12",
        )
    face = ["#f4d58d" if graph.region(name).kind == "input" else "#dfe6e9" for name in graph]
    nx.draw_networkx_nodes(plain, place, nodelist=list(graph), node_size=sizes, node_color=face, edgecolors="0.3", ax=ax)
    for name, (x, y) in place.items():
        side = "center" if abs(x) < 0.2 or len(graph) == 1 else "left" if x > 0 else "right"
        ax.text(1.13 * x, 1.13 * y, name, ha=side, va="center", fontsize=8)
    ax.set(title=f"{graph.name or 'network'}: {len(graph)} regions", xlim=(-1.6, 1.6), ylim=(-1.25, 1.25), aspect="equal")
    ax.set_axis_off()
    return ax
