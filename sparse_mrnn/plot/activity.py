"""Recorded activity over time."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from sparse_mrnn.errors import RecordingError
from sparse_mrnn.plot.figure import PIXELS, Axes, axes_or_new, name_regions

if TYPE_CHECKING:
    import xarray


def plot_activity(recording: xarray.Dataset, trial: int = 0, ax: Axes | None = None) -> Axes:
    """Draw the first variable of a recording as a heat map: units by region, or means of regions, over time.

    Colours of non-negative activity follow its square root, so weakly active units stay visible. A recording
    on disk is read piece by piece, so it may be larger than memory.

    Raises
    ------
    RecordingError
        If there is no such trial, or nothing was recorded.
    """
    name = next(iter(recording.data_vars))
    h = recording[name]
    if not 0 <= trial < h.shape[0] or h.shape[1] == 0:
        raise RecordingError(f"trial {trial} of a recording of shape {h.shape} {h.dims} has nothing to draw.")
    ax = axes_or_new(ax, (8, 6))
    from matplotlib.colors import Normalize, PowerNorm

    n, image, time = h.shape[2], _binned(h[trial]), recording["time"].values
    step = time[0] if len(time) == 1 else time[1] - time[0]
    top = float(np.quantile(np.abs(image), 0.995)) or 1.0
    signed, units = image.min() < 0, h.dims[2] == "unit"
    norm, cmap = (Normalize(-top, top), "RdBu_r") if signed else (PowerNorm(0.5, 0.0, top), "magma")
    extent = (time[0] - step, time[-1], n, 0)
    drawn = ax.imshow(image, aspect="auto", cmap=cmap, norm=norm, extent=extent, interpolation="nearest")
    labels = recording["region" if units else "group"].values
    first = np.concatenate([[0], np.flatnonzero(labels[1:] != labels[:-1]) + 1])
    ptr = np.concatenate([first, [n]])
    for border in ptr[1:-1] if units else ():
        ax.axhline(border, color="0.6", lw=0.4)
    name_regions(ax, ptr, labels[first].tolist())
    ax.set(xlabel="time (ms)", title=f"activity {name} by region" if name == "h" else f"{name} by region")
    ax.figure.colorbar(drawn, ax=ax, label=str(name), extend="both" if signed else "max")
    return ax


def _binned(h: xarray.DataArray) -> NDArray[Any]:
    """Means of neighbouring units and times, shape (rows, columns) of a picture, of activity (time, unit)."""
    steps, n = h.shape
    rows = np.unique(np.linspace(0, n, min(n, PIXELS), endpoint=False).astype(int))
    columns = np.unique(np.linspace(0, steps, min(steps, 2 * PIXELS), endpoint=False).astype(int))
    sums = np.empty((len(rows), len(columns)))
    borders = np.append(columns, steps)
    at_once = max(1, 2**24 // (n * max(1, steps // len(columns))))
    for k in range(0, len(columns), at_once):
        ends = borders[k : k + at_once + 1]
        part = h[ends[0] : ends[-1]].values.astype(np.float64)
        by_time = np.add.reduceat(part, ends[:-1] - ends[0], axis=0)
        sums[:, k : k + at_once] = np.add.reduceat(by_time, rows, axis=1).T
    sums /= np.outer(np.diff([*rows, n]), np.diff(borders))
    return sums
