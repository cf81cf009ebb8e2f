"""A recording in a table: mean and largest value of every region."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from sparse_mrnn.display import SummaryTable

if TYPE_CHECKING:
    import xarray

PIECE_BYTES = 2**26
"""A recording is read in pieces of about this size: it may be larger than memory."""


def summary(recording: xarray.Dataset, variable: str | None = None) -> SummaryTable:
    """Tabulate mean and largest value of every region of a recording, in memory or on disk.

    Parameters
    ----------
    recording : xarray.Dataset
        From `simulate` or `open_recording`.
    variable : str, optional
        Default: the first.

    Examples
    --------
    >>> import sparse_mrnn as sm
    >>> g = sm.RegionGraph(); g.add_region("a", 3)
    >>> print(summary(sm.simulate(sm.mRNN(g, device="cpu"), 50, progress=False)))
    h by region: 1 trial, 50 ms in steps of 10 ms
    region  units  mean  max
    a           3     0    0
    """
    variable = str(next(iter(recording.data_vars))) if variable is None else variable
    data, times = recording[variable], recording["time"].values
    per_unit = data.dims[2] == "unit"
    regions = recording["region" if per_unit else "group"].values
    trials, steps, n = data.shape
    total, top = np.zeros(n), np.full(n, -np.inf)
    length = max(1, PIECE_BYTES // (8 * trials * max(n, 1)))
    for start in range(0, steps, length):
        part = data[:, start : start + length].values
        total += part.sum(axis=(0, 1), dtype=float)
        top = np.maximum(top, part.max(axis=(0, 1)))
    rows = []
    for region in dict.fromkeys(regions.tolist()):
        here = regions == region
        units = [f"{here.sum():,}"] if per_unit else []
        mean = total[here].mean() / max(trials * steps, 1)
        rows.append([region, *units, f"{mean:.4g}", f"{top[here].max():.4g}"])
    what = f"{variable.replace('_', ', ')} by region: {trials:,} trial{'s' if trials != 1 else ''}"
    if steps:
        step = times[1] - times[0] if steps > 1 else times[0]
        what += f", {times[-1]:,.10g} ms in steps of {step:.6g} ms"
    return SummaryTable([what], ["region", *(["units"] if per_unit else []), "mean", "max"], rows)
