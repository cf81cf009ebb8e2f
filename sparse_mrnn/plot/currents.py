"""Currents between regions: a matrix of small time courses, rows = targets, columns = sources."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from sparse_mrnn.errors import RecordingError
from sparse_mrnn.plot.figure import EXCITATORY, INHIBITORY, Axes, axes_or_new, short

if TYPE_CHECKING:
    import xarray

MOST = 24
"""Sources and targets that are drawn."""
POINTS = 300
"""Times of a time course; more are thinned evenly."""
COLOURS = {"excitatory": EXCITATORY, "inhibitory": INHIBITORY, "total": "0.25"}


def plot_currents(found: xarray.DataArray, ax: Axes | None = None, *, trial: int | None = None) -> Axes:
    """Draw the mean current from each source into each target region over time, as a matrix of lines.

    Lines of a row have one scale, whose end is written beside it, so the sources of a target can be compared.
    Excitatory and inhibitory currents, if they are apart, are red and blue. Of more than 24 sources or
    targets, those with the strongest currents are drawn.

    Parameters
    ----------
    found : xarray.DataArray
        From `sparse_mrnn.analysis.currents`, of units or means, in memory or on disk.
    ax : Axes, optional
    trial : int, optional
        Default: the mean of all trials.

    Raises
    ------
    RecordingError
        If the trial does not exist.

    Examples
    --------
    >>> import sparse_mrnn as sm
    >>> from sparse_mrnn.analysis import currents
    >>> g = sm.RegionGraph(); g.add_region("a", 2, base_firing=1.0); g.add_projection("a", "a")
    >>> net = sm.mRNN(g, device="cpu")
    >>> plot_currents(currents(net, sm.simulate(net, 50, progress=False))).get_xlabel()
    'source; each time course from 10 to 50 ms'
    """
    trials = found.sizes["trial"]
    if trial is not None and not 0 <= trial < trials:
        raise RecordingError(f"trial {trial} does not exist; the currents have {trials}, counted from 0.")
    mean, targets = _means(found, trial)
    strength = np.sqrt((mean**2).mean(axis=(1, 2)))  # (sources, targets)
    columns, rows = (np.sort(np.argsort(-strength.max(axis=k), kind="stable")[:MOST]) for k in (1, 0))
    names = [str(name) for name in found["source"].values]
    if "key" in found.coords:
        keys = found["key"].values.tolist()
        names = [n if k in ("", "default") else f"{n} ({k})" for n, k in zip(names, keys, strict=True)]
    signs = found["sign"].values.tolist() if "sign" in found.dims else ["total"]
    ax = axes_or_new(ax, (2.2 + 0.75 * len(columns), 1.4 + 0.6 * len(rows)))
    from matplotlib.collections import LineCollection

    along = np.linspace(0.06, 0.94, mean.shape[2])
    scale = np.abs(mean[columns]).max(axis=(0, 1, 2))
    for k, sign in enumerate(signs):
        lines = [
            np.column_stack([c + along, r + 0.5 - 0.44 * mean[source, k, :, target] / scale[target]])
            for c, source in enumerate(columns.tolist())
            for r, target in enumerate(rows.tolist())
            if mean[source, k, :, target].any()
        ]
        label = None if sign == "total" else sign
        ax.add_collection(LineCollection(lines, colors=COLOURS[sign], lw=1.1, label=label))
    for r in range(len(rows) + 1):
        ax.axhline(r, color="0.85", lw=0.6, zorder=0)
        if r < len(rows):
            ax.axhline(r + 0.5, color="0.92", lw=0.5, zorder=0)
            text = f"±{scale[rows[r]]:.2g}"
            ax.text(len(columns) + 0.08, r + 0.5, text, va="center", fontsize=7, color="0.4")
    for c in range(len(columns) + 1):
        ax.axvline(c, color="0.85", lw=0.6, zorder=0)
    ax.set_xticks(np.arange(len(columns)) + 0.5, [short(names[c]) for c in columns], fontsize=8)
    ax.set_yticks(np.arange(len(rows)) + 0.5, [short(str(targets[r])) for r in rows], fontsize=8)
    if max((len(names[c]) for c in columns), default=0) > 8:
        ax.tick_params(axis="x", rotation=90)
    ax.tick_params(length=0)
    time = found["time"].values
    ax.set(xlabel=f"source; each time course from {time[0]:g} to {time[-1]:g} ms", ylabel="target")
    ax.set(xlim=(0, len(columns)), ylim=(len(rows), 0))
    which = "" if trials == 1 else f", trial {trial}" if trial is not None else f", mean of {trials} trials"
    fewer = len(columns) < len(names) or len(rows) < len(targets)
    strongest = ", the strongest sources and targets" if fewer else ""
    ax.set_title(f"mean current into a unit{which}{strongest}")
    if "sign" in found.dims:
        ax.legend(loc="upper left", bbox_to_anchor=(1.1, 1), frameon=False, fontsize=8)
    return ax


def _means(found: xarray.DataArray, trial: int | None) -> tuple[NDArray[np.float64], list[str]]:
    """Means over trials and the units of each target region, (source, sign, time, region), and the regions.

    Read source by source: currents on disk may be larger than memory.
    """
    every = max(1, -(-found.sizes["time"] // POINTS))
    part = found.isel(time=slice(None, None, every))
    region = found["region"].values
    names = list(dict.fromkeys(region.tolist()))
    member = np.stack([(region == name) / (region == name).sum() for name in names], axis=1)
    parts = []
    for k in range(found.sizes["source"]):
        one: Any = part.isel(source=k)
        values = np.asarray(one.values, dtype=np.float64)
        values = values if "sign" in one.dims else values[None]
        values = values.mean(axis=1) if trial is None else values[:, trial]
        parts.append(values @ member)
    return np.stack(parts), names
