"""States to be analysed, which may be larger than memory: read in blocks of time, centred on their mean."""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sparse_mrnn.analysis.dynamics import as_tensor
from sparse_mrnn.errors import AnalysisError, ShapeError
from sparse_mrnn.recording import open_recording

Float = NDArray[np.float64]

BLOCK_BYTES = 2**26
"""Bytes of a block of states, as float64."""


class StateSource:
    """States of units over trials and time, read block by block, centred on their mean.

    Parameters
    ----------
    states : array, shape (..., time, units); xarray DataArray or Dataset; or path of a recording
        Of a Dataset, the first variable by unit, usually h.
    """

    def __init__(self, states: Any) -> None:
        if isinstance(states, str | os.PathLike):
            states = open_recording(states)
        if hasattr(states, "data_vars"):
            names = [name for name, one in states.data_vars.items() if one.dims[-1:] == ("unit",)]
            if not names:
                raise AnalysisError("the dataset has no variable by unit; record what=('units',).")
            states = states[names[0]]
        self.lazy = hasattr(states, "dims") and hasattr(states, "isel")
        self.array = states if self.lazy else as_tensor(states).cpu().numpy()
        if self.array.ndim < 2:
            raise ShapeError(f"states have shape {self.array.shape}; expected at least (time, units).")
        self.n = int(self.array.shape[-1])
        self.count = int(np.prod(self.array.shape[:-1]))
        if self.count < 2:
            raise AnalysisError(f"{self.count} states have no variance; give at least two.")
        self.mean = np.zeros(self.n)
        self.mean = sum(block.sum(axis=0) for block in self.blocks()) / self.count

    def blocks(self) -> Iterator[Float]:
        """Centred states, shape (some, units), in order."""
        length = max(1, BLOCK_BYTES // (8 * self.n))
        if self.array.ndim == 2:
            for start in range(0, self.array.shape[0], length):
                yield self._read(self.array[start : start + length])
        else:
            steps = self.array.shape[-2]
            for trial in np.ndindex(self.array.shape[:-2]):
                for start in range(0, steps, length):
                    yield self._read(self.array[(*trial, slice(start, start + length))])

    def _read(self, part: Any) -> Float:
        values = np.asarray(part.values if self.lazy else part, dtype=np.float64)
        if not np.isfinite(values).all():
            raise AnalysisError("the states have NaN or infinite entries; leave out what was not recorded.")
        centred: Float = values - self.mean
        return centred
