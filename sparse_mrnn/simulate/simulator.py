"""A network as a Stepper: effective weights grouped by delay, with gains, and the state at the start."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from sparse_mrnn.models.base import mRNNBase
from sparse_mrnn.models.delays import DelayGroup, group_by_delay, steps_of
from sparse_mrnn.models.weights import SparseWeights
from sparse_mrnn.ops.backends import CsrOperator, Operator
from sparse_mrnn.ops.delayed import DelayedProduct, DelayedWeights
from sparse_mrnn.ops.pattern import Pattern
from sparse_mrnn.ops.stepper import Stepper
from sparse_mrnn.ops.steps import Noise
from sparse_mrnn.simulate.schedule import Factors


class Side:
    """One weight matrix of a network, "recurrent" or "input", for products without gradients."""

    def __init__(self, net: mRNNBase, kind: str) -> None:
        self.net, self.kind = net, kind
        self.weights: SparseWeights = net._weights(kind)
        steps = steps_of(self.weights, net.dt)
        self.longest = int(steps.max(initial=1))
        self.groups = group_by_delay(self.weights, steps)
        plain = self.longest == 1 and kind == "recurrent"  # with delays, each one is a CSR matrix
        self.operand = self.weights.operand(net.chosen_backend if plain else "csr")
        self.ranges: list[tuple[int, int, int]] = []
        self.members: list[tuple[int, ...]] = []  # per group, which ranges its sources are
        self.operators: list[Operator] = []
        self._plan_history(steps)

    def _plan_history(self, steps: np.ndarray) -> None:
        """Ranges of units whose past is needed: a region is kept for as long as its own longest delay."""
        layout = self.net.layout(self.kind)
        place = layout.index
        longest: dict[int, int] = {}
        wanted: dict[int, set[int]] = {}  # regions of each delay
        for (source, _, _), delay in zip(self.weights.projections, steps.tolist(), strict=True):
            if delay > 1:
                longest[place[source]] = max(longest.get(place[source], 0), delay)
                wanted.setdefault(delay, set()).add(place[source])
        for region in sorted(longest):
            self.ranges.append((int(layout.ptr[region]), int(layout.ptr[region + 1]), longest[region]))
        at = {region: k for k, region in enumerate(sorted(longest))}
        for group in self.groups:
            regions = sorted(wanted.get(group.delay, ())) if group.delay > 1 else []
            self.members.append(tuple(at[region] for region in regions))
            self.operators.append(self._operator(group, regions))

    def _operator(self, group: DelayGroup, regions: Sequence[int]) -> Operator:
        """The synapses of a delay, with only the source units of some regions as columns where there is a delay."""
        if group.delay == 1:
            return self.operand.operator if group.entries is None else CsrOperator(group.pattern)
        layout = self.net.layout(self.kind)
        sources = np.concatenate([np.arange(layout.ptr[r], layout.ptr[r + 1]) for r in regions])
        column = np.zeros(layout.n, dtype=np.int64)
        column[sources] = np.arange(len(sources))
        col = torch.from_numpy(column).to(group.pattern.col)[group.pattern.col.long()]
        return CsrOperator(Pattern(group.pattern.crow, col, (group.pattern.shape[0], len(sources))))

    @torch.no_grad()
    def delayed_weights(self, factors: dict[int, float]) -> list[DelayedWeights]:
        """Effective weights, with the gain of the projections that have one."""
        net, weights = self.net, self.weights
        gain = None
        if factors:
            gain = weights.all_values().new_ones(len(weights.projections))
            for block, by in factors.items():
                gain[block] = by
        constrained = net.rec_constrained if self.kind == "recurrent" else net.inp_constrained
        values = weights.stored_values(self.operand, constrained=constrained, gain=gain).detach()
        found = []
        for group, operator, members in zip(self.groups, self.operators, self.members, strict=True):
            own = values if group.entries is None else values[group.entries.long()]
            if own.numel():
                found.append(DelayedWeights(group.delay, operator, own, members))
        return found


class Simulator:
    """The stepper of a network, and how interventions change its weights."""

    @torch.no_grad()
    def __init__(self, net: mRNNBase, batch: int, noise: Noise | None, *, events: bool) -> None:
        self.recurrent, self.inputs = Side(net, "recurrent"), Side(net, "input")
        x0, h0 = net.batched_initial_condition(batch)
        x = x0.t().contiguous().detach().clone()
        h = h0.t().contiguous().detach().clone()
        self.u: Tensor = x.new_zeros(self.inputs.weights.shape[1], batch)
        self.stepper = Stepper(
            x,
            h,
            DelayedProduct(h, self.recurrent.ranges, events=events),
            DelayedProduct(self.u, self.inputs.ranges, events=False),
            alpha=net.alpha,
            activation=net._segments,
            bias=net.tonic_inp.detach() if net._has_bias else None,
            noise=noise,
        )
        self._factors: Factors | None = None

    def set_factors(self, factors: Factors) -> None:
        """Use these gains from now on."""
        before = self._factors or {"recurrent": None, "input": None}  # type: ignore[dict-item]
        for kind, side, product in (
            ("recurrent", self.recurrent, self.stepper.recurrent),
            ("input", self.inputs, self.stepper.inputs),
        ):
            if before[kind] != factors[kind]:
                product.set_weights(side.delayed_weights(factors[kind]))
        self._factors = factors
