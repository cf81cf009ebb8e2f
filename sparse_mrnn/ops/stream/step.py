"""One time step after another without gradients: preallocated buffers, states updated in place.

    x <- (1 - alpha) x + alpha (sum_d W_d h[d steps ago] + sum_d W_inp,d u[..] + b + noise + current)
    h <- f(x)

Cost of a step: one product per distinct delay (bytes of the matrix) and about six passes over the states.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from sparse_mrnn.ops import kernels
from sparse_mrnn.ops.activations import ActivationSegments
from sparse_mrnn.ops.stream.delays import StreamingProduct
from sparse_mrnn.ops.stream.noise import NormalStreams, StreamingNoise

RELU_STATES = 10_000
"""States from which on relu, tonic input and the check for NaN are one compiled pass; below, calls cost
more."""

Units = Tensor | slice
"""Which units: a range, or their numbers without repeats."""


@dataclass(frozen=True, eq=False)
class HeldStates:
    """States that interventions hold, in this order: values of x, values of h, units whose h is 0."""

    x: Sequence[tuple[Units, float]] = ()
    h: Sequence[tuple[Units, float]] = ()
    silent: Sequence[Units] = ()


class Stepper:
    """The states of a network and how to advance them.

    Parameters
    ----------
    x, h : Tensor, shape (units, batch)
        Updated in place.
    recurrent : StreamingProduct
        Of h.
    inputs : StreamingProduct
        Of u, its source, which its owner fills before each step; shape (inputs, batch).
    alpha : Tensor, shape (1, 1) or (units, 1)
    activation : ActivationSegments
    bias : Tensor, shape (units,), or None
    noise : StreamingNoise, optional
    """

    def __init__(
        self,
        x: Tensor,
        h: Tensor,
        recurrent: StreamingProduct,
        inputs: StreamingProduct,
        *,
        alpha: Tensor,
        activation: ActivationSegments,
        bias: Tensor | None = None,
        noise: StreamingNoise | None = None,
    ) -> None:
        self.x, self.h, self.recurrent, self.inputs, self.noise = x, h, recurrent, inputs, noise
        self.alpha, self.keep = alpha, 1 - alpha
        self.rate = float(alpha) if alpha.numel() == 1 else None  # one rate: leak and product in one pass
        self.activation = activation
        relu = activation.has_derivatives and [a.name for _, _, a in activation.parts] == ["relu"]
        one_pass = relu and x.device.type == "cpu" and x.numel() >= RELU_STATES
        self.kernel = kernels.load("relu_step") if one_pass else None
        self._finite: bool | None = None  # what the last step found
        tonic = bias is not None and bool(bias.any())
        self.tonic = alpha * bias[:, None] if bias is not None and tonic else None  # added to x in each step
        self.current = x if self.rate is not None else torch.empty_like(x)
        if noise is not None:
            self.unit_noise, self.unit_std = noise.unit_streams(x), alpha * noise.unit_std
            self.input_noise = NormalStreams(noise.input_seeds, inputs.source)
        self.held = HeldStates()
        self.silent_inputs: Sequence[Units] = ()

    def hold(self, held: HeldStates) -> None:
        """Apply interventions to the present state, and keep doing so; what is no longer held recovers."""
        self.held = held
        self._update_h()

    @torch.no_grad()
    def step(self, currents: Sequence[tuple[Units, Tensor]] = (), *, inputs: bool = True) -> None:
        """Advance by one time step.

        Parameters
        ----------
        currents : sequence of (units, values)
            Direct currents: values have shape (those units or 1, batch or 1).
        inputs : bool
            False: the inputs are all zero now, and were for as long as any delay.
        """
        x, noise = self.x, self.noise
        self.recurrent.advance()
        if noise is not None:
            u = self.inputs.source
            u.add_(self.input_noise.draw(), alpha=noise.input_std)
            inputs = u.shape[0] > 0
        for units in self.silent_inputs:
            self.inputs.source[units] = 0
        self.inputs.advance()
        if self.rate is not None:
            self.recurrent.addmm(x, beta=1 - self.rate, alpha=self.rate)
            if inputs:
                self.inputs.addmm(x, beta=1.0, alpha=self.rate)
        else:
            self.recurrent.addmm(self.current, beta=0.0, alpha=1.0)
            if inputs:
                self.inputs.addmm(self.current, beta=1.0, alpha=1.0)
            x.mul_(self.keep).addcmul_(self.alpha, self.current)
        if noise is not None:
            x.addcmul_(self.unit_noise.draw(), self.unit_std)
        for units, values in currents:
            scaled = values * (self.rate if self.rate is not None else self.alpha[units])
            if isinstance(units, slice):
                x[units].add_(scaled)
            else:
                x.index_add_(0, units, scaled.expand(len(units), x.shape[1]))
        self._update_h(self.tonic)

    def _update_h(self, tonic: Tensor | None = None) -> None:
        """Add the tonic input to x, hold what interventions hold, and h = f(x)."""
        if self.kernel is not None and not self.held.x:
            self._finite = self.kernel.finish(self.x, tonic, self.h)
        else:
            self._finite = None
            if tonic is not None:
                self.x.add_(tonic)
            for units, value in self.held.x:
                self.x[units] = value
            self.activation.apply_to(self.x, self.h)
        for units, value in self.held.h:
            self.h[units] = value
        for units in self.held.silent:
            self.h[units] = 0

    def finite(self) -> bool:
        """Whether every state is finite: one pass, and an exact check only where the sum is not finite."""
        if self._finite is not None:
            return self._finite
        return bool(self.x.sum().isfinite()) or bool(self.x.isfinite().all())

    def state(self) -> dict[str, Tensor]:
        """Everything `load` needs to go on exactly, as named tensors (views)."""
        found = {"x": self.x, "h": self.h}
        for name, product in (("rec", self.recurrent), ("inp", self.inputs)):
            found |= {f"{name}_{key}": ring for key, ring in product.state().items()}
        if self.noise is not None:
            found["input_noise"] = self.input_noise.state()
            found["unit_noise"] = self.unit_noise.state()
        return found

    def load(self, state: dict[str, Tensor], steps: int) -> None:
        """Take over the state after ``steps`` steps."""
        self.x.copy_(state["x"])
        self.h.copy_(state["h"])
        for name, product in (("rec_", self.recurrent), ("inp_", self.inputs)):
            product.load({key.removeprefix(name): ring for key, ring in state.items()}, steps)
        if self.noise is not None:
            self.input_noise.load(state["input_noise"])
            self.unit_noise.load(state["unit_noise"])
