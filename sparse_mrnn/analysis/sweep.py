"""sweep: call a function for every combination of parameters, and keep what it returns, resumable on disk."""

from __future__ import annotations

import itertools
import json
import math
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from sparse_mrnn.checks import path_of, shown
from sparse_mrnn.display import progress_bar
from sparse_mrnn.errors import AnalysisError, ResumeError, SimulationStopped, SweepStopped, suggest
from sparse_mrnn.files.atomic import reason, replacing_folder, restore_folder
from sparse_mrnn.recording.lock import WriterLock
from sparse_mrnn.recording.reading import need
from sparse_mrnn.state.differences import differences, first_of

if TYPE_CHECKING:
    import xarray

Mode = Literal["create", "overwrite", "resume"]
FINISHED = "finished"
"""Variable of a sweep on disk that marks the combinations whose results are whole."""


def sweep(
    function: Callable[..., Any],
    parameters: Mapping[str, Sequence[Any]],
    *,
    out: str | os.PathLike[str] | None = None,
    mode: Mode = "create",
    identity: Mapping[str, Any] | None = None,
    progress: bool = True,
) -> xarray.Dataset:
    """Call a function for every combination of parameters, and label what it returns.

    With ``out``, each result is written as soon as it is there. A sweep that was stopped or killed goes on
    with ``mode="resume"``; the combination that it was at is computed again.

    Parameters
    ----------
    function : callable
        Called with the parameters as keywords. It returns a number, an array, a DataArray, or a mapping of
        names to these (a Dataset is one), of the same names, shapes and coordinates each time.
    parameters : mapping of str to sequences of numbers or of text
        Values of each parameter; the last one changes fastest.
    out : path, optional
        Zarr store to write. Default: results are kept in memory.
    mode : {"create", "overwrite", "resume"}
        Whether something at ``out`` is an error, is replaced, or is gone on with.
    identity : mapping, optional
        Facts besides the parameters, as JSON has them, that a resumed sweep must share, such as a duration.
    progress : bool
        Draw a bar on standard error, if that is a terminal.

    Returns
    -------
    xarray.Dataset
        A dimension for each parameter, before those of the results. A single result without a name is
        ``result``; axes of a plain array are ``result_0``, ``result_1``, .... The attribute ``sweep`` has
        parameters and identity, as JSON.

    Raises
    ------
    AnalysisError
        If an option is not possible, something is at ``out`` already, or results do not fit together.
    ResumeError
        If ``out`` holds a sweep of other parameters or another identity, or something else.
    SweepStopped
        On Ctrl-C; ``results`` of it has what was finished.
    MissingExtraError
        Without xarray, and with ``out`` without zarr.

    Examples
    --------
    >>> import sparse_mrnn as sm
    >>> def radius(fan_in, seed):
    ...     graph = sm.RegionGraph()
    ...     graph.add_region("a", 20); graph.add_projection("a", "a", fan_in=fan_in)
    ...     return sm.spectral_radius(sm.mRNN(graph, device="cpu", seed=seed))
    >>> found = sweep(radius, {"fan_in": [2, 10], "seed": range(3)})
    >>> dict(found.sizes), bool((found.result.sel(fan_in=2) > 0).all())
    ({'fan_in': 2, 'seed': 3}, True)
    """
    xr = need("xarray", "labelled results")
    values = {str(name): _values(name, given) for name, given in _mapping(parameters).items()}
    if mode not in get_args(Mode):
        hint = suggest(mode, get_args(Mode))
        raise AnalysisError(f"sweep: mode is {mode!r}; use 'create', 'overwrite' or 'resume'. {hint}")
    if out is None and mode != "create":
        raise AnalysisError(f"sweep: mode={mode!r} is about results on disk; give their path as out.")
    try:
        described = json.dumps({"parameters": values, "identity": dict(identity or {})})
    except TypeError as error:
        raise AnalysisError(f"sweep: identity must be what JSON has: {error}.") from None
    with ExitStack() as stack:
        results = _InMemory(xr, values, described)
        if out is not None:
            need("zarr", "results on disk")
            path = path_of(out, "out", AnalysisError)
            stack.enter_context(WriterLock(path))
            results = _OnDisk(xr, values, path, described, mode)
        _run(function, values, results, "" if out is None else f"; resume it to go on with {out}", progress)
        return results.dataset()


