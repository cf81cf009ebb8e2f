"""A recording on disk: a Zarr store that is whole at any moment; a chunk is complete or absent.

Zarr writes each chunk beside its path and renames it. The store appears at its path complete with its
metadata, NaN where nothing is recorded yet; a checkpoint of the run lies in it until the run has ended.
"""

from __future__ import annotations

import importlib
import os
import queue
import shutil
import threading
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from sparse_mrnn.errors import MissingExtraError, RecordingError
from sparse_mrnn.recording.axes import Axes

if TYPE_CHECKING:
    import xarray

CHECKPOINT = ".checkpoint.npz"
QUEUE = 2
"""Chunks that may wait to be written; a simulation that is faster than the disk then waits."""

Arrays = dict[str, NDArray[np.floating]]


def need(module: str, what: str) -> Any:
    """Import a module of the extra ``io``."""
    try:
        return importlib.import_module(module)
    except ImportError:
        hint = "install it with: pip install 'sparse-mrnn[io]'"
        raise MissingExtraError(f"{what} need {module}; {hint}") from None


def dataset(axes: Axes, arrays: Arrays, attrs: dict[str, Any]) -> xarray.Dataset:
    """A recording in memory as an xarray Dataset."""
    xr = need("xarray", "recordings")
    samples = next(iter(arrays.values())).shape[1]
    coords: dict[str, Any] = {"time": ("time", axes.times(0, samples), {"units": "ms"})}
    if "units" in axes.record.what:
        coords |= {"region": ("unit", axes.region), "unit_id": ("unit", axes.unit_id)}
    if axes.groups:
        coords["group"] = ("group", np.array(axes.groups))
    variables = {name: (axes.variables[name], a) for name, a in arrays.items()}
    found: xarray.Dataset = xr.Dataset(variables, coords, attrs)
    return found


