"""Interventions of a run on the units and projections of a network, step by step."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from sparse_mrnn.declaration.graph import projection_label
from sparse_mrnn.errors import InterventionError, suggest
from sparse_mrnn.models.network import mRNNBase
from sparse_mrnn.ops.step import Units
from sparse_mrnn.ops.stream import HeldStates
from sparse_mrnn.simulation.targets import as_index, find_units
from sparse_mrnn.stimulus import Clamp, Gain, Intervention, Lesion

Factors = dict[str, dict[int, float]]
"""Gains: kind of source, or "electrical" -> number of the projection -> factor; 1 without an entry."""


@dataclass(frozen=True, eq=False)
class PlacedIntervention:
    """An intervention on a network: its steps, and its units or projections."""

    intervention: Intervention
    start: int
    stop: int
    kind: str
    units: Units
    blocks: tuple[int, ...] = ()


class InterventionSchedule:
    """All interventions of a run, in the order in which they are applied.

    A gain, and the lesion of an input, act on the transmission of the steps start <= step < stop. The
    lesion of units and a clamp hold the states at the times start <= time < stop. At each step gains come
    first, then the dynamics, then clamps of x, clamps of h, and lesions, which thus win over clamps.
    """

    def __init__(
        self, net: mRNNBase, interventions: Sequence[Intervention], steps: int, seeds: np.random.SeedSequence
    ) -> None:
        self.placed: list[PlacedIntervention] = []
        taken: list[tuple[Clamp, int, int, set[int]]] = []
        for one, seed in zip(interventions, seeds.spawn(len(interventions)), strict=True):
            start, stop = one.steps(net.dt, steps)
            if isinstance(one, Gain):
                for kind, blocks in _projections(net, one).items():
                    self.placed.append(PlacedIntervention(one, start, stop, kind, slice(0), blocks))
                continue
            if not isinstance(one, (Lesion, Clamp)):
                name = type(one).__name__
                raise InterventionError(f"{name} is not an intervention; use Lesion, Clamp or Gain.")
            if one.stop is None or one.stop > (steps + 0.5) * net.dt:
                stop = steps + 1  # the state at the end, too
            kind, units = find_units(net, one, one.region, np.random.default_rng(seed))
            if isinstance(one, Clamp):
                if kind == "input":
                    raise InterventionError(f"{one.label}: it is an input; give it a stimulus instead.")
                _check_range(net, one.label, "value", float(one.value or 0.0))
                if net.equation.spiking and one.variable == "h":
                    what = "spikes ('h') cannot be held; clamp the potential ('x'), or lesion the units"
                    raise InterventionError(f"{one.label}: {what}.")
                for other, first, last, those in taken:
                    overlap = start < last and first < stop and those & set(units.tolist())
                    if overlap and one.variable == other.variable:
                        times = [f"{min(step, steps) * net.dt:g}" for step in (start, stop, first, last)]
                        raise InterventionError(
                            f"{one.label} from {times[0]} to {times[1]} ms contradicts the {other.label} "
                            f"from {times[2]} to {times[3]} ms: they share units and time; separate them."
                        )
                taken.append((one, start, stop, set(units.tolist())))
            self.placed.append(PlacedIntervention(one, start, stop, kind, as_index(units, net.device)))
        self.edges = {edge for p in self.placed for edge in (p.start, p.stop)}
        for factors in (self.factors(step) for step in self.edges):
            for factor in (factor for of_kind in factors.values() for factor in of_kind.values()):
                label = next(p.intervention.label for p in self.placed if isinstance(p.intervention, Gain))
                _check_range(net, label, "factor, with those of other gains at the same time,", factor)

    def _now(self, kind: type[Intervention], step: int) -> list[PlacedIntervention]:
        """Return the interventions of a kind that hold in a step, or at a time in steps."""
        return [p for p in self.placed if p.start <= step < p.stop and isinstance(p.intervention, kind)]

    def factors(self, step: int) -> Factors:
        """Return the gains of the transmission of a step."""
        found: Factors = {"recurrent": {}, "input": {}, "electrical": {}}
        for p in self._now(Gain, step):
            for block in p.blocks:
                factor: float = p.intervention.factor  # type: ignore[attr-defined]
                found[p.kind][block] = found[p.kind].get(block, 1.0) * factor
        return found

    def silent_inputs(self, step: int) -> list[Units]:
        """Return the input channels that are lesioned in a step."""
        return [p.units for p in self._now(Lesion, step) if p.kind == "input"]

    def held(self, time: int) -> HeldStates:
        """Return what holds the states at a time, given in steps."""
        values: dict[str, list[tuple[Units, float]]] = {"x": [], "h": []}
        for p in self._now(Clamp, time):
            clamp: Any = p.intervention
            values[clamp.variable].append((p.units, clamp.value))
        lesions = [p.units for p in self._now(Lesion, time) if p.kind == "recurrent"]
        return HeldStates(values["x"], values["h"], lesions)


def _check_range(net: mRNNBase, label: str, what: str, value: float) -> None:
    """Refuse a number that is infinite in the precision of the network."""
    if abs(value) > torch.finfo(net.dtype).max:
        raise InterventionError(f"{label}: the {what} is {value:g}, which {net.dtype} cannot hold.")


def _projections(net: mRNNBase, gain: Gain) -> dict[str, tuple[int, ...]]:
    """Numbers of the projections that a gain scales, by kind: of chemical and of electrical synapses."""
    if net.kind_of(gain.target) == "input":
        what = f"{gain.target!r} is an input; projections end in recurrent regions"
        raise InterventionError(f"{gain.label}: {what}.")
    kind, between = net.projections(gain.source, gain.target)
    electrical, ends = net.electrical, (net.names.members, gain.source, gain.target)
    paired = [] if electrical is None else electrical.between(*ends)
    if not (between or paired):
        raise InterventionError(f"{gain.label}: the network has no such projection.")
    found = net.projections(gain.source, gain.target, gain.key)[1]
    chosen = [] if electrical is None else electrical.between(*ends, gain.key)
    if electrical is not None and gain.factor < 0 and chosen:
        label = projection_label(*electrical.names[chosen[0]])
        raise InterventionError(f"{gain.label}: {label} is electrical; a conductance cannot become negative.")
    if not (found or chosen):
        keys = [net.weights(kind).all_projections[k][2] for k in between]
        keys += [] if electrical is None else [electrical.names[k][2] for k in paired]
        known = suggest(gain.key, keys, what="keys")
        raise InterventionError(f"{gain.label}: no projection has the key {gain.key!r}. {known}")
    return {name: of for name, of in ((kind, found), ("electrical", tuple(chosen))) if of}
