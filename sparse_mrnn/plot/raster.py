"""plot_raster: spikes of units by region over time."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from sparse_mrnn.checks import whole_number
from sparse_mrnn.errors import RecordingError, UnknownNameError, suggest
from sparse_mrnn.plot.figure import Axes, axes_or_new
from sparse_mrnn.recording import open_recording

if TYPE_CHECKING:
    import xarray


def plot_raster(
    source: xarray.Dataset | str | os.PathLike[str], trial: int = 0, ax: Axes | None = None, *,
    regions: Sequence[str] | None = None, start: float | None = None, stop: float | None = None,
    most: int = 1000,
) -> Axes:
    """Draw spikes as dots: units by region, over time.

    Parameters
    ----------
    source : Dataset, or path of a recording
        Spikes, as ``Record(what=["spikes"])`` has them.
    trial : int
    ax : Axes, optional
    regions : sequence of str, optional
        Only these regions, in this order from the top.
    start, stop : float, optional
        Only this time, ms.
    most : int
        Units drawn; of more, every k-th of each region is, so that regions keep their share.

    Raises
    ------
    RecordingError
        If the recording has no spikes, or not this trial.
    UnknownNameError
        If a region does not exist.

    Examples
    --------
    >>> import sparse_mrnn as sm
    >>> g = sm.RegionGraph(); g.add_region("a", 5, base_firing=8.0)
    >>> plot_raster(sm.simulate(sm.LIF(g, device="cpu"), 200, progress=False)).get_xlabel()
    'time (ms)'
    """
    found: Any = open_recording(source) if isinstance(source, (str, os.PathLike)) else source
    if "spike_time" not in found:
        raise RecordingError("the recording has no spikes; record them with Record(what=['spikes']).")
    most = whole_number(most, "most", RecordingError, least=1)
    region = found["region"].values
    known = list(dict.fromkeys(region.tolist()))
    for name in regions or ():
        if name not in known:
            hint = suggest(name, known, what="regions")
            raise UnknownNameError(f"no spikes of a region {name!r} are recorded. {hint}")
    time, unit, of = (found[f"spike_{name}"].values for name in ("time", "unit", "trial"))
    trials = max(int(found.sizes.get("trial", 1)), int(of.max(initial=0)) + 1)
    if not 0 <= trial < trials:
        raise RecordingError(f"the recording has no trial {trial}; it has {trials}, counted from 0.")
    names = list(dict.fromkeys(regions)) if regions else known
    shown = [np.flatnonzero(region == name) for name in names]
    every = -(-sum(map(len, shown)) // most)
    shown = [units[::every] for units in shown]
    row = np.full(len(region), -1)
    row[np.concatenate(shown)] = np.arange(sum(map(len, shown)))
    low = -np.inf if start is None else start
    high = np.inf if stop is None else stop
    drawn = (of == trial) & (time > low) & (time <= high) & (row[unit] >= 0)
    ax = axes_or_new(ax, (8, 5))
    edges = np.cumsum([0, *map(len, shown)])
    for k in range(len(names)):
        here = drawn & (row[unit] >= edges[k]) & (row[unit] < edges[k + 1])
        ax.plot(time[here], row[unit[here]], ".", markersize=2, color=f"C{k % 10}", rasterized=True)
    ax.set_yticks((edges[:-1] + edges[1:] - 1) / 2, names)
    ax.set_ylim(edges[-1] - 0.5, -0.5)
    ax.set_xlabel("time (ms)")
    if start is not None or stop is not None:
        ax.set_xlim(start, stop)
    return ax
