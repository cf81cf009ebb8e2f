"""Recorded activity: a heat map or lines over time, or a trajectory through principal components."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sparse_mrnn.errors import RecordingError
from sparse_mrnn.models.network import mRNNBase
from sparse_mrnn.plot.figure import PIXELS, Axes, axes_or_new, height_for, name_rows, short
from sparse_mrnn.plot.sources import Activity, ActivitySource, Mark

LINES = 10
"""Regions that get a line if none are chosen."""
NAMED_UNITS = 60
"""Units up to which a heat map of a choice names each of them."""
MARKED = 8
"""Rows of stimuli and interventions above the axes."""
MOST_SAMPLES = 2_000
"""Trials times times of which components are found; more are thinned evenly in time."""


def plot_activity(
    source: ActivitySource, trial: int = 0, ax: Axes | None = None, *,
    regions: Sequence[str] | None = None, units: Sequence[str] | Mapping[str, Any] | None = None,
    start: float | None = None,
    stop: float | None = None, variable: str | None = None, net: mRNNBase | None = None,
) -> Axes:
    """Draw activity as a heat map: units by region, or means of regions, over time; bars above are stimuli.

    Colours of non-negative activity follow its square root, so weakly active units stay visible. A recording
    on disk is read piece by piece, so it may be larger than memory.

    Parameters
    ----------
    source : Dataset, path of a recording, or array of shape (trial, time, units) or (time, units)
    trial : int
    ax : Axes, optional
    regions, units : sequence of str, optional
        Only these regions or parents, or units by their ids, or by columns: ``{"side": "left"}``.
    start, stop : float, optional
        Only this time, ms.
    variable : str, optional
        Variable of a Dataset. Default: the first.
    net : mRNN or ElmanmRNN, optional
        Names the units of an array, and gives its time step.

    Raises
    ------
    RecordingError
        If the trial does not exist, or nothing was recorded.
    UnknownNameError
        If a region or unit does not exist.

    Examples
    --------
    >>> import numpy as np
    >>> plot_activity(np.random.default_rng(0).random((50, 20))).get_xlabel()
    'time (ms)'
    """
    found = Activity.of(source, net, variable).select(regions, units, start, stop)
    _check_trial(found, trial)
    n = found.values.shape[2]
    by_unit = n <= NAMED_UNITS and found.per_unit and not (regions is None and units is None)
    labels = found.label if by_unit else found.region
    first = np.concatenate([[0], np.flatnonzero(labels[1:] != labels[:-1]) + 1])
    ptr = np.concatenate([first, [n]])
    ax = axes_or_new(ax, (8, height_for(len(first))))
    from matplotlib.colors import Normalize, PowerNorm

    image = _binned(found.values[trial])
    top = float(np.nanquantile(np.abs(image), 0.995)) or 1.0
    signed = bool(np.nanmin(image) < 0)
    norm, cmap = (Normalize(-top, top), "RdBu_r") if signed else (PowerNorm(0.5, 0.0, top), "magma")
    extent = (found.time[0] - found.step, found.time[-1], n, 0)
    drawn = ax.imshow(image, aspect="auto", cmap=cmap, norm=norm, extent=extent, interpolation="nearest")
    for border in ptr[1:-1] if found.per_unit and len(ptr) < 200 else ():
        ax.axhline(border, color="0.6", lw=0.4)
    name_rows(ax, ptr, labels[first].tolist())
    ax.set_xlabel("time (ms)")
    bar: dict[str, Any] = dict(label=_quantity(found.name), extend="both" if signed else "max", aspect=30)
    ax.figure.colorbar(drawn, ax=ax, pad=0.12 if found.marks else 0.03, **bar)
    _draw_marks(ax, found.marks, _title(found, trial))
    return ax


def plot_traces(
    source: ActivitySource, trial: int | None = None, ax: Axes | None = None, *,
    regions: Sequence[str] | None = None, units: Sequence[str] | Mapping[str, Any] | None = None,
    start: float | None = None,
    stop: float | None = None, variable: str | None = None, net: mRNNBase | None = None,
) -> Axes:
    """Draw lines over time: means of regions, in a band that holds 80% of their units, or single units.

    Without a choice, the ten regions whose mean varies most. Trials are averaged, unless one is chosen. Of a
    recording of means, the band is one standard deviation, if variances are recorded too.

    Parameters
    ----------
    source, ax, start, stop, variable, net
        See `plot_activity`.
    trial : int, optional
    regions : sequence of str, optional
        Regions or parents, of which means are drawn.
    units : sequence of str, optional
        Units by their ids, each of which is drawn.

    Raises
    ------
    RecordingError, UnknownNameError
        See `plot_activity`; also if units are chosen from a recording of means.

    Examples
    --------
    >>> import numpy as np
    >>> ax = plot_traces(np.random.default_rng(0).random((50, 20)), units=["3", "7"])
    >>> ax.get_legend_handles_labels()[1]
    ['3', '7']
    """
    found = Activity.of(source, net, variable).select(regions, units, start, stop)
    if trial is not None:
        _check_trial(found, trial)
    if units is not None and not found.per_unit:
        raise RecordingError("a recording of means has no units; record with what=['units'].")
    ax = axes_or_new(ax, (8, 4.5))
    names, mean, band, what = _lines(found, trial, by_unit=units is not None)
    shown = np.arange(len(names))
    if regions is None and units is None and len(names) > LINES:
        shown = np.sort(np.argsort(-mean.std(axis=1), kind="stable")[:LINES])
    for k in shown.tolist():
        (line,) = ax.plot(found.time, mean[k], lw=1.4, label=short(str(names[k])))
        if band is not None:
            ax.fill_between(found.time, *band[:, k], color=line.get_color(), alpha=0.15, lw=0)
    ax.set(xlabel="time (ms)", ylabel=_quantity(found.name))
    ax.set_xlim(found.time[0] - found.step, found.time[-1])
    style: dict[str, Any] = dict(bbox_to_anchor=(1.0, 0.5), frameon=False, fontsize=8, title_fontsize=8)
    ax.legend(loc="center left", title=what, alignment="left", **style)
    most = "" if len(shown) == len(names) else f", the {len(shown)} of {len(names)} regions that vary most"
    _draw_marks(ax, found.marks, _title(found, trial) + most)
    return ax


def plot_trajectory(
    source: ActivitySource, ax: Axes | None = None, *, regions: Sequence[str] | None = None,
    start: float | None = None, stop: float | None = None, variable: str | None = None,
    net: mRNNBase | None = None,
) -> Axes:
    """Draw the first two principal components of activity over time, a line for each trial, coloured by time.

    A circle marks where a trial begins, crosses where a stimulus begins or ends.

    Parameters
    ----------
    source, regions, start, stop, variable, net
        See `plot_activity`.
    ax : Axes, optional

    Raises
    ------
    RecordingError
        If there are fewer than two times or columns, or if nothing changes.

    Examples
    --------
    >>> import numpy as np
    >>> plot_trajectory(np.random.default_rng(0).random((50, 20))).get_xlabel()[:5]
    'PC 1 '
    """
    found = Activity.of(source, net, variable).select(regions, None, start, stop)
    trials, steps, n = found.values.shape
    if steps < 2 or n < 2:
        raise RecordingError(f"{steps} times of {n} units have no trajectory; record more of both.")
    every = -(-trials * steps // MOST_SAMPLES)
    time = found.time[::every]
    values = np.asarray(found.values[:, ::every]).astype(np.float64)
    centred = (values - values.mean(axis=(0, 1))).reshape(-1, n)
    if not np.isfinite(centred).all() or not centred.any():
        raise RecordingError("activity that does not change, or is not finite, has no principal components.")
    left, scale, _ = np.linalg.svd(centred, full_matrices=False)
    share = scale**2 / (scale**2).sum()
    scores = (left[:, :2] * scale[:2]).reshape(trials, len(time), -1)
    if scores.shape[2] < 2:
        scores = np.concatenate([scores, np.zeros_like(scores)], axis=2)
        share = np.append(share, 0.0)
    ax = axes_or_new(ax, (6.4, 5))
    from matplotlib.collections import LineCollection

    for trial in scores:
        pieces = np.stack([trial[:-1], trial[1:]], axis=1)
        lines = LineCollection(list(pieces), array=time[1:], cmap="viridis", lw=1.4)
        lines.set_clim(time[0], time[-1])
        ax.add_collection(lines)
        ax.plot(*trial[0], "o", color="0.2", ms=4)
        for moment in {t for mark in found.marks for t in (mark.start, mark.stop)}:
            if time[0] < moment < time[-1]:
                ax.plot(*trial[int(np.searchsorted(time, moment))], "x", color="0.2", ms=6)
    ax.autoscale_view()
    where = "" if regions is None else f" of {', '.join(regions)}"
    many = "" if trials == 1 else f", {trials} trials"
    ax.set_title(f"activity{where}{many}: principal components")
    ax.set(xlabel=f"PC 1 ({share[0]:.0%} of variance)", ylabel=f"PC 2 ({share[1]:.0%} of variance)")
    ax.figure.colorbar(lines, ax=ax, label="time (ms)")
    return ax


def _check_trial(found: Activity, trial: int) -> None:
    if not 0 <= trial < found.values.shape[0]:
        trials = found.values.shape[0]
        raise RecordingError(f"trial {trial} does not exist; the recording has {trials}, counted from 0.")


def _quantity(name: str) -> str:
    quantity, _, statistic = name.partition("_")
    known = {"h": "activity h", "x": "state x"}.get(quantity, quantity)
    return f"{statistic} of {known}" if statistic else known


def _title(found: Activity, trial: int | None) -> str:
    trials = found.values.shape[0]
    which = "" if trials == 1 else f", trial {trial}" if trial is not None else f", mean of {trials} trials"
    return _quantity(found.name) + which


def _draw_marks(ax: Any, marks: Sequence[Mark], title: str) -> None:
    """Bars above the axes for stimuli and interventions, a row for a region unless they overlap; a title."""
    rows: list[list[Mark]] = []
    for mark in marks:
        for row in rows:
            same = (row[0].kind, row[0].region) == (mark.kind, mark.region)
            if same and all(m.stop <= mark.start or mark.stop <= m.start for m in row):
                row.append(mark)
                break
        else:
            rows.append([mark])
    low, high = ax.get_xlim()
    point = 1 / 72 / (0.85 * ax.figure.get_figheight())  # of the axes' height
    shown, above = rows[:MARKED], ax.get_xaxis_transform()
    for k, row in enumerate(shown):
        y, what = 1 + (6 + 9 * k) * point, row[0]
        colour = "#16a085" if what.kind == "stimulus" else "#8e44ad"
        for mark in row:
            span = (max(mark.start, low), min(mark.stop, high))
            style: dict[str, Any] = dict(color=colour, lw=4, solid_capstyle="butt", clip_on=False)
            ax.plot(span, (y, y), transform=above, **style)
        text = what.region if what.kind == "stimulus" else f"{what.kind} {what.region}"
        ax.text(1.01, y, short(text), transform=ax.transAxes, fontsize=7, va="center", ha="left")
    more = f" ({len(rows) - len(shown)} more stimuli)" if len(rows) > len(shown) else ""
    ax.set_title(title + more, y=1 + 9 * len(shown) * point)
    ax.set_xlim(low, high)


def _lines(
    found: Activity, trial: int | None, *, by_unit: bool
) -> tuple[list[str], NDArray[Any], NDArray[Any] | None, str]:
    """Names of the lines, values (lines, time), the band (2, lines, time) around them, and what it is."""
    labels = found.label if by_unit else found.region
    names = list(dict.fromkeys(labels.tolist()))
    columns = [np.flatnonzero(labels == name) for name in names]
    n, steps = len(labels), found.values.shape[1]
    has_band = found.per_unit and not by_unit
    mean, band = np.empty((len(names), steps)), np.empty((2, len(names), steps))
    trials = slice(None) if trial is None else slice(trial, trial + 1)
    at_once = max(1, 2**23 // (n * found.values.shape[0]))
    for start in range(0, steps, at_once):
        times = slice(start, start + at_once)
        part = np.asarray(found.values[trials, times]).astype(np.float64).mean(axis=0)
        for k, members in enumerate(columns):
            mean[k, times] = part[:, members].mean(axis=1)
            if has_band:
                band[:, k, times] = np.quantile(part[:, members], (0.1, 0.9), axis=1)
    if has_band:
        return names, mean, band, "mean, 10th to 90th percentile"
    if by_unit or found.variance is None:
        return names, mean, None, ""
    deviation = np.sqrt(np.asarray(found.variance[trials]).astype(np.float64).mean(axis=0).T)
    return names, mean, np.stack([mean - deviation, mean + deviation]), "mean, standard deviation"


def _binned(h: Any) -> NDArray[Any]:
    """Means of neighbouring units and times, shape (rows, columns) of a picture, of activity (time, unit)."""
    steps, n = h.shape
    rows = np.unique(np.linspace(0, n, min(n, PIXELS), endpoint=False).astype(int))
    columns = np.unique(np.linspace(0, steps, min(steps, 2 * PIXELS), endpoint=False).astype(int))
    sums = np.empty((len(rows), len(columns)))
    borders = np.append(columns, steps)
    at_once = max(1, 2**24 // (n * max(1, steps // len(columns))))
    for k in range(0, len(columns), at_once):
        ends = borders[k : k + at_once + 1]
        part = np.asarray(h[ends[0] : ends[-1]]).astype(np.float64)
        by_time = np.add.reduceat(part, ends[:-1] - ends[0], axis=0)
        sums[:, k : k + at_once] = np.add.reduceat(by_time, rows, axis=1).T
    sums /= np.outer(np.diff([*rows, n]), np.diff(borders))
    return sums
