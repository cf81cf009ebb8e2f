"""Base of all results: labelled arrays that become an xarray Dataset, and a Zarr store on disk."""

from __future__ import annotations

import json
import os
from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, ClassVar, Self, get_origin, get_type_hints

import numpy as np
from numpy.typing import NDArray

from sparse_mrnn.errors import AnalysisError
from sparse_mrnn.files.atomic import reason, replacing_folder
from sparse_mrnn.recording.reading import need

if TYPE_CHECKING:
    import xarray

Float = NDArray[np.float64]
Complex = NDArray[np.complex128]


class Result:
    """A frozen dataclass of arrays with named dimensions, and of a few plain values.

    The annotation of an array names its dimensions, ``Annotated[Float, "point", "unit"]``; other fields are
    attributes on disk.
    """

    COORDINATES: ClassVar[tuple[str, ...]] = ("region", "unit_id")

    @classmethod
    def dimensions(cls) -> dict[str, tuple[str, ...]]:
        """Names of the dimensions of every field that is an array."""
        hints = get_type_hints(cls, include_extras=True)
        return {name: hint.__metadata__ for name, hint in hints.items() if get_origin(hint) is Annotated}

    def __repr__(self) -> str:
        sizes: dict[str, int] = {}
        for name, dimensions in self.dimensions().items():
            sizes |= dict(zip(dimensions, np.shape(getattr(self, name)), strict=False))
        return f"{type(self).__name__}({', '.join(f'{name}: {n:,}' for name, n in sizes.items())})"

    def to_dataset(self) -> xarray.Dataset:
        """The arrays as an xarray Dataset with regions and ids as coordinates; what a Zarr store holds.

        Raises
        ------
        MissingExtraError
            Without xarray.
        """
        xr = need("xarray", "labelled results")
        every = {name: (dims, getattr(self, name)) for name, dims in self.dimensions().items()}
        present = {name: both for name, both in every.items() if both[1] is not None}
        coordinates = {name: present.pop(name) for name in self.COORDINATES if name in present}
        names = [field.name for field in fields(self)]  # type: ignore[arg-type]
        plain = {name: getattr(self, name) for name in names if name not in every}
        found: xarray.Dataset = xr.Dataset(present, coordinates, {"result": type(self).__name__, **plain})
        return found

    def save(self, path: str | os.PathLike[str], *, overwrite: bool = False) -> None:
        """Write a Zarr store, which ``load`` of the class and ``xarray.open_zarr`` read.

        Raises
        ------
        AnalysisError
            If something is at the path already, unless ``overwrite``; if it cannot be written. Nothing is
            left half-written.
        MissingExtraError
            Without xarray and zarr.
        """
        target = Path(path)
        if target.exists() and not overwrite:
            raise AnalysisError(f"{target} exists; pass overwrite=True to replace it.")
        need("zarr", "results on disk")
        dataset = self.to_dataset()
        dataset.attrs = {key: json.dumps(value) for key, value in dataset.attrs.items()}
        try:
            with replacing_folder(target) as partial:
                dataset.to_zarr(partial, mode="w", zarr_format=2)
        except OSError as error:
            what = f"cannot write {target}: {reason(error)}"
            raise AnalysisError(f"{what}. Nothing was left half-written.") from error

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> Self:
        """Read what ``save`` wrote.

        Raises
        ------
        AnalysisError
            If the path does not hold such a result.
        """
        xr = need("xarray", "results on disk")
        need("zarr", "results on disk")
        try:
            dataset = xr.open_zarr(Path(path)).load()
            attributes = {key: json.loads(value) for key, value in dataset.attrs.items()}
            kind = attributes.pop("result")
        except (OSError, KeyError, ValueError, TypeError) as error:
            raise AnalysisError(f"{path} is not a result of an analysis: {error}.") from None
        if kind != cls.__name__:
            raise AnalysisError(f"{path} holds a {kind}, not a {cls.__name__}.")
        plain = {key: tuple(value) if isinstance(value, list) else value for key, value in attributes.items()}
        arrays = {name: dataset[name].values if name in dataset else None for name in cls.dimensions()}
        return cls(**arrays, **plain)

