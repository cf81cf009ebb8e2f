"""Recordings in Neurodata Without Borders files (Rübel et al. 2022, eLife 11:e78362), by pynwb."""

from __future__ import annotations

import importlib
import os
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sparse_mrnn.checks import path_of, real_number
from sparse_mrnn.errors import ConnectomeError, MissingExtraError, RecordingError, suggest
from sparse_mrnn.interop.sonata_files import opened
from sparse_mrnn.training.recorded import Recorded, even_times

Float = NDArray[np.float64]


def read_nwb(
    path: str | os.PathLike[str], series: str | None = None, *, channels: Sequence[str] | None = None,
    interval: float | None = None, trials: bool = True, condition: str | None = None, **more: Any,
) -> Recorded:
    """Read what was recorded from an NWB file: a series of many channels, or the spikes of its units.

    Parameters
    ----------
    path : path
    series : str, optional
        Name of a time series, such as "RoiResponseSeries" or "ElectricalSeries", or "units" for rates from
        spike times. Default: the only one there is.
    channels : sequence of str, optional
        Names of the channels in the network. Default: the ids of the file's regions of interest, electrodes
        or units, or numbers from 0.
    interval : float, optional
        Width of the bins in which spikes are counted, ms; rates are then in Hz. For "units" only.
    trials : bool
        Cut the recording into the trials of the file, if it has some: the first sample in a trial counts as
        one interval after its start. Shorter trials end with NaN.
    condition : str, optional
        Column of the table of trials that has their conditions.
    **more
        Fields of `Recorded`, such as ``regions`` or ``calcium``.

    Returns
    -------
    Recorded

    Raises
    ------
    RecordingError
        If the file cannot be read, has no such series, or its times are not evenly spaced.
    TrainingError
        If what was read does not make a `Recorded`.
    MissingExtraError
        Without pynwb: the extra ``nwb``.

    Examples
    --------
    >>> recorded = read_nwb("mouse.nwb", "RoiResponseSeries", calcium=400.0)    # doctest: +SKIP
    >>> rates = read_nwb("probe.nwb", "units", interval=20.0)                   # doctest: +SKIP
    """
    pynwb = _pynwb()
    where = path_of(path, "path", RecordingError)
    try:
        with opened(where, "NWB", soft_links=True) as file, pynwb.NWBHDF5IO(file=file, mode="r") as io:
            content = io.read()
            table = content.trials if trials and content.trials is not None and len(content.trials) else None
            starts, stops, labels = _trials(table, condition, where)
            if series == "units" or (series is None and not _series(content) and content.units is not None):
                values, names, ms = _rates(content.units, interval, starts, stops, where)
            else:
                values, names, ms = _cut(_find(content, series, where), starts, stops, where)
    except ConnectomeError as error:
        raise RecordingError(str(error)) from error
    given = dict(condition=labels) if labels is not None else {}
    return Recorded(values, tuple(names if channels is None else channels), ms, **{**given, **more})


def _pynwb() -> Any:
    """Return pynwb, or raise an error that says how to install it."""
    try:
        return importlib.import_module("pynwb")
    except ImportError:
        install = "install it with: pip install 'sparse-mrnn[nwb]'"
        raise MissingExtraError(f"NWB files need pynwb; {install}") from None


def _series(content: Any) -> dict[str, Any]:
    """Every series of several channels, by name."""
    found = (one for one in content.objects.values() if isinstance(one, _pynwb().TimeSeries))
    return {one.name: one for one in found if len(getattr(one.data, "shape", ())) == 2}


def _find(content: Any, name: str | None, where: Any) -> Any:
    known = _series(content)
    listed = ", ".join(map(repr, known)) or "none"
    if name is None and len(known) == 1:
        return next(iter(known.values()))
    if name is None:
        raise RecordingError(f"{where} has {len(known)} series of several channels ({listed}); name one.")
    if name not in known:
        raise RecordingError(f"{where} has no series {name!r} (has: {listed}). {suggest(name, known)}")
    return known[name]


