"""Axes of a recording: trials, recorded times, units with their regions, and groups of units."""

from __future__ import annotations

import re
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sparse_mrnn.recording.events import EVENTS
from sparse_mrnn.recording.spec import Record


@dataclass(frozen=True, eq=False)
class Axes:
    """Labels and sizes of a recording.

    ``samples`` times are recorded, ``interval`` ms apart, the first one interval after the start. ``units``
    are numbers of units in the network, with a ``region`` and a ``unit_id`` each; ``groups`` are the regions
    or parents whose statistics are recorded; ``columns`` are those of the table of units.
    """

    record: Record
    trials: int
    samples: int
    interval: float
    units: NDArray[np.int64]
    region: NDArray[np.str_]
    unit_id: NDArray[np.str_]
    groups: tuple[str, ...]
    dtype: np.dtype[np.floating]
    columns: dict[str, NDArray[Any]] = field(default_factory=dict)

    @property
    def variables(self) -> dict[str, tuple[str, str, str]]:
        """Names of the recorded variables and their dimensions."""
        return {
            variable if what == "units" else f"{variable}_{what}":
                ("trial", "time", "unit" if what == "units" else "group")
            for variable in self.record.variables for what in self.record.what if what != "spikes"
        }

    @property
    def has_units(self) -> bool:
        """True if units are told apart: their states, or their spikes, are recorded."""
        return bool({"units", "spikes"} & set(self.record.what))

    def shape(self, name: str, samples: int) -> tuple[int, int, int]:
        """Return the shape of a variable over so many samples."""
        width = len(self.units) if self.variables[name][2] == "unit" else len(self.groups)
        return self.trials, samples, width

    def part(self, units: slice, *, groups: bool) -> Axes:
        """Return the axes for a subset of units, with or without group statistics."""
        names = ("units", "region", "unit_id")
        labels: dict[str, Any] = {name: getattr(self, name)[units] for name in names}
        labels["columns"] = {name: values[units] for name, values in self.columns.items()}
        part = replace(self, **labels)
        return part if groups else replace(part, record=replace(self.record, what=("units",)), groups=())

    @property
    def unit_coordinates(self) -> dict[str, NDArray[Any]]:
        """Coordinates of the units: region, id, and columns, whose names have _ for what is not a word."""
        found: dict[str, NDArray[Any]] = {"region": self.region, "unit_id": self.unit_id}
        taken = {"trial", "time", "unit", "group", *self.variables, *EVENTS, *found}
        for column, values in self.columns.items():
            name = re.sub(r"\W+", "_", column)
            while name in taken:
                name += "_"
            taken.add(name)
            found[name] = values.astype(np.str_) if values.dtype.kind == "O" else values
        return found

    @property
    def sample_bytes(self) -> int:
        """Bytes of one recorded time, uncompressed."""
        return sum(int(np.prod(self.shape(name, 1))) for name in self.variables) * self.dtype.itemsize

    @property
    def nbytes(self) -> int:
        """Bytes of the whole recording, uncompressed."""
        return self.sample_bytes * self.samples

    @property
    def time_bytes(self) -> int:
        """Bytes of the recorded times, which are all written at the start."""
        return 8 * self.samples

    def times(self, start: int, stop: int) -> NDArray[np.float64]:
        """Return recorded times in ms."""
        return np.arange(start + 1, stop + 1, dtype=np.float64) * self.interval
