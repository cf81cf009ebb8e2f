"""screen: activate and silence cell types one after the other, and tabulate how the rates change."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from sparse_mrnn.analysis.sweep import Mode, sweep
from sparse_mrnn.checks import names_of, real_number
from sparse_mrnn.errors import AnalysisError, UnknownNameError, suggest
from sparse_mrnn.files.digest import digest
from sparse_mrnn.models.network import mRNNBase
from sparse_mrnn.recording import Record
from sparse_mrnn.simulation.fingerprint import network_fingerprint
from sparse_mrnn.simulation.run import simulate
from sparse_mrnn.stimulus import Lesion, Stimulus, Waveform

if TYPE_CHECKING:
    import xarray

Kind = Literal["activation", "silencing"]
KINDS: tuple[Kind, ...] = ("activation", "silencing")


def screen(
    net: mRNNBase,
    duration: float,
    *,
    by: str = "region",
    targets: Sequence[str] | None = None,
    kinds: Sequence[Kind] = KINDS,
    drive: Waveform | float = 1.0,
    start: float = 0.0,
    stop: float | None = None,
    window: tuple[float, float] | None = None,
    stimulus: Sequence[Stimulus] | Stimulus | None = None,
    variable: str = "h",
    batch: int = 1,
    noise: bool = False,
    seed: int = 0,
    out: str | os.PathLike[str] | None = None,
    mode: Mode = "create",
    progress: bool = True,
) -> xarray.Dataset:
    """Activate and silence every cell type in turn, and tabulate the change of each region's mean activity.

    Every run starts from the initial condition, with the same seed, and is compared with a control run.

    Parameters
    ----------
    net : mRNN or ElmanmRNN
    duration : float
        Length of each run, ms.
    by : str
        What is perturbed at a time: "region", or a column of the table of units, such as "cell_type", whose
        values are the targets.
    targets : sequence of str, optional
        Only these regions (or parents, or units by their ids), or values of the column. Default: all; units
        with an empty value of the column are left out.
    kinds : sequence of {"activation", "silencing"}
        Activation adds ``drive`` to the target's units, silencing holds their activity at 0.
    drive : Waveform or float
        Current of an activation; a number is constant.
    start, stop : float
        When the target is perturbed, ms. Default: during the whole run.
    window : (float, float), optional
        Rates are means over the times from the first up to, and with, the second, ms. Default: from ``start``
        to ``stop``.
    stimulus : Stimulus, or sequence of them
        What drives every run, the control too: silencing changes nothing in a network that is silent.
    variable : str
        State whose mean is the rate: h, the activity, or another one that `Record` takes.
    batch : int
        Trials of each run; rates are means over them.
    noise : bool
        Add the network's noise, the same in every run.
    seed : int
        Of noise and random stimuli.
    out : path, optional
        Zarr store to write, resumable as that of `sweep`.
    mode : {"create", "overwrite", "resume"}
        As for `sweep`.
    progress : bool
        Draw a bar on standard error, if that is a terminal.

    Returns
    -------
    xarray.Dataset
        ``rate`` and ``change`` (rate minus control), both (kind, target, region), and ``control`` (region).

    Raises
    ------
    AnalysisError
        If an option is not possible.
    UnknownNameError
        If a target or the column does not exist.
    ResumeError, SweepStopped
        As for `sweep`; a resumed screen must have the same network and options.

    Examples
    --------
    >>> import sparse_mrnn as sm
    >>> g = sm.RegionGraph(); g.add_region("a", 2); g.add_region("b", 3); g.add_projection("a", "b")
    >>> found = screen(sm.mRNN(g, device="cpu", seed=0), 200, kinds=["activation"], progress=False)
    >>> found.change.sizes["region"], bool(found.change.sel(kind="activation", target="a", region="b") > 0)
    (2, True)
    >>> float(found.change.sel(kind="activation", target="b", region="a").item())
    0.0
    """
    acts = _kinds(kinds)
    chosen = _targets(net, by, targets)
    first, last = _window(window, start, stop, duration)
    given = (stimulus,) if isinstance(stimulus, Stimulus) else tuple(stimulus or ())
    options: dict[str, Any] = dict(
        record=Record(what=["mean"], variables=[variable]),  # type: ignore[list-item]  # checked by the run
        batch=batch, noise=noise, seed=seed, progress=False,
    )

    def rates(more: Sequence[Stimulus], lesions: Sequence[Lesion]) -> xarray.DataArray:
        run = simulate(net, duration, stimulus=(*given, *more), interventions=lesions, **options)
        mean = run[f"{variable}_mean"].rename(group="region").astype(float)
        inside = (run.time.values > first) & (run.time.values <= last + 1e-6 * net.dt)
        if not inside.any():
            within = f"within {first:g} to {last:g} ms"
            raise AnalysisError(f"screen: no time step of {net.dt:g} ms ends {within}.")
        found: xarray.DataArray = mean[:, inside].mean(("trial", "time"))
        return found

    def perturbed(kind: str, target: str) -> dict[str, xarray.DataArray]:
        where: dict[str, Any] = dict(region=target) if by == "region" else dict(units={by: [target]})
        where |= dict(start=start, stop=stop)
        acting = [Stimulus(waveform=drive, **where)] if kind == "activation" else []
        rate = rates(acting, [Lesion(**where)] if kind == "silencing" else [])
        return {"rate": rate, "change": rate - control}

    facts: dict[str, Any] = {}
    if out is not None:
        facts = dict(network=digest(network_fingerprint(net)), duration=duration, by=by, start=start)
        facts |= dict(stop=stop, window=[first, last], variable=variable, batch=batch, noise=noise, seed=seed)
        facts |= dict(stimulus=[each.to_spec() for each in given])
        facts |= dict(drive=Stimulus("target", drive).to_spec())
    control = rates([], [])
    found = sweep(
        perturbed, {"kind": acts, "target": chosen}, out=out, mode=mode, identity=facts, progress=progress
    )
    found = found.assign(control=control)
    found.attrs |= dict(by=by, variable=variable, window=[first, last])
    if out is not None:
        found[["control"]].to_zarr(out, mode="a", zarr_format=2)
    return found


def _kinds(kinds: Any) -> list[str]:
    found = names_of(kinds, "screen: kinds", AnalysisError)
    for kind in found:
        if kind not in KINDS:
            hint = suggest(kind, KINDS)
            raise AnalysisError(f"screen: kinds has {kind!r}; use 'activation' or 'silencing'. {hint}")
    return list(found)


def _targets(net: mRNNBase, by: str, targets: Sequence[str] | None) -> list[str]:
    """Return the regions, or values of a column, to perturb, checked."""
    if by == "region":
        given = list(net.hid_regions)
        if targets is not None:
            given = list(names_of(targets, "screen: targets", AnalysisError))
        for name in given:
            net.names.find(name, "screen")
        return given
    table = net.layout().table
    if by not in table:
        hint = suggest(by, ["region", *table], what="columns")
        raise UnknownNameError(f"screen: units have no column {by!r}. {hint}")
    values: NDArray[Any] = table[by]
    every = dict.fromkeys(values.tolist())
    present = [value for value in every if value not in ("", None) and value == value]
    if targets is not None:
        wanted = names_of(targets, "screen: targets", AnalysisError)
        for name in wanted:
            net.names.where({by: name}, "screen")
        return list(wanted)
    if not present:
        raise AnalysisError(f"screen: the column {by!r} is empty; choose another one.")
    return [str(value) for value in present]


def _window(window: Any, start: float, stop: float | None, duration: float) -> tuple[float, float]:
    """Return the times over which rates are means."""
    if window is None:
        return float(start), float(duration if stop is None else stop)
    if not isinstance(window, Sequence) or isinstance(window, str) or len(window) != 2:
        raise AnalysisError(f"screen: window is {window!r}; give its start and stop, ms.")
    first, last = (float(real_number(end, "screen: window", AnalysisError)) for end in window)
    if not 0 <= first < last <= duration:
        raise AnalysisError(f"screen: window {first:g} to {last:g} ms is not within 0 to {duration:g} ms.")
    return first, last


def strongest(found: xarray.Dataset, kind: str, target: str) -> list[tuple[str, float]]:
    """Return the regions whose rate changed, and by how much, the most changed first.

    Examples
    --------
    >>> import xarray as xr
    >>> axes = {"kind": ["silencing"], "target": ["a"], "region": ["a", "b", "c"]}
    >>> strongest(xr.Dataset({"change": (list(axes), [[[0.0, 0.5, -2.0]]])}, axes), "silencing", "a")
    [('c', -2.0), ('b', 0.5)]
    """
    change = found.change.sel(kind=kind, target=target)
    names, values = change["region"].values.tolist(), change.values
    return [(names[k], float(values[k])) for k in np.argsort(-np.abs(values), kind="stable") if values[k]]
