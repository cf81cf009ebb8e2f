"""Statistics of recorded spikes: rates, irregularity of intervals, correlation of counts."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from sparse_mrnn.checks import real_number, whole_number
from sparse_mrnn.errors import AnalysisError

if TYPE_CHECKING:
    import xarray

Floats = NDArray[np.float64]


def spike_statistics(
    events: xarray.Dataset, start: float = 0.0, stop: float | None = None, *, bin_ms: float = 2.0,
    pairs_of: int = 200, least: int = 3,
) -> xarray.Dataset:
    """Measure rates, irregularity and correlations of recorded spikes, by unit and by region.

    Parameters
    ----------
    events : Dataset
        Recording of spikes, as `simulate` and `open_recording` return it.
    start, stop : float, optional
        Only spikes after ``start`` up to ``stop``, ms. Default of ``stop``: the last recorded spike.
    bin_ms : float
        Bins of counts, for correlations and population rates, ms.
    pairs_of : int
        Units of each region whose counts are correlated pair by pair: the first that spike.
    least : int
        Intervals between spikes that a unit needs, in a trial, to have an irregularity.

    Returns
    -------
    xarray.Dataset
        ``rate`` (trial, unit), spikes/s; ``cv`` (trial, unit), the coefficient of variation of intervals, NaN
        where they are too few; their means ``rate_mean`` and ``cv_mean`` by region (trial, group);
        ``correlation`` (trial, group), Pearson's, the mean over pairs; ``population_rate`` (trial, group,
        bin), spikes/s a unit, with the start of each ``bin`` in ms.

    Raises
    ------
    AnalysisError
        If the recording has no spikes, or the window is empty.

    Examples
    --------
    >>> import sparse_mrnn as sm
    >>> g = sm.RegionGraph(); g.add_region("a", 2, base_firing=8.0)
    >>> found = spike_statistics(sm.simulate(sm.LIF(g, device="cpu"), 1000, progress=False), stop=1000)
    >>> found.rate.values.tolist(), bool(abs(found.cv.values).max() < 0.01)
    ([[22.0, 22.0]], True)
    """
    import xarray as xr

    if "spike_time" not in events:
        raise AnalysisError("the recording has no spikes; record them with Record(what=['spikes']).")
    pairs_of = whole_number(pairs_of, "pairs_of", AnalysisError, least=2)
    least = whole_number(least, "least", AnalysisError, least=2)
    time, unit, trial = (events[f"spike_{name}"].values for name in ("time", "unit", "trial"))
    stop = float(time.max()) if stop is None and len(time) else stop
    start = real_number(start, "start", AnalysisError)
    stop = real_number(start if stop is None else stop, "stop", AnalysisError)
    width = real_number(bin_ms, "bin_ms", AnalysisError)
    if not start < stop or not 0 < width <= stop - start:
        raise AnalysisError(f"there is no bin of {width:g} ms between {start:g} and {stop:g} ms.")
    inside = (time > start) & (time <= stop)
    time, unit, trial = time[inside].astype(np.float64), unit[inside], trial[inside]
    region, n = events["region"].values, events.sizes["unit"]
    trials = max(int(events.sizes.get("trial", 1)), int(trial.max(initial=0)) + 1)
    train = trial.astype(np.int64) * n + unit
    counts = np.bincount(train, minlength=trials * n).reshape(trials, n)
    cv = _irregularity(train, time, trials * n, least).reshape(trials, n)
    names = list(dict.fromkeys(region.tolist()))
    bins = int((stop - start) / width + 1e-9)
    place = np.ceil((time - start) / width - 1e-6).astype(np.int64) - 1
    rates = np.empty((trials, len(names), bins))
    correlation = np.full((trials, len(names)), np.nan)
    means = {name: np.full((trials, len(names)), np.nan) for name in ("rate_mean", "cv_mean")}
    rate = counts * 1000 / (stop - start)
    for k, name in enumerate(names):
        members = region == name
        of_region = members[unit] & (place < bins)
        for t in range(trials):
            here = of_region & (trial == t)
            binned = np.bincount(place[here], minlength=bins)
            rates[t, k] = binned * 1000 / (width * members.sum())
            means["rate_mean"][t, k] = rate[t, members].mean()
            known = cv[t, members]
            if np.isfinite(known).any():
                means["cv_mean"][t, k] = np.nanmean(known)
            chosen = np.flatnonzero(members & (counts[t] > 0))[:pairs_of]
            correlation[t, k] = _correlation(unit[here], place[here], chosen, bins)
    data: dict[str, Any] = {
        "rate": (("trial", "unit"), rate), "cv": (("trial", "unit"), cv),
        **{name: (("trial", "group"), values) for name, values in means.items()},
        "correlation": (("trial", "group"), correlation),
        "population_rate": (("trial", "group", "bin"), rates),
    }
    coords = {
        "region": ("unit", region), "unit_id": ("unit", events["unit_id"].values), "group": names,
        "bin": start + width * np.arange(bins),
    }
    return xr.Dataset(data, coords, {"start": start, "stop": stop, "bin_ms": width})


def _irregularity(train: NDArray[np.int64], time: Floats, trains: int, least: int) -> Floats:
    """Return the coefficient of variation of the intervals of each train, NaN below ``least`` of them."""
    order = np.lexsort((time, train))
    train, time = train[order], time[order]
    same = train[1:] == train[:-1]
    of, interval = train[1:][same], np.diff(time)[same]
    count = np.bincount(of, minlength=trains)
    enough = count >= least
    some = np.maximum(count, 1)
    mean = np.bincount(of, interval, trains) / some
    variance = np.bincount(of, (interval - mean[of]) ** 2, trains) / some
    found = np.full(trains, np.nan)
    found[enough] = np.sqrt(variance[enough]) / mean[enough]
    return found


def _correlation(unit: NDArray[Any], place: NDArray[np.int64], chosen: NDArray[np.int64], bins: int) -> float:
    """Return the mean correlation of the binned counts of some units, over pairs."""
    if len(chosen) < 2 or bins < 2:
        return float("nan")
    row = np.searchsorted(chosen, unit)
    known = row < len(chosen)
    known[known] = chosen[row[known]] == unit[known]
    flat = np.bincount(row[known] * bins + place[known], minlength=len(chosen) * bins)
    counts = flat.reshape(len(chosen), bins).astype(np.float64)
    counts -= counts.mean(axis=1, keepdims=True)
    size = np.sqrt((counts**2).sum(axis=1))
    counts = counts[size > 0] / size[size > 0, None]
    m = len(counts)
    if m < 2:
        return float("nan")
    return float(((counts.sum(axis=0) ** 2).sum() - m) / (m * (m - 1)))
