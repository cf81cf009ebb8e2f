"""A rank's part of a simulation: one step after another, without gradients."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from sparse_mrnn.distributed.halo import Arrival
from sparse_mrnn.distributed.product import HaloSynapses
from sparse_mrnn.distributed.shard import Shard
from sparse_mrnn.models.delays import delay_groups
from sparse_mrnn.models.weights import SparseWeights
from sparse_mrnn.ops.delays import DelayGroup
from sparse_mrnn.ops.streaming import NormalStreams, Stepper, StreamingNoise, StreamingProduct
from sparse_mrnn.random_streams import trial_noise_seeds


class ShardedStreamingProduct(StreamingProduct):
    """`StreamingProduct` of a rank's units: from own units, and from the halo, which each step brings anew.

    Parameters
    ----------
    groups : sequence of DelayGroup
        Over own units.
    others : HaloSynapses
    source : Tensor, shape (own units, batch)
    event_driven : bool

    Attributes
    ----------
    cut : StreamingProduct
        Of the halo's activity.
    """

    def __init__(
        self, groups: Sequence[DelayGroup], others: HaloSynapses, source: Tensor, *, event_driven: bool
    ) -> None:
        super().__init__(groups, source, event_driven=event_driven)
        self.halo, self.kept = others.halo, others.longest if others.longest > 1 else 0
        self.of_halo = self.halo.begin(source).wait().clone()
        self.cut = StreamingProduct(others.groups, self.of_halo, event_driven=event_driven)
        self.recent = source.expand(self.kept, *source.shape).clone()  # activity by step: a ring
        self.pushed = 0
        self._arriving: Arrival | None = None

    def advance(self) -> None:
        """Put the present activity into the history, and send it, before each step."""
        self._arriving = self.halo.begin(self.source)
        if self.kept:
            self.recent[self.pushed % self.kept] = self.source
            self.pushed += 1
        super().advance()

    def addmm(self, y: Tensor, *, beta: float, alpha: float) -> None:
        """y = beta * y + alpha * (the sum), in place."""
        super().addmm(y, beta=beta, alpha=alpha)
        if self._arriving is not None:
            self.of_halo.copy_(self._arriving.wait())
            self._arriving = None
            self.cut.advance()
        self.cut.addmm(y, beta=1.0, alpha=alpha)

    def state(self) -> dict[str, Tensor]:
        """Recent activity of the own units, the oldest first, shape (longest delay, own units, batch)."""
        if not self.kept:
            return {}
        return {"recent": self.recent.roll(-(self.pushed % self.kept), 0)}

    def load(self, state: dict[str, Tensor], steps: int) -> None:
        """Take over the past; all ranks together."""
        if not self.kept:
            return
        self.recent.copy_(state["recent"])
        self.pushed = 0
        of_halo = self.halo.begin(self.recent.transpose(0, 1)).wait()
        for k in range(self.kept):
            for product, activity in ((self, self.recent[k]), (self.cut, of_halo[:, k])):
                if product.history is not None:
                    product.history.push(activity)


@dataclass(frozen=True, eq=False)
class ShardedStreamingNoise(StreamingNoise):
    """The noise of some units, which is that of the whole network for them.

    Parameters
    ----------
    units : Tensor of int64, shape (own units,)
    n_units : int
        Of the whole network.
    """

    units: Tensor
    n_units: int

    def unit_streams(self, like: Tensor) -> NormalStreams:
        return _SomeStreams(self.unit_seeds, like.new_empty(self.n_units, like.shape[1]), self.units)


class _SomeStreams(NormalStreams):
    """Of the numbers drawn for all units, those of some."""

    def __init__(self, seeds: Sequence[int], like: Tensor, units: Tensor) -> None:
        super().__init__(seeds, like)
        self._units = units

    def draw(self) -> Tensor:
        return super().draw().index_select(0, self._units)


class ShardedSimulator:
    """The stepper of a rank's units, and how gains change its weights.

    Parameters
    ----------
    shard : Shard
    batch : int
        Trials.
    noise_seed : int, optional
        With noise, of this seed.
    event_driven : bool
        Skip silent units where that can pay.
    """

    @torch.no_grad()
    def __init__(self, shard: Shard, batch: int, noise_seed: int | None, *, event_driven: bool) -> None:
        self.shard, units = shard, shard.units
        x, h = (state.t().contiguous().clone() for state in shard.initial(batch, None))
        self.u = x.new_zeros(shard.inputs.shape[1], batch)
        groups = {name: self._groups(weights) for name, weights in self._parts()}
        self.recurrent = ShardedStreamingProduct(
            groups["own"], shard.others(groups["cut"]), h, event_driven=event_driven
        )
        self.inputs = StreamingProduct(groups["inputs"], self.u, event_driven=False)
        noise = None
        if noise_seed is not None:
            seeds = trial_noise_seeds(noise_seed, batch)
            noise = ShardedStreamingNoise(*units.noise_levels(), *seeds, shard.index, shard.n_units)
        self.stepper = Stepper(
            x,
            h,
            self.recurrent,
            self.inputs,
            alpha=units.alpha,
            activation=units.activation_segments,
            bias=units.tonic_inp,
            noise=noise,
        )

    def _parts(self) -> tuple[tuple[str, SparseWeights], ...]:
        return ("own", self.shard.own), ("cut", self.shard.cut), ("inputs", self.shard.inputs)

    def _groups(self, weights: SparseWeights) -> tuple[DelayGroup, ...]:
        return delay_groups(weights, self.shard.units.dt, weights.operand("csr").operator)

    @torch.no_grad()
    def set_factors(self, factors: dict[str, dict[int, float]]) -> None:
        """Use these gains of projections, by kind and number, from now on."""
        products = {"own": self.recurrent, "cut": self.recurrent.cut, "inputs": self.inputs}
        for name, weights in self._parts():
            gain = None
            if factors[weights.kind]:
                gain = weights.frozen.new_ones(len(weights.projections))
                for projection, factor in factors[weights.kind].items():
                    gain[projection] = factor
            products[name].set_values(weights.stored_values(weights.operand("csr"), gain=gain).detach())
