"""Gaussian noise on inputs and units, drawn step by step from two separate streams.

A sequence draws the noise of all its trials from one generator each (`Noise`); a simulation has two streams
for each trial, so that a trial's noise does not depend on how many there are (`StreamingNoise`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor


@dataclass(frozen=True)
class Noise:
    """Standard deviations, and the generators the noise is drawn from.

    Two separate generators, drawn step by step, give a run in pieces the noise of one long run. The standard
    deviation of the units is a number or of shape (units, 1); that of the inputs is None if they
    have their noise already.
    """

    input_std: float | None
    unit_std: float | Tensor
    input_generator: torch.Generator
    unit_generator: torch.Generator

    def on_inputs(self, inputs: Tensor) -> Tensor:
        """Inputs of shape (time, channels, batch) with their noise, drawn step by step."""
        if self.input_std is None:
            return inputs
        drawn = torch.empty_like(inputs, memory_format=torch.contiguous_format)
        for step in drawn.unbind(0):
            step.normal_(generator=self.input_generator)
        return inputs + drawn.mul_(self.input_std)

    def on_units(self, out: Tensor) -> Tensor:
        """Standard normal numbers for the units of a step, into ``out``."""
        return out.normal_(generator=self.unit_generator)

    @property
    def is_learnt(self) -> bool:
        """Tell if the standard deviation of the units is differentiated."""
        std = self.unit_std
        return isinstance(std, Tensor) and std.requires_grad and torch.is_grad_enabled()

    def of_units(self, like: Tensor) -> Tensor:
        """Noise of the units, differentiable in its standard deviation, drawn step by step.

        It is like ``like``, of shape (time, units, batch).
        """
        drawn = torch.empty_like(like, memory_format=torch.contiguous_format, requires_grad=False)
        for step in drawn.unbind(0):
            self.on_units(step)
        return drawn * self.unit_std

    def without_inputs(self) -> Noise:
        """The noise of the units alone: nothing is drawn for the inputs."""
        return replace(self, input_std=None)

    def state(self) -> tuple[Tensor, Tensor]:
        """State of both generators, to draw the same noise again."""
        return self.input_generator.get_state(), self.unit_generator.get_state()

    def replay(self, state: tuple[Tensor, Tensor]) -> Noise:
        """The same noise from ``state`` on, on generators of its own."""
        own = zip((self.input_generator, self.unit_generator), state, strict=True)
        inputs, units = (torch.Generator(generator.device).set_state(at) for generator, at in own)
        return replace(self, input_generator=inputs, unit_generator=units)


@dataclass(frozen=True, eq=False)
class StreamingNoise:
    """Standard deviations of the noise of a simulation, and the seeds of its streams, one for each trial."""

    input_std: float
    unit_std: float | Tensor
    input_seeds: Sequence[int]
    unit_seeds: Sequence[int]

    def unit_streams(self, like: Tensor) -> NormalStreams:
        """The streams of units whose states are like ``like``."""
        return NormalStreams(self.unit_seeds, like)


class NormalStreams:
    """Standard normal numbers, step by step, from a random stream for each trial.

    On a GPU, where every call has its price, the first stream is that of all trials. What is drawn is like
    ``like``, of shape (rows, trials).

    Examples
    --------
    >>> one, two = NormalStreams([5], torch.zeros(3, 1)), NormalStreams([5, 6], torch.zeros(3, 2))
    >>> torch.equal(one.draw()[:, 0], two.draw()[:, 0])
    True
    """

    def __init__(self, seeds: Sequence[int], like: Tensor) -> None:
        own = like.device.type == "cpu" and like.shape[1] > 1
        self._buffer = like.new_empty(like.shape[::-1] if own else like.shape)
        self._drawn = self._buffer.t() if own else self._buffer
        self._parts = self._buffer.unbind(0) if own else (self._buffer,)
        used = seeds[: len(self._parts)]
        self.generators = [torch.Generator(like.device).manual_seed(seed) for seed in used]

    def draw(self) -> Tensor:
        """Draw the numbers of the next step, shape (rows, trials), valid until the next call."""
        for part, generator in zip(self._parts, self.generators, strict=True):
            part.normal_(generator=generator)
        return self._drawn

    def state(self) -> Tensor:
        """State of the streams, shape (streams, bytes)."""
        return torch.stack([generator.get_state() for generator in self.generators])

    def load(self, state: Tensor) -> None:
        """Take over a state."""
        for generator, own in zip(self.generators, state, strict=True):
            generator.set_state(own.clone())  # torch crashes on a view
