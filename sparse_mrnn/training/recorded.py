"""Recorded: what an experiment has measured of a network, over trials and time."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

from sparse_mrnn.checks import name_text, names_of, option, path_of, real_number, shown
from sparse_mrnn.errors import RecordingError, SparseMRNNError, TrainingError, UnknownNameError, suggest
from sparse_mrnn.files.atomic import reason, replacing
from sparse_mrnn.files.npz import read_npz
from sparse_mrnn.lowering.layout import Int64
from sparse_mrnn.models.network import mRNNBase
from sparse_mrnn.recording.reading import need

UNEVEN = 1e-3
"""Share of the interval by which a time of a sample may differ from an even spacing."""


@dataclass(frozen=True, eq=False, repr=False)
class Recorded:
    """Activity that was measured: some units, or means of regions, over trials, at a sampling interval.

    Parameters
    ----------
    values : array, shape (trials, samples, channels), or (samples, channels) for one trial
        NaN where nothing was measured. It is copied as float64.
    channels : sequence of str or int
        The unit that each channel is of, by its id; or a region, a parent or a cell type, of whose units it
        is the mean.
    interval : float
        Time between samples, ms.
    regions : sequence of str, optional
        Region of each channel, if ids of units are used in several regions. "": not given.
    start : float, optional
        Time of the first sample after the start of a trial, ms. Default: one interval.
    variable : {"h", "x"}
        The state that was measured: the activity h (rates) or the pre-activation x (potentials).
    calcium : float, optional
        Decay of a calcium indicator, ms: values are then the activity filtered with an exponential kernel of
        area 1.
    condition : sequence, optional
        Label of each trial; trials of every condition are held out by `fit`.

    Raises
    ------
    TrainingError
        If a shape, a name or a number does not fit; or a channel or a trial has no value, which the message
        names.

    Examples
    --------
    >>> import numpy as np, sparse_mrnn as sm
    >>> rates = np.random.default_rng(0).random((4, 50, 2))
    >>> rates[1, 30:, 0] = np.nan
    >>> Recorded(rates, ["AVAL", "motor"], interval=20.0)
    Recorded(4 trials, 50 samples every 20 ms, 2 channels of h, 5.0% missing)
    """

    values: NDArray[np.float64]
    channels: tuple[str, ...]
    interval: float
    regions: tuple[str, ...] | None = None
    start: float | None = None
    variable: str = "h"
    calcium: float | None = None
    condition: tuple[str, ...] | None = None

    def __post_init__(self) -> None:
        set_ = object.__setattr__
        set_(self, "values", _values(self.values))
        trials, _, width = self.values.shape
        set_(self, "channels", names_of(self.channels, "Recorded: channels", TrainingError))
        if len(self.channels) != width:
            what = f"{len(self.channels)} names of channels for values of shape {self.values.shape}"
            raise TrainingError(f"Recorded: {what}; the channels are the last dimension, {width}.")
        if self.regions is not None:
            set_(self, "regions", names_of(self.regions, "Recorded: regions", TrainingError))
            if len(self.regions) != width:
                raise TrainingError(f"Recorded: {len(self.regions)} regions for {width} channels.")
        seen: set[tuple[str, str]] = set()
        for k, name in enumerate(self.channels):
            whose = ("" if self.regions is None else self.regions[k], name)
            if whose in seen:
                where = f" of region {whose[0]!r}" if whose[0] else ""
                advice = "" if where else "; give regions= if it is a unit of several"
                raise TrainingError(f"Recorded: channel {name!r}{where} occurs twice{advice}.")
            seen.add(whose)
        set_(self, "interval", _positive(self.interval, "interval"))
        set_(self, "start", self.interval if self.start is None else _positive(self.start, "start"))
        set_(self, "variable", option(self.variable, ("h", "x"), "Recorded: variable", TrainingError))
        if self.calcium is not None:
            set_(self, "calcium", _positive(self.calcium, "calcium"))
        if self.condition is not None:
            labels = tuple(str(label) for label in self.condition)
            set_(self, "condition", labels)
            if len(labels) != trials:
                raise TrainingError(f"Recorded: {len(labels)} conditions for {trials} trials.")
        measured = np.isfinite(self.values)
        for axes, one in (((0, 1), "channel"), ((1, 2), "trial")):
            empty = np.flatnonzero(~measured.any(axis=axes))
            if len(empty):
                names = [repr(self.channels[k]) if one == "channel" else str(k) for k in empty[:3]]
                more = f" and {len(empty) - 3} more" if len(empty) > 3 else ""
                what = f"{one} {', '.join(names)}{more} {'has' if len(empty) == 1 else 'have'} no value"
                raise TrainingError(f"Recorded: {what}: all are NaN. Leave out what was not measured.")

    def __repr__(self) -> str:
        trials, samples, channels = self.values.shape
        missing = 100 * np.isnan(self.values).mean()
        parts = [f"{trials} trial{'s' * (trials > 1)}", f"{samples} samples every {self.interval:g} ms"]
        parts.append(f"{channels} channel{'s' * (channels > 1)} of {self.variable}")
        if self.calcium is not None:
            parts.append(f"calcium decay {self.calcium:g} ms")
        if missing:
            parts.append(f"{missing:.1f}% missing")
        return f"Recorded({', '.join(parts)})"

    @property
    def times(self) -> NDArray[np.float64]:
        """Times of the samples after the start of a trial, ms."""
        first = self.interval if self.start is None else self.start
        return first + self.interval * np.arange(self.values.shape[1], dtype=np.float64)

    def select(self, *, trials: Any = None, channels: Sequence[str] | None = None) -> Recorded:
        """Select some trials, by number, mask or slice, or some channels, by name.

        Raises
        ------
        UnknownNameError
            If there is no such channel.
        """
        found = self
        if trials is not None:
            numbers = np.arange(len(self.values))[trials].reshape(-1)
            labels = None if self.condition is None else tuple(self.condition[k] for k in numbers)
            found = replace(found, values=found.values[numbers], condition=labels)
        if channels is not None:
            chosen = names_of(channels, "channels", TrainingError)
            for name in chosen:
                if name not in self.channels:
                    hint = suggest(name, self.channels, what="channels")
                    raise UnknownNameError(f"no channel is called {name!r}. {hint}")
            keep = [k for k, name in enumerate(self.channels) if name in chosen]
            regions = None if self.regions is None else tuple(self.regions[k] for k in keep)
            names = tuple(self.channels[k] for k in keep)
            found = replace(found, values=found.values[..., keep], channels=names, regions=regions)
        return found

    # ---------------------------------------------------------------- from and to files and labelled arrays

    @classmethod
    def from_xarray(cls, data: Any, variable: str = "h", **more: Any) -> Recorded:
        """Take a labelled array, or what `simulate` or `open_recording` return.

        Parameters
        ----------
        data : DataArray or Dataset
            With the dimension "time" and times in ms as its coordinate, the channels last, and possibly
            "trial". Channels are named by the coordinate "unit_id", or that of their dimension; "region" and
            "condition" are used if they are there.
        variable : str
            Of a dataset: "h", "x", or their means by region, "h_mean", "x_mean".
        **more
            Fields of `Recorded`.

        Raises
        ------
        TrainingError
            If a dimension or a coordinate is missing, or the times are not evenly spaced.

        Examples
        --------
        >>> import sparse_mrnn as sm
        >>> g = sm.RegionGraph(); g.add_region("a", 3); g.add_projection("a", "a")
        >>> run = sm.simulate(sm.mRNN(g, device="cpu", seed=0), 50.0, progress=False)
        >>> Recorded.from_xarray(run)
        Recorded(1 trial, 5 samples every 10 ms, 3 channels of h)
        """
        xr = need("xarray", "labelled arrays")
        if isinstance(data, xr.Dataset):
            if variable not in data.data_vars:
                known = ", ".join(map(repr, data.data_vars)) or "none"
                raise TrainingError(f"from_xarray: the dataset has no variable {variable!r} (has: {known}).")
            data = data[variable]
        if not isinstance(data, xr.DataArray) or "time" not in data.dims or "time" not in data.coords:
            raise TrainingError("from_xarray: give a DataArray or Dataset with a time dimension in ms.")
        unit = data.dims[-1]
        if set(data.dims) - {"trial", "time", unit} or unit in ("trial", "time"):
            raise TrainingError(f"from_xarray: dimensions {data.dims}; expected (trial, time, unit).")
        data = data if "trial" in data.dims else data.expand_dims("trial")
        data = data.transpose("trial", "time", unit)
        names = data.coords["unit_id" if "unit_id" in data.coords else unit].values
        found: dict[str, Any] = {"variable": variable.removesuffix("_mean")}
        found["start"], found["interval"] = even_times(data.coords["time"].values, "from_xarray")
        if "region" in data.coords and data.coords["region"].dims == (unit,):
            found["regions"] = tuple(map(str, data.coords["region"].values))
        if "condition" in data.coords:
            found["condition"] = tuple(map(str, np.broadcast_to(data.coords["condition"], len(data))))
        return cls(data.values, tuple(map(str, names)), **{**found, **more})

    @classmethod
    def from_pandas(cls, data: Any, **more: Any) -> Recorded:
        """Take a data frame with a column for each channel.

        Parameters
        ----------
        data : DataFrame
            Its index is the time in ms, or (trial, time). Trials may differ in length; they end with NaN.
        **more
            Fields of `Recorded`.

        Raises
        ------
        TrainingError
            If the index is another, times are repeated or not evenly spaced, or a column is not of numbers.

        Examples
        --------
        >>> import pandas as pd
        >>> Recorded.from_pandas(pd.DataFrame({"AVAL": [0.1, 0.2, 0.4]}, index=[20.0, 40.0, 60.0]))
        Recorded(1 trial, 3 samples every 20 ms, 1 channel of h)
        """
        pd = need("pandas", "data frames")
        if not isinstance(data, pd.DataFrame) or data.index.nlevels > 2:
            raise TrainingError("from_pandas: give a data frame with the index time, or (trial, time).")
        for name, kind in data.dtypes.items():
            if kind.kind not in "biuf":
                raise TrainingError(f"from_pandas: column {name!r} is of {kind}, not of numbers.")
        if data.index.nlevels == 1:
            data = pd.concat({0: data})
        if data.index.has_duplicates:
            trial, time = data.index[data.index.duplicated()][0]
            raise TrainingError(f"from_pandas: time {time} of trial {trial} occurs twice.")
        times = np.unique(data.index.get_level_values(1).to_numpy())
        start, interval = even_times(times, "from_pandas")
        trials = data.index.get_level_values(0).unique()
        every = pd.MultiIndex.from_product([trials, times])
        values = data.reindex(every).to_numpy(dtype=np.float64).reshape(len(trials), len(times), -1)
        return cls(values, tuple(map(str, data.columns)), **{"start": start, "interval": interval, **more})

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write an .npz file, whole or not at all.

        Raises
        ------
        RecordingError
            If it cannot be written.

        Examples
        --------
        >>> import tempfile
        >>> recorded = Recorded(np.ones((3, 1)), ["AVAL"], interval=20.0)
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     recorded.save(f"{folder}/one.npz")
        ...     Recorded.load(f"{folder}/one.npz")
        Recorded(1 trial, 3 samples every 20 ms, 1 channel of h)
        """
        where = path_of(path, "path", RecordingError)
        fields = {name: value for name, value in vars(self).items() if value is not None}
        try:
            with replacing(where) as partial, open(partial, "wb") as file:
                arrays: dict[str, Any] = {name: np.asarray(value) for name, value in fields.items()}
                np.savez(file, **arrays)
        except OSError as error:
            raise RecordingError(f"cannot write {path}: {reason(error)}.") from error

    @classmethod
    def load(cls, path: str | os.PathLike[str], **more: Any) -> Recorded:
        """Read an .npz file: an array for each field, "values", "channels" and "interval" at least.

        Parameters
        ----------
        path : path
        **more
            Fields that the file lacks, or should not decide.

        Raises
        ------
        RecordingError
            If the file cannot be read, or has an array that is not a field.
        TrainingError
            If its values do not fit.
        """
        found = read_npz(path_of(path, "path", RecordingError), RecordingError)
        known = cls.__dataclass_fields__
        for name in found:
            if name not in known:
                raise RecordingError(f"{path}: {name!r} is not a field of Recorded; {suggest(name, known)}")
        fields: dict[str, Any] = {name: _plain(array) for name, array in found.items()} | more
        if missing := [name for name in ("values", "channels", "interval") if name not in fields]:
            raise RecordingError(f"{path} lacks {', '.join(missing)}; give it as an argument.")
        return cls(**fields)

    # ---------------------------------------------------------------- on a network

    def channel_units(self, net: mRNNBase) -> tuple[Int64, Int64]:
        """Units of the channels in a network.

        Returns
        -------
        units, channel : ndarray of int64, shape (pairs,)
            A unit, and the channel it counts in; a channel of a region has a pair for each unit of it.

        Raises
        ------
        UnknownNameError
            If a channel, or its region, is not in the network.
        TrainingError
            If a channel is an input.
        """
        layout, units, channel = net.layout(), [], []
        for k, name in enumerate(self.channels):
            region = "" if self.regions is None else self.regions[k]
            if region and region != name:
                own = layout.indices(region)
                places = [i for i in layout.units_by_id.get(name, ()) if i in own]
                if not places:
                    known = [layout.unit_ids[i] for i in own]
                    hint = suggest(name, known, what="unit ids")
                    raise UnknownNameError(f"Recorded: region {region!r} has no unit {name!r}. {hint}")
                found = np.array(places[:1])
            else:
                kind, found = net.names.find(name, "Recorded")
                if kind == "input":
                    raise TrainingError(f"Recorded: channel {name!r} is an input of the network, not a unit.")
            units.append(found)
            channel.append(np.full(len(found), k))
        return np.concatenate(units), np.concatenate(channel)

    def unit_numbers(self, net: mRNNBase, what: str) -> Int64:
        """Number of each channel's unit, shape (channels,), for ``what``, which takes units alone.

        Raises
        ------
        TrainingError
            If a channel is the mean of several units.
        UnknownNameError
            As `channel_units`.
        """
        units, channel = self.channel_units(net)
        if len(units) != len(self.channels):
            k = int(np.flatnonzero(np.bincount(channel) > 1)[0])
            mean = f"channel {self.channels[k]!r} is the mean of {int((channel == k).sum())} units"
            raise TrainingError(f"{what}: {mean}, and each unit must be measured; see fit.")
        if len(np.unique(units)) < len(units):
            k = int(np.flatnonzero(np.bincount(units) > 1)[0])
            raise TrainingError(f"{what}: unit {net.unit_ids[k]!r} is measured by two channels.")
        return units

    def sample_steps(self, dt: float) -> Int64:
        """Time step, from 0, after which each sample is taken.

        Raises
        ------
        TrainingError
            If the interval or the first time is not a multiple of the time step.
        """
        for what, time in (("interval", self.interval), ("start", self.times[0])):
            steps = time / dt
            if abs(steps - round(steps)) > UNEVEN or round(steps) < 1:
                advice = "interpolate the recording, or choose a dt that divides it"
                raise TrainingError(f"Recorded: {what} is {time:g} ms and dt {dt:g} ms; {advice}.")
        every, first = round(self.interval / dt), round(self.times[0] / dt)
        found: Int64 = first - 1 + every * np.arange(self.values.shape[1], dtype=np.int64)
        return found


