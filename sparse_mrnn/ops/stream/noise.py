"""Gaussian noise of a simulation: two random streams for each trial, one of inputs, one of units."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True, eq=False)
class StreamingNoise:
    """Standard deviations of the noise, and the seeds of its random streams.

    Parameters
    ----------
    input_std : float
    unit_std : float or Tensor of shape (units, 1)
    input_seeds, unit_seeds : sequence of int
        One for each trial, so that a trial's noise does not depend on how many there are.
    """

    input_std: float
    unit_std: float | Tensor
    input_seeds: Sequence[int]
    unit_seeds: Sequence[int]

    def unit_streams(self, like: Tensor) -> NormalStreams:
        """The streams of units whose states are like ``like``."""
        return NormalStreams(self.unit_seeds, like)


class NormalStreams:
    """Standard normal numbers, step by step, from a random stream for each trial.

    On a GPU, where every call has its price, the first stream is that of all trials.

    Parameters
    ----------
    seeds : sequence of int
        One for each trial.
    like : Tensor, shape (rows, trials)
        What is drawn is like it.

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
        self._generators = [torch.Generator(like.device).manual_seed(seed) for seed in used]

    def draw(self) -> Tensor:
        """Those of the next step, shape (rows, trials), until the next call."""
        for part, generator in zip(self._parts, self._generators, strict=True):
            part.normal_(generator=generator)
        return self._drawn

    def state(self) -> Tensor:
        """State of the streams, shape (streams, bytes)."""
        return torch.stack([generator.get_state() for generator in self._generators])

    def load(self, state: Tensor) -> None:
        """Take over a state."""
        for generator, own in zip(self._generators, state, strict=True):
            generator.set_state(own.clone())  # torch crashes on a view
