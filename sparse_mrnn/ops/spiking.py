"""Simulation of spiking networks: many steps a compiled call, and only the synapses of spikes are visited.

Input to come lies in a ring of time steps, into which a spike adds its column of synapses once, each at its
own delay (`SpikeDelivery`). What the ring has at a time follows from the latest spikes, so these are what is
saved, and what is delivered again if weights change (docs/decisions/0035-spiking.md).
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from sparse_mrnn.ops import kernels
from sparse_mrnn.ops.delays import StreamingProduct, SynapticDelays
from sparse_mrnn.ops.noise import StreamingNoise
from sparse_mrnn.ops.pattern import Pattern
from sparse_mrnn.ops.philox import Levels, Words
from sparse_mrnn.ops.step import Currents, Parameters, States, Step, add_current
from sparse_mrnn.ops.stream import Stepper

BAND = 256
"""Time steps of a compiled call at most: after each, interrupts and checkpoints are looked for."""
BLOCK_STATES = 2**22
"""States of a block of steps at most, over all trials: two scratch numbers of eight bytes for each."""
NARROW = 2**16
"""Rows that a band may have for two-byte row numbers."""

Spikes = NDArray[np.int64]
"""Spikes in their order, shape (spikes, 3): step, trial, unit."""


@dataclass(frozen=True, eq=False)
class PoissonDrive:
    """Poisson counts of events at units, ascending, each of which adds ``weight`` to the current.

    They act in the steps ``start <= step < stop``; ``mean`` is that of a step's count.
    """

    units: NDArray[np.int64]
    mean: float
    weight: float
    key: Words
    start: int
    stop: int


def packed(drives: Sequence[PoissonDrive], dtype: Any) -> tuple[Any, ...]:
    """Return drives as the arrays of `kernels.lif.advance`."""
    levels = [Levels.poisson(drive.mean) for drive in drives]

    def joined(arrays: Sequence[NDArray[Any]], kind: Any) -> tuple[NDArray[Any], NDArray[np.int64]]:
        ptr = np.cumsum([0, *(len(array) for array in arrays)])
        return np.concatenate([np.empty(0, kind), *arrays]).astype(kind), ptr

    windows = np.array([[drive.start, drive.stop] for drive in drives], np.int64).reshape(-1, 2)
    keys = np.array([drive.key for drive in drives], np.uint32).reshape(-1, 2)
    least = np.array([each.least for each in levels], np.int64)
    weights = np.array([drive.weight for drive in drives], dtype)
    units = joined([drive.units for drive in drives], np.int64)
    return *units, windows, keys, *joined([each.levels for each in levels], np.uint32), least, weights


class SpikingStep(Step):
    """The step of integrate-and-fire units, as `kernels.lif` computes it; its states are v, g, refractory.

    With ``jump``, the current is added to v; with ``freeze``, g is 0 after a spike and kept while
    refractory, when what arrives is dropped.
    """

    spiking = True
    jump = False
    freeze = False

    @abstractmethod
    def units(self, parameters: Parameters, like: Tensor) -> Tensor:
        """Return the parameters of each unit as the kernel takes them, shape (8, units)."""


class SpikeDelivery:
    """The recurrent product of a spiking network: the synapses by source, and the latest spikes.

    It has the interface of `StreamingProduct` as far as a simulation uses it; h, the source, has shape
    (units, batch). Columns take 6 bytes a synapse in float32, and one more if delays differ.
    """

    def __init__(self, pattern: Pattern, delays: SynapticDelays, h: Tensor) -> None:
        self.pattern, self.delays, self.source = pattern, delays, h
        self.shortest, self.longest = delays.shortest, delays.longest
        self.kernels = kernels.load("lif")
        self.now = 0
        self.ring = np.zeros((h.shape[1], self.longest, h.shape[0]), dtype=h.numpy().dtype)
        self.spikes: Spikes = np.empty((0, 3), np.int64)
        self.columns: tuple[Any, ...] = ()

    def set_weights(
        self, values: Tensor, perm: Tensor | None, sign: Tensor | None, synapse_sign: Tensor | None
    ) -> None:
        """Use these weights from now on.

        Entry e of the matrix has value ``perm[e]`` (None: e) with the sign, if any, of its source unit or
        of ``synapse_sign``, in CSR order.
        """
        self.columns = ()  # two copies need not fit in memory
        optional = (perm, torch.int32), (sign, torch.int8), (synapse_sign, torch.int8)
        arrays = [torch.empty(0, dtype=kind) if given is None else given for given, kind in optional]
        self.columns = self._by_column(values.numpy(), *(array.numpy() for array in arrays))
        self.deliver_again()

    def release(self) -> None:
        """Let go of the weights."""
        self.columns = ()

    def _by_column(self, values: NDArray[Any], *order_and_signs: NDArray[Any]) -> tuple[Any, ...]:
        rows, columns = self.pattern.shape
        crow, col = self.pattern.crow.numpy(), self.pattern.col.numpy()
        bands = max(2, torch.get_num_threads())
        shares = np.linspace(0, len(col), bands + 1)[1:-1]  # of as many synapses each
        limits = np.concatenate([[0], np.searchsorted(crow, shares), [rows]]).astype(np.int64)
        narrow = int(np.diff(limits).max()) <= NARROW
        own, differ = self.delays, self.longest != self.shortest
        levels = [np.empty(0, np.uint32), *(each.levels for each in own.levels)]
        level_ptr = np.cumsum([0, *(len(each.levels) for each in own.levels)])
        least = np.array([each.least for each in own.levels], dtype=np.int64)
        pointers = np.zeros((bands, columns + 1), dtype=np.int64)
        row_of = np.empty(len(col), dtype=np.uint16 if narrow else np.int32)
        weights = np.empty(len(col), dtype=values.dtype)
        delay_of = np.empty(len(col) if differ else 0, dtype=np.uint8 if self.longest < 256 else np.uint16)
        self.kernels.by_column.of(len(col))(
            limits, crow, col, values, *order_and_signs, own.ptr, least, np.concatenate(levels), level_ptr,
            own.keys, pointers, row_of, weights, delay_of,
        )
        return limits, pointers, row_of, weights, delay_of

    # ---------------------------------------------------------------- the latest spikes

    def passed(self, steps: int, spikes: Spikes) -> None:
        """Note that steps have passed, with their spikes."""
        self.now += steps
        spikes = np.concatenate([self.spikes, spikes])
        self.spikes = spikes[np.searchsorted(spikes[:, 0], self.now - self.longest) :]

    def deliver_again(self) -> None:
        """Make the ring anew from the latest spikes, as it was made on the way."""
        self.ring.fill(0)
        if len(self.spikes) and self.columns:
            deliver = self.kernels.deliver_past.of(len(self.spikes) * 1024)
            deliver(self.spikes, self.now, self.columns, self.longest, self.ring)

    def set_before(self, before: Sequence[Tensor]) -> None:
        """Take over the activity before the start, the latest first."""
        found = []
        for late, h in reversed(list(enumerate([self.source, *before]))):
            trial, unit = np.nonzero(h.t().numpy())
            found.append(np.stack([np.full(len(unit), self.now - 1 - late), trial, unit], axis=1))
        self.spikes = np.concatenate(found).astype(np.int64)
        self.deliver_again()

    def before(self) -> list[Tensor]:
        """Return the activity before the present one, as `set_before` takes it."""
        past = [torch.zeros_like(self.source) for _ in range(1, self.longest)]
        for step, trial, unit in self.spikes.tolist():
            late = self.now - 1 - step
            if 0 < late < self.longest:
                past[late - 1][unit, trial] = 1
        return past

    def state(self) -> dict[str, Tensor]:
        """The latest spikes, at steps before the present."""
        return {"spikes": torch.from_numpy(self.spikes - np.array([self.now, 0, 0]))}

    def load(self, state: dict[str, Tensor], steps: int) -> None:
        """Take over the latest spikes after ``steps`` steps."""
        self.now = steps
        self.spikes = state["spikes"].numpy() + np.array([steps, 0, 0])
        self.deliver_again()


class SpikingStepper(Stepper):
    """The states of a spiking network and how to advance them, many steps at a time.

    States and h lie trial by trial in memory.
    """

    def __init__(
        self, step: SpikingStep, parameters: Parameters, states: States, h: Tensor, recurrent: SpikeDelivery,
        inputs: StreamingProduct, *, noise: StreamingNoise | None = None,
    ) -> None:
        super().__init__(step, parameters, states, h, recurrent, inputs, noise=noise)  # type: ignore[arg-type]
        self.spiking, self.jump, self.freeze = recurrent, step.jump, step.freeze
        n, trials = h.shape
        self.units = np.ascontiguousarray(step.units(parameters, h).numpy())
        self.block = max(1, min(recurrent.shortest, BLOCK_STATES // (n * trials)))
        scratch = np.empty((2, trials, n * self.block), np.int64)
        self._scratch = scratch[0], scratch[1]
        self._out = np.empty((trials * n * self.block + 2**20, 3), np.int64)
        self._total = np.zeros(1, np.int64)
        self._rows = tuple(state.t().numpy() for state in states)
        self._advance = recurrent.kernels.advance.of(n * trials * self.block)
        self.drives = packed((), self._rows[0].dtype)
        self.spikes: Spikes = self._out[:0]
        """Spikes of the last `advance`, until the next."""

    def set_drives(self, drives: Sequence[PoissonDrive]) -> None:
        """Drive units by these Poisson counts, beside what `advance` is given."""
        self.drives = packed(drives, self._rows[0].dtype)

    @torch.no_grad()
    def advance(self, steps: int, currents: Currents = (), *, inputs: bool = True) -> None:
        """Advance by some steps with the same currents and inputs; see `band`."""
        extra = self._extra(steps, currents, inputs=inputs)
        delivery, masks, done, found = self.spiking, self._masks(), 0, []
        while done < steps:
            self._total[0] = 0
            done += self._advance(
                delivery.now + done, steps - done, self.block, self._rows, delivery.ring, extra, *masks,
                self.units, self.jump, self.freeze, self.drives, delivery.columns, delivery.longest,
                *self._scratch, self._total, self._out,
            )
            found.append(self._out[: self._total[0]].copy())
        self.spikes = found[0] if len(found) == 1 else np.concatenate(found)
        delivery.passed(steps, self.spikes)
        last = self.spikes[np.searchsorted(self.spikes[:, 0], delivery.now - 1) :]
        self.h.zero_()
        self.h.t().numpy()[last[:, 1], last[:, 2]] = 1
        self._finite = None

    def load(self, state: dict[str, Tensor], steps: int) -> None:
        super().load(state, steps)
        self.spikes = self._out[:0]

    def _extra(self, steps: int, currents: Currents, *, inputs: bool) -> NDArray[np.floating]:
        """Return the current of each step besides spikes and Poisson events, (trials, units or 0)."""
        noise, u = self.noise, self.inputs.source
        if noise is not None:
            u.add_(self.input_noise.draw(), alpha=noise.input_std)
            inputs = u.shape[0] > 0
        for units in self.silent_inputs:
            u[units] = 0
        self.inputs.advance()
        if self.inputs.history is not None:
            self.inputs.history.count += steps - 1  # of a band, in which all of it is 0
        if noise is None and not inputs and not len(currents):
            return self._rows[0][:, :0]
        current = torch.zeros_like(self.h, memory_format=torch.contiguous_format)
        if inputs:
            self.inputs.addmm(current, beta=0.0, alpha=1.0)
        if noise is not None:
            current += self.unit_noise.draw() * noise.unit_std
        for units, values in currents:
            add_current(current, units, values)
        return np.ascontiguousarray(current.t().numpy())

    def _masks(self) -> tuple[NDArray[np.floating], NDArray[np.uint8]]:
        """Return what the kernel takes as ``held`` and ``silent``."""
        n, dtype = self.h.shape[0], self._rows[0].dtype
        held, silent = np.full(n if self.held.x else 0, np.nan, dtype), np.zeros(0, np.uint8)
        for units, value in self.held.x:
            held[units] = value
        if self.held.silent:
            silent = np.zeros(n, np.uint8)
        for units in self.held.silent:
            silent[units] = 1
        return held, silent

    def band(self, *, inputs: bool) -> int:
        """Return how many steps `advance` may make at most, if currents and inputs stay the same."""
        changing = self.noise is not None or (inputs and self.inputs.longest > 1)
        return 1 if changing else BAND

    def spikes_of(self, step: int) -> NDArray[np.int64]:
        return self.spikes
