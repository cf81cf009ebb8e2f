"""Currents that regions send each other: what every unit receives, apart by source, over recorded activity.

As in current-based decomposition (Perich et al. 2020, bioRxiv 2020.12.18.423348), but exact, for the weights
are known, and sparse: the synapses of all sources are rows of one sparse matrix, which multiplies a block of
recorded times at once.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from sparse_mrnn.analysis.given_run import GivenRun
from sparse_mrnn.analysis.source_products import Rows, source_products
from sparse_mrnn.analysis.time_blocks import BLOCK_BYTES
from sparse_mrnn.checks import names_of, option, path_of
from sparse_mrnn.errors import AnalysisError, RecordingError
from sparse_mrnn.files.atomic import reason, replacing_folder
from sparse_mrnn.models.network import mRNNBase
from sparse_mrnn.recording.reading import need
from sparse_mrnn.runtime import free_memory

if TYPE_CHECKING:
    import xarray

SIGNS = ("excitatory", "inhibitory")
TONIC, STIMULUS = "tonic", "stimulus"
"""Sources besides regions and inputs: the tonic input of the units, and direct currents."""


def currents(
    net: mRNNBase, activity: Any, *, inputs: Any = None, stim: Any = None, h0: Any = None,
    by: Literal["region", "projection"] = "region", sign: Literal["total", "split"] = "total",
    what: Literal["units", "mean"] = "units", targets: str | Sequence[str] | None = None,
    out: str | os.PathLike[str] | None = None, overwrite: bool = False,
) -> xarray.DataArray:
    """Currents into each unit from every source, at each time step of recorded activity.

    A time has the currents of the step that ends there: those that turned the state before into the one
    recorded at this time. Their sum over sources is the unit's whole input (without noise, which is not
    recorded): W h + W_inp u + b + stim, with delays, shared gains, low rank and Dale's law as they are.
    Memory does not grow with the duration, if the activity is on disk and the result goes there (``out``).

    Parameters
    ----------
    net : mRNN or ElmanmRNN
    activity : array, laid out as ``forward`` returns h; xarray DataArray or Dataset; or path of a recording
        Activity h in every time step, of all units that have synapses onto the targets. Of a recording that
        begins later than the first step, the first times, as many as the longest delay has steps, serve as
        the past of the others.
    inputs, stim : array, laid out as for ``forward``, optional
        Inputs and direct currents of the same times. Default: those of the recorded run, made again from its
        attributes; of activity that has none, neither.
    h0 : array, shape (units,) or (trials, units), optional
        Activity at the start. Default: that of the recorded run, or of the network's initial condition.
    by : {"region", "projection"}
        Sources are regions and inputs, or each of them by key: a projection is a source, a key, and the
        region of the target.
    sign : {"total", "split"}
        "split": excitatory and inhibitory currents apart, by the sign of the weight (of tonic input and
        direct currents, by their own), along a dimension ``sign``.
    what : {"units", "mean"}
        Currents into every unit, or their mean over the target units of each region.
    targets : str or sequence of str, optional
        Only into these regions, parents, or units by their ids. Default: all.
    out : path, optional
        Write a Zarr store here, block by block, and return it opened lazily.
    overwrite : bool
        Replace the currents that are at ``out``.

    Returns
    -------
    xarray.DataArray
        Dimensions source, (sign,) trial, time, and unit or region. Coordinates of the source: ``kind``
        ("recurrent", "input", "tonic", "stimulus") and, by projection, ``key``; of a unit: region, unit_id.
        Sources without a synapse onto the targets are left out.

    Raises
    ------
    RecordingError
        If partners of the targets are not recorded, or not in every time step; if an entry is not finite; if
        the recorded run cannot be made again, or the result does not fit in memory.
    ShapeError, AnalysisError, UnknownNameError
        If an argument does not fit the network.
    MissingExtraError
        Without xarray (and zarr, for ``out``): the extra ``io``.

    Examples
    --------
    >>> import sparse_mrnn as sm
    >>> g = sm.RegionGraph(); g.add_region("a", 2, base_firing=1.0); g.add_region("b", 3, sign="neg")
    >>> for source in "ab":
    ...     g.add_projection(source, "b", initializer=sm.Constant(1.0))
    >>> net = sm.mRNN(g, device="cpu")
    >>> run = sm.simulate(net, 50, progress=False)
    >>> found = currents(net, run, what="mean")
    >>> found.dims, found.source.values.tolist()
    (('source', 'trial', 'time', 'region'), ['a', 'b', 'tonic'])
    >>> found.sel(source="a", region="b").values.astype(float).round(2).tolist()
    [[0.0, 0.2, 0.38, 0.54, 0.69]]
    """
    xr = need("xarray", "currents")
    split = option(sign, ("total", "split"), "currents: sign", AnalysisError) == "split"
    mean = option(what, ("units", "mean"), "currents: what", AnalysisError) == "mean"
    by_key = option(by, ("region", "projection"), "currents: by", AnalysisError) == "projection"
    path = None if out is None else path_of(out, "currents: out", AnalysisError)
    if path is not None and path.exists() and not overwrite:
        raise AnalysisError(f"currents: {path} exists; pass overwrite=True to replace it.")
    if path is not None and path.exists() and not (path / "current").is_dir():
        raise AnalysisError(f"currents: {path} does not hold currents; it is not replaced, choose another.")
    units = _targets(net, targets)
    given = GivenRun(net, activity, inputs, stim, h0)
    rows = _rows(net, units, by_key=by_key, split=split, mean=mean, drive=given.drive)
    given.check_partners(rows)
    coordinates = _coordinates(net, rows, units, by_key=by_key, mean=mean, time=given.time)
    dims = ("source", *(("sign",) if split else ()), "trial", "time", "region" if mean else "unit")
    shape = (*(len(rows.sources), 2)[: 2 if split else 1], given.trials, given.steps, rows.places)
    dtype = np.dtype(str(net.dtype).removeprefix("torch."))
    length = max(1, min(given.steps, BLOCK_BYTES // (dtype.itemsize * given.trials * max(rows.count, 1))))
    attrs = {"model": net.model, "dt": float(net.dt)}
    if path is None:
        needed, free = int(np.prod(shape, dtype=float)) * dtype.itemsize, free_memory()
        if needed > free:
            size = f"the currents take {needed / 2**30:.1f} GiB, and {free / 2**30:.1f} GiB are free"
            raise RecordingError(f"{size}; write them to disk (out=), take means or fewer targets.")
        values = np.empty(shape, dtype)
        _fill(net, rows, given, length, values)
        found: xarray.DataArray = xr.DataArray(values, coordinates, dims, "current", attrs)
        return found
    with _store(path, xr.Dataset(coords=coordinates), dims, shape, dtype, length, attrs) as values:
        _fill(net, rows, given, length, values)
    found = xr.open_dataset(path, engine="zarr", chunks=None)["current"]
    return found


# ---------------------------------------------------------------- what is asked for


def _targets(net: mRNNBase, names: str | Sequence[str] | None) -> NDArray[np.int64]:
    """Target units, in unit order."""
    if names is None:
        return np.arange(net.layout().n)
    parts = []
    for name in names_of(names, "currents: targets", AnalysisError):
        kind, found = net.names.find(name, "currents")
        if kind == "input":
            raise AnalysisError(f"currents: {name!r} is an input; only recurrent units receive currents.")
        parts.append(found)
    return np.unique(np.concatenate(parts))


def _rows(
    net: mRNNBase, units: NDArray[np.int64], *, by_key: bool, split: bool, mean: bool, drive: set[str]
) -> Rows:
    """Number sources and places."""
    layout = net.layout()
    region_of = np.searchsorted(layout.ptr, units, side="right") - 1
    regions = np.unique(region_of)
    places = np.searchsorted(regions, region_of) if mean else np.arange(len(units))
    place = torch.full((layout.n,), -1, dtype=torch.int64)
    place[torch.from_numpy(units)] = torch.from_numpy(places)
    share = torch.zeros(layout.n, dtype=net.dtype)
    counts = np.bincount(places) if mean else np.ones(len(units))
    share[torch.from_numpy(units)] = torch.from_numpy(1 / counts[places]).to(net.dtype)
    targets = {layout.regions[k].name for k in regions.tolist()}
    sources: list[tuple[str, str, str]] = []
    of_projection = {}
    for kind in ("recurrent", "input"):
        names = net.weights(kind).all_projections
        labels = [(s, kind, key if by_key else "") if t in targets else None for s, t, key in names]
        known = labels if kind == "recurrent" or "inputs" in drive else []
        own = list(dict.fromkeys(label for label in known if label is not None))
        own.sort(key=lambda each: net.layout(each[1]).index[each[0]])  # stable: keys stay as declared
        number = {each: len(sources) + k for k, each in enumerate(own)}
        sources += own
        numbers = [-1 if label is None else number.get(label, -1) for label in labels]
        of_projection[kind] = np.array(numbers, dtype=np.int64)
    if bool(net.tonic_inp.detach()[torch.from_numpy(units).to(net.device)].any()):
        sources.append((TONIC, TONIC, ""))
    if "stim" in drive:
        sources.append((STIMULUS, STIMULUS, ""))
    if not sources:
        raise AnalysisError("currents: the targets receive no current: no projection ends there.")
    count = len(regions) if mean else len(units)
    device = net.device
    return Rows(tuple(sources), of_projection, place.to(device), share.to(device), count, split)


def _coordinates(
    net: mRNNBase, rows: Rows, units: NDArray[np.int64], *, by_key: bool, mean: bool,
    time: NDArray[np.float64],
) -> dict[str, Any]:
    names, kinds, keys = (np.array(each, dtype=np.str_) for each in zip(*rows.sources, strict=True))
    found: dict[str, Any] = {"source": names, "kind": ("source", kinds)}
    if by_key:
        found["key"] = ("source", keys)
    if rows.split:
        found["sign"] = np.array(SIGNS)
    found["time"] = ("time", time, {"units": "ms"})
    region, unit_id = (each[units] for each in net.layout().labels())
    if mean:
        return found | {"region": np.array(list(dict.fromkeys(region.tolist())), dtype=np.str_)}
    return found | {"region": ("unit", region), "unit_id": ("unit", unit_id)}


# ---------------------------------------------------------------- block by block


@torch.no_grad()
def _fill(net: mRNNBase, rows: Rows, given: GivenRun, length: int, values: Any) -> None:
    """Compute the currents block by block and write each to its times of ``values``."""
    recurrent = source_products(net, "recurrent", rows)
    inputs = source_products(net, "input", rows) if "inputs" in given.drive else []
    kinds = [kind for _, kind, _ in rows.sources]
    tonic = net.tonic_inp.detach()
    onto = torch.nonzero(rows.place >= 0)[:, 0]
    where, share = rows.place[onto], rows.share[onto]

    def add(found: Tensor, kind: str, received: Tensor) -> None:
        """Add direct currents, shape (target units, columns), to the rows of their source."""
        first, weighted = kinds.index(kind), received * share[:, None]
        parts = (weighted.clamp(min=0), weighted.clamp(max=0)) if rows.split else (weighted,)
        for k, part in enumerate(parts):
            found.index_add_(0, (first * rows.signs + k) * rows.places + where, part)

    axes = (len(rows.sources), rows.signs, rows.places, given.trials)
    for times, past, of_inputs, stim in given.blocks_of(length):
        found = torch.zeros(rows.count, given.trials * past.length, dtype=net.dtype, device=net.device)
        for delay, product in recurrent:
            product.addmm(found, past.delayed(delay), beta=1.0, alpha=1.0, out=found)
        for delay, product in inputs:
            product.addmm(found, of_inputs.delayed(delay - 1), beta=1.0, alpha=1.0, out=found)
        if TONIC in kinds:
            add(found, TONIC, tonic[onto, None].expand(-1, found.shape[1]))
        if stim is not None:
            add(found, STIMULUS, stim[onto].reshape(len(onto), -1))
        block = found.view(*axes, -1).permute(0, 1, 3, 4, 2)
        block = block if rows.split else block[:, 0]
        values[..., times, :] = block.cpu().numpy()


# ---------------------------------------------------------------- on disk


@contextmanager
def _store(
    path: Path, template: xarray.Dataset, dims: Sequence[str], shape: Sequence[int], dtype: np.dtype[Any],
    length: int, attrs: dict[str, Any],
) -> Iterator[Any]:
    """An array in a new Zarr store with these coordinates, which is at ``path`` once it is whole."""
    zarr = need("zarr", "currents on disk")
    try:
        with replacing_folder(path) as partial:
            template.to_zarr(partial, mode="w", zarr_format=2, consolidated=False)
            group = zarr.open_group(str(partial), mode="r+", zarr_format=2)
            chunks = (1, *shape[1:-2], length, max(shape[-1], 1))
            names = " ".join(str(n) for n, c in template.coords.items() if n not in c.dims and c.dims)
            attributes = {"_ARRAY_DIMENSIONS": list(dims), "coordinates": names, **attrs}
            sizes = {"shape": shape, "chunks": chunks, "fill_value": np.nan}
            yield group.create_array("current", dtype=dtype, attributes=attributes, **sizes)
            zarr.consolidate_metadata(str(partial), zarr_format=2)
    except OSError as error:
        what = f"cannot write {path}: {reason(error)}"
        raise AnalysisError(f"{what}. Nothing was left half-written.") from error
