"""A network as a `Stepper`: effective weights grouped by delay, with gains, and the state at the start."""

from __future__ import annotations

import torch
from torch import Tensor

from sparse_mrnn.models.base import mRNNBase
from sparse_mrnn.models.delays import delay_groups, has_delays
from sparse_mrnn.ops.streaming import Stepper, StreamingNoise, StreamingProduct
from sparse_mrnn.random_streams import trial_noise_seeds
from sparse_mrnn.simulation.intervention_schedule import Factors


class StreamingWeights:
    """One weight matrix of a network, "recurrent" or "input", for products without gradients.

    Parameters
    ----------
    net : mRNN or ElmanmRNN
    kind : {"recurrent", "input"}
    source : Tensor, shape (sources, batch)
        What the product multiplies; see `StreamingProduct`.
    event_driven : bool
    """

    def __init__(self, net: mRNNBase, kind: str, source: Tensor, *, event_driven: bool) -> None:
        self.weights = net.weights(kind)
        # With delays, each of them is a CSR matrix.
        chosen = kind == "recurrent" and not has_delays(self.weights, net.dt)
        self.operand = self.weights.operand(net.chosen_backend if chosen else "csr")
        groups = delay_groups(self.weights, net.dt, self.operand.operator)
        self.product = StreamingProduct(groups, source, event_driven=event_driven)

    @torch.no_grad()
    def set_gains(self, factors: dict[int, float]) -> None:
        """Use these factors of projections, by number, from now on."""
        gain = None
        if factors:
            gain = self.weights.all_values().new_ones(len(self.weights.all_projections))
            for projection, factor in factors.items():
                gain[projection] = factor
        self.product.set_values(self.weights.stored_values(self.operand, gain=gain).detach())


class Simulator:
    """The stepper of a network, and how interventions change its weights.

    Parameters
    ----------
    net : mRNN or ElmanmRNN
    batch : int
        Trials.
    noise_seed : int, optional
        With noise, of this seed.
    event_driven : bool
        Skip silent units where that can pay.
    """

    @torch.no_grad()
    def __init__(self, net: mRNNBase, batch: int, noise_seed: int | None, *, event_driven: bool) -> None:
        x0, h0 = net.batched_initial_condition(batch)
        x, h = (state.t().contiguous().detach().clone() for state in (x0, h0))
        self.u = x.new_zeros(net.weights("input").shape[1], batch)
        self.sides = {
            "recurrent": StreamingWeights(net, "recurrent", h, event_driven=event_driven),
            "input": StreamingWeights(net, "input", self.u, event_driven=False),
        }
        noise = None
        if noise_seed is not None:
            noise = StreamingNoise(*net.noise_levels(), *trial_noise_seeds(noise_seed, batch))
        self.stepper = Stepper(
            x,
            h,
            self.sides["recurrent"].product,
            self.sides["input"].product,
            alpha=net.alpha,
            activation=net.activation_segments,
            bias=net.tonic_inp.detach(),
            noise=noise,
        )
        self._factors: Factors = {}

    def set_factors(self, factors: Factors) -> None:
        """Use these gains from now on."""
        for kind, side in self.sides.items():
            if self._factors.get(kind) != factors[kind]:
                side.set_gains(factors[kind])
        self._factors = factors
