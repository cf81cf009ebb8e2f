"""From region names and unit ids to unit numbers of a network."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray

from sparse_mrnn.errors import StimulusError, suggest
from sparse_mrnn.models.base import mRNNBase
from sparse_mrnn.ops.streaming import Units
from sparse_mrnn.stimulus import UnitSelection


def unit_labels(net: mRNNBase, kind: str = "recurrent") -> tuple[NDArray[np.str_], NDArray[np.str_]]:
    """Region and id of every unit; units without an id are called region[k]."""
    regions = net.layout(kind).regions
    names = np.array([r.name for r in regions] or [""], dtype=np.str_)
    region = np.repeat(names[: len(regions)], [r.n for r in regions])
    ids = [unit for r in regions for unit in (r.unit_ids or (f"{r.name}[{k}]" for k in range(r.n)))]
    return region, np.array(ids, dtype=np.str_)


def find_units(
    net: mRNNBase, chosen: UnitSelection, region: str, rng: np.random.Generator
) -> tuple[str, NDArray[np.int64]]:
    """Kind ("recurrent" or "input") and unit numbers, sorted, of a stimulus or an intervention.

    Raises
    ------
    UnknownNameError
        If there is no such region.
    StimulusError
        If the region has no such unit, or the fraction is of no unit.
    """
    kind = net.kind_of(region)
    units = net.layout(kind).indices(region)
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


def as_index(units: NDArray[np.int64], device: torch.device) -> Units:
    """A slice where the units are a range, else their numbers on a device."""
    if len(units) and int(units[-1]) - int(units[0]) + 1 == len(units):
        return slice(int(units[0]), int(units[-1]) + 1)
    return torch.from_numpy(units).to(device)
