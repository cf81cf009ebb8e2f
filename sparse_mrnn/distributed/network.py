"""ShardedRNN: a network whose units are divided among the processes of torch.distributed."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor
from torch.func import functional_call

from sparse_mrnn.checks import names_of, option, seed_number, true_or_false, whole_number
from sparse_mrnn.declaration.config import NetworkConfig, SimulationConfig, read_config
from sparse_mrnn.declaration.graph import RegionGraph, projection_label
from sparse_mrnn.distributed.declared import digest_number, synapse_sum, unit_sum
from sparse_mrnn.distributed.partition import partition as divide
from sparse_mrnn.distributed.ranks import Ranks
from sparse_mrnn.distributed.replicated import gathered, replicated
from sparse_mrnn.distributed.shard import Shard
from sparse_mrnn.errors import ConfigError, DistributedError, ShapeError
from sparse_mrnn.lowering.layout import Layout
from sparse_mrnn.models.fixed_tensors import FixedTensors
from sparse_mrnn.models.learnt_values import LEARNT_VALUES
from sparse_mrnn.models.loading import MODELS, arguments_of
from sparse_mrnn.models.network import mRNNBase
from sparse_mrnn.models.prepare import ForwardCall, Start
from sparse_mrnn.state.describe import MAY_DIFFER, synapse_digests

OF_UNITS = tuple(f"units.{value.parameter}" for value in LEARNT_VALUES if value.index != "init")
FORWARD_PARAMETERS = ("own.gains", "inputs.gains", *OF_UNITS)
"""Parameters of a forward pass that ranks may have in common."""


@dataclass(frozen=True)
class HaloReport:
    """The exchange of a network's ranks in a step, in units (times trials and bytes of a number).

    Parameters
    ----------
    sent, received : tuple of int, of each rank
        Units whose activity it sends, counted once for each rank that needs it, and receives.
    synapses, remote_synapses : tuple of int, of each rank
        Recurrent synapses onto its units; of them, those from units of other ranks.
    all_gather : int
        Units sent in a step if every rank received the activity of all others.
    steps_per_message : int
        Steps whose activity one message has: as many as the shortest delay of a synapse between ranks takes.
    """

    sent: tuple[int, ...]
    received: tuple[int, ...]
    synapses: tuple[int, ...]
    remote_synapses: tuple[int, ...]
    all_gather: int
    steps_per_message: int

    @property
    def volume(self) -> int:
        """Units sent in a step, by all ranks."""
        return sum(self.sent)


class ShardedRNN(FixedTensors):
    """A network on several processes: each has some units, their states and the synapses that end in them.

    It has the synapses, values, noise and results of ``mRNN(config, seed=seed)``, whatever the number of
    ranks; results differ in the last bits, as sums are taken in another order. In each step a rank receives
    the activity of those units of others that its own units have synapses from, and nothing else; where all
    these synapses have a delay, once in as many steps as the shortest one takes.

    Every rank makes it with the same arguments and calls the same methods in the same order. The loss is the
    sum of what the ranks compute of their own units; every rank calls ``backward`` of its part. Gradients of
    what ranks have in common (gains, and the bias, initial state or time constant of a region) are summed.

    Parameters
    ----------
    config : path, dict, NetworkConfig or RegionGraph
        The whole network.
    model : {"leaky", "elman"}
    partition : "balanced", "metis", "regions", or array of int, shape (units,)
        Which rank has which units; see `partition`.
    rec_constrained, inp_constrained, batch_first, dtype, device
        As for `mRNN`.
    seed : int, optional
        Default: drawn on rank 0.
    group : ProcessGroup, optional
        Default: all processes.
    **settings
        activation, noise_level_act, noise_level_inp, dt and (leaky) tau, integrator: as for `mRNN`.

    Attributes
    ----------
    ranks : Ranks
    own_units : ndarray of int64
        Numbers of this rank's units in the network, ascending.

    Raises
    ------
    DistributedError
        If a process group is missing, the partition does not fit, or the ranks' arguments differ.
    ConfigError
        If the network has projections of low rank, an activation of your own, or a spectral radius to scale
        to, which need the whole network.

    Examples
    --------
    >>> import sparse_mrnn as sm, torch.distributed as dist
    >>> dist.init_process_group("gloo", store=dist.HashStore(), rank=0, world_size=1)
    >>> g = sm.RegionGraph(); g.add_region("a", 4); g.add_projection("a", "a", fan_in=2)
    >>> net = ShardedRNN(g, seed=0, device="cpu")
    >>> x, h = net(torch.zeros(1, 3, 0), net.batched_initial_condition(1)[0])
    >>> net.gather(h).shape
    torch.Size([1, 3, 4])
    >>> dist.destroy_process_group()
    """

    def __init__(
        self,
        config: str | os.PathLike[str] | dict[str, Any] | NetworkConfig | RegionGraph,
        *,
        model: str = "leaky",
        partition: str | ArrayLike = "balanced",
        rec_constrained: bool = True,
        inp_constrained: bool = True,
        batch_first: bool = True,
        seed: int | None = None,
        dtype: torch.dtype = torch.float32,
        device: str | torch.device | None = None,
        group: Any = None,
        **settings: Any,
    ) -> None:
        super().__init__()
        model = option(model, MODELS, "model", ConfigError)
        if model == "lif":
            raise ConfigError("model 'lif': spiking networks are not divided among processes; use simulate.")
        self.graph = config.copy() if isinstance(config, RegionGraph) else read_config(config)
        self.ranks, self.batch_first = Ranks(group), true_or_false(batch_first, "batch_first", ConfigError)
        _check_shardable(self.graph, settings)
        seeds = self.ranks.gather(int(torch.randint(2**62, ()).item()) if seed is None else seed)
        seed = seed_number(seeds[0] if seed is None else seed, ConfigError)
        self.partition = divide(self.graph, self.ranks.size, partition)
        laws = {"rec_constrained": rec_constrained, "inp_constrained": inp_constrained}
        laws = {name: true_or_false(law, name, ConfigError) for name, law in laws.items()}
        constrained = dict(zip(("recurrent", "input"), laws.values(), strict=True))
        chosen = {"model": model, "dtype": str(dtype), **constrained, **settings}
        self.digests = synapse_digests(self.graph)
        alike = {**self.digests, "seed": seed, "partition": self.partition.ranks}
        self.agree({**alike, **dict(sorted(chosen.items()))})
        options = {**settings, "seed": seed, "dtype": dtype, "device": device}
        self._arguments: tuple[type[mRNNBase], dict[str, Any]] = MODELS[model], {**options, **laws}
        self.shard = Shard(self.graph, self.partition, self.ranks, MODELS[model], options, constrained)
        self.own_units: NDArray[np.int64] = self.partition.units(self.ranks.rank)
        self.layout, self.n_inputs = Layout.of(self.graph), self.graph.n_inputs
        self._sizes = np.bincount(self.partition.ranks, minlength=self.ranks.size).tolist()
        by_rank = np.argsort(self.partition.ranks, kind="stable")
        self.fix("_order", torch.from_numpy(np.argsort(by_rank)), persistent=False)
        self._order: Tensor
        self._order = self._order.to(self.shard.units.device)

    @property
    def units(self) -> mRNNBase:
        """This rank's units without synapses: their tonic input, time constants, activations, noise."""
        return self.shard.units

    @cached_property
    def declared(self) -> mRNNBase:
        """The whole network without its synapses: regions, projections, settings. O(units)."""
        model, options = self._arguments
        net = model(self.graph, config_finalize=False, **options)
        net.allocate()
        return net

    def agree(self, values: dict[str, Any]) -> None:
        """Check that all ranks have the same values, by name.

        Raises
        ------
        DistributedError
            Naming what differs.
        """
        parts = {name: v if isinstance(v, np.ndarray) else repr(v) for name, v in values.items()}
        self.ranks.agree({name: digest_number(part) for name, part in parts.items()})

    def fingerprint(self) -> dict[str, Any]:
        """Digests of what the dynamics depend on, alike for any number of ranks; every rank calls it."""
        shard, own, net = self.shard, torch.from_numpy(self.own_units), self.units
        units = [net.tonic_inp, net.initial_condition, net.unit_alpha()[:, 0]]
        units += [net.activation_gain, net.activation_threshold, net.unit_noise_level]
        sums = [
            synapse_sum(shard.own, own, own),
            synapse_sum(shard.cut, own, torch.from_numpy(shard.halo_units)),
            synapse_sum(shard.inputs, own, torch.arange(self.n_inputs)),
            unit_sum(own, units),
        ]
        found = self.ranks.sum(torch.tensor(sums, device=self.ranks.device)).tolist()
        totals = {"recurrent weights": found[0] + found[1], "input weights": found[2], "units": found[3]}
        settings = {name: v for name, v in self.declared.settings().items() if name not in MAY_DIFFER}
        digests = {f"declared {name}": value for name, value in self.digests.items()}
        return {**settings, "dtype": str(self.units.dtype), **digests, **totals}

    def extra_repr(self) -> str:
        where = f"rank {self.ranks.rank} of {self.ranks.size}"
        return f"{self.layout.n:,} units, {len(self.own_units):,} of them on {where}"

    def halo_report(self) -> HaloReport:
        """Report what the ranks exchange in a step; every rank calls it."""
        shard = self.shard
        own = [shard.halo.volume, shard.halo.n, shard.own.nnz + shard.cut.nnz, shard.cut.nnz]
        sent, received, synapses, cut = (tuple(c) for c in zip(*self.ranks.gather(own), strict=True))
        all_gather = self.layout.n * (self.ranks.size - 1)
        return HaloReport(sent, received, synapses, cut, all_gather, shard.exchange_steps)

    # ---------------------------------------------------------------- own units and all

    def take(self, states: Tensor) -> Tensor:
        """Select the own units of states of all units, the last dimension."""
        return states.index_select(-1, self.shard.index)

    def gather(self, own: Tensor) -> Tensor:
        """States of all units, on every rank, from those of the own ones, the last dimension. Differentiable.

        What is computed from them must be the same on every rank, and counts once: backward, each rank takes
        the gradient of its units, as usual in tensor parallelism.
        """
        return gathered(self.ranks, self._sizes, self._order, own)

    def batched_initial_condition(self, batch_size: int) -> tuple[Tensor, ...]:
        """Initial states ``(x0, h0)`` of the own units, each (batch, own units), with h0 = activation(x0)."""
        return self._initial(whole_number(batch_size, "batch_size", ShapeError))

    def _initial(self, batch: int) -> tuple[Tensor, ...]:
        parameters: dict[str, Tensor] = {}
        anchor = None
        used = [value for value in LEARNT_VALUES if value.index in ("init", "gain", "threshold")]
        by_region = (r.learnt_by(value.field) == "region" for r in self.layout.regions for value in used)
        if torch.is_grad_enabled() and any(by_region):
            names = [f"units.{value.parameter}" for value in used]
            parameters, _, anchor = self._replicated(names, self.units.initial_condition[:0])
        found: tuple[Tensor, ...] = self._call(self.shard.initial, parameters, batch, anchor)
        return found

    # ---------------------------------------------------------------- running

    def forward(
        self, inp: Tensor, x0: Start = None, h0: Tensor | None = None, stim_input: Tensor | None = None,
        noise: bool = False, *, checkpoint_steps: int | str | None = None,
        regions: str | Sequence[str] | None = None,
    ) -> Any:
        """Run the dynamics over a sequence, on all ranks together.

        Parameters
        ----------
        inp : Tensor, shape (batch, time, inputs), or (time, batch, inputs) without batch_first
            The same on all ranks; its gradient, too.
        x0 : Tensor, shape (batch, own units), or the pair of ``batched_initial_condition``, optional
            Initial pre-activation; the initial activity of an Elman network. Default: the initial condition.
        h0 : Tensor, shape (batch, own units), optional
            Initial activation. Default: activation(x0).
        stim_input : Tensor, shape (batch, time, own units), optional
        noise : bool
            Add Gaussian noise to units and inputs, the same as of the undivided network.
        checkpoint_steps : int or "auto", optional
            As for `mRNN`.
        regions : str or sequence of str, optional
            Return the own units of these regions (or parents) only, in the order given; some ranks may have
            none. Default: every own unit.

        Returns
        -------
        x, h : Tensor, laid out like ``inp`` with the own units, or those of ``regions``, last
            States after each step; of an Elman network h alone.

        Raises
        ------
        ShapeError
            If a tensor has the wrong shape, dtype or device.
        ConfigError
            If ``noise`` is not a bool, or ``checkpoint_steps`` is not possible.
        DistributedError
            If the ranks were given different numbers of trials or steps, or other options; or if one of them
            has ended.
        """
        border = self.shard.border(self.batch_first)
        returned = None if regions is None else self._returned_units(regions)
        given = inp, x0, h0, stim_input, noise, checkpoint_steps, returned
        call = border.check(*given, self._initial)
        train_weights, train_anything = self._agree(call, regions)
        parameters: dict[str, Tensor] = {}
        anchor = None
        if train_anything:
            parameters, inputs, anchor = self._replicated(FORWARD_PARAMETERS, call.inputs)
            call = replace(call, inputs=inputs)
        with border.full_precision():
            found = self._call(self.shard.run, parameters, border, call, anchor, train_weights)
        return border.back(found)

    def _returned_units(self, regions: str | Sequence[str]) -> Tensor:
        """Own units of regions or parents, numbered among the own ones."""
        names = names_of(regions, "regions", ConfigError)
        chosen = self.layout.indices(*names)
        own = np.searchsorted(self.own_units, chosen[np.isin(chosen, self.own_units)])
        return torch.from_numpy(own).to(self.units.device)

    def _call(self, method: Callable[..., Any], parameters: dict[str, Tensor], *args: Any) -> Any:
        """Call a method of the shard with some of its parameters replaced."""
        return functional_call(self.shard, parameters, (method, *args)) if parameters else method(*args)

    def _replicated(self, names: Sequence[str], inputs: Tensor) -> tuple[dict[str, Tensor], Tensor, Tensor]:
        """Parameters by name, and inputs, with gradients summed over ranks; and the anchor of the pass."""
        slots: list[Tensor] = []
        tensors: list[Tensor] = []
        kept, size = [], 0
        for common in self.shard.common_parameters():
            if common.name in names:
                kept.append(common.name)
                tensors.append(self.shard.get_parameter(common.name))
                slots.append(torch.where(common.numbers < 0, -1, common.numbers + size))
            size += common.count
        entries = torch.arange(inputs.numel(), device=inputs.device) + size
        slots, tensors, size = [*slots, entries], [*tensors, inputs], size + inputs.numel()
        *found, shared_inputs, anchor = replicated(self.ranks, slots, size, tensors)
        parameters = dict(zip(kept, found, strict=True))
        if "own.gains" in parameters:
            parameters["cut.gains"] = parameters["own.gains"]
        return parameters, shared_inputs, anchor

    def _agree(self, call: ForwardCall, regions: str | Sequence[str] | None) -> tuple[bool, bool]:
        """Check that all ranks were given the same; whether any trains weights, and any needs gradients."""
        shard, enabled = self.shard, torch.is_grad_enabled()
        weights = any(p.requires_grad for part in (shard.own, shard.cut) for p in part.parameters())
        tensors = [*shard.parameters(), call.inputs, *call.start.states, call.start.activity, call.stim]
        anything = any(t is not None and t.requires_grad for t in tensors)
        steps, _, batch = call.inputs.shape
        alike = {
            "trials": batch,
            "time steps": steps,
            "noise": int(call.noise),
            "checkpoint_steps": call.checkpoint_steps or 0,
            "regions": 0 if regions is None else digest_number([regions]),
            "whether gradients are enabled": int(enabled),
        }
        given = [*alike.values(), int(weights and enabled), int(anything and enabled)]
        flags = torch.tensor([given, [-value for value in given]])
        most, negative = self.ranks.max(flags.to(self.ranks.device)).tolist()
        for name, largest, least in zip(alike, most, (-value for value in negative), strict=False):
            if largest != least:
                what = f"forward: the ranks differ in {name} ({least} to {largest})"
                raise DistributedError(f"{what}; give every rank the same.")
        return bool(most[-2]), bool(most[-1])


