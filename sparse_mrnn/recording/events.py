"""Spikes of a simulation as events: a time, a unit and a trial each, in chunks of a fixed number."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

EVENTS: dict[str, str] = {"spike_time": "f8", "spike_unit": "i4", "spike_trial": "i4"}
"""Variables of events, along the dimension spike, and their types: ms, place among the units, trial."""
CHUNK = 2**18
"""Events of a chunk on disk."""

Events = dict[str, NDArray[Any]]


class SpikeRecorder:
    """Keep spikes, or hand them on in chunks to ``write(start, arrays)``.

    ``place`` has the place of each unit of the network among the recorded units, -1 of the others; a spike of
    step t has the time of the state after it, (t + 1) dt. ``recorded`` counts the spikes so far.
    """

    def __init__(
        self, place: NDArray[np.int64], dt: float, write: Callable[[int, Events], Any] | None = None
    ) -> None:
        self.place, self.dt, self.write = place, dt, write
        self.recorded = self.filled = 0  # the latter: those that are kept here
        self._parts: list[Events] = []

    def append(self, spikes: NDArray[np.int64]) -> None:
        """Record spikes: step, trial and unit, shape (spikes, 3), ordered by steps."""
        unit = self.place[spikes[:, 2]]
        kept = unit >= 0
        step, trial = spikes[kept, 0], spikes[kept, 1]
        self._add({"spike_time": (step + 1) * self.dt, "spike_unit": unit[kept], "spike_trial": trial})
        if self.write is not None and self.filled >= CHUNK:
            part, start = self.part(), self.recorded - self.filled
            whole = self.filled - self.filled % CHUNK
            for first in range(0, whole, CHUNK):
                chunk = {name: array[first : first + CHUNK] for name, array in part.items()}
                self.write(start + first, chunk)
            self._parts = [{name: array[whole:] for name, array in part.items()}]
            self.filled -= whole

    def _add(self, events: Events) -> None:
        self._parts.append({name: events[name].astype(kind) for name, kind in EVENTS.items()})
        self.recorded += len(events["spike_time"])
        self.filled += len(events["spike_time"])

    def part(self) -> Events:
        """Return the events that are kept: all of them, or those of the begun chunk."""
        parts = [{name: np.empty(0, kind) for name, kind in EVENTS.items()}, *self._parts]
        self._parts = [{name: np.concatenate([part[name] for part in parts]) for name in EVENTS}]
        return self._parts[0]

    def flush(self) -> None:
        """Hand on the begun chunk; a run that goes on writes it again."""
        if self.write is not None and self.filled:
            self.write(self.recorded - self.filled, self.part())

    def load(self, recorded: int, part: Events) -> None:
        """Go on after so many events, of which ``part``, perhaps empty, are of the begun chunk."""
        self._parts, self.recorded, self.filled = [], recorded - len(part.get("spike_time", ())), 0
        if part:
            self._add(part)
