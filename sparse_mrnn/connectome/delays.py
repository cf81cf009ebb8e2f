"""Conduction delays of edge rows: which delays there are, and which one each row has."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from sparse_mrnn.connectome.edge_rows import ConnectomeTables, EdgeRows
from sparse_mrnn.connectome.settings import ImportSettings
from sparse_mrnn.errors import ConnectomeError

MOST, STEP = 100, 0.1
"""More delays than this are rounded to multiples of the second, ms, unless ``delay_step`` says otherwise."""


@dataclass(frozen=True)
class Delays:
    """The delay of every row, an index into ``values`` (ms; None: one time step); notes for the report."""

    code: NDArray[np.int32]
    values: list[float | None]
    notes: list[str]


def delays_of(tables: ConnectomeTables, rows: EdgeRows, settings: ImportSettings) -> Delays | None:
    """Read the column of delays; None without one."""
    column = settings.delay
    if column is None:
        return None
    delay = tables.edges.numbers_or_nan(column, "delay")
    for row in np.flatnonzero(rows.kept & ((delay < 0) | np.isinf(delay)))[:1]:
        problem = f"the delay {delay[row]:g} is not a time in ms; correct it, or leave the column out."
        raise ConnectomeError(f"{tables.edges.location(int(row), column)}: {problem}")
    known = rows.kept & ~np.isnan(delay)
    different, step, notes = len(np.unique(delay[known])), settings.delay_step, []
    step = STEP if step is None and different > MOST else step
    if step is not None:
        rounded = np.round(np.round(delay / step) * step, 9)
        if (rounded[known] != delay[known]).any():
            notes.append(f"{different:,} different delays were rounded to multiples of {step:g} ms")
        delay = rounded
    delay[np.isnan(delay)] = 0
    values = np.unique(delay[rows.kept]) if rows.kept.any() else np.zeros(1)
    if (delay[known] > 0).any():
        least, most = delay[known].min(), delay[known].max()
        span = f"are {most:g} ms" if least == most else f"are {least:g} to {most:g} ms"
        kinds = int((values > 0).sum())
        apart = f": {kinds} different ones, each a projection of its own" if kinds > 1 else ""
        notes.append(f"delays, of column {column!r}, {span}{apart}")
    missing = int((delay[rows.kept] == 0).sum())
    if missing:
        notes.append(f"{missing:,} connections without a delay take one time step")
    code = np.minimum(np.searchsorted(values, delay), len(values) - 1).astype(np.int32)
    return Delays(code, [float(value) or None for value in values], notes)