def _values(given: ArrayLike) -> NDArray[np.float64]:
    """Values as an array of its own, shape (trials, samples, channels)."""
    try:
        values = np.array(given.numpy(force=True) if isinstance(given, Tensor) else given, dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise TrainingError(f"Recorded: values are not an array of numbers: {error}") from None
    values = values[None] if values.ndim == 2 else values
    if values.ndim != 3 or 0 in values.shape:
        expected = "(trials, samples, channels) or (samples, channels), none of them 0"
        raise TrainingError(f"Recorded: values have shape {values.shape}; expected {expected}.")
    if np.isinf(values).any():
        trial, sample, channel = np.argwhere(np.isinf(values))[0].tolist()
        where = f"sample {sample} of channel {channel} in trial {trial}"
        raise TrainingError(f"Recorded: {where} is infinite; use NaN for what was not measured.")
    return values


def _positive(value: Any, what: str) -> float:
    number = float(real_number(value, f"Recorded: {what}", TrainingError))
    if number <= 0:
        raise TrainingError(f"Recorded: {what} is {shown(value)}; it must be a positive time in ms.")
    return number


def even_times(
    times: Any, what: str, error: type[SparseMRNNError] = TrainingError
) -> tuple[float, float]:
    """Return the first time and the interval of evenly spaced times.

    Raises
    ------
    error
        If there are fewer than two, or they are not evenly spaced; ``what`` has them, for messages.

    Examples
    --------
    >>> even_times([20.0, 40.0, 60.0], "the recording")
    (20.0, 20.0)
    """
    try:
        times = np.asarray(times, dtype=np.float64)
    except (TypeError, ValueError):
        raise error(f"{what}: the times are not numbers.") from None
    if len(times) < 2 or not np.isfinite(times).all():
        raise error(f"{what}: {len(times)} finite times have no interval; give two at least.")
    gaps = np.diff(times)
    interval = float(gaps.min())
    if interval <= 0 or np.abs(gaps - interval).max() > UNEVEN * interval:
        k = int(np.abs(gaps - interval).argmax())
        found = f"{times[k]:g} and {times[k + 1]:g} follow each other, others {interval:g} apart"
        raise error(f"{what}: the times are not evenly spaced: {found}.")
    return float(times[0]), float(gaps.mean())


def _plain(array: NDArray[Any]) -> Any:
    """Names as a tuple of text, a number or a text as Python's own, and other arrays as they are."""
    if array.ndim == 0:
        return array.item()
    return tuple(name_text(item) or str(item) for item in array.tolist()) if array.ndim == 1 else array
