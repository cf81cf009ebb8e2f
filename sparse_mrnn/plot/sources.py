"""Sources of figures: networks, graphs, recordings and arrays become weights or activity."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray
from torch import Tensor

from sparse_mrnn.declaration.graph import RegionGraph
from sparse_mrnn.errors import RecordingError, ShapeError, UnknownNameError, suggest
from sparse_mrnn.lowering.layout import matching
from sparse_mrnn.models.leaky import mRNN
from sparse_mrnn.models.network import mRNNBase
from sparse_mrnn.ops.pattern import to_scipy
from sparse_mrnn.recording import open_recording

if TYPE_CHECKING:
    import xarray

NetworkSource: TypeAlias = "mRNNBase | RegionGraph"
MatrixSource: TypeAlias = "mRNNBase | RegionGraph | Tensor | NDArray[Any] | sp.sparray"
ActivitySource: TypeAlias = "xarray.Dataset | Tensor | NDArray[Any] | str | os.PathLike[str]"


def graph_of(source: NetworkSource) -> RegionGraph:
    """The graph of a network, or the graph itself."""
    return source.graph if isinstance(source, mRNNBase) else source


def network_of(source: NetworkSource) -> mRNNBase:
    """A network itself, or the network of a graph with seed 0."""
    return source if isinstance(source, mRNNBase) else mRNN(source, device="cpu", seed=0)


@dataclass(frozen=True, eq=False)
class Weights:
    """A recurrent weight matrix, shape (targets, sources), with its regions.

    ``ptr`` has the first unit of each region and the number of units, ``names`` those of the regions,
    ``label`` that of the whole; parallel ``synapses`` are counted each.
    """

    matrix: sp.csr_array
    ptr: NDArray[np.int64]
    names: tuple[str, ...]
    label: str
    synapses: int

    @classmethod
    def of(cls, source: MatrixSource, regions: Sequence[str] | None = None) -> Weights:
        """Effective weights of a network, those a graph gets with seed 0, or a square matrix."""
        if not isinstance(source, mRNNBase | RegionGraph):
            matrix = to_scipy(source)
            if matrix.shape[0] != matrix.shape[1]:
                raise ShapeError(f"a weight matrix of shape {matrix.shape} is not drawn; it must be square.")
            return cls(matrix, np.array([0, matrix.shape[0]]), ("units",), "network", matrix.nnz)
        net = network_of(source)
        weights, layout = net.weights("recurrent"), net.layout()
        matrix = to_scipy(weights.matrix() if weights.low_rank is None else weights.dense())
        label = net.graph.name or "network"
        if regions is None:
            synapses = weights.nnz if weights.low_rank is None else matrix.nnz
            return cls(matrix, layout.ptr, tuple(net.hid_regions), label, synapses)
        units, members = layout.indices(*regions), layout.members(*regions)
        sizes = [layout.regions[layout.index[name]].n for name in members]
        matrix = matrix[units][:, units]
        return cls(matrix, np.cumsum([0, *sizes]), members, label, matrix.nnz)


@dataclass(frozen=True)
class Mark:
    """A stimulus or intervention of a recording: what, where, from when to when (ms)."""

    kind: str
    region: str
    start: float
    stop: float


@dataclass(frozen=True, eq=False)
class Activity:
    """Recorded activity and what names its columns: units or, unless ``per_unit``, statistics of regions.

    ``values``, an array or xarray.DataArray of shape (trial, time, column), are read piece by piece, when
    they are needed; ``time`` is in ms. ``label`` is a unit's id or, of statistics, the region again. Means
    may come with the ``variance`` over the units of a region. ``parents`` are pairs (region, parent).
    """

    values: Any
    time: NDArray[np.float64]
    region: NDArray[Any]
    label: NDArray[Any]
    name: str
    per_unit: bool = True
    marks: tuple[Mark, ...] = ()
    variance: Any = None
    parents: tuple[tuple[str, str], ...] = ()
    columns: Mapping[str, NDArray[Any]] = field(default_factory=dict)  # of the table of units

    @classmethod
    def of(cls, source: ActivitySource, net: mRNNBase | None = None, variable: str | None = None) -> Activity:
        """A recording, one on disk, or states as ``forward`` returns them; see `plot_activity`."""
        if isinstance(source, str | os.PathLike):
            source = open_recording(Path(source))
        if isinstance(source, Tensor | np.ndarray):
            found = cls._of_array(source, net)
        else:
            found = cls._of_dataset(source, variable)
        if 0 in found.values.shape:
            raise RecordingError(f"a recording of shape {tuple(found.values.shape)} has nothing to draw.")
        return found

    @classmethod
    def _of_array(cls, array: Any, net: mRNNBase | None) -> Activity:
        values = array.detach().cpu().numpy() if isinstance(array, Tensor) else np.asarray(array)
        values = values[None] if values.ndim == 2 else values
        if values.ndim != 3:
            shapes = "give (trial, time, units) or (time, units)"
            raise ShapeError(f"activity of shape {values.shape} cannot be drawn; {shapes}.")
        n, dt = values.shape[2], 1.0 if net is None else net.dt
        time = dt * np.arange(1, values.shape[1] + 1)
        if net is None:
            return cls(values, time, np.full(n, "units"), np.arange(n).astype(str), "activity")
        if net.layout().n != n:
            raise ShapeError(f"activity of {n} units is not of a network of {net.layout().n} units.")
        return cls(values, time, *net.layout().labels(), "activity")

    @classmethod
    def _of_dataset(cls, recording: xarray.Dataset, variable: str | None) -> Activity:
        names = [str(name) for name in recording.data_vars]
        variable = names[0] if variable is None and names else variable
        if variable not in names:
            hint = suggest(str(variable), names, what="variables")
            raise RecordingError(f"the recording has no variable {variable!r}. {hint}")
        values, attrs = recording[variable], recording.attrs
        per_unit = values.dims[2] == "unit"
        region = recording["region" if per_unit else "group"].values
        label = recording["unit_id"].values if per_unit else region
        time = recording["time"].values
        other = variable.removesuffix("_mean") + "_variance"
        variance = recording.get(other) if variable.endswith("_mean") else None
        end = float(time[-1]) if len(time) else 0.0
        parents = tuple(_json(attrs.get("parents")).items())
        own = {str(name): c.values for name, c in values.coords.items() if c.dims == ("unit",)}
        columns = {name: column for name, column in own.items() if name != "region"}
        marks = _marks(attrs, end)
        return cls(values, time, region, label, variable, per_unit, marks, variance, parents, columns)

    @property
    def step(self) -> float:
        """From one time to the next, ms."""
        return float(self.time[1] - self.time[0] if len(self.time) > 1 else self.time[0])

    def select(
        self, regions: Sequence[str] | None, units: Sequence[str] | Mapping[str, Any] | None,
        start: float | None, stop: float | None,
    ) -> Activity:
        """Only some regions (or parents) or units, and times from ``start`` to ``stop``, ms."""
        low, high = -np.inf if start is None else start, np.inf if stop is None else stop
        times = np.flatnonzero((self.time > low) & (self.time <= high))
        if not len(times):
            until = f"the recording ends at {self.time[-1]:g} ms"
            raise RecordingError(f"nothing is recorded between {low:g} and {high:g} ms; {until}.")
        window = slice(int(times[0]), int(times[-1]) + 1)
        marks = tuple(m for m in self.marks if m.start < high and m.stop > low)
        found = replace(self, values=self.values[:, window], time=self.time[window], marks=marks)
        found = found if self.variance is None else replace(found, variance=self.variance[:, window])
        if regions is None and units is None:
            return found
        columns = self._columns(self.region, regions, "regions")
        if isinstance(units, Mapping):
            chosen = np.flatnonzero(matching(self.columns, units, len(self.label), "the recording")).tolist()
            columns = [k for k in chosen if regions is None or k in set(columns)]
            if not columns:
                raise RecordingError(f"no unit to draw has {dict(units)!r:.200}.")
        else:
            columns += self._columns(self.label, units, "units")
        columns = list(dict.fromkeys(columns))
        found = replace(found, values=found.values[:, :, columns], region=found.region[columns])
        variance = None if found.variance is None else found.variance[:, :, columns]
        own = {name: values[columns] for name, values in self.columns.items()}
        return replace(found, label=found.label[columns], variance=variance, columns=own)

    def _columns(self, names: NDArray[Any], chosen: Sequence[str] | None, what: str) -> list[int]:
        found: list[int] = []
        for name in map(str, chosen or ()):
            under = [child for child, parent in self.parents if parent == name] if what == "regions" else []
            columns = np.flatnonzero(np.isin(names, [name, *under]))
            if not len(columns):
                hint = suggest(name, dict.fromkeys(names.tolist()), what=what)
                raise UnknownNameError(f"the recording has no {what[:-1]} {name!r}. {hint}")
            found += columns.tolist()
        return found


def _marks(attrs: dict[str, Any], end: float) -> tuple[Mark, ...]:
    """Stimuli and interventions, from what a recording says of its run."""
    options = _json(attrs.get("options"))
    found = []
    for what in ("stimulus", "interventions"):
        for spec in options.get(what) or ():
            kind = "stimulus" if what == "stimulus" else str(spec.get("type", what))
            stop = end if spec.get("stop") is None else min(float(spec["stop"]), end)
            start = float(spec.get("start") or 0.0)
            between = f"{spec.get('source') or 'all'} to {spec.get('target') or 'all'}"
            where = spec.get("region") or (_selected(spec["units"]) if spec.get("units") else between)
            found.append(Mark(kind, str(where), start, stop))
    return tuple(mark for mark in found if mark.start < mark.stop)


def _selected(units: Any) -> str:
    """Units of a stimulus without a region, by columns or ids.

    >>> _selected({"side": ["left"]}), _selected([5, 6, 7])
    ('side=left', '3 units')
    """
    if isinstance(units, dict):
        return ",".join(f"{column}={','.join(map(str, values))}" for column, values in units.items())
    return str(units[0]) if len(units) == 1 else f"{len(units):,} units"


def _json(text: Any) -> dict[str, Any]:
    """The JSON object in an attribute of a recording; {} if it is anything else, as for a large network."""
    try:
        found = json.loads(text)
    except (TypeError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}
