"""The part of a network that one rank has: its units, and the synapses that end in them."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator
from dataclasses import dataclass, fields, replace
from functools import partial
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from sparse_mrnn.declaration.graph import Region, RegionGraph
from sparse_mrnn.distributed.halo import Halo
from sparse_mrnn.distributed.partition import Partition
from sparse_mrnn.distributed.product import HaloSynapses, ShardedProduct
from sparse_mrnn.distributed.ranks import Ranks
from sparse_mrnn.lowering.layout import Layout
from sparse_mrnn.lowering.lower import lower, lower_shard
from sparse_mrnn.lowering.random_streams import synapse_stream
from sparse_mrnn.models.delays import delay_groups
from sparse_mrnn.models.fixed_tensors import FixedTensors
from sparse_mrnn.models.learnt_values import LEARNT_VALUES
from sparse_mrnn.models.network import mRNNBase
from sparse_mrnn.models.network_state import NetworkState
from sparse_mrnn.models.prepare import Border, ForwardCall, prepare
from sparse_mrnn.models.weights import SparseWeights
from sparse_mrnn.ops.delays import DelayGroup
from sparse_mrnn.ops.noise import Noise
from sparse_mrnn.ops.sequence import recurrence

UNIT_FIELDS = tuple(f.name for f in fields(Region) if f.name not in ("name", "n", "kind", "parent_region"))


@dataclass(frozen=True, eq=False)
class CommonParameter:
    """A parameter some of whose entries other ranks have, too; ``name`` is empty if this rank has none."""

    name: str
    numbers: Tensor  # of each entry among ``count`` of the whole network; -1: this rank's alone
    count: int


@dataclass(frozen=True)
class ShardedNoise(Noise):
    """The noise of a rank's ``units`` among ``n_units``: it draws that of all units and keeps its own."""

    units: Tensor = dataclasses.field(default_factory=lambda: torch.empty(0, dtype=torch.int64))
    n_units: int = 0

    def on_units(self, out: Tensor) -> Tensor:
        drawn = out.new_empty(self.n_units, out.shape[1]).normal_(generator=self.unit_generator)
        return torch.index_select(drawn, 0, self.units, out=out)


