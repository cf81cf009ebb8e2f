"""A band of time steps of a simulation as one CUDA graph, captured once and replayed.

A step of a small network is a dozen kernels of some microseconds, and launching each from Python takes
longer. A graph is launched whole. It reads and writes the memory that the steps had when it was captured,
which is why `Stepper` has all its states in buffers of its own.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from sparse_mrnn.errors import ConfigError
from sparse_mrnn.ops.delays import RingHistory
from sparse_mrnn.ops.step import Currents
from sparse_mrnn.ops.stream import Stepper

WARM_UP_STEPS = 3
"""Steps before a capture, in which libraries allocate and kernels are loaded."""


def rings(stepper: Stepper) -> list[RingHistory]:
    """The rings of past activity of a stepper."""
    products = stepper.recurrent, stepper.inputs
    return [product.history for product in products if product.history is not None]


def whole_bands(stepper: Stepper, least: int) -> int:
    """Count the steps, at least ``least``, after which every ring of past activity is where it was.

    Examples
    --------
    >>> from types import SimpleNamespace as Namespace
    >>> past = Namespace(history=RingHistory({(0, 1): 4, (1, 2): 6}, torch.zeros(2, 1)))
    >>> whole_bands(Namespace(recurrent=past, inputs=Namespace(history=None)), 20)
    24
    """
    length = math.lcm(*(len(ring) for history in rings(stepper) for ring in history.rings.values()))
    return -(-least // length) * length


class ReplayedSteps:
    """A band of steps of a stepper, under currents and inputs that stay as they are within it.

    Parameters
    ----------
    stepper : Stepper
        On CUDA. Its state does not change until `run` is called.
    steps : int
        The length of a band: a multiple of the length of each ring (`whole_bands`).
    currents : sequence of (units, Tensor)
        Direct currents, whose tensors may be written to between two bands.
    inputs : bool
        As of `Stepper.step`.

    Attributes
    ----------
    u : Tensor, shape (inputs, batch)
        The inputs of every step; write to it between two bands.

    Raises
    ------
    ConfigError
        If the stepper is on another device, or the band has another length.
    """

    def __init__(self, stepper: Stepper, steps: int, currents: Currents = (), *, inputs: bool = True) -> None:
        device = stepper.h.device
        if device.type != "cuda":
            raise ConfigError(f"CUDA graphs need a CUDA device; the network is on {device}.")
        if steps < 1 or steps != whole_bands(stepper, steps):
            fits = whole_bands(stepper, max(steps, 1))
            raise ConfigError(f"a band of {steps} steps does not end where its delays begin; use {fits}.")
        self.stepper, self.steps, self.u = stepper, steps, stepper.inputs.source.clone()
        self._currents, self._inputs = currents, inputs
        before, counts = _copied(stepper.state()), [history.count for history in rings(stepper)]
        now = torch.cuda.current_stream(device)
        aside = torch.cuda.Stream(device)  # type: ignore[no-untyped-call]
        aside.wait_stream(now)
        with torch.cuda.stream(aside):
            self._step(WARM_UP_STEPS)
        now.wait_stream(aside)
        stepper.load(before, 0)
        self._set_counts(counts)
        self.graph = torch.cuda.CUDAGraph()
        if stepper.noise is not None:
            for streams in (stepper.input_noise, stepper.unit_noise):
                for generator in streams.generators:
                    self.graph.register_generator_state(generator)
        with torch.cuda.graph(self.graph):  # which runs nothing
            self._step(steps)
        self._set_counts(counts)

    def _step(self, steps: int) -> None:
        for _ in range(steps):
            self.stepper.inputs.source.copy_(self.u)  # to which a step adds noise
            self.stepper.step(self._currents, inputs=self._inputs)

    def _set_counts(self, counts: list[int]) -> None:
        for history, count in zip(rings(self.stepper), counts, strict=True):
            history.count = count

    def run(self) -> None:
        """Advance by one band."""
        self.graph.replay()
        for history in rings(self.stepper):
            history.count += self.steps


def _copied(state: dict[str, Tensor]) -> dict[str, Tensor]:
    return {name: tensor.clone() for name, tensor in state.items()}
