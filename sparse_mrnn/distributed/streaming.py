"""Simulation on several ranks: each steps its units and records; rank 0 makes checkpoints and reports."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from sparse_mrnn.distributed.network import ShardedRNN
from sparse_mrnn.distributed.partition import Partition
from sparse_mrnn.distributed.product import HaloSynapses
from sparse_mrnn.distributed.ranks import Exchange, Ranks
from sparse_mrnn.errors import ConfigError
from sparse_mrnn.lowering.random_streams import trial_noise_seeds
from sparse_mrnn.models.delays import delay_groups
from sparse_mrnn.ops.delays import DelayGroup, StreamingProduct
from sparse_mrnn.ops.noise import NormalStreams, StreamingNoise
from sparse_mrnn.ops.step import Units
from sparse_mrnn.ops.stream import HeldStates, Stepper
from sparse_mrnn.recording.recorder import Arrays
from sparse_mrnn.simulation.fingerprint import setting_attributes
from sparse_mrnn.simulation.options import SimulationOptions
from sparse_mrnn.simulation.plan import SimulationPlan
from sparse_mrnn.simulation.run import run_simulation
from sparse_mrnn.simulation.simulator import RunningNetwork, StreamingWeights

if TYPE_CHECKING:
    import xarray

Int64 = NDArray[np.int64]


class ShardedStreamingProduct(StreamingProduct):
    """`StreamingProduct` of a rank's units: from own units, with ``groups`` of delays, and from the halo.

    Every D steps, as often as delays allow (`HaloSynapses.every`), a message brings the halo's activity of
    the last D steps; ``cut`` is the product of that.
    """

    def __init__(
        self, groups: Sequence[DelayGroup], others: HaloSynapses, source: Tensor, *, event_driven: bool
    ) -> None:
        super().__init__(groups, source, event_driven=event_driven)
        self.halo, self.kept = others.halo, others.longest if others.longest > 1 else 0
        self.every = others.every
        self.of_halo = self.halo.begin([source]).wait()[0]
        self.cut = StreamingProduct(others.groups, self.of_halo, event_driven=event_driven)
        self.recent = source.expand(self.kept, *source.shape).clone()  # activity by step: a ring
        self.pushed = 0
        self._arriving: Exchange | None = None

    def advance(self) -> None:
        """Put the present activity into the history before each step; send it, or the last steps' at once."""
        if self.kept:
            self.recent[self.pushed % self.kept] = self.source
        self.pushed += 1
        if self.every == 1:
            self._arriving = self.halo.begin([self.source])
        elif self.pushed % self.every == 0:
            latest = range(self.pushed - self.every, self.pushed)
            self._arriving = self.halo.begin([self.recent[step % self.kept] for step in latest])
        super().advance()
        if self.cut.history is not None:
            self.cut.history.count += 1  # of which the activity arrives now or later

    def addmm(self, y: Tensor, *, beta: float, alpha: float) -> None:
        """y = beta * y + alpha * (the sum), in place."""
        super().addmm(y, beta=beta, alpha=alpha)
        if self._arriving is not None:
            arrived = self._arriving.wait()
            self._arriving = None
            self.of_halo.copy_(arrived[-1])
            if self.cut.history is not None:
                self.cut.history.put(arrived.unbind(0))
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
        of_halo = self.halo.begin(self.recent.unbind(0)).wait()
        for product, activities in ((self, self.recent), (self.cut, of_halo)):
            if product.history is not None:
                for activity in activities.unbind(0):
                    product.history.push(activity)


@dataclass(frozen=True, eq=False)
class ShardedStreamingNoise(StreamingNoise):
    """The noise of some ``units`` among ``n_units``, the same as in the whole network."""

    units: Tensor
    n_units: int

    def unit_streams(self, like: Tensor) -> NormalStreams:
        return _SomeStreams(self.unit_seeds, like.new_empty(self.n_units, like.shape[1]), self.units)


class _SomeStreams(NormalStreams):
    """The streams of all units, from which some are selected."""

    def __init__(self, seeds: Sequence[int], like: Tensor, units: Tensor) -> None:
        super().__init__(seeds, like)
        self._units = units

    def draw(self) -> Tensor:
        return super().draw().index_select(0, self._units)


