"""A recording on disk: a Zarr store that is whole at any moment; a chunk is complete or absent.

Zarr writes each chunk beside its path and renames it. The store appears at its path complete with its
metadata, with NaN for samples to come; a checkpoint of the run lies in it until the run has ended.

If several processes share a network, units are divided into as many chunks, and each process writes its own
(docs/decisions/0016).
"""

from __future__ import annotations

import json
import queue
import shutil
import threading
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from sparse_mrnn.errors import RecordingError, SavedFileError
from sparse_mrnn.files.atomic import reason, replacing, replacing_folder, sync
from sparse_mrnn.recording import events as events_on_disk
from sparse_mrnn.recording.axes import Axes
from sparse_mrnn.recording.chunks import ChunkFiles, codecs
from sparse_mrnn.recording.events import EVENTS, Events
from sparse_mrnn.recording.metadata import CONSOLIDATED, Metadata
from sparse_mrnn.recording.reading import CHECKPOINT, need

if TYPE_CHECKING:
    import xarray

QUEUE = 2
"""Chunks that may wait to be written; a simulation faster than the disk waits for it."""

ALL_CHUNKS = {"array.write_empty_chunks": True}
"""Write chunks of nothing but NaN, too, so that a chunk without a file is a lost one."""

Arrays = dict[str, NDArray[np.floating]]
UNITS = {"spike_time": {"units": "ms"}}
"""Attributes of events."""


def dataset(
    axes: Axes, arrays: Arrays, attrs: dict[str, Any], events: Events | None = None
) -> xarray.Dataset:
    """Make the xarray Dataset of a recording in memory."""
    xr = need("xarray", "recordings")
    samples = next(iter(arrays.values())).shape[1] if arrays else 0
    coords: dict[str, Any] = {"time": ("time", axes.times(0, samples), {"units": "ms"})}
    if axes.has_units:
        coords |= {name: ("unit", values) for name, values in axes.unit_coordinates.items()}
    if axes.groups:
        coords["group"] = ("group", np.array(axes.groups))
    variables: dict[str, Any] = {name: (axes.variables[name], a) for name, a in arrays.items()}
    variables |= {name: ("spike", a, UNITS.get(name, {})) for name, a in (events or {}).items()}
    found: xarray.Dataset = xr.Dataset(variables, coords, attrs)
    return found