def _trials(table: Any, condition: str | None, where: Any) -> tuple[Float | None, Float | None, Any]:
    """Start and end of each trial in s, and its condition; None without trials."""
    if table is None:
        if condition is not None:
            raise RecordingError(f"{where} has no trials, and so no condition {condition!r}.")
        return None, None, None
    if condition is not None and condition not in table.colnames:
        hint = suggest(condition, table.colnames, what="columns")
        raise RecordingError(f"{where}: trials have no column {condition!r}. {hint}")
    starts, stops = (np.asarray(table[name][:], dtype=np.float64) for name in ("start_time", "stop_time"))
    bad = np.flatnonzero(~(stops > starts))
    if len(bad):
        raise RecordingError(f"{where}: trial {bad[0]} does not end after it starts.")
    return starts, stops, None if condition is None else [str(label) for label in table[condition][:]]


def _cut(one: Any, starts: Float | None, stops: Float | None, where: Any) -> tuple[Float, list[str], float]:
    """Values (trials, samples, channels), names, and the interval in ms, of a series."""
    count, width = one.data.shape
    if one.rate is not None:
        first, step = float(one.starting_time or 0.0), 1.0 / float(one.rate)
    else:
        first, step = even_times(one.timestamps[:], f"{where}, series {one.name!r}", RecordingError)
    rows = getattr(one, "rois", None)
    rows = getattr(one, "electrodes", None) if rows is None else rows
    if rows is None:
        names = [str(k) for k in range(width)]
    else:
        ids = np.asarray(rows.table.id[:])
        names = [str(k) for k in ids[np.asarray(rows.data[:], dtype=np.int64)]]
    if starts is None or stops is None:
        edges = np.array([[0, count]])
    else:
        edges = np.ceil((np.stack([starts, stops], 1) - first) / step - 1e-6).astype(np.int64).clip(0, count)
    empty = np.flatnonzero(edges[:, 1] <= edges[:, 0])
    if len(empty):
        raise RecordingError(f"{where}: series {one.name!r} has no sample in trial {empty[0]}.")
    values = np.full((len(edges), int((edges[:, 1] - edges[:, 0]).max()), width), np.nan)
    for trial, (start, stop) in enumerate(edges.tolist()):
        part = np.asarray(one.data[start:stop], dtype=np.float64)
        values[trial, : stop - start] = part * float(one.conversion) + float(one.offset)
    return values, names, 1000 * step


def _rates(
    units: Any, interval: float | None, starts: Float | None, stops: Float | None, where: Any
) -> tuple[Float, list[str], float]:
    """Rates in Hz by trial, bin and unit; names, and the width of the bins in ms."""
    if units is None:
        raise RecordingError(f"{where} has no units.")
    if interval is None:
        raise RecordingError("read_nwb: spikes are counted in bins; give their width as interval, in ms.")
    width = float(real_number(interval, "read_nwb: interval", RecordingError)) / 1000
    if width <= 0:
        raise RecordingError(f"read_nwb: interval is {interval!r}; it must be a positive time in ms.")
    spikes = [np.asarray(units["spike_times"][k], dtype=np.float64) for k in range(len(units))]
    if starts is None or stops is None:
        last = max((float(times.max()) for times in spikes if len(times)), default=0.0)
        starts, stops = np.zeros(1), np.array([last + width])
    bins = np.floor((stops - starts) / width + 1e-6).astype(np.int64)
    if bins.min() < 1:
        raise RecordingError(f"{where}: trial {int(bins.argmin())} is shorter than a bin of {interval:g} ms.")
    values = np.full((len(starts), int(bins.max()), len(spikes)), np.nan)
    for trial, (start, n) in enumerate(zip(starts.tolist(), bins.tolist(), strict=True)):
        for k, times in enumerate(spikes):
            counts, _ = np.histogram(times, n, (start, start + n * width))
            values[trial, :n, k] = counts / width
    return values, [str(k) for k in np.asarray(units.id[:])], 1000 * width