class OwnUnits:
    """Selection of a rank's own ``units``, ascending, and their numbers on the rank.

    >>> own = OwnUnits(np.array([2, 3, 7]), torch.device("cpu"))
    >>> [(units.tolist(), values.tolist()) for units, values in
    ...  own.currents([(slice(3, 9), torch.arange(6.0)[:, None])])]
    [([1, 2], [[0.0], [4.0]])]
    """

    def __init__(self, units: Int64, device: torch.device) -> None:
        self.units, self.device = units, device
        self._known: dict[int, tuple[Units, Tensor, Tensor]] = {}

    def _of(self, units: Units) -> tuple[Tensor, Tensor]:
        """Return the numbers among the own units, and the positions within ``units``."""
        if id(units) not in self._known:
            as_range = range(units.start, units.stop) if isinstance(units, slice) else units.tolist()
            numbers = np.array(as_range, dtype=np.int64)
            chosen = np.flatnonzero(np.isin(numbers, self.units))
            local = np.searchsorted(self.units, numbers[chosen])
            found, which = (torch.from_numpy(part).to(self.device) for part in (local, chosen))
            self._known[id(units)] = units, found, which  # kept, so that no other object gets its id
        return self._known[id(units)][1:]

    def currents(self, currents: Sequence[tuple[Units, Tensor]]) -> list[tuple[Units, Tensor]]:
        """Select the direct currents into own units."""
        found: list[tuple[Units, Tensor]] = []
        for units, values in currents:
            local, chosen = self._of(units)
            if len(local):
                found.append((local, values if len(values) == 1 else values.index_select(0, chosen)))
        return found

    def held(self, held: HeldStates) -> HeldStates:
        """Select the held states of own units."""
        x, h = ([(self._of(units)[0], value) for units, value in part] for part in (held.x, held.h))
        return HeldStates(x, h, [self._of(units)[0] for units in held.silent])


class Gathering:
    """Exchange that brings states of units to the ranks that want them: of each, in their order there."""

    def __init__(
        self, ranks: Ranks, partition: Partition, wanted: Sequence[Int64], device: torch.device
    ) -> None:
        units, rank = partition.units(ranks.rank), ranks.rank
        sent = [those[partition.ranks[those] == rank] for those in wanted]
        owner = partition.ranks[wanted[rank]]
        order = np.argsort(np.argsort(owner, kind="stable"))  # they arrive rank after rank
        self.ranks, self.wanted = ranks, len(owner) > 0
        self._counts = np.bincount(owner, minlength=ranks.size).tolist(), [len(those) for those in sent]
        local = np.searchsorted(units, np.concatenate(sent))
        self._local, self._order = (torch.from_numpy(index).to(device) for index in (local, order))

    def __call__(self, own: Tensor) -> Tensor | None:
        """Send states of own units, (own units, ...); return the states this rank wants, None without any."""
        received = own.new_empty(len(self._order), *own.shape[1:])
        arrived = self.ranks.exchange(received, own.index_select(0, self._local), self._counts).wait()
        return arrived.index_select(0, self._order) if self.wanted else None


class ShardedSimulator(RunningNetwork):
    """The units that a rank has of a network, in ``batch`` trials, and how gains change its weights.

    Noise is drawn if there is a ``noise_seed``; ``event_driven`` skips silent units where that can pay.
    """

    check_every = 16
    divided = True

    @torch.no_grad()
    def __init__(self, net: ShardedRNN, batch: int, noise_seed: int | None, *, event_driven: bool) -> None:
        self.net, self.units = net, net.own_units
        shard, units = net.shard, net.units
        *states, h = (state.t().contiguous().clone() for state in shard.initial(batch))
        u = h.new_zeros(shard.inputs.shape[1], batch)
        matrices = shard.own, shard.cut, shard.inputs
        operands = [weights.operand("csr") for weights in matrices]
        own = delay_groups(shard.own, units.dt, operands[0].operator)
        into = delay_groups(shard.inputs, units.dt, operands[2].operator)
        recurrent = ShardedStreamingProduct(own, shard.others(), h, event_driven=event_driven)
        inputs = StreamingProduct(into, u, event_driven=False)
        noise = None
        if noise_seed is not None:
            seeds = trial_noise_seeds(noise_seed, batch)
            noise = ShardedStreamingNoise(*units.noise_levels(), *seeds, shard.index, shard.n_units)
        parameters = units.step_parameters()
        stepper = Stepper(units.equation, parameters, tuple(states), h, recurrent, inputs, noise=noise)
        # States of which each rank has its units', and their dimension; others are alike on all ranks.
        self._divided = {**dict.fromkeys(stepper.recorded, 0), "rec_recent": 1}
        products = recurrent, recurrent.cut, inputs
        parts = [StreamingWeights(*each) for each in zip(matrices, operands, products, strict=True)]
        super().__init__(stepper, u, parts)
        self._own = OwnUnits(net.own_units, units.device)
        self._all_units = self._gathering([np.arange(net.layout.n)])
        self._recorded = self._all_units

    def _gathering(self, wanted: Sequence[Int64]) -> Gathering:
        """Brings units to the first ranks."""
        net, none = self.net, np.empty(0, dtype=np.int64)
        of_ranks = [*wanted, *[none] * (net.ranks.size - len(wanted))]
        return Gathering(net.ranks, net.partition, of_ranks, net.units.device)

    def own_currents(self, currents: Sequence[tuple[Units, Tensor]]) -> list[tuple[Units, Tensor]]:
        return self._own.currents(currents)

    def own_held(self, held: HeldStates) -> HeldStates:
        return self._own.held(held)

    def record(self, wanted: Sequence[Int64], *, every: bool) -> Int64 | None:
        first, *others = wanted
        self._recorded = self._gathering([np.arange(self.net.layout.n) if every else first, *others])
        return first if every and self.net.ranks.rank == 0 else None

    def states(self, variables: Sequence[str]) -> Arrays | None:
        states = self.stepper.recorded
        found = {name: self._recorded(states[name]) for name in variables}
        return {name: t.cpu().numpy() for name, t in found.items() if t is not None} or None

    def state(self) -> dict[str, Tensor]:
        """The states that `load` needs: on rank 0, those of all units, in their order."""
        found: dict[str, Tensor] = {}
        for name, tensor in self.stepper.state().items():
            axis = self._divided.get(name)
            whole = tensor if axis is None else self._all_units(tensor.transpose(0, axis))
            if whole is not None:
                found[name] = whole if axis is None else whole.transpose(0, axis)
        return found

    def load(self, state: dict[str, Tensor], step: int) -> None:
        own, device = torch.from_numpy(self.net.own_units), self.net.units.device
        found = {}
        for name, tensor in state.items():
            axis = self._divided.get(name)
            part = tensor if axis is None else tensor.index_select(axis, own)
            found[name] = part if name.endswith("_noise") else part.to(device)  # a generator's is on the CPU
        self.stepper.load(found, step)

    def fingerprint(self) -> dict[str, Any]:
        return self.net.fingerprint()

    def settings(self) -> dict[str, Any]:
        return {**setting_attributes(self.net.declared), "ranks": self.net.ranks.size}


