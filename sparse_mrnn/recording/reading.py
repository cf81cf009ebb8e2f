"""Recordings on disk, opened lazily; an error names the file that is missing or damaged."""

from __future__ import annotations

import importlib
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from sparse_mrnn.checks import path_of
from sparse_mrnn.errors import MissingExtraError, RecordingError
from sparse_mrnn.files.atomic import reason
from sparse_mrnn.recording.chunks import ChunkFiles
from sparse_mrnn.recording.metadata import CONSOLIDATED, Metadata, damaged

if TYPE_CHECKING:
    import xarray

CHECKPOINT = ".checkpoint"


def need(module: str, what: str) -> Any:
    """Import a module of the extra ``io``."""
    try:
        return importlib.import_module(module)
    except ImportError:
        hint = "install it with: pip install 'sparse-mrnn[io]'"
        raise MissingExtraError(f"{what} need {module}; {hint}") from None


def is_recording(path: Path) -> bool:
    """Return True if there is a recording at a path, even a damaged one."""
    store = any((path / name).exists() for name in (".zgroup", CONSOLIDATED))
    return store and any((path / name).exists() for name in ("time", CHECKPOINT))


def open_recording(path: str | os.PathLike[str]) -> xarray.Dataset:
    """Open a recording on disk, lazily: values are read when they are used.

    A run that has not ended shows the times recorded until its last checkpoint. Metadata and coordinates are
    checked, and so is the length of every chunk; the content of a chunk is checked when it is read.

    Parameters
    ----------
    path : path
        The folder that `simulate` wrote with ``out``.

    Returns
    -------
    xarray.Dataset
        Variables ``h``, ``x`` (trial, time, unit) and their ``_mean``, ``_variance`` (trial, time, group);
        coordinates time (ms), region, unit_id, group; the settings of the run as attributes. Spikes are
        ``spike_time`` (ms), ``spike_unit`` (its place along unit) and ``spike_trial``, all of them (spike).

    Raises
    ------
    RecordingError
        If ``path`` is not a recording, or it is damaged; here, or when values are read.
    """
    xr, zarr = need("xarray", "recordings"), need("zarr", "recordings on disk")
    metadata = read_metadata(path)
    try:
        group = zarr.open_group(str(metadata.path), mode="r", zarr_format=2, use_consolidated=True)
        arrays = {name: group[name] for name in metadata.arrays}
    except Exception as error:  # whatever zarr makes of metadata that another version of it wrote
        raise damaged(metadata.path, f"zarr cannot open it: {reason(error)}") from error
    attrs = dict(metadata.attributes)
    coordinates = set(attrs.pop("coordinates").split()) | {"time", "group"}
    variables = {}
    for name, array in arrays.items():
        described, own = metadata.array(name)
        files = ChunkFiles.of(metadata, name)
        files.check_digests(metadata)
        dims = own["_ARRAY_DIMENSIONS"]
        own = {key: value for key, value in own.items() if key not in ("coordinates", "_ARRAY_DIMENSIONS")}
        if name in coordinates:
            files.check(files)
            variables[name] = xr.Variable(dims, array[...], own)
        else:
            chunks = dict(zip(dims, described["chunks"], strict=True))
            lazy = _lazy_array(array, files)
            variables[name] = xr.Variable(dims, lazy, own, encoding={"preferred_chunks": chunks})
    coords = {name: variables.pop(name) for name in list(variables) if name in coordinates}
    found: xarray.Dataset = xr.Dataset(variables, coords, attrs)
    return found if attrs["complete"] else found.isel(time=slice(0, attrs["recorded"]))


def read_metadata(path: str | os.PathLike[str]) -> Metadata:
    """Read the metadata of a recording; a RecordingError says if ``path`` is not one, or it is damaged."""
    found = path_of(path, "path", RecordingError)
    if not is_recording(found):
        form = "a Zarr store as `sparse-mrnn simulate --out` writes it"
        raise RecordingError(f"{path} is not a recording: {form}.")
    return Metadata.read(found)


def check_chunks(metadata: Metadata) -> None:
    """Read every whole chunk that is recorded, and raise a RecordingError if one is not as it was written."""
    for name in metadata.arrays:
        files = ChunkFiles.of(metadata, name).whole
        files.check_digests(metadata)
        files.check(files)


def _lazy_array(array: Any, files: ChunkFiles) -> Any:
    """Make a variable that xarray reads when its values are used."""
    from xarray.backends import BackendArray
    from xarray.core.indexing import IndexingSupport, LazilyIndexedArray, explicit_indexing_adapter

    class RecordedArray(BackendArray):  # type: ignore[misc]
        shape, dtype = array.shape, array.dtype

        def __getitem__(self, key: Any) -> Any:
            return explicit_indexing_adapter(key, self.shape, IndexingSupport.OUTER, self._read)

        def _read(self, key: tuple[Any, ...]) -> NDArray[Any]:
            times = np.arange(self.shape[files.axis])[key[files.axis]]
            if not np.size(times):
                return np.asarray(array.oindex[key])
            covering = int(np.min(times)), int(np.max(times)) + 1
            for file in files.covering(*covering):
                files.checksum(file)
            try:
                return np.asarray(array.oindex[key])
            except MemoryError:
                raise
            except Exception as error:  # zarr and its codecs raise almost anything
                files.check(files.covering(*covering))
                text = f"cannot read {files.name} of {files.store}: {reason(error)}"
                raise RecordingError(f"{text}.") from error

    return LazilyIndexedArray(RecordedArray())
