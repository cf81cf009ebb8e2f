"""Interventions at work: what they make of a network at each time step."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from sparse_mrnn.errors import InterventionError, suggest
from sparse_mrnn.models.base import mRNNBase
from sparse_mrnn.models.weights import SparseWeights
from sparse_mrnn.ops.stepper import Held, Units
from sparse_mrnn.simulate.targets import as_index, find_units
from sparse_mrnn.stimulus import Clamp, Gain, Intervention, Lesion

Factors = dict[str, dict[int, float]]
"""Gain of projections that have one: kind of source -> number of the projection -> factor."""


@dataclass(frozen=True, eq=False)
class Placed:
    """An intervention on a network: its steps, and the units or projections it is about."""

    act: Intervention
    start: int
    stop: int
    kind: str
    units: Units
    blocks: tuple[int, ...] = ()


class Schedule:
    """All interventions of a run, in the order in which they are applied.

    A gain, and the lesion of an input, act on what is transmitted in the steps start <= step < stop. The lesion of
    units and a clamp hold the states at the times start <= time < stop. At each step gains come first, then the
    dynamics, then clamps of x, clamps of h, and lesions, which thus win over clamps.
    """

    def __init__(self, net: mRNNBase, acts: Sequence[Intervention], steps: int, seeds: np.random.SeedSequence) -> None:
        self.placed: list[Placed] = []
        taken: list[tuple[Clamp, int, int, set[int]]] = []
        for act, seed in zip(acts, seeds.spawn(len(acts)), strict=True):
            start, stop = act.steps(net.dt, steps)
            if isinstance(act, Gain):
                kind, blocks = _projections(net, act)
                self.placed.append(Placed(act, start, stop, kind, slice(0), blocks))
                continue
            if not isinstance(act, (Lesion, Clamp)):
                raise InterventionError(f"{type(act).__name__} is no intervention; use Lesion, Clamp or Gain.")
            if act.stop is None or act.stop > (steps + 0.5) * net.dt:
                stop = steps + 1  # the state at the end, too
            kind, units = find_units(net, act, act.region, np.random.default_rng(seed))
            if isinstance(act, Clamp):
                if kind == "input":
                    raise InterventionError(f"{act.label}: it is an input; give it a stimulus instead.")
                for other, first, last, those in taken:
                    if act.variable == other.variable and start < last and first < stop and those & set(units.tolist()):
                        raise InterventionError(
                            f"{act.label} from {start * net.dt:g} to {min(stop, steps) * net.dt:g} ms contradicts the {other.label} from "
                            f"{first * net.dt:g} to {min(last, steps) * net.dt:g} ms: they share units and time; separate them."
                        )
                taken.append((act, start, stop, set(units.tolist())))
            self.placed.append(Placed(act, start, stop, kind, as_index(units, net.device)))
        self.edges = {edge for p in self.placed for edge in (p.start, p.stop)}

    def _now(self, step: int, wanted: Callable[[Placed], bool]) -> list[Placed]:
        return [p for p in self.placed if p.start <= step < p.stop and wanted(p)]

    def factors(self, step: int) -> Factors:
        """Gains of the transmission of a step."""
        found: Factors = {"recurrent": {}, "input": {}}
        for p in self._now(step, lambda p: isinstance(p.act, Gain)):
            for block in p.blocks:
                found[p.kind][block] = found[p.kind].get(block, 1.0) * p.act.factor  # type: ignore[attr-defined]
        return found

    def silent_inputs(self, step: int) -> list[Units]:
        """Input channels that are lesioned in a step."""
        return [p.units for p in self._now(step, lambda p: p.kind == "input" and isinstance(p.act, Lesion))]

    def held(self, time: int) -> Held:
        """What holds the states at a time, in steps."""
        clamps = [(p.act, p.units) for p in self._now(time, lambda p: isinstance(p.act, Clamp))]
        lesions = self._now(time, lambda p: p.kind == "recurrent" and isinstance(p.act, Lesion))
        values = {v: [(units, a.value) for a, units in clamps if isinstance(a, Clamp) and a.variable == v] for v in ("x", "h")}
        return Held(values["x"], values["h"], [p.units for p in lesions])


def _projections(net: mRNNBase, act: Gain) -> tuple[str, tuple[int, ...]]:
    kind = net._kind(act.source)
    if net._kind(act.target) == "input":
        raise InterventionError(f"{act.label}: {act.target!r} is an input; projections end in recurrent regions.")
    sources, targets = set(net.layout(kind).members(act.source)), set(net.layout().members(act.target))
    weights: SparseWeights = net._weights(kind)
    between = [(k, key) for k, (s, t, key) in enumerate(weights.projections) if s in sources and t in targets]
    if not between:
        raise InterventionError(f"{act.label}: there is no such projection.")
    found = tuple(k for k, key in between if act.key in (None, key))
    if not found:
        known = suggest(act.key, [k for _, k in between], what="keys")
        raise InterventionError(f"{act.label}: no projection has the key {act.key!r}. {known}")
    return kind, found