def _run(
    function: Callable[..., Any], values: dict[str, list[Any]], results: _InMemory, hint: str, bar: bool
) -> None:
    """Compute what is not there yet; a SweepStopped has the results until then."""
    total = math.prod(len(given) for given in values.values())
    drawn: Any = progress_bar(total, "runs") if bar else None
    if drawn is not None:
        drawn.start()
    done = results.count()
    try:
        for index in itertools.product(*(range(len(given)) for given in values.values())):
            point = {name: values[name][k] for name, k in zip(values, index, strict=True)}
            if results.has(index):
                continue
            if drawn is not None:
                drawn.update(drawn.task_ids[0], completed=done, text=_named(point))
            results.add(index, function(**point), _named(point))
            done += 1
    except (KeyboardInterrupt, SimulationStopped):
        so_far = results.dataset() if done else None
        raise SweepStopped(done, total, so_far, hint) from None
    finally:
        if drawn is not None:
            drawn.stop()


class _InMemory:
    """Results of a sweep: arrays with an axis for each parameter, and which combinations are finished."""

    def __init__(self, xr: Any, values: dict[str, list[Any]], described: str) -> None:
        self.xr, self.values, self.described = xr, values, described
        self.shape = tuple(len(given) for given in values.values())
        self.finished: Any = np.zeros(self.shape, bool)
        self.arrays: dict[str, Any] = {}
        self.first: Any = None

    def has(self, index: tuple[int, ...]) -> bool:
        """Return True if a combination is finished."""
        return bool(self.finished[index])

    def count(self) -> int:
        """Count the combinations that are finished."""
        return int(np.sum(self.finished[...]))

    def add(self, index: tuple[int, ...], result: Any, point: str) -> None:
        """Keep the result of one combination; the first one says what the others are like."""
        found = _labelled(self.xr, result, point)
        if self.first is None:
            self.first = found
            self.begin()
        self._check(found, point)
        for name, array in self.arrays.items():
            array[index] = found[name].values
        self.finished[index] = True

    def begin(self) -> None:
        """Make the arrays."""
        template = self.template()
        self.arrays = {name: template[name].values for name in self.first.data_vars}

    def template(self) -> Any:
        """Make a dataset without values: dimensions of the parameters before those of the first result."""
        variables = {}
        for name, one in self.first.data_vars.items():
            empty = np.nan if one.dtype.kind in "fc" else 0
            filled = np.full((*self.shape, *one.shape), empty, one.dtype)
            variables[name] = ((*self.values, *one.dims), filled, one.attrs)
        coordinates = {name: list(given) for name, given in self.values.items()}
        attributes = {key: _attribute(value) for key, value in self.first.attrs.items()}
        attributes["sweep"] = self.described
        return self.xr.Dataset(variables, {**coordinates, **self.first.coords}, attributes)

    def dataset(self) -> xarray.Dataset:
        """Return the results so far; those of other combinations are NaN."""
        found: xarray.Dataset = self.template()
        for name, array in self.arrays.items():
            found[name].values = array
        return found

    def _check(self, found: Any, point: str) -> None:
        """Refuse a result unlike the first one."""
        first, what = self.first, f"sweep: the result of {point}"
        if set(found.data_vars) != set(first.data_vars):
            raise AnalysisError(f"{what} has {_names(found)}; the first one has {_names(first)}.")
        for name, one in first.data_vars.items():
            if found[name].dims != one.dims or found[name].shape != one.shape:
                have, had = dict(found[name].sizes), dict(one.sizes)
                raise AnalysisError(f"{what}: {name} has the dimensions {have}; in the first one {had}.")
        for name, coordinate in first.coords.items():
            if name not in found.coords or not found.coords[name].equals(coordinate):
                raise AnalysisError(f"{what} has other values of coordinate {name!r} than the first one.")


