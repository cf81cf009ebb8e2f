"""Recordings: activity with labelled time and units, in memory or in a Zarr store that xarray opens."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from sparse_mrnn.errors import MissingExtraError, RecordingError, UnknownNameError, suggest

if TYPE_CHECKING:
    import xarray


@dataclass(frozen=True, eq=False)
class Units:
    """The unit axis of a recording: region and id of every unit."""

    region: tuple[str, ...]
    unit_id: tuple[str, ...]


@dataclass(frozen=True, eq=False)
class Recording:
    """Activity h over time.

    Parameters
    ----------
    activity : ndarray, shape (trial, time, unit)
    time : ndarray, shape (time,)
        ms, the end of each step.
    units : Units
    attrs : dict
        Facts of the run: dt, seed, model, whether it is complete, ...
    """

    activity: NDArray[np.floating]
    time: NDArray[np.float64]
    units: Units
    attrs: dict[str, Any] = field(default_factory=dict)

    def region(self, name: str) -> NDArray[np.floating]:
        """Activity of one region, shape (trial, time, units of the region).

        Raises
        ------
        UnknownNameError
            If no unit of that region was recorded.
        """
        keep = np.array(self.units.region) == name
        if not keep.any():
            known = dict.fromkeys(self.units.region)
            raise UnknownNameError(f"unknown region {name!r} in this recording. {suggest(name, known, what='regions')}")
        return self.activity[:, :, keep]

    def to_xarray(self) -> xarray.Dataset:
        """As an xarray Dataset with variable ``h`` and coordinates region, unit_id and time."""
        xr = _need("xarray")
        coords = {
            "time": ("time", self.time, {"units": "ms"}),
            "region": ("unit", np.array(self.units.region)),
            "unit_id": ("unit", np.array(self.units.unit_id)),
        }
        dataset: xarray.Dataset = xr.Dataset({"h": (("trial", "time", "unit"), self.activity)}, coords, self.attrs)
        return dataset


def _need(module: str) -> Any:
    import importlib

    try:
        return importlib.import_module(module)
    except ImportError:
        raise MissingExtraError(f"recordings on disk need {module}; install it with: pip install 'sparse-mrnn[io]'") from None


class ZarrWriter:
    """Writes a recording chunk by chunk into ``path.partial`` and renames it to ``path`` when closed.

    A run that fails leaves nothing behind; one that is stopped keeps the steps that were appended.

    Parameters
    ----------
    path : path
        Of the new store, ending in .zarr by custom.
    batch, units, dt
        Trials, unit axis, and time step in ms.
    steps : int
        Steps planned; the store is cut to those appended.
    overwrite : bool
        Replace an existing recording.

    Raises
    ------
    RecordingError
        If ``path`` exists and ``overwrite`` is False, or it cannot be written.
    """

    def __init__(
        self, path: str | os.PathLike[str], batch: int, units: Units, dt: float, steps: int, *, overwrite: bool = False
    ) -> None:
        zarr = _need("zarr")
        self.path, self.dt, self.done = Path(path), dt, 0
        self.partial = self.path.with_name(self.path.name + ".partial")
        if self.path.exists():
            if not overwrite:
                raise RecordingError(f"{self.path} exists; choose another path or overwrite it (--force).")
            if not (self.path / ".zgroup").exists():
                raise RecordingError(f"{self.path} is not a recording; it is not overwritten. Choose another path.")
        self._guard(lambda: shutil.rmtree(self.partial, ignore_errors=True))
        self._guard(lambda: self._create(zarr, batch, units, steps))

    def _create(self, zarr: Any, batch: int, units: Units, steps: int) -> None:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self.root = zarr.open_group(str(self.partial), mode="w", zarr_format=2)
        n = len(units.region)
        length = max(1, min(steps, 4_000_000 // max(n * batch, 1)))
        self.h = self._array("h", (batch, steps, n), "f4", ["trial", "time", "unit"], (batch, length, n))
        for name, labels in (("region", units.region), ("unit_id", units.unit_id)):
            text = np.array(labels, dtype=np.str_)
            self._array(name, text.shape, text.dtype, ["unit"])[:] = text

    def _array(self, name: str, shape: tuple[int, ...], dtype: Any, dims: list[str], chunks: Any = None) -> Any:
        return self.root.create_array(
            name, shape=shape, dtype=dtype, chunks=chunks or shape, attributes={"_ARRAY_DIMENSIONS": dims}, fill_value=None
        )

    def append(self, activity: NDArray[np.floating]) -> None:
        """Add steps; ``activity`` is (trial, time, unit)."""
        stop = self.done + activity.shape[1]
        self._guard(lambda: self.h.__setitem__((slice(None), slice(self.done, stop)), activity))
        self.done = stop

    def close(self, **attrs: Any) -> None:
        """Cut to the steps appended, write time and attributes, and put the store in its place."""
        self._guard(lambda: self._finish(attrs))

    def _finish(self, attrs: dict[str, Any]) -> None:
        zarr = _need("zarr")
        self.h.resize((self.h.shape[0], self.done, self.h.shape[2]))
        time = (np.arange(self.done) + 1) * self.dt
        array = self._array("time", time.shape, "f8", ["time"], (max(len(time), 1),))
        array[:] = time
        array.attrs["units"] = "ms"
        self.root.attrs.update({"coordinates": "region unit_id", **{k: v for k, v in attrs.items() if v is not None}})
        self.h.attrs["coordinates"] = "region unit_id"
        zarr.consolidate_metadata(str(self.partial))
        old = self.path.with_name(self.path.name + ".old")
        shutil.rmtree(old, ignore_errors=True)  # what a killed process may have left
        if self.path.exists():
            self.path.rename(old)
        self.partial.rename(self.path)
        shutil.rmtree(old, ignore_errors=True)

    def discard(self) -> None:
        """Remove what was written."""
        shutil.rmtree(self.partial, ignore_errors=True)

    def _guard(self, work: Callable[[], Any]) -> None:
        try:
            work()
        except OSError as error:
            self.discard()
            reason = error.strerror or str(error)
            raise RecordingError(f"cannot write the recording {self.path}: {reason}. Nothing was left half-written.") from error


def read_recording(path: str | os.PathLike[str], start: int = 0, stop: int | None = None) -> Recording:
    """Read a recording, or its steps from ``start`` up to ``stop``, into memory.

    Raises
    ------
    RecordingError
        If there is none at ``path``.
    """
    xr = _need("xarray")
    if not (Path(path) / ".zgroup").exists():
        raise RecordingError(f"{path} is not a recording: a Zarr store as `sparse-mrnn simulate --out` writes it.")
    with xr.open_zarr(str(path)) as data:
        if "h" not in data:
            raise RecordingError(f"{path} has no variable h; it was not written by sparse-mrnn.")
        units = Units(tuple(map(str, data["region"].values)), tuple(map(str, data["unit_id"].values)))
        part = data.isel(time=slice(start, stop))
        return Recording(part["h"].values, part["time"].values, units, dict(data.attrs))
