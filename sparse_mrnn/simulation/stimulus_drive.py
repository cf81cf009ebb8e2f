"""The inputs and direct currents that the stimuli of a run make in each time step."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from sparse_mrnn.models.base import mRNNBase
from sparse_mrnn.ops.streaming import Units
from sparse_mrnn.simulation.targets import as_index, find_units
from sparse_mrnn.stimulus import RandomWaveform, Stimulus, Waveform


class PlacedStimulus:
    """A stimulus on the units of a network, with its random stream and its last value."""

    def __init__(
        self, net: mRNNBase, stimulus: Stimulus, *, steps: int, batch: int, seeds: np.random.SeedSequence
    ) -> None:
        of_units, of_values = (np.random.default_rng(seed) for seed in seeds.spawn(2))
        dt = net.dt
        self.kind, units = find_units(net, stimulus, stimulus.region, of_units)
        self.start, self.stop = stimulus.steps(dt, steps)
        self.units: Units = as_index(units, net.device)
        self.shape, self.dt, self.length = (len(units), batch), dt, (self.stop - self.start) * dt
        self.waveform: Waveform = stimulus.waveform  # type: ignore[assignment]  # a number became a Constant
        self.waveform.check(dt, self.length, *self.shape)
        self.rng = of_values
        self.last: NDArray[np.float64] | None = None
        self.device, self.dtype = net.device, net.dtype

    def current(self, step: int) -> Tensor:
        """Values of a step, (units or 1, trials or 1). Called once for each step of the window, in order."""
        if isinstance(self.waveform, RandomWaveform):
            self.last = self.waveform.draw(self.rng, self.shape, self.dt, self.last)
            value: Any = self.last
        else:
            value = self.waveform.value((step - self.start) * self.dt, self.length)
        array = np.asarray(value, dtype=np.float64)
        array = array.reshape(1, 1) if array.ndim == 0 else array[:, None] if array.ndim == 1 else array
        return torch.from_numpy(array).to(self.device, self.dtype)


class StimulusDrive:
    """All stimuli of a run.

    Parameters
    ----------
    u : Tensor, shape (inputs, trials)
        Filled by `fill` for each step.
    longest : int
        Longest delay of an input projection, in steps.
    """

    def __init__(self, placed: Sequence[PlacedStimulus], u: Tensor, longest: int) -> None:
        self.placed, self.u, self.longest = placed, u, longest
        self.last_input = -1 - longest

    def fill(self, step: int) -> tuple[list[tuple[Units, Tensor]], bool]:
        """Set u for a step; returns the direct currents, and whether inputs (still) act."""
        currents: list[tuple[Units, Tensor]] = []
        active = False
        self.u.zero_()
        for p in self.placed:
            if not p.start <= step < p.stop:
                continue
            value = p.current(step)
            if p.kind == "recurrent":
                currents.append((p.units, value))
            elif isinstance(p.units, slice):
                self.u[p.units].add_(value)
                active = True
            else:
                self.u.index_add_(0, p.units, value.expand(len(p.units), self.u.shape[1]))
                active = True
        if active:
            self.last_input = step
        return currents, step - self.last_input < self.longest

    def state(self) -> tuple[dict[str, NDArray[np.float64]], dict[str, Any]]:
        """Last values, and the states of the random streams: arrays, and what JSON can hold."""
        arrays = {f"stimulus_{k}": p.last for k, p in enumerate(self.placed) if p.last is not None}
        streams = [p.rng.bit_generator.state for p in self.placed]
        return arrays, {"streams": streams, "last_input": self.last_input}

    def load(self, arrays: dict[str, NDArray[Any]], streams: dict[str, Any]) -> None:
        """Take over a state."""
        self.last_input = streams["last_input"]
        for k, p in enumerate(self.placed):
            p.rng.bit_generator.state = streams["streams"][k]
            p.last = arrays.get(f"stimulus_{k}")
