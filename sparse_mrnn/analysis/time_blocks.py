"""Recorded or given activity, (trial, time, unit), read block by block: a chunk on disk is read once."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from sparse_mrnn.errors import RecordingError, ShapeError
from sparse_mrnn.recording import open_recording

BLOCK_BYTES = 2**26
"""Bytes of a block that is worked on at a time."""
LABELS = ("region", "unit_id")


class TimeBlocks:
    """Activity of shape (trial, time, unit), and what is known of its axes.

    Parameters
    ----------
    source : array, shape (trial, time, unit) or (time, unit); xarray DataArray or Dataset; or a path
    variable : str or None
        Of a Dataset, or a recording on disk. None: the first by unit.

    Attributes
    ----------
    shape : (int, int, int)
    time : ndarray or None
        ms, if the source has times.
    labels : (ndarray, ndarray) or None
        Region and id of each unit, if the source has them.
    itemsize : int
        Bytes of a number.
    attributes : mapping
        Of a recording.

    Raises
    ------
    RecordingError
        If a dataset does not have the variable by unit, or has no times.
    ShapeError
        If an array has other dimensions.
    """

    def __init__(self, source: Any, variable: str | None = "h") -> None:
        if isinstance(source, str | os.PathLike):
            source = open_recording(source)
        self.attributes: Mapping[str, Any] = {}
        self.time: NDArray[np.float64] | None = None
        self.labels: tuple[NDArray[np.str_], NDArray[np.str_]] | None = None
        chunk = None
        if isinstance(source, Tensor):
            source = source.detach().cpu().numpy()
        if hasattr(source, "data_vars"):
            self.attributes = source.attrs
            by_unit = [name for name, one in source.data_vars.items() if one.dims[-1:] == ("unit",)]
            chosen = by_unit[:1] if variable is None else [name for name in by_unit if name == variable]
            if not chosen:
                has = ", ".join(map(str, source.data_vars)) or "nothing"
                what, advice = f"no {variable or 'variable'} by unit, but {has}", "record what=['units']"
                raise RecordingError(f"the recording has {what}; {advice}, variables=['{variable or 'h'}'].")
            source = source[chosen[0]]
        if hasattr(source, "dims"):
            if set(source.dims) == {"time", "unit"}:
                source = source.expand_dims("trial")
            if set(source.dims) != {"trial", "time", "unit"}:
                have = ", ".join(map(str, source.dims))
                raise ShapeError(f"an array has the dimensions {have}; expected trial, time, unit.")
            source = source.transpose("trial", "time", "unit")
            chunk = source.encoding.get("preferred_chunks", {}).get("time")
            if "time" in source.coords:
                self.time = np.asarray(source["time"].values, dtype=np.float64)
            if all(name in source.coords for name in LABELS):
                region, unit_id = (source[name].values.astype(np.str_) for name in LABELS)
                self.labels = region, unit_id
        else:
            source = np.asarray(source)
            source = source[None] if source.ndim == 2 else source
            if source.ndim != 3 or source.dtype.kind not in "fiub":
                shape = f"shape {source.shape} and type {source.dtype}"
                raise ShapeError(f"activity has {shape}; expected numbers, (trial, time, unit).")
        self._values, self.itemsize = source, source.dtype.itemsize
        trials, steps, units = source.shape
        self.shape = int(trials), int(steps), int(units)
        if 0 in self.shape:
            raise ShapeError(f"activity of shape {self.shape} is empty.")
        self._chunk = int(chunk or self.shape[1])
        self._have: tuple[int, NDArray[Any]] | None = None

    def ranges(self, step_bytes: int, size: int = BLOCK_BYTES) -> Iterator[tuple[int, int]]:
        """Ranges of times of about ``size`` bytes, of whole chunks on disk; one time has ``step_bytes``."""
        length = max(1, size // max(step_bytes, 1))
        if length > self._chunk:
            length -= length % self._chunk
        for start in range(0, self.shape[1], length):
            yield start, min(start + length, self.shape[1])

    def read(self, start: int, stop: int) -> NDArray[Any]:
        """Activity at times ``start:stop``, shape (trial, times, unit); ask for them in order.

        Raises
        ------
        RecordingError
            If an entry is not finite; the message says which trial, time and unit.
        """
        if isinstance(self._values, np.ndarray):
            found = self._values[:, start:stop]
        else:
            parts = []
            while start < stop:
                number = start // self._chunk
                first = number * self._chunk
                if self._have is None or self._have[0] != number:
                    self._have = number, np.asarray(self._values[:, first : first + self._chunk].values)
                end = min(stop, first + self._chunk)
                parts.append(self._have[1][:, start - first : end - first])
                start = end
            found = parts[0] if len(parts) == 1 else np.concatenate(parts, axis=1)
        if not np.isfinite(found.sum(dtype=np.float64)):
            self._refuse(~np.isfinite(found), stop - found.shape[1])
        return found

    def _refuse(self, bad: NDArray[np.bool_], start: int) -> None:
        if not bad.any():  # a sum that overflows
            return
        trial, step, unit = (int(where) for where in np.argwhere(bad)[0])
        step += start
        when = f"time step {step}" if self.time is None else f"{self.time[step]:g} ms"
        which = f"unit {unit}"
        if self.labels is not None:
            region, unit_id = (str(each[unit]) for each in self.labels)
            which = f"unit {unit_id!r} of region {region!r}"
        what = f"the activity of {which} is not finite in trial {trial} at {when}"
        raise RecordingError(f"{what}; leave out what was not recorded.")
