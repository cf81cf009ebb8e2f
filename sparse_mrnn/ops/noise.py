"""Gaussian noise on inputs and units, drawn step by step from two separate streams."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor


@dataclass(frozen=True)
class Noise:
    """Standard deviations, and the generators the noise is drawn from.

    Two separate generators, drawn step by step, give a run in pieces the noise of one long run. Both may be
    torch's global one; then what is drawn depends on the pieces, as any other use of that generator.

    Parameters
    ----------
    input_std : float
    unit_std : float or Tensor of shape (units, 1)
    input_generator, unit_generator : torch.Generator
    """

    input_std: float
    unit_std: float | Tensor
    input_generator: torch.Generator
    unit_generator: torch.Generator

    def on_inputs(self, inputs: Tensor) -> Tensor:
        """Inputs of shape (time, channels, batch) with their noise, drawn step by step."""
        drawn = torch.empty_like(inputs, memory_format=torch.contiguous_format)
        for step in drawn.unbind(0):
            step.normal_(generator=self.input_generator)
        return inputs + drawn.mul_(self.input_std)

    def on_units(self, out: Tensor) -> Tensor:
        """Standard normal numbers for the units of a step, into ``out``."""
        return out.normal_(generator=self.unit_generator)

    def without_inputs(self) -> Noise:
        """The noise of the units alone; what is still drawn for the inputs has a standard deviation of 0."""
        unused = torch.Generator(self.input_generator.device)
        return replace(self, input_std=0.0, input_generator=unused)

    def state(self) -> tuple[Tensor, Tensor]:
        """State of both generators, to draw the same noise again."""
        return self.input_generator.get_state(), self.unit_generator.get_state()

    def replay(self, state: tuple[Tensor, Tensor]) -> Noise:
        """The same noise from ``state`` on, on generators of its own."""
        first, second = self.input_generator, self.unit_generator
        inputs = torch.Generator(first.device).set_state(state[0])
        # One generator for both goes on after the inputs' noise, not from the same state again.
        units = inputs if second is first else torch.Generator(second.device).set_state(state[1])
        return replace(self, input_generator=inputs, unit_generator=units)


def global_generator(device: torch.device) -> torch.Generator:
    """Return torch's own generator of a device, which ``torch.manual_seed`` seeds.

    Examples
    --------
    >>> import torch
    >>> global_generator(torch.device("cpu")) is torch.default_generator
    True
    """
    if device.type == "cpu":
        return torch.default_generator
    every = torch.get_device_module(device).default_generators
    found: torch.Generator = every[device.index or 0]
    return found