def simulate(net: ShardedRNN, duration: float | None = None, **options: Any) -> xarray.Dataset | None:
    """Simulate a network on all its ranks, from its initial condition; every rank calls it.

    The result is that of `sparse_mrnn.simulate` of the undivided network, to rounding: noise, random stimuli
    and interventions are the same for any number of ranks. Rank 0 returns the recording. With ``out``, every
    rank writes a part of it, if all of them reach that folder, else rank 0 writes all; and rank 0 makes
    checkpoints, from which any number of ranks can go on: bit for bit on as many.

    Parameters
    ----------
    net : ShardedRNN
    duration, **options
        As for `sparse_mrnn.simulate`; ``out`` is the same on all ranks, ``log`` a file of rank 0.

    Returns
    -------
    xarray.Dataset on rank 0, None on the others

    Raises
    ------
    DistributedError
        If another rank has ended, or the ranks were given different arguments.
    StimulusError, InterventionError, UnknownNameError, RecordingError, ResumeError
        As for `sparse_mrnn.simulate`; errors of files on the rank that meets them, a DistributedError on the
        others.
    SimulationStopped, DivergenceError
        As for `sparse_mrnn.simulate`, on every rank, which look for them every 16 steps.

    Examples
    --------
    >>> import sparse_mrnn as sm, torch.distributed as dist
    >>> dist.init_process_group("gloo", store=dist.HashStore(), rank=0, world_size=1)
    >>> g = sm.RegionGraph(); g.add_region("a", 3)
    >>> recording = simulate(ShardedRNN(g, seed=0, device="cpu"), 50, stimulus=sm.Stimulus("a", 1.0))
    >>> recording.h.shape
    (1, 5, 3)
    >>> dist.destroy_process_group()
    """
    if not isinstance(net, ShardedRNN):
        raise ConfigError(f"net is of type {type(net).__name__}; give a ShardedRNN.")
    return run_on_ranks(net, SimulationOptions(duration, **options))


def run_on_ranks(net: ShardedRNN, options: SimulationOptions) -> xarray.Dataset | None:
    """Run a simulation on all ranks of a network; see `simulate`."""
    if options.x0 is not None or options.return_state:
        what = "x0 and return_state are not there for a network divided among ranks"
        raise ConfigError(f"simulate: {what}; it starts from its initial condition.")

    def start(plan: SimulationPlan) -> ShardedSimulator:
        net.agree({"options of the run": plan.spec, "mode": options.mode})
        return ShardedSimulator(net, options.batch, options.noise_seed, event_driven=options.event_driven)

    found: xarray.Dataset | None = run_simulation(net.declared, options, net.ranks, start)
    return found