def part_of_process(units: int, width: int, process: int, processes: int) -> slice:
    """Return the units that one of several processes writes: whole chunks of ``width`` units.

    Examples
    --------
    >>> [part_of_process(10, 4, process, 2) for process in range(2)]
    [slice(0, 8, None), slice(8, 10, None)]
    """
    chunks = -(-units // width)
    first, last = (-(-k * chunks // processes) * width for k in (process, process + 1))
    return slice(min(first, units), min(last, units))


class ZarrStore:
    """A Zarr store that is written in a thread of its own, chunk after chunk; failures are a RecordingError.

    A chunk has ``length`` samples of ``width`` units: those of a new store are divided into as many chunks as
    there are ``processes``. ``own`` are the units, by their order, that this process writes; all unless this
    is changed.
    """

    def __init__(self, path: Path, axes: Axes, length: int, *, processes: int = 1) -> None:
        self.path, self.axes, self.length = path, axes, length
        self.width = max(1, -(-len(axes.units) // processes))
        self.own = slice(0, len(axes.units))
        self.zarr = need("zarr", "recordings on disk")
        need("xarray", "recordings")
        self.checkpoint = path / CHECKPOINT
        self._queue: queue.Queue[tuple[int, Arrays] | None] = queue.Queue(QUEUE)
        self._error: BaseException | None = None
        self._written: list[Path] = []
        self._changed: set[int] = set()  # chunks in time written since the checksums were read
        self._changed_events: set[Path] = set()
        self.has_events = "spikes" in axes.record.what
        self._checksums: dict[Path, bytes] = {}
        self._thread: threading.Thread | None = None

    # ---------------------------------------------------------------- making and opening

    def create(self, attrs: dict[str, Any], first_checkpoint: Callable[[Path], None]) -> None:
        """Make the store with all metadata and a first checkpoint; it appears whole, and replaces an old one.

        If it cannot be written or is interrupted, the old recording is still there.
        """
        try:
            with replacing_folder(self.path) as new:
                self._make(new, attrs)
                first_checkpoint(new / CHECKPOINT)
        except (OSError, SavedFileError) as error:
            what = f"cannot write the recording {self.path}: {reason(error.__cause__ or error)}"
            raise RecordingError(f"{what}. Nothing was left half-written.") from error
        self.open(Metadata.read(self.path))

    def reopen(self, metadata: Metadata, recorded: int, spikes: int) -> None:
        """Go on with a store on disk after so many samples, and the whole chunks of so many spikes.

        Remove what a killed process was writing.
        """
        try:
            for part in self.path.rglob("*.partial"):
                shutil.rmtree(part) if part.is_dir() else part.unlink(missing_ok=True)
            metadata.restore()
        except OSError as error:
            raise RecordingError(f"cannot write the recording {self.path}: {reason(error)}.") from error
        self.open(metadata)
        more = {"spikes": spikes - spikes % events_on_disk.CHUNK} if self.has_events else {}
        # A chunk begun is written anew, so its samples do not count until then.
        self.mark(recorded=recorded, **more)

    def open(self, metadata: Metadata) -> None:
        """Open a store that is there, to write to it."""
        self.metadata = metadata
        for name, dims in self.axes.variables.items():
            if dims[2] == "unit":
                self.width = int(metadata.array(name)[0]["chunks"][2])
        if not self.axes.variables:
            self.arrays: dict[str, Any] = {}
            return
        with self.zarr.config.set(ALL_CHUNKS):
            root = self.zarr.open_group(str(self.path), mode="r+", zarr_format=2, use_consolidated=True)
            self.arrays = {name: root[name] for name in self.axes.variables}

    def _make(self, path: Path, attrs: dict[str, Any]) -> None:
        """Make the store with its coordinates and metadata, and nothing recorded."""
        axes = self.axes
        root = self.zarr.open_group(str(path), mode="w", zarr_format=2)

        def array(name: str, dims: Sequence[str], shape: Any, dtype: Any, chunks: Any, **more: str) -> Any:
            return root.create_array(
                name, shape=shape, dtype=dtype, chunks=tuple(max(1, chunk) for chunk in chunks),
                fill_value=np.nan if np.dtype(dtype).kind == "f" else None,
                attributes={"_ARRAY_DIMENSIONS": list(dims), **more}, **codecs(),
            )

        labels = {"group": ("group", np.array(axes.groups, dtype=np.str_))} if axes.groups else {}
        coordinates = ""
        if axes.has_units:
            labels |= {name: ("unit", values) for name, values in axes.unit_coordinates.items()}
            coordinates = " ".join(axes.unit_coordinates)
        with self.zarr.config.set(ALL_CHUNKS):
            for name, dims in axes.variables.items():
                more = {"coordinates": coordinates} if dims[2] == "unit" else {}
                shape, chunks = axes.shape(name, axes.samples), axes.shape(name, self.length)
                if dims[2] == "unit":
                    chunks = *chunks[:2], self.width
                array(name, dims, shape, axes.dtype, chunks, **more)
            for name, kind in EVENTS.items() if self.has_events else ():
                array(name, ("spike",), (0,), kind, (events_on_disk.CHUNK,), **UNITS.get(name, {}))
            for name, (dim, text) in labels.items():
                array(name, (dim,), text.shape, text.dtype, text.shape)[:] = text
            piece = max(1, min(axes.samples, 2**18))
            time = array("time", ("time",), (axes.samples,), "f8", (piece,), units="ms")
            for start in range(0, axes.samples, piece):
                stop = min(start + piece, axes.samples)
                time[start:stop] = axes.times(start, stop)
        spikes = {"spikes": 0} if self.has_events else {}
        root.attrs.update({"coordinates": coordinates, **spikes, **attrs})
        self.zarr.consolidate_metadata(str(path), zarr_format=2)
        metadata = Metadata(path, json.loads((path / CONSOLIDATED).read_bytes()))
        for name in metadata.arrays:
            files = ChunkFiles.of(metadata, name)
            metadata.chunk_digests[name] = files.digests(files.checksum)
        metadata.write()

    # ---------------------------------------------------------------- writing

    def append(self, start: int, arrays: Arrays) -> None:
        """Hand over the samples from ``start`` on, a whole chunk or the last one; wait if too many wait.

        `failed` and `flush` tell if they could be written.
        """
        if self._thread is None:
            self._thread = threading.Thread(target=self._work, name="recording", daemon=True)
            self._thread.start()
        self._queue.put((start, arrays))

    @property
    def failed(self) -> bool:
        """True if something could not be written."""
        return self._error is not None

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
            if name in EVENTS:
                self._write_events(name, start, part)
                continue
            whole = min(self.length, self.axes.samples - start)
            if part.shape[1] < whole:  # written whole, so that what an earlier run left there is not read
                shape = part.shape[0], whole - part.shape[1], part.shape[2]
                part = np.concatenate([part, np.full_like(part, np.nan, shape=shape)], axis=1)
            of_units = self.axes.variables[name][2] == "unit"
            self.arrays[name][:, start : start + whole, self.own if of_units else slice(None)] = part
            chunks = range(self.own.start // self.width, -(-self.own.stop // self.width))
            for k in chunks if of_units else range(1):
                self._written.append(self.path / name / f"0.{start // self.length}.{k}")
            self._changed.add(start // self.length)

    def _write_events(self, name: str, start: int, part: NDArray[Any]) -> None:
        """Write a chunk of events as zarr does, which would not before it is told how many there are."""
        from numcodecs import CRC32, Blosc

        length = events_on_disk.CHUNK
        padded = np.concatenate([part, np.zeros(length - len(part), part.dtype)])
        file = self.path / name / str(start // length)
        with replacing(file) as partial_file:
            partial_file.write_bytes(CRC32().encode(Blosc("lz4", 1, Blosc.BITSHUFFLE).encode(padded)))
        self._written.append(file)
        self._changed_events.add(file)

    def _check(self) -> None:
        if self._error is not None:
            raise RecordingError(
                f"cannot write the recording {self.path}: {reason(self._error)}. "
                "What is recorded until its last checkpoint is whole; make room and resume the run."
            ) from self._error

    def flush(self) -> None:
        """Wait until everything handed over is on disk."""
        self._queue.join()
        self._check()
        try:
            for path in [*self._written, *{path.parent for path in self._written}]:
                sync(path)
        except OSError as error:
            self._error = error
            self._check()
        self._written.clear()

    def mark(self, **attrs: Any) -> None:
        """Change attributes of the store; if they cannot be written, the old ones are still there."""
        try:
            self.metadata.attributes.update(attrs)
            known, changed = self._checksums, {str(k) for k in self._changed}  # by this process, so by all
            events = self._changed_events
            self._checksums = {
                path: known[path] for path in known
                if path not in events and path.name.partition(".")[2].split(".")[0] not in changed
            }
            self._changed.clear()
            events.clear()
            names = [*self.axes.variables, *(EVENTS if self.has_events else ())]
            for name in EVENTS if self.has_events else ():
                self.metadata.array(name)[0]["shape"] = [self.metadata.attributes["spikes"]]
            for name in names:
                files = ChunkFiles.of(self.metadata, name)
                self.metadata.chunk_digests[name] = files.digests(partial(self._checksum_once, files))
            self.metadata.write()
            if self.has_events:
                self.metadata.restore(tuple(EVENTS))
        except OSError as error:
            self._error = error
            self._check()

    def _checksum_once(self, files: ChunkFiles, file: Path) -> bytes:
        if file not in self._checksums:
            self._checksums[file] = files.checksum(file)
        return self._checksums[file]

    def close(self) -> None:
        """End the writing thread."""
        if self._thread is not None:
            self._queue.put(None)
            self._thread.join()
            self._thread = None
