"""The weight matrix."""

from __future__ import annotations

import numpy as np

from sparse_mrnn.models.base import mRNNBase
from sparse_mrnn.ops.pattern import to_scipy
from sparse_mrnn.plot.figure import PIXELS, Axes, axes_or_new, name_regions


def plot_weights(net: mRNNBase, ax: Axes | None = None) -> Axes:
    """Draw the effective recurrent weights, rows = targets, with lines between regions.

    Colour is the signed square root of the (binned) weight, saturated at its 98th percentile, so that weak
    synapses stay visible.

    Examples
    --------
    >>> from sparse_mrnn import RegionGraph, mRNN
    >>> g = RegionGraph(); g.add_region("a", 3); g.add_projection("a", "a")
    >>> plot_weights(mRNN(g, device="cpu")).get_xlabel()
    'source unit'
    """
    ax = axes_or_new(ax, (7.5, 6))
    matrix = to_scipy(net.effective_W_rec).tocoo()
    n, layout = matrix.shape[0], net.layout()
    bins = min(n, PIXELS)
    row, col = (index.astype(np.int64) * bins // n for index in (matrix.row, matrix.col))
    image = np.bincount(row * bins + col, matrix.data, minlength=bins**2).reshape(bins, bins)
    shown = np.sign(image) * np.sqrt(np.abs(image))
    limit = float(np.quantile(np.abs(shown[shown != 0]), 0.98)) if shown.any() else 1.0
    style = dict(cmap="RdBu_r", vmin=-limit, vmax=limit, interpolation="nearest")
    drawn = ax.imshow(shown, extent=(0, n, n, 0), **style)  # type: ignore[arg-type]
    for border in layout.ptr[1:-1]:
        ax.axhline(border, color="0.6", lw=0.4)
        ax.axvline(border, color="0.6", lw=0.4)
    name_regions(ax, layout.ptr, net.hid_regions)
    title = f"{net.graph.name or 'network'}: {net.weights('recurrent').nnz:,} synapses, {n:,} units"
    ax.set(xlabel="source unit", ylabel="target unit", title=title)
    label = "sign(w) sqrt|w|" + (" (summed per bin)" if bins < n else "")
    ax.figure.colorbar(drawn, ax=ax, label=label, extend="both")
    return ax