class ZarrStore:
    """Writes a recording in a thread of its own, chunk after chunk.

    Parameters
    ----------
    path : Path
    axes : Axes
    length : int
        Samples of a chunk.
    """

    def __init__(self, path: Path, axes: Axes, length: int) -> None:
        self.path, self.axes, self.length = path, axes, length
        self.zarr = need("zarr", "recordings on disk")
        need("xarray", "recordings")
        self.checkpoint = path / CHECKPOINT
        self._queue: queue.Queue[tuple[int, Arrays] | None] = queue.Queue(QUEUE)
        self._error: BaseException | None = None
        self._written: list[Path] = []
        self._thread: threading.Thread | None = None

    # ---------------------------------------------------------------- making and opening

    def create(self, attrs: dict[str, Any], first_checkpoint: Callable[[Path], None]) -> None:
        """Make the store with all metadata and a first checkpoint; it appears whole, in place of an old
        one."""
        new, old = (self.path.with_name(self.path.name + end) for end in (".new", ".old"))

        def make() -> None:
            if self.path.parent.exists() and not self.path.parent.is_dir():
                raise NotADirectoryError(20, f"{self.path.parent} is not a folder")
            self.path.parent.mkdir(parents=True, exist_ok=True)
            for left_by_a_kill in (new, old):
                shutil.rmtree(left_by_a_kill, ignore_errors=True)
            self._metadata(new, attrs)
            first_checkpoint(new / CHECKPOINT)
            if self.path.exists():
                self.path.rename(old)
            new.rename(self.path)
            shutil.rmtree(old, ignore_errors=True)

        try:
            make()
        except OSError as error:
            shutil.rmtree(new, ignore_errors=True)
            what = f"cannot write the recording {self.path}: {reason(error)}"
            raise RecordingError(f"{what}. Nothing was left half-written.") from error
        self._open()

    def reopen(self) -> None:
        """Go on with a store on disk; remove what a killed process was writing."""
        for part in self.path.rglob("*.partial"):
            part.unlink(missing_ok=True)
        self._open()

    def _open(self) -> None:
        self.root = self.zarr.open_group(str(self.path), mode="r+", zarr_format=2, use_consolidated=False)
        self.arrays = {name: self.root[name] for name in self.axes.variables}

    def _metadata(self, path: Path, attrs: dict[str, Any]) -> None:
        from numcodecs import Blosc

        axes = self.axes
        root = self.zarr.open_group(str(path), mode="w", zarr_format=2)
        fast = Blosc("lz4", 1, Blosc.BITSHUFFLE)

        def array(name: str, shape: Any, dtype: Any, dims: Any, chunks: Any = None, **more: Any) -> Any:
            attributes = {"_ARRAY_DIMENSIONS": list(dims), **more}
            chunks = tuple(max(1, c) for c in chunks or shape)
            fill = np.nan if np.dtype(dtype).kind == "f" else None
            return root.create_array(
                name,
                shape=shape,
                dtype=dtype,
                chunks=chunks,
                attributes=attributes,
                fill_value=fill,
                compressors=fast,
            )

        labels = {"group": np.array(axes.groups, dtype=np.str_)} if axes.groups else {}
        along = "group"
        coordinates = ""
        if "units" in axes.record.what:
            coordinates = "region unit_id"
        for name, dims in axes.variables.items():
            more = {"coordinates": coordinates} if dims[2] == "unit" else {}
            sizes = axes.shape(name, axes.samples), axes.shape(name, self.length)
            array(name, sizes[0], axes.dtype, dims, sizes[1], **more)
        for name, text in labels.items():
            array(name, text.shape, text.dtype, (along,))[:] = text
        if coordinates:
            for name, text in (("region", axes.region), ("unit_id", axes.unit_id)):
                array(name, text.shape, text.dtype, ("unit",))[:] = text
        piece = min(axes.samples, 2**18)
        time = array("time", (axes.samples,), "f8", ("time",), (piece,), units="ms")
        for start in range(0, axes.samples, piece):
            stop = min(start + piece, axes.samples)
            time[start:stop] = axes.times(start, stop)
        root.attrs.update({"coordinates": coordinates, **attrs})
        self._consolidate(path)

    def _consolidate(self, path: Path) -> None:
        with warnings.catch_warnings():
            # The checkpoint is no part of the recording, and gone at its end.
            warnings.filterwarnings("ignore", message=f"Object at {CHECKPOINT}")
            self.zarr.consolidate_metadata(str(path), zarr_format=2)

    # ---------------------------------------------------------------- writing

    def put(self, start: int, arrays: Arrays) -> None:
        """Hand over the samples from ``start`` on, a whole chunk or the last one; waits while too many
        wait."""
        if self._thread is None:
            self._thread = threading.Thread(target=self._work, name="recording", daemon=True)
            self._thread.start()
        self._queue.put((start, arrays))
        self._check()

    def _work(self) -> None:
        while (item := self._queue.get()) is not None:
            try:
                if self._error is None:
                    self._write(*item)
            except BaseException as error:  # raised in the simulation by _check
                self._error = error
            finally:
                self._queue.task_done()
        self._queue.task_done()

    def _write(self, start: int, arrays: Arrays) -> None:
        for name, part in arrays.items():
            self.arrays[name][:, start : start + part.shape[1]] = part
            self._written.append(self.path / name / f"0.{start // self.length}.0")

    def _check(self) -> None:
        if self._error is not None:
            raise RecordingError(
                f"cannot write the recording {self.path}: {reason(self._error)}. What is recorded until its "
                "last checkpoint "
                "is whole; make room and resume the run."
            ) from self._error

    def flush(self) -> None:
        """Wait until everything handed over is on disk."""
        self._queue.join()
        self._check()
        for path in self._written:
            sync(path)
        self._written.clear()

    def mark(self, **attrs: Any) -> None:
        """Change attributes of the store."""
        try:
            self.root.attrs.update(attrs)
            self._consolidate(self.path)
        except OSError as error:
            self._error = error
            self._check()

    def close(self) -> None:
        """End the writing thread."""
        if self._thread is not None:
            self._queue.put(None)
            self._thread.join()
            self._thread = None


def reason(error: BaseException) -> str:
    """What an error of the system says."""
    return getattr(error, "strerror", None) or str(error) or type(error).__name__


def sync(path: Path) -> None:
    """Force a file or directory out of the system's cache."""
    try:
        handle = os.open(path, os.O_RDONLY)
    except FileNotFoundError:  # a chunk of nothing but NaN has no file
        return
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def is_recording(path: Path) -> bool:
    """Whether a recording of ours lies at a path."""
    return (path / ".zgroup").exists() and (path / "time").exists()


def open_recording(path: str | os.PathLike[str]) -> xarray.Dataset:
    """Open a recording on disk, lazily: values are read when they are used.

    Of a run that has not ended, the times recorded until its last checkpoint.

    Returns
    -------
    xarray.Dataset
        Variables ``h``, ``x`` (trial, time, unit) and their ``_mean``, ``_variance`` (trial, time, group);
        coordinates time (ms), region, unit_id, group; attributes that say what ran.

    Raises
    ------
    RecordingError
        If there is none at ``path``.
    """
    xr = need("xarray", "recordings")
    need("zarr", "recordings on disk")
    if not is_recording(Path(path)):
        form = "a Zarr store as `sparse-mrnn simulate --out` writes it"
        raise RecordingError(f"{path} is not a recording: {form}.")
    found: xarray.Dataset = xr.open_zarr(str(path), chunks=None, consolidated=True)
    if not found.attrs.get("complete", 1):
        found = found.isel(time=slice(0, int(found.attrs["recorded"])))
    return found
