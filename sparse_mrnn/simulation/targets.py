"""From the names of regions, parents, inputs and units to unit numbers of a network."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray

from sparse_mrnn.errors import RecordingError, StimulusError, UnknownNameError, suggest
from sparse_mrnn.models.network import mRNNBase
from sparse_mrnn.ops.stream import Units
from sparse_mrnn.recording import Record
from sparse_mrnn.stimulus import UnitSelection

KINDS = ("recurrent", "input")


def unit_labels(net: mRNNBase, kind: str = "recurrent") -> tuple[NDArray[np.str_], NDArray[np.str_]]:
    """Region and id of every unit; units without an id are called region[k]."""
    layout = net.layout(kind)
    names = np.array([r.name for r in layout.regions] or [""], dtype=np.str_)
    region = np.repeat(names[: len(layout.regions)], [r.n for r in layout.regions])
    return region, np.array(layout.unit_ids, dtype=np.str_)


def locate(net: mRNNBase, name: str, what: str) -> tuple[str, NDArray[np.int64]]:
    """Kind ("recurrent" or "input") and unit numbers of a region, a parent, an input, or one unit by its id.

    A region goes before a unit of the same name.

    Parameters
    ----------
    net : mRNN or ElmanmRNN
    name : str
    what : str
        What asks, for messages.

    Raises
    ------
    UnknownNameError
        If there is none of that name, or units of several regions have it; the message says where it looked.

    Examples
    --------
    >>> import sparse_mrnn as sm
    >>> g = sm.RegionGraph(); g.add_region("touch", 2, unit_ids=["ALML", "ALMR"])
    >>> locate(sm.mRNN(g, device="cpu"), "ALMR", "a stimulus")
    ('recurrent', array([1]))
    """
    layouts = {kind: net.layout(kind) for kind in KINDS}
    for kind, layout in layouts.items():
        if name in layout.groups:
            return kind, layout.indices(name)
    found = [(kind, unit) for kind, layout in layouts.items() for unit in layout.units_by_id.get(name, ())]
    if len(found) == 1:
        return found[0][0], np.array([found[0][1]])
    if found:
        used = " and ".join(repr(layouts[kind].region_of(unit)[0].name) for kind, unit in found)
        advice = "name the region, and the unit in units="
        raise UnknownNameError(f"{what}: unit id {name!r} is used in {used}; {advice}.")
    regions, inputs = layouts["recurrent"], layouts["input"]
    known = [*regions.groups, *inputs.groups, *regions.unit_ids, *inputs.unit_ids]
    parents = len(regions.groups) - len(regions.regions)
    counts = f"{len(regions.regions):,} regions, {parents:,} parents, {len(inputs.regions):,} inputs"
    looked = f"looked at {counts} and the ids of {regions.n + inputs.n:,} units"
    raise UnknownNameError(f"{what}: there is no {name!r}; {looked}. {suggest(name, known, what='names')}")


def find_units(
    net: mRNNBase, chosen: UnitSelection, region: str, rng: np.random.Generator
) -> tuple[str, NDArray[np.int64]]:
    """Kind ("recurrent" or "input") and unit numbers, sorted, of a stimulus or an intervention.

    Raises
    ------
    UnknownNameError
        As `locate`.
    StimulusError
        If the region has no such unit, or the fraction is of no unit.
    """
    kind, units = locate(net, region, chosen.label)
    if chosen.units is not None:
        ids = unit_labels(net, kind)[1][units]
        number = {str(unit): int(k) for unit, k in zip(ids, units, strict=True)}
        for unit in chosen.units:
            if unit not in number:
                hint = suggest(unit, number, what="unit ids")
                raise StimulusError(f"{chosen.label}: region {region!r} has no unit {unit!r}. {hint}")
        units = np.unique([number[unit] for unit in chosen.units])
    if chosen.fraction is not None:
        count = round(chosen.fraction * len(units))
        if count == 0:
            text = f"a fraction of {chosen.fraction:g} of {len(units)} units is no unit"
            raise StimulusError(f"{chosen.label}: {text}.")
        units = np.sort(rng.choice(units, count, replace=False))
    return kind, units


def recorded_units(net: mRNNBase, record: Record) -> NDArray[np.int64]:
    """Units that a recording keeps: names in the order given, each in unit order, none twice.

    Raises
    ------
    UnknownNameError
        As `locate`.
    RecordingError
        If a name is of an input, statistics of a single unit are asked for, or there is no such unit among
        the regions.
    """
    units = np.arange(net.layout().n)
    if record.regions is not None:
        parts = []
        for name in record.regions:
            kind, found = locate(net, name, "record")
            if kind == "input":
                raise RecordingError(f"record: {name!r} is an input; only recurrent units have h and x.")
            if set(record.what) != {"units"} and name not in net.layout().groups:
                statistics = " and ".join(sorted(set(record.what) - {"units"}))
                raise RecordingError(f"record: {name!r} is one unit; {statistics} are of regions or parents.")
            parts.append(found)
        units = np.array(list(dict.fromkeys(np.concatenate(parts).tolist())), dtype=np.int64)
    if record.units is not None:
        ids = unit_labels(net)[1][units]
        known = set(ids.tolist())
        for unit in record.units:
            if unit not in known:
                where = "" if record.regions is None else f" in {', '.join(record.regions)}"
                looked = f"looked at {len(ids):,} units{where}"
                hint = suggest(unit, ids.tolist(), what="unit ids")
                raise RecordingError(f"record: there is no unit {unit!r}; {looked}. {hint}")
        units = units[np.isin(ids, record.units)]
    return units


def as_index(units: NDArray[np.int64], device: torch.device) -> Units:
    """A slice where the units are a range, else their numbers on a device."""
    if len(units) and int(units[-1]) - int(units[0]) + 1 == len(units):
        return slice(int(units[0]), int(units[-1]) + 1)
    return torch.from_numpy(units).to(device)
