"""Simulation: one time step after another without gradients, in preallocated buffers.

Cost of a step: one product per distinct delay (bytes of the matrix) and about six passes over the states.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from sparse_mrnn.ops.delays import StreamingProduct
from sparse_mrnn.ops.noise import NormalStreams, StreamingNoise
from sparse_mrnn.ops.step import (
    CONDUCTANCE,
    Currents,
    Drive,
    Parameters,
    States,
    Step,
    Units,
    with_exchange,
)


@dataclass(frozen=True, eq=False)
class HeldStates:
    """States that interventions hold: values of x, the first state; then values of h; then silent units."""

    x: Sequence[tuple[Units, float]] = ()
    h: Sequence[tuple[Units, float]] = ()
    silent: Sequence[Units] = ()


class Stepper(Drive):
    """The states of a network and how to advance them.

    States, in the order of `Step.states`, and h are updated in place, each of shape (units, batch). The
    source of ``recurrent`` is h; that of ``inputs`` is u, shape (inputs, batch), which its owner fills before
    each step.
    """

    def __init__(
        self,
        step: Step,
        parameters: Parameters,
        states: States,
        h: Tensor,
        recurrent: StreamingProduct,
        inputs: StreamingProduct,
        *,
        noise: StreamingNoise | None = None,
    ) -> None:
        self.equation, self.h, self.recurrent, self.inputs, self.noise = step, h, recurrent, inputs, noise
        self.states = dict(zip(step.states, states, strict=True))
        self._states = states
        self._pass = step.stream(parameters, None if noise is None else noise.unit_std, h)
        self._factor: Tensor | None = None
        self._finite: bool | None = None  # what the last step found
        self.conductance, self._exchange = parameters.get(CONDUCTANCE), step.exchange(parameters)
        if noise is not None:
            self.unit_noise = noise.unit_streams(h)
            self.input_noise = NormalStreams(noise.input_seeds, inputs.source)
        self.held = HeldStates()
        self.silent_inputs: Sequence[Units] = ()

    @property
    def x(self) -> Tensor:
        """The first state, shape (units, batch)."""
        return self._states[0]

    @property
    def held_x(self) -> Sequence[tuple[Units, float]]:
        return self.held.x

    @property
    def recorded(self) -> dict[str, Tensor]:
        """The arrays that a recording can have: every state and h, by name."""
        return {**self.states, "h": self.h}

    @torch.no_grad()
    def hold(self, held: HeldStates) -> None:
        """Apply interventions to the present state, and keep doing so; what is no longer held recovers."""
        self.held, self._finite = held, None
        self.set_conductance()
        for units, value in held.x:
            self.x[units] = value
        if held.x:  # h of other units may be another one than that of their states: it was given, or held
            activity = self.equation.activity(self._states)
            for units, _ in held.x:
                self.h[units] = activity[units]
        self._hold_activity()

    @torch.no_grad()
    def set_conductance(self, factor: Tensor | None = None) -> None:
        """Use conductances times ``factor`` (None: as before) from now on, and none of silent units."""
        pairs, given = self.equation.electrical, self.conductance
        if pairs is None or given is None:
            return
        if factor is not None:
            self._factor = factor
        now = given if self._factor is None else given * self._factor
        if self.held.silent:
            silent = torch.zeros(pairs.units, dtype=torch.bool, device=given.device)
            for units in self.held.silent:
                silent[units] = True
            now = now.masked_fill(silent[pairs.rows] | silent[pairs.cols], 0.0)
        self._exchange = pairs.bind(now)

    @torch.no_grad()
    def step(self, currents: Currents = (), *, inputs: bool = True) -> None:
        """Advance by one time step; without ``inputs`` if they have been 0 for as long as any delay."""
        noise = self.noise
        self.recurrent.advance()
        if noise is not None:
            u = self.inputs.source
            u.add_(self.input_noise.draw(), alpha=noise.input_std)
            inputs = u.shape[0] > 0
        for units in self.silent_inputs:
            self.inputs.source[units] = 0
        self.inputs.advance()
        self._with_inputs = inputs
        currents = with_exchange(self._exchange, self._states, currents)
        self._finite = self._pass.advance(self._states, self._states, self.h, self, currents, None)
        if self.held.h or self.held.silent:
            self._hold_activity()

    def band(self, *, inputs: bool) -> int:
        """Return how many steps `advance` may make at most, with or without inputs."""
        return 1

    def advance(self, steps: int, currents: Currents = (), *, inputs: bool = True) -> None:
        """Advance by some steps with the same currents and inputs: here, by one (`band`)."""
        for _ in range(steps):
            self.step(currents, inputs=inputs)

    def spikes_of(self, step: int) -> NDArray[np.int64]:
        """Return the spikes of the last `advance`, which ended with a step: (step, trial, unit), in order."""
        trial, unit = np.nonzero(self.h.t().cpu().numpy())
        return np.stack([np.full(len(unit), step), trial, unit], axis=1)

    def multiply(self, y: Tensor, beta: float, alpha: float) -> None:
        self.recurrent.addmm(y, beta=beta, alpha=alpha)
        if self._with_inputs:
            self.inputs.addmm(y, beta=1.0, alpha=alpha)

    def draw(self) -> Tensor:
        return self.unit_noise.draw()

    def _hold_activity(self) -> None:
        for units, value in self.held.h:
            self.h[units] = value
        for units in self.held.silent:
            self.h[units] = 0

    def finite(self) -> bool:
        """Return True if every state is finite: one pass, and an exact check only if the sum is not."""
        if self._finite is not None:
            return self._finite
        return all(bool(s.sum().isfinite()) or bool(s.isfinite().all()) for s in self._states)

    def state(self) -> dict[str, Tensor]:
        """Everything `load` needs to go on exactly, as named tensors (views)."""
        found = self.recorded
        for name, product in (("rec", self.recurrent), ("inp", self.inputs)):
            found |= {f"{name}_{key}": ring for key, ring in product.state().items()}
        if self.noise is not None:
            found["input_noise"] = self.input_noise.state()
            found["unit_noise"] = self.unit_noise.state()
        return found

    def load(self, state: dict[str, Tensor], steps: int) -> None:
        """Take over the state after ``steps`` steps."""
        for name, tensor in self.recorded.items():
            tensor.copy_(state[name])
        for name, product in (("rec_", self.recurrent), ("inp_", self.inputs)):
            product.load({key.removeprefix(name): ring for key, ring in state.items()}, steps)
        if self.noise is not None:
            self.input_noise.load(state["input_noise"])
            self.unit_noise.load(state["unit_noise"])
