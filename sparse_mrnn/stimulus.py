"""Stimuli: constant or pulsed currents into regions, units or input channels."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from sparse_mrnn.errors import StimulusError, suggest
from sparse_mrnn.models.base import mRNNBase


@dataclass(frozen=True)
class Stimulus:
    """A current of constant amplitude from ``start`` to ``stop`` (ms).

    Into an input region it is the input u; into a recurrent region or parent it is ``stim_input``.

    Parameters
    ----------
    region : str
    amplitude : float
    start : float, default 0
        ms.
    stop : float, optional
        ms. Default: the end.
    units : tuple of str, optional
        Only these unit ids of the region.

    Examples
    --------
    >>> Stimulus.parse("thal:2:100:200")
    Stimulus(region='thal', amplitude=2.0, start=100.0, stop=200.0, units=None)
    """

    region: str
    amplitude: float
    start: float = 0.0
    stop: float | None = None
    units: tuple[str, ...] | None = None

    def __post_init__(self) -> None:
        if self.start < 0 or (self.stop is not None and self.stop <= self.start):
            raise StimulusError(f"stimulus on {self.region!r}: start {self.start} and stop {self.stop} ms are no interval.")

    @classmethod
    def parse(cls, text: str) -> Stimulus:
        """Read ``REGION:AMPLITUDE[:START[:STOP]]``.

        Raises
        ------
        StimulusError
            If the text has another form.
        """
        parts = text.split(":")
        try:
            if not 2 <= len(parts) <= 4 or not parts[0]:
                raise ValueError
            numbers = [float(part) for part in parts[1:]]
            return cls(parts[0], numbers[0], *numbers[1:])  # type: ignore[arg-type]
        except ValueError as error:
            if isinstance(error, StimulusError):
                raise
            raise StimulusError(f"stimulus {text!r}: expected REGION:AMPLITUDE[:START[:STOP]], times in ms.") from None


class Drive:
    """Stimuli lowered onto a network: unit lists, so a chunk of time is filled without region names."""

    def __init__(self, net: mRNNBase, stimuli: Sequence[Stimulus], dt: float) -> None:
        self.net, self.dt = net, dt
        self.placed: dict[str, list[tuple[Stimulus, Tensor]]] = {"input": [], "recurrent": []}
        for stimulus in stimuli:
            self.placed[net._kind(stimulus.region)].append((stimulus, _units(net, stimulus)))

    def chunk(self, first: int, steps: int, batch: int) -> tuple[Tensor, Tensor | None]:
        """Input and stim tensors of ``steps`` steps from step ``first``, time first: (time, batch, features)."""
        net = self.net
        inp = torch.zeros(steps, batch, net.layout("input").n, dtype=net.dtype, device=net.device)
        _fill(inp, self.placed["input"], first, self.dt)
        if not any(_overlap(s, first, steps, self.dt) for s, _ in self.placed["recurrent"]):
            return inp, None
        stim = torch.zeros(steps, 1, net.layout().n, dtype=net.dtype, device=net.device)
        _fill(stim, self.placed["recurrent"], first, self.dt)
        return inp, stim.expand(-1, batch, -1)


def _steps(stimulus: Stimulus, dt: float) -> tuple[int, int | None]:
    stop = None if stimulus.stop is None else round(stimulus.stop / dt)
    return round(stimulus.start / dt), stop


def _overlap(stimulus: Stimulus, first: int, steps: int, dt: float) -> bool:
    start, stop = _steps(stimulus, dt)
    return start < first + steps and (stop is None or stop > first)


def _fill(out: Tensor, placed: list[tuple[Stimulus, Tensor]], first: int, dt: float) -> None:
    for stimulus, units in placed:
        start, stop = _steps(stimulus, dt)
        begin = max(start - first, 0)
        end = len(out) if stop is None else min(max(stop - first, 0), len(out))
        if begin < end:
            out[begin:end, :, units] += stimulus.amplitude


def _units(net: mRNNBase, stimulus: Stimulus) -> Tensor:
    if stimulus.units is None:
        return net.unit_indices(stimulus.region).to(net.device)
    layout = net.layout()
    found: dict[str, int] = {}
    for member in layout.members(stimulus.region):
        ids = net.graph.region(member).unit_ids or ()
        found.update({unit: int(layout.slice(member).start) + k for k, unit in enumerate(ids)})
    for unit in stimulus.units:
        if unit not in found:
            raise StimulusError(f"stimulus: region {stimulus.region!r} has no unit {unit!r}. {suggest(unit, found, what='unit ids')}")
    return torch.tensor([found[unit] for unit in stimulus.units], device=net.device)
