"""Inputs and direct currents that the stimuli of a run make in each time step."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from sparse_mrnn.errors import StimulusError
from sparse_mrnn.lowering.random_streams import run_streams
from sparse_mrnn.models.network import mRNNBase
from sparse_mrnn.ops import kernels
from sparse_mrnn.ops.philox import Levels, key_of, words
from sparse_mrnn.ops.spiking import PoissonDrive
from sparse_mrnn.ops.step import Units
from sparse_mrnn.simulation.targets import as_index, find_units
from sparse_mrnn.stimulus import Poisson, RandomWaveform, SpikeTimes, Stimulus, Waveform

ALL = 2**60
"""Steps that no run has."""


class PlacedStimulus:
    """A stimulus on the units of a network, with a random stream for each trial and its last value."""

    def __init__(
        self, net: mRNNBase, stimulus: Stimulus, *, steps: int, batch: int, seeds: np.random.SeedSequence
    ) -> None:
        of_units, of_values = seeds.spawn(2)
        dt = net.dt
        self.kind, units = find_units(net, stimulus, stimulus.region, np.random.default_rng(of_units))
        self.start, self.stop = stimulus.steps(dt, steps)
        self.units: Units = as_index(units, net.device)
        self.shape, self.dt, self.length = (len(units), batch), dt, (self.stop - self.start) * dt
        acting = (min(self.stop, steps) - self.start) * dt  # the run may end within the window
        self.waveform: Waveform = stimulus.waveform  # type: ignore[assignment]  # a number became a Constant
        self.waveform.check(dt, acting, *self.shape)
        random = isinstance(self.waveform, RandomWaveform)
        self.streams = [np.random.default_rng(s) for s in of_values.spawn(batch)] if random else []
        self.last: NDArray[np.float64] | None = None
        self.device, self.dtype = net.device, net.dtype
        self.poisson: PoissonDrive | None = None
        self.shared = isinstance(self.waveform, Poisson) and self.waveform.shared
        if isinstance(self.waveform, Poisson):
            given = self.waveform.rate * dt / 1000, self.waveform.amplitude, key_of(of_values)
            self.poisson = PoissonDrive(units, *given, self.start, self.stop)
            self._levels = Levels.poisson(self.poisson.mean)
        if isinstance(self.waveform, SpikeTimes):
            self._events = self.waveform.events(dt, len(units))

    def current(self, step: int) -> Tensor:
        """Return the values of a step, (units or 1, trials or 1). Call it for each step, in order."""
        t = (step - self.start) * self.dt
        if isinstance(self.waveform, RandomWaveform):
            value: Any = self._draw(self.waveform)
        elif isinstance(self.waveform, (Poisson, SpikeTimes)):
            value = self.waveform.amplitude * self._counts(step)
        else:
            value = self.waveform.value(t, self.length)
        array = np.asarray(value, dtype=np.float64)
        units, batch = self.shape
        if array.shape not in ((), (units,), (1, batch), (units, batch)):
            name = type(self.waveform).__name__
            expected = f"(), ({units},) or ({units}, {batch})"
            raise StimulusError(f"{name}: shape {array.shape} at {t:g} ms of it; expected {expected}.")
        array = array.reshape(1, 1) if array.ndim == 0 else array[:, None] if array.ndim == 1 else array
        return _sent(torch.from_numpy(array).to(self.dtype), self.device)

    def same_until(self, step: int) -> int:
        """Return the step up to which the values of a step hold at least."""
        if step < self.start:
            return self.start
        if step >= self.stop:
            return step + ALL
        if isinstance(self.waveform, SpikeTimes):
            steps, now = self._events[0], step - self.start
            following = steps[np.searchsorted(steps, now) :][:1]  # this step's events are alone in it
            until = self.stop if not len(following) else max(step + 1, self.start + int(following[0]))
            return min(until, self.stop)
        holds = self.waveform.holds((step - self.start) * self.dt) / self.dt
        return int(min(self.stop, step + max(1.0, math.ceil(holds - 1e-6) if holds < ALL else ALL)))

    def _counts(self, step: int) -> NDArray[np.float64]:
        """Count the events of a step, (units or 1, trials or 1)."""
        if self.poisson is None:
            steps, unit = self._events
            now = slice(*np.searchsorted(steps, [step - self.start, step - self.start + 1]))
            return np.bincount(unit[now], minlength=self.shape[0]).astype(np.float64)
        units = self.poisson.units[:, None]
        if self.shared:
            units = np.zeros((1, 1), np.int64)
        compiled, own = kernels.load("lif"), self._levels
        if compiled is None:
            drawn = words(units, step, np.arange(self.shape[1])[None], self.poisson.key)
            return own.counts(drawn).astype(np.float64)
        counts = np.empty((len(units), self.shape[1]))
        compiled.count_events(units[:, 0], step, self.poisson.key, own.levels, own.least, counts)
        return counts

    def _draw(self, waveform: RandomWaveform) -> NDArray[np.float64]:
        """Draw the next values, trial by trial, so that a trial does not depend on how many there are."""
        shape, last = (self.shape[0], 1), self.last
        drawn = [
            waveform.draw(stream, shape, self.dt, None if last is None else last[:, [k]])
            for k, stream in enumerate(self.streams)
        ]
        self.last = np.concatenate(drawn, axis=1)
        return self.last


def _sent(values: Tensor, device: torch.device) -> Tensor:
    """Send the values of a step to a device without waiting for it, as ``to`` does of ordinary memory."""
    if device.type == "cpu":
        return values
    if values.numel() == 1:
        return torch.full(values.shape, float(values), dtype=values.dtype, device=device)
    return values.pin_memory().to(device, non_blocking=True)


def place(
    net: mRNNBase, stimuli: Sequence[Stimulus], steps: int, batch: int, seeds: np.random.SeedSequence
) -> list[PlacedStimulus]:
    """Place the stimuli of a run on a network, each with random streams of its own."""
    return [
        PlacedStimulus(net, stimulus, steps=steps, batch=batch, seeds=own)
        for stimulus, own in zip(stimuli, seeds.spawn(len(stimuli)), strict=True)
    ]


class StimulusDrive:
    """All stimuli of a run; `fill` fills ``u``, shape (inputs, trials), for each step.

    ``longest`` is the longest delay of an input projection, in steps. With ``counted``, direct Poisson
    stimuli are left to a stepper that counts them itself (`poisson`).
    """

    def __init__(
        self, placed: Sequence[PlacedStimulus], u: Tensor, longest: int, *, counted: bool = False
    ) -> None:
        direct = [p.poisson for p in placed if p.kind == "recurrent" and not p.shared]
        self.poisson: list[PoissonDrive] = [each for each in direct if each is not None and counted]
        self.placed, self.u, self.longest = placed, u, longest
        self.filling = [p for p in placed if p.poisson is None or p.poisson not in self.poisson]
        self.last_input = -1 - longest

    def same_until(self, step: int) -> int:
        """Return the step up to which `fill` has the same result as for a step."""
        return min((p.same_until(step) for p in self.filling), default=step + ALL)

    def fill(self, step: int) -> tuple[list[tuple[Units, Tensor]], bool]:
        """Set u for a step; return the direct currents, and True if inputs (still) act."""
        currents: list[tuple[Units, Tensor]] = []
        active = False
        self.u.zero_()
        for p in self.filling:
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
        """Return last values as arrays, and the states of the random streams as JSON."""
        arrays = {f"stimulus_{k}": p.last for k, p in enumerate(self.placed) if p.last is not None}
        streams = [[stream.bit_generator.state for stream in p.streams] for p in self.placed]
        return arrays, {"streams": streams, "last_input": self.last_input}

    def load(self, arrays: dict[str, NDArray[Any]], streams: dict[str, Any]) -> None:
        """Take over a state."""
        self.last_input = streams["last_input"]
        for k, p in enumerate(self.placed):
            for stream, state in zip(p.streams, streams["streams"][k], strict=True):
                stream.bit_generator.state = state
            p.last = arrays.get(f"stimulus_{k}")


def stimulus_sequences(
    net: mRNNBase, stimuli: Sequence[Stimulus], *, steps: int, seed: int = 0
) -> tuple[Tensor, Tensor]:
    """Return inputs, (steps, inputs), and currents, (steps, units), of one trial under stimuli.

    They are those of the first trial of a simulation with this seed.

    Examples
    --------
    >>> import sparse_mrnn as sm
    >>> g = sm.RegionGraph(); g.add_region("a", 2); g.add_input("cue", 1); g.add_projection("cue", "a")
    >>> net = sm.mRNN(g, device="cpu")
    >>> u, current = stimulus_sequences(net, [sm.Stimulus("cue", 1.0, start=20)], steps=4)
    >>> u[:, 0].tolist(), current.shape
    ([0.0, 0.0, 1.0, 1.0], torch.Size([4, 2]))
    """
    options: dict[str, Any] = dict(dtype=net.dtype, device=net.device)
    u = torch.zeros(steps, net.layout("input").n, **options)
    current = torch.zeros(steps, net.layout().n, **options)
    placed = place(net, (*stimuli, *net.background), steps, 1, run_streams(seed)[0])
    drive = StimulusDrive(placed, torch.zeros(u.shape[1], 1, **options), 0)
    for step in range(steps):
        for units, value in drive.fill(step)[0]:
            current[step, units] += value[:, 0]
        u[step] = drive.u[:, 0]
    return u, current
