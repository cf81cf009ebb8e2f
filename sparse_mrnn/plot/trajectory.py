"""Activity as a trajectory through its principal components."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from sparse_mrnn.errors import RecordingError
from sparse_mrnn.models.network import mRNNBase
from sparse_mrnn.plot.figure import Axes, axes_or_new
from sparse_mrnn.plot.sources import Activity, ActivitySource

MOST_SAMPLES = 2_000
"""Trials times times of which components are found; more are thinned evenly in time."""


def plot_trajectory(
    source: ActivitySource,
    ax: Axes | None = None,
    *,
    regions: Sequence[str] | None = None,
    start: float | None = None,
    stop: float | None = None,
    variable: str | None = None,
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
    found = Activity.of(source, net=net, variable=variable).select(regions, None, start, stop)
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
