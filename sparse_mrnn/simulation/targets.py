"""Units of a simulation: those that a stimulus or an intervention reaches, and those that are recorded."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch
from numpy.typing import NDArray

from sparse_mrnn.errors import RecordingError, StimulusError
from sparse_mrnn.lowering.layout import find_ids
from sparse_mrnn.models.network import mRNNBase
from sparse_mrnn.ops.step import Units
from sparse_mrnn.recording import Record
from sparse_mrnn.stimulus import UnitSelection


def find_units(
    net: mRNNBase, chosen: UnitSelection, region: str | None, rng: np.random.Generator
) -> tuple[str, NDArray[np.int64]]:
    """Find the kind ("recurrent" or "input") and the units, ascending, of a stimulus or an intervention.

    Without a region, its ``units`` may be in any. A StimulusError says if the region does not have one of the
    units, or the fraction is less than a unit.
    """
    if region is None:
        return "recurrent", _without_region(net, chosen)
    kind, units = net.names.find(region, chosen.label)
    if isinstance(chosen.units, Mapping):
        units = units[np.isin(units, net.names.where(chosen.units, chosen.label))]
        if kind == "input" or not len(units):
            raise StimulusError(f"{chosen.label}: no unit of {region!r} has {dict(chosen.units)!r:.200}.")
    elif chosen.units is not None:
        ids = net.layout(kind).labels()[1][units]
        what = f"{chosen.label}: region {region!r}"
        units = np.unique(units[find_ids(chosen.units, ids, what, StimulusError)])
    if chosen.fraction is not None:
        count = round(chosen.fraction * len(units))
        if count == 0:
            text = f"a fraction of {chosen.fraction:g} of {len(units)} units is less than one unit"
            raise StimulusError(f"{chosen.label}: {text}.")
        units = np.sort(rng.choice(units, count, replace=False))
    return kind, units


def _without_region(net: mRNNBase, chosen: UnitSelection) -> NDArray[np.int64]:
    """Find the units of any region by columns of their table, or by ids, which must be unambiguous."""
    if isinstance(chosen.units, Mapping):
        return net.names.where(chosen.units, chosen.label)
    found = [net.names.unit(unit, chosen.label) for unit in chosen.units or ()]
    if any(kind == "input" for kind, _ in found):
        raise StimulusError(f"{chosen.label}: a channel of an input is among the units; name the input.")
    return np.unique(np.array([unit for _, unit in found], dtype=np.int64))


def recorded_units(net: mRNNBase, record: Record) -> NDArray[np.int64]:
    """Find the units that a recording keeps: names in the order given, each in unit order, without repeats.

    A RecordingError says if a name is that of an input, statistics of a single unit are asked for, or a unit
    is not among the regions.
    """
    units = np.arange(net.layout().n)
    where = "the network"
    if record.regions is not None:
        where, parts = ", ".join(record.regions), []
        for name in record.regions:
            kind, found = net.names.find(name, "record")
            if kind == "input":
                raise RecordingError(f"record: {name!r} is an input; only recurrent units have h and x.")
            if set(record.what) - {"units", "spikes"} and name not in net.layout().groups:
                statistics = " and ".join(sorted(set(record.what) - {"units", "spikes"}))
                raise RecordingError(f"record: {name!r} is one unit; {statistics} are of regions or parents.")
            parts.append(found)
        units = np.array(list(dict.fromkeys(np.concatenate(parts).tolist())), dtype=np.int64)
    if isinstance(record.units, Mapping):
        units = units[np.isin(units, net.names.where(record.units, "record"))]
        if not len(units):
            raise RecordingError(f"record: no unit of {where} has {dict(record.units)!r:.200}.")
    elif record.units is not None:
        ids = net.layout().labels()[1][units]
        find_ids(record.units, ids, f"record: {where}", RecordingError)
        units = units[np.isin(ids, record.units)]  # an id of several regions is recorded in each of them
    return units


def as_index(units: NDArray[np.int64], device: torch.device) -> Units:
    """Make a slice of units that are a range, and a tensor of their numbers of others."""
    if len(units) and int(units[-1]) - int(units[0]) + 1 == len(units):
        return slice(int(units[0]), int(units[-1]) + 1)
    return torch.from_numpy(units).to(device)