def sharded_network(
    graph: RegionGraph, settings: SimulationConfig, *, partition: str = "balanced", device: str | None = None
) -> ShardedRNN:
    """The network of a graph on all ranks, with the settings of a ``simulation`` section.

    Parameters
    ----------
    graph : RegionGraph
    settings : SimulationConfig
    partition : str
        As for `ShardedRNN`.
    device : str, optional

    Raises
    ------
    DistributedError, ConfigError
        As for `ShardedRNN`.
    """
    arguments = arguments_of(settings) | {"model": settings.model, "device": device}
    del arguments["backend"]  # products of a rank are its own
    return ShardedRNN(graph, partition=partition, **arguments)



def _check_shardable(graph: RegionGraph, settings: dict[str, Any]) -> None:
    """Refuse what needs the whole network on one rank."""
    drawn = graph.projection_columns("recurrent")
    for k in np.flatnonzero(drawn.field("delay_std", np.float64))[:1].tolist():
        label = projection_label(*drawn.names[k])
        raise ConfigError(f"{label}: delays drawn for each synapse (delay_std) are not for processes.")
    if settings.get("spectral_radius") is not None:
        what = "spectral_radius needs the whole network, which no rank has"
        raise ConfigError(f"{what}; scale the initial weights by their initialisers.")
    if callable(settings.get("activation")):
        raise ConfigError("activation is a function of your own; on several ranks it must have a name.")
    for region in graph.regions():
        for name in ("learnable_noise", "learnable_activation_gain", "learnable_activation_threshold"):
            if getattr(region, name):
                raise ConfigError(f"region {region.name!r}: {name} is not for several processes yet.")
    for projection in graph.projections():
        if projection.rank is not None:
            label = projection_label(projection.source, projection.target, projection.key)
            raise ConfigError(f"{label} has rank {projection.rank}: low rank is not divided among ranks yet.")
        if projection.kind == "electrical":
            label = projection_label(projection.source, projection.target, projection.key)
            raise ConfigError(f"{label} is electrical: such synapses are not divided among ranks yet.")
