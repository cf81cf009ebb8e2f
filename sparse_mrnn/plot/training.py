"""Curves of a training run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from sparse_mrnn.errors import TrainingError
from sparse_mrnn.plot.figure import Axes, axes_or_new, label_decades

WINDOW = 25
"""Iterations whose median is the thick line, once there are four times as many."""


def plot_training(
    curves: Mapping[str, ArrayLike] | Sequence[float], ax: Axes | None = None, *, log: bool | None = None
) -> Axes:
    """Draw curves of a training run over its iterations: thin as they are, thick their running median.

    Parameters
    ----------
    curves : mapping of name to values, or values
        One value an iteration, NaN for a missing one.
    ax : Axes, optional
    log : bool, optional
        A logarithmic axis. Default: True if all values are positive and differ by more than a factor of ten.

    Raises
    ------
    TrainingError
        If curves is empty, or one is not a list of numbers.

    Examples
    --------
    >>> plot_training({"loss": [1.0, 0.3, 0.05]}).get_yscale()
    'log'
    """
    named = dict(curves) if isinstance(curves, Mapping) else {"loss": curves}
    values = {name: np.asarray(v, dtype=float) for name, v in named.items()}
    for name, v in values.items():
        if v.ndim != 1 or not np.isfinite(v).any():
            what_to_do = "give a number for each iteration"
            raise TrainingError(f"curve {name!r} of shape {v.shape} cannot be drawn; {what_to_do}.")
    if not values:
        raise TrainingError("curves is empty; give at least one.")
    ax = axes_or_new(ax, (7, 4))
    for name, v in values.items():
        iterations = np.arange(1, len(v) + 1)
        many = len(v) >= 4 * WINDOW
        thin: dict[str, Any] = dict(lw=0.6, alpha=0.4) if many else dict(lw=1.4, label=name)
        (line,) = ax.plot(iterations, v, **thin)
        if many:
            windows = np.lib.stride_tricks.sliding_window_view(v, WINDOW)
            middle = iterations[WINDOW // 2 : len(v) - WINDOW // 2]
            ax.plot(middle, np.nanmedian(windows, axis=1), color=line.get_color(), lw=1.8, label=name)
    finite = np.concatenate([v[np.isfinite(v)] for v in values.values()])
    if log is None:
        log = bool(finite.min() > 0 and finite.max() > 10 * finite.min())
    if log:
        ax.set_yscale("log")
        label_decades(ax.yaxis, *ax.get_ylim())
    ax.set(xlabel="iteration", ylabel=next(iter(values)) if len(values) == 1 else "value")
    if len(values) > 1:
        ax.legend(frameon=False, fontsize=8)
    ax.grid(True, which="major", color="0.92", lw=0.6)
    return ax
