"""A network as a `Stepper`: effective weights grouped by delay, with gains, and the state at the start."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from sparse_mrnn.errors import ConfigError
from sparse_mrnn.lowering.random_streams import trial_noise_seeds
from sparse_mrnn.models.delays import delay_groups, has_delays, synaptic_delays
from sparse_mrnn.models.electrical import ElectricalSynapses
from sparse_mrnn.models.network import mRNNBase
from sparse_mrnn.models.network_state import NetworkState
from sparse_mrnn.models.weights import Operand, SparseWeights
from sparse_mrnn.ops import kernels
from sparse_mrnn.ops.delays import StreamingProduct
from sparse_mrnn.ops.noise import StreamingNoise
from sparse_mrnn.ops.products import CsrOperator
from sparse_mrnn.ops.spiking import SpikeDelivery, SpikingStep, SpikingStepper
from sparse_mrnn.ops.step import Units
from sparse_mrnn.ops.stream import HeldStates, Stepper
from sparse_mrnn.recording.recorder import Arrays
from sparse_mrnn.simulation.fingerprint import network_attributes, network_fingerprint, setting_attributes
from sparse_mrnn.simulation.intervention_schedule import Factors

CHECK_EVERY_ON_GPU = 64
"""Steps between two checks for NaN on a GPU, where each one waits for the device."""


@dataclass(frozen=True, eq=False)
class StreamingWeights:
    """One weight matrix of a network, and the product without gradients that uses it."""

    weights: SparseWeights
    operand: Operand
    product: StreamingProduct | SpikeDelivery

    @torch.no_grad()
    def set_gains(self, factors: dict[int, float]) -> None:
        """Use these factors of projections, by number, from now on."""
        weights, gain = self.weights, None
        if factors:
            gain = weights.all_values().new_ones(len(weights.all_projections))
            for projection, factor in factors.items():
                gain[projection] = factor
        if isinstance(self.product, SpikeDelivery):
            self.product.set_weights(*weights.signed_values(gain=gain))
        else:
            self.product.set_values(weights.stored_values(self.operand, gain=gain).detach())


def spikes_pay(net: mRNNBase) -> bool:
    """Return True if the spikes of a network are delivered one by one, by compiled kernels on the CPU."""
    sparse = net.weights("recurrent").low_rank is None
    return sparse and net.device.type == "cpu" and kernels.load("lif") is not None


class RunningNetwork(ABC):
    """A network in a run, which steps, records and saves it, or the part that one of several processes has.

    A stimulus fills ``u``, shape (inputs, batch), before each step. Processes agree on whether to go on, and
    states are checked, every ``check_every`` steps. ``divided`` says if processes have a part of the network
    each, and ``units`` which units of the network ``stepper`` has (None: all).
    """

    check_every = 1
    divided = False
    units: NDArray[np.int64] | None = None
    electrical: ElectricalSynapses | None = None

    def __init__(self, stepper: Stepper, u: Tensor, matrices: Sequence[StreamingWeights]) -> None:
        self.stepper, self.u, self.matrices = stepper, u, matrices
        self._factors: Factors = {}

    def set_factors(self, factors: Factors) -> None:
        """Use these gains from now on."""
        for matrix in self.matrices:
            kind = matrix.weights.kind
            if self._factors.get(kind) != factors[kind]:
                matrix.set_gains(factors[kind])
        if self.electrical is not None and self._factors.get("electrical", {}) != factors["electrical"]:
            by_projection = self.stepper.h.new_ones(len(self.electrical))
            for k, factor in factors["electrical"].items():
                by_projection[k] = factor
            self.stepper.set_conductance(by_projection[self.electrical.of_projection()])
        self._factors = factors

    def release(self) -> None:
        """Let go of the copies of weights at the end of a run, before the garbage collector does."""
        for matrix in self.matrices:
            matrix.product.release()

    def own_currents(self, currents: Sequence[tuple[Units, Tensor]]) -> Sequence[tuple[Units, Tensor]]:
        """Select the currents for the units this stepper owns."""
        return currents

    def own_held(self, held: HeldStates) -> HeldStates:
        """Select the held states of the units this stepper owns."""
        return held

    @abstractmethod
    def record(self, wanted: Sequence[NDArray[np.int64]], *, every: bool) -> NDArray[np.int64] | None:
        """Prepare `states` to return states of units, on each process those it wants.

        ``wanted`` are the units by process; with ``every``, states of every unit are returned on the first
        process. The result says at which rows of `states` the units wanted here are; None: they are all, in
        this order.
        """

    @abstractmethod
    def states(self, variables: Sequence[str]) -> Arrays | None:
        """States to record, such as "x" and "h", each (units, trials), where this process records."""

    def state(self) -> dict[str, Tensor]:
        """All that `load` needs to go on exactly: of all units of the network, if this process saves."""
        return self.stepper.state()

    def load(self, state: dict[str, Tensor], step: int) -> None:
        """Go on after ``step`` steps from a state of all units."""
        self.stepper.load(state, step)

    def network_state(self) -> NetworkState:
        """State that another run can go on from.

        Raises
        ------
        ConfigError
            If processes have a part of the network each.
        """
        raise ConfigError("return_state: the state of a network divided among processes is not gathered yet.")

    @abstractmethod
    def fingerprint(self) -> dict[str, Any]:
        """Digests of what the dynamics depend on."""

    @abstractmethod
    def settings(self) -> dict[str, Any]:
        """Settings of the network, for the attributes of a recording; read without its synapses."""

    def attributes(self) -> dict[str, Any]:
        """Settings of the network, and as far as they are known its description and digests."""
        return self.settings()


class Simulator(RunningNetwork):
    """A whole network in one process.

    With a ``noise_seed`` it has the network's noise; ``event_driven`` skips silent units if that can pay. The
    default ``start`` is the initial condition.
    """

    @torch.no_grad()
    def __init__(
        self,
        net: mRNNBase,
        batch: int,
        noise_seed: int | None,
        *,
        event_driven: bool,
        start: NetworkState | None = None,
    ) -> None:
        self.net = net
        begun = net.initial_state(batch) if start is None else start
        *states, h = (state.detach().clone() for state in (*begun.states, begun.activity))
        u = h.new_zeros(net.weights("input").shape[1], batch)
        equation = net.equation
        spikes = isinstance(equation, SpikingStep) and event_driven and spikes_pay(net)
        if spikes:
            *states, h = (state.t().contiguous().t() for state in (*states, h))
        recurrent = self._spikes(h) if spikes else self._matrix("recurrent", h, event_driven=event_driven)
        inputs = self._matrix("input", u, event_driven=False)
        noise = None
        if noise_seed is not None:
            noise = StreamingNoise(*net.noise_levels(), *trial_noise_seeds(noise_seed, batch))
        products = recurrent.product, inputs.product
        if begun.past_h:
            recurrent.product.set_before(begun.h_before(recurrent.product.longest - 1))
        if begun.past_inputs:
            inputs.product.set_before(begun.inputs_before(inputs.product.longest - 1, len(u)))
        parameters = {name: p.detach() for name, p in net.step_parameters().items()}
        kind = SpikingStepper if spikes else Stepper
        stepper = kind(equation, parameters, tuple(states), h, *products, noise=noise)  # type: ignore[arg-type]
        super().__init__(stepper, u, (recurrent, inputs))
        self.electrical = net.electrical
        self._fingerprint: dict[str, Any] | None = None
        on_cpu = h.device.type == "cpu"
        self._views = {name: s.numpy() for name, s in stepper.recorded.items()} if on_cpu else None
        self.check_every = CHECK_EVERY_ON_GPU if self._views is None else 1

    def _matrix(self, kind: str, source: Tensor, *, event_driven: bool) -> StreamingWeights:
        net, weights = self.net, self.net.weights(kind)
        # With delays, each of them is a CSR matrix.
        chosen = kind == "recurrent" and not has_delays(weights, net.dt)
        operand = weights.operand(net.chosen_backend if chosen else "csr")
        groups = delay_groups(weights, net.dt, operand.operator)
        return StreamingWeights(weights, operand, StreamingProduct(groups, source, event_driven=event_driven))

    def _spikes(self, h: Tensor) -> StreamingWeights:
        weights = self.net.weights("recurrent")
        product = SpikeDelivery(weights.pattern, synaptic_delays(weights, self.net.dt), h)
        operand = Operand(CsrOperator(weights.pattern), weights.perm)  # which needs no gradients
        return StreamingWeights(weights, operand, product)

    def network_state(self) -> NetworkState:
        stepper = self.stepper
        past = stepper.recurrent.before(), stepper.inputs.before()
        states = tuple(state.clone() for state in stepper.states.values())
        return NetworkState(stepper.equation.states, states, stepper.h.clone(), *past)

    def record(self, wanted: Sequence[NDArray[np.int64]], *, every: bool) -> NDArray[np.int64] | None:
        units = wanted[0]
        return None if np.array_equal(units, np.arange(self.net.layout().n)) else units

    def states(self, variables: Sequence[str]) -> Arrays:
        if self._views is not None:
            return self._views
        states = self.stepper.recorded
        return {name: states[name].cpu().numpy() for name in variables}

    def fingerprint(self) -> dict[str, Any]:
        if self._fingerprint is None:  # of what the run began with, and hashed once
            self._fingerprint = network_fingerprint(self.net)
        return self._fingerprint

    def settings(self) -> dict[str, Any]:
        return setting_attributes(self.net)

    def attributes(self) -> dict[str, Any]:
        return network_attributes(self.net, self.fingerprint())
