"""Buffers of bounded size that collect samples, and statistics over groups of units."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sparse_mrnn.recording.axes import Axes

Arrays = dict[str, NDArray[np.floating]]


class Statistics:
    """Mean and variance over the units of groups, in float64.

    ``ptr`` has the first unit of each region, and the total; ``members`` the regions of each group.
    """

    def __init__(self, ptr: NDArray[np.int64], members: list[list[int]]) -> None:
        self.starts = ptr[:-1]
        self.member = np.zeros((len(members), len(ptr) - 1))
        for k, regions in enumerate(members):
            self.member[k, regions] = 1
        self.count = (self.member @ np.diff(ptr))[:, None]

    def __call__(self, values: NDArray[np.floating], what: tuple[str, ...]) -> dict[str, NDArray[np.float64]]:
        """Return arrays (groups, trials) by statistic, for values of shape (units, trials)."""
        mean = self.member @ np.add.reduceat(values, self.starts, axis=0, dtype=np.float64) / self.count
        found = {"mean": mean}
        if "variance" in what:  # float64 sums of float32 squares: cancellation stays below float32 rounding
            squares = np.multiply(values, values, dtype=np.float64)
            squared = self.member @ np.add.reduceat(squares, self.starts, axis=0) / self.count
            found["variance"] = np.maximum(squared - mean * mean, 0)
        return {name: found[name] for name in what if name in found}


class Recorder:
    """Fill chunks of ``length`` samples and hand each to ``write(start, arrays)``.

    ``rows`` are those of the states that are recorded (None: all, in their order), ``recorded`` the number of
    samples so far.
    """

    def __init__(
        self, axes: Axes, length: int, statistics: Statistics | None, write: Callable[[int, Arrays], Any],
        *, rows: NDArray[np.int64] | None,
    ) -> None:
        self.axes, self.length, self.statistics, self.write, self.rows = axes, length, statistics, write, rows
        self.recorded = 0
        self.buffers = self._new()

    def _new(self) -> Arrays:
        axes, length = self.axes, self.length
        return {name: np.empty(axes.shape(name, length), dtype=axes.dtype) for name in axes.variables}

    @property
    def filled(self) -> int:
        """Number of samples in the present chunk."""
        return self.recorded % self.length

    def append(self, states: dict[str, NDArray[np.floating]]) -> None:
        """Record one time: states by variable, shape (units, trials)."""
        at, what = self.filled, self.axes.record.what
        for variable in self.axes.record.variables:
            values = states[variable]
            if "units" in what:
                self.buffers[variable][:, at] = (values if self.rows is None else values[self.rows]).T
            if self.statistics is not None:
                for name, found in self.statistics(values, tuple(what)).items():
                    self.buffers[f"{variable}_{name}"][:, at] = found.T
        self.recorded += 1
        if self.filled == 0:
            self.write(self.recorded - self.length, self.buffers)
            self.buffers = self._new()
        elif self.recorded == self.axes.samples:
            self.write(self.recorded - self.filled, self.part())

    def part(self) -> Arrays:
        """Return the samples of the present chunk, so far."""
        return {name: buffer[:, : self.filled] for name, buffer in self.buffers.items()}

    def flush(self) -> None:
        """Hand on the begun chunk, when the run stops; a resumed run writes it again."""
        if self.filled and self.recorded < self.axes.samples:
            self.write(self.recorded - self.filled, {name: part.copy() for name, part in self.part().items()})

    def truncate(self, samples: int) -> None:
        """Keep only the first samples; the last of them must be in the present chunk."""
        self.recorded = min(self.recorded, samples)

    def load(self, recorded: int, part: Arrays) -> None:
        """Go on after so many samples, of which ``part`` are of the begun chunk."""
        self.recorded = recorded
        for name, values in part.items():
            self.buffers[name][:, : self.filled] = values
