"""What the interventions of a run make of a network at each time step."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch

from sparse_mrnn.errors import InterventionError, suggest
from sparse_mrnn.models.network import mRNNBase
from sparse_mrnn.ops.stream import HeldStates, Units
from sparse_mrnn.simulation.targets import as_index, find_units
from sparse_mrnn.stimulus import Clamp, Gain, Intervention, Lesion

Factors = dict[str, dict[int, float]]
"""Gain of projections that have one: kind of source -> number of the projection -> factor."""


@dataclass(frozen=True, eq=False)
class PlacedIntervention:
    """An intervention on a network: its steps, and the units or projections it is about."""

    act: Intervention
    start: int
    stop: int
    kind: str
    units: Units
    blocks: tuple[int, ...] = ()


class InterventionSchedule:
    """All interventions of a run, in the order in which they are applied.

    A gain, and the lesion of an input, act on what is transmitted in the steps start <= step < stop. The
    lesion of units and a clamp hold the states at the times start <= time < stop. At each step gains come
    first, then the dynamics, then clamps of x, clamps of h, and lesions, which thus win over clamps.
    """

    def __init__(
        self, net: mRNNBase, acts: Sequence[Intervention], steps: int, seeds: np.random.SeedSequence
    ) -> None:
        self.placed: list[PlacedIntervention] = []
        taken: list[tuple[Clamp, int, int, set[int]]] = []
        for act, seed in zip(acts, seeds.spawn(len(acts)), strict=True):
            start, stop = act.steps(net.dt, steps)
            if isinstance(act, Gain):
                kind, blocks = _projections(net, act)
                self.placed.append(PlacedIntervention(act, start, stop, kind, slice(0), blocks))
                continue
            if not isinstance(act, (Lesion, Clamp)):
                name = type(act).__name__
                raise InterventionError(f"{name} is no intervention; use Lesion, Clamp or Gain.")
            if act.stop is None or act.stop > (steps + 0.5) * net.dt:
                stop = steps + 1  # the state at the end, too
            kind, units = find_units(net, act, act.region, np.random.default_rng(seed))
            if isinstance(act, Clamp):
                if kind == "input":
                    raise InterventionError(f"{act.label}: it is an input; give it a stimulus instead.")
                _check_range(net, act.label, "value", act.value)
                for other, first, last, those in taken:
                    overlap = start < last and first < stop and those & set(units.tolist())
                    if overlap and act.variable == other.variable:
                        times = [f"{min(step, steps) * net.dt:g}" for step in (start, stop, first, last)]
                        raise InterventionError(
                            f"{act.label} from {times[0]} to {times[1]} ms contradicts the {other.label} "
                            "from "
                            f"{times[2]} to {times[3]} ms: they share units and time; separate them."
                        )
                taken.append((act, start, stop, set(units.tolist())))
            self.placed.append(PlacedIntervention(act, start, stop, kind, as_index(units, net.device)))
        self.edges = {edge for p in self.placed for edge in (p.start, p.stop)}
        for factors in (self.factors(step) for step in self.edges):
            for factor in (*factors["recurrent"].values(), *factors["input"].values()):
                label = next(p.act.label for p in self.placed if isinstance(p.act, Gain))
                _check_range(net, label, "factor, with those of other gains at the same time,", factor)

    def _now(self, step: int, wanted: Callable[[PlacedIntervention], bool]) -> list[PlacedIntervention]:
        return [p for p in self.placed if p.start <= step < p.stop and wanted(p)]

    def factors(self, step: int) -> Factors:
        """Gains of the transmission of a step."""
        found: Factors = {"recurrent": {}, "input": {}}
        for p in self._now(step, lambda p: isinstance(p.act, Gain)):
            for block in p.blocks:
                factor: float = p.act.factor  # type: ignore[attr-defined]
                found[p.kind][block] = found[p.kind].get(block, 1.0) * factor
        return found

    def silent_inputs(self, step: int) -> list[Units]:
        """Input channels that are lesioned in a step."""
        return [p.units for p in self._now(step, lambda p: p.kind == "input" and isinstance(p.act, Lesion))]

    def held(self, time: int) -> HeldStates:
        """What holds the states at a time, in steps."""
        clamps = [(p.act, p.units) for p in self._now(time, lambda p: isinstance(p.act, Clamp))]
        lesions = self._now(time, lambda p: p.kind == "recurrent" and isinstance(p.act, Lesion))
        values: dict[str, list[tuple[Units, float]]] = {"x": [], "h": []}
        for act, units in clamps:
            if isinstance(act, Clamp):
                values[act.variable].append((units, act.value))
        return HeldStates(values["x"], values["h"], [p.units for p in lesions])


def _check_range(net: mRNNBase, label: str, what: str, value: float) -> None:
    """Refuse a number that is infinite in the precision of the network."""
    if abs(value) > torch.finfo(net.dtype).max:
        raise InterventionError(f"{label}: the {what} is {value:g}, which {net.dtype} cannot hold.")


def _projections(net: mRNNBase, act: Gain) -> tuple[str, tuple[int, ...]]:
    if net.kind_of(act.target) == "input":
        what = f"{act.target!r} is an input; projections end in recurrent regions"
        raise InterventionError(f"{act.label}: {what}.")
    kind, between = net.projections(act.source, act.target)
    if not between:
        raise InterventionError(f"{act.label}: there is no such projection.")
    found = net.projections(act.source, act.target, act.key)[1]
    if not found:
        known = suggest(act.key, [net.weights(kind).all_projections[k][2] for k in between], what="keys")
        raise InterventionError(f"{act.label}: no projection has the key {act.key!r}. {known}")
    return kind, found