class _OnDisk(_InMemory):
    """Results in a Zarr store; a combination has chunks of its own, and is marked when they are written."""

    def __init__(self, xr: Any, values: dict[str, list[Any]], path: Path, described: str, mode: str) -> None:
        super().__init__(xr, values, described)
        self.path = path
        restore_folder(path)
        if path.exists() and mode == "create":
            raise AnalysisError(f"{path} exists; choose another out, or mode='overwrite' or 'resume'.")
        if path.exists() and mode == "resume":
            self._reopen()

    def begin(self) -> None:
        dataset = self.template()
        dataset[FINISHED] = (tuple(self.values), self.finished.astype(np.int8))
        own = len(self.values)
        encoding = {
            name: {"chunks": (1,) * own + tuple(max(n, 1) for n in array.shape[own:])}
            for name, array in dataset.data_vars.items()
        }
        try:
            with replacing_folder(self.path) as partial:
                dataset.to_zarr(partial, mode="w", zarr_format=2, encoding=encoding)
        except OSError as error:
            raise AnalysisError(f"cannot write {self.path}: {reason(error)}.") from error
        self._open()

    def _open(self) -> None:
        import zarr

        group = zarr.open_group(str(self.path), mode="r+", zarr_format=2)
        self.finished = group[FINISHED]
        self.arrays = {name: group[name] for name in self.first.data_vars}

    def _reopen(self) -> None:
        try:
            there = self.xr.open_zarr(self.path, chunks=None, mask_and_scale=False)
            old = json.loads(there.attrs["sweep"])
        except Exception as error:  # zarr and xarray raise almost anything for another folder
            raise ResumeError(f"{self.path} is not a sweep ({reason(error)}); choose another path.") from None
        if found := differences(old, json.loads(self.described)):
            raise ResumeError(f"{self.path} is another sweep: {first_of(found)}. Choose another path.")
        self.first = there.isel(dict.fromkeys(self.values, 0), drop=True).drop_vars(FINISHED).load()
        self.first.attrs.pop("sweep")
        self._open()

    def dataset(self) -> xarray.Dataset:
        found: xarray.Dataset = self.xr.open_zarr(self.path, chunks=None).load().drop_vars(FINISHED)
        return found


def _mapping(parameters: Any) -> Mapping[Any, Any]:
    if not isinstance(parameters, Mapping) or not parameters:
        got = shown(parameters)
        raise AnalysisError(f"sweep: parameters is {got}; give names and the values of each.")
    return parameters


def _values(name: Any, given: Any) -> list[Any]:
    """Return the values of a parameter as Python's numbers or text."""
    what = f"sweep: parameter {name!r}"
    if isinstance(given, str) or not isinstance(given, Iterable):
        raise AnalysisError(f"{what} is {shown(given)}; give a sequence of values.")
    found = [value.item() if isinstance(value, np.generic) else value for value in given]
    text = {isinstance(value, str) for value in found}
    if len(text) != 1 or not all(isinstance(value, str | int | float) for value in found):
        raise AnalysisError(f"{what} has the values {shown(found)}; give numbers, or text, at least one.")
    if len(set(found)) < len(found):
        raise AnalysisError(f"{what} has a value twice; each combination is computed once.")
    if name == FINISHED:
        raise AnalysisError(f"{what}: this name is taken; choose another one.")
    return found


def _labelled(xr: Any, result: Any, point: str) -> Any:
    """Return what a function has returned as a dataset of numbers."""
    name = (result.name if isinstance(result, xr.DataArray) else None) or "result"
    parts = result if isinstance(result, Mapping) else {name: result}
    variables = {}
    for name, value in parts.items():
        if isinstance(value, xr.DataArray):
            variables[str(name)] = value
            continue
        array: NDArray[Any] = np.asarray(value.detach().cpu() if isinstance(value, Tensor) else value)
        variables[str(name)] = xr.DataArray(array, dims=[f"{name}_{k}" for k in range(array.ndim)])
    found = xr.Dataset(variables, attrs=result.attrs if isinstance(result, xr.Dataset) else {})
    for name, one in found.data_vars.items():
        if one.dtype.kind not in "fciub":
            raise AnalysisError(f"sweep: {name} of {point} is {shown(one.values)}; return numbers.")
        if one.dtype.kind in "iub":  # NaN says that a combination is not finished
            found[name] = one.astype(float)
    return found


def _attribute(value: Any) -> Any:
    """Return an attribute as Zarr can hold it."""
    return value.tolist() if isinstance(value, np.generic | np.ndarray) else value


def _named(point: dict[str, Any]) -> str:
    return ", ".join(f"{name}={value!r}" for name, value in point.items())


def _names(dataset: Any) -> str:
    return ", ".join(repr(str(name)) for name in dataset.data_vars)