class Shard(FixedTensors):
    """Units, synapses and halo of one rank of the whole network's graph.

    The ``settings`` are arguments of the model, seed and dtype among them; ``constrained`` says if Dale's law
    holds for "recurrent" and "input" weights. ``units`` is a network of the own units without synapses: tonic
    input, initial state, time constants, activations, noise. ``own``, ``cut`` and ``inputs`` are the synapses
    onto them from own units, from the halo, and from inputs.
    """

    index: Tensor  # numbers of the own units in the network

    def __init__(
        self, graph: RegionGraph, partition: Partition, ranks: Ranks, model: type[mRNNBase],
        settings: dict[str, Any], constrained: dict[str, bool],
    ) -> None:
        super().__init__()
        layout, rows = Layout.of(graph), partition.units(ranks.rank)
        self.units = model(_without_projections(layout.cut(rows)), **settings)
        for weights in self.units.weight_matrices():
            weights.requires_grad_(False)  # there are none
        seed, dtype, device = self.units.seed, self.units.dtype, self.units.device
        kind = np.float64 if dtype == torch.float64 else np.float32
        streams = {name: synapse_stream(seed, name) for name in constrained}
        law = constrained["recurrent"], constrained["input"]
        lowered = lower_shard(graph, streams["recurrent"], rows, constrained=law[0], dtype=kind)
        inputs = lower(graph, "input", streams["input"], constrained=law[1], dtype=kind, rows=rows)
        self.own = SparseWeights(lowered.own, dtype, device)
        self.cut = SparseWeights(lowered.halo, dtype, device)
        self.cut.gains = self.own.gains  # one parameter
        self.inputs = SparseWeights(inputs, dtype, device)
        self.fix("index", torch.from_numpy(rows).to(device), persistent=False)
        self._regions = {region.name: k for k, region in enumerate(layout.regions)}
        self.n_units, self.largest = layout.n, int(np.bincount(partition.ranks).max())
        self.halo = Halo(ranks, partition, lowered.halo_units, device)
        self.halo_units: NDArray[np.int64] = lowered.halo_units
        shortest = min((group.delay for group in self._cut_groups()), default=self.longest)
        most = ranks.max(torch.tensor([self.halo.n, -shortest], device=ranks.device)).tolist()
        self._largest_halo, self.exchange_steps = most[0], -most[1]

    @property
    def longest(self) -> int:
        """Longest delay of a recurrent projection, in steps; the same on all ranks."""
        groups = delay_groups(self.own, self.units.dt, self.own.operand("csr").operator)
        return max(group.delay for group in groups)

    def common_parameters(self) -> Iterator[CommonParameter]:
        """Parameters that other ranks may have, too: gains, and those of regions that are divided."""
        for name, weights in (("own", self.own), ("inputs", self.inputs)):
            if weights.gains is not None:
                count = weights.gains.numel()
                yield CommonParameter(f"{name}.gains", torch.arange(count, device=self.index.device), count)
        units, n = self.units, len(self._regions)
        regions = units.layout().regions
        number = torch.tensor([self._regions[r.name] for r in regions], device=self.index.device)
        for value in LEARNT_VALUES:
            if getattr(units, value.parameter) is not None:
                by = [r.learnt_by(value.field) == "region" for r in regions]
                one, of = torch.tensor(by, device=number.device), getattr(units, f"{value.index}_region")
                numbers = torch.where(one[of], number[of], -1)
                yield CommonParameter(f"units.{value.parameter}", numbers, n)
            else:
                yield CommonParameter("", number[:0], n)

    def forward(self, method: Callable[..., Any], *args: Any) -> Any:
        """Call a method; `torch.func.functional_call` may have put other parameters in place."""
        return method(*args)

    def border(self, batch_first: bool) -> Border:
        """The border of a forward pass here."""
        return Border(self.units, self.inputs, batch_first, "own units")

    def initial(self, batch: int, anchor: Tensor | None = None) -> tuple[Tensor, ...]:
        """Initial states and activity of the own units, such as ``(x0, h0)``, each (batch, own units)."""
        x0 = self.units.initial_condition
        x0 = x0 if anchor is None else torch.cat([x0, anchor])
        step = self.units.equation
        states = step.initial(x0.repeat(batch, 1).t())
        return (*(state.t() for state in states), step.activity(states).t())

    def run(
        self, border: Border, call: ForwardCall, anchor: Tensor | None, train_weights: bool
    ) -> tuple[Tensor, ...]:
        """The recurrence: all states and the activity after each step, shape (time, own units, batch).

        The ``anchor``, of no entries, ties the pass to `replicated`; ``train_weights`` says if any rank needs
        gradients of its weights.
        """
        border = replace(border)  # whose equation has the parameters of this pass
        operand, cut_operand = self.own.operand("csr"), self.cut.operand("csr")
        own, cut = self.own.stored_values(operand), self.cut.stored_values(cut_operand)
        weights = torch.cat([own, cut])
        if train_weights and not weights.requires_grad:
            weights.requires_grad_()  # the others wait for this rank in the backward pass
        if anchor is not None:
            start = call.start
            none = anchor[:, None].expand(0, start.batch)
            *states, h0 = (torch.cat([state, none]) for state in (*start.states, start.activity))
            call = replace(call, start=NetworkState(start.names, tuple(states), h0))
        groups = delay_groups(self.own, self.units.dt, operand.operator)
        recurrent = partial(ShardedProduct, groups, self.others())
        call, drawn = border.with_noise(call, self.noise() if call.noise else None)
        return recurrence(*prepare(border, call, recurrent, weights, drawn, largest=self.largest))

    def others(self) -> HaloSynapses:
        """The synapses from the halo, grouped by delay."""
        sizes = self.own.nnz, self.longest, self._largest_halo, self.exchange_steps
        return HaloSynapses(self.halo, self._cut_groups(), *sizes)

    def _cut_groups(self) -> list[DelayGroup]:
        """Groups of the synapses from the halo that have any."""
        groups = delay_groups(self.cut, self.units.dt, self.cut.operand("csr").operator)
        return [group for group in groups if self.cut.nnz and (group.entries is None or len(group.entries))]

    def noise(self) -> Noise:
        """The network's noise for the own units, where the last run has left it."""
        n = self.units.make_noise()
        drawn = n.input_std, n.unit_std, n.input_generator, n.unit_generator
        return ShardedNoise(*drawn, self.index, self.n_units)


def _without_projections(layout: Layout) -> RegionGraph:
    """The regions of a layout that have units, alone."""
    graph = RegionGraph()
    for region in layout.regions:
        if region.n:
            given = {name: getattr(region, name) for name in UNIT_FIELDS}
            graph.add_region(region.name, region.n, **given)
    return graph
