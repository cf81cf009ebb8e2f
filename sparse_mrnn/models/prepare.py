"""The preparation of a forward pass: what ``forward`` was given, checked, becomes what ``ops`` runs.

A network in one process and a rank's part of one prepare alike; they differ in the recurrent product alone.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from functools import cached_property
from typing import Protocol

import torch
from torch import Tensor

from sparse_mrnn.checks import true_or_false
from sparse_mrnn.errors import ConfigError, ShapeError
from sparse_mrnn.lowering.layout import Layout
from sparse_mrnn.models.delays import delayed_inputs, has_delays
from sparse_mrnn.models.weights import SparseWeights
from sparse_mrnn.ops.delays import DelayedProduct
from sparse_mrnn.ops.noise import Noise
from sparse_mrnn.ops.products import Operator
from sparse_mrnn.ops.sequence import RecurrenceSpec, RecurrenceTensors
from sparse_mrnn.ops.step import States, Step

Start = Tensor | tuple[Tensor, ...] | None
"""Start of a run: the first state; all states and the activity; or the network's initial condition."""


class UnitModel(Protocol):
    """The units that a preparation is for: a network, or a rank's units without synapses."""

    dt: float
    dtype: torch.dtype
    device: torch.device

    @property
    def step(self) -> Step:
        """The equation of a time step."""

    def step_parameters(self) -> dict[str, Tensor]:
        """The quantities that the equation has besides states and current."""

    def layout(self, kind: str = "recurrent") -> Layout:
        """Regions and their units."""


@dataclass(frozen=True, eq=False)
class ForwardCall:
    """The arguments of ``forward``, checked.

    Inputs have shape (time, inputs, batch), the states, in the order of `Step.states`, and h0 (units, batch),
    stim (time, units, batch), and ``returned``, the numbers of the units to return, (returned units,); None
    returns every unit.
    """

    inputs: Tensor
    states: States
    h0: Tensor
    stim: Tensor | None
    noise: bool
    checkpoint_steps: int | None
    returned: Tensor | None


@dataclass(frozen=True, eq=False)
class Border:
    """The arguments and results of a network, in the user's layout.

    ``units`` have their states here: those of a network, or a rank's. ``inputs`` are the input synapses onto
    them, and ``owned`` is their name in messages.
    """

    units: UnitModel
    inputs: SparseWeights
    batch_first: bool
    owned: str = "units"

    @cached_property
    def step(self) -> Step:
        """The equation of a time step of these units."""
        return self.units.step

    def full_precision(self) -> AbstractContextManager[object]:
        """Switch autocast off while the network runs: sparse kernels have no half precision."""
        kind = self.units.device.type
        return torch.autocast(kind, enabled=False) if torch.is_autocast_enabled(kind) else nullcontext()

    def cast(self, tensor: Tensor) -> Tensor:
        """Return the tensor in the network's precision where autocast is on, else as it is."""
        return tensor.to(self.units.dtype) if torch.is_autocast_enabled(self.units.device.type) else tensor

    def check(
        self,
        inp: Tensor,
        start: Start,
        h0: Tensor | None,
        stim: Tensor | None,
        noise: bool,
        checkpoint_steps: int | str | None,
        returned: Tensor | None,
        initial: Callable[[int], tuple[Tensor, ...]],
    ) -> ForwardCall:
        """Check the arguments of ``forward`` and bring them to (time, features, batch).

        ``returned`` are the units to return; ``initial`` makes the network's initial states and activity for
        so many trials, each of shape (batch, units).
        """
        units, step = self.units, self.step
        if isinstance(start, Tensor) and step.coordinate == "h":
            start = (start,) * (len(step.states) + 1)
        names = [f"{name}0" for name in step.states]
        given: dict[str, Tensor] = {}
        if isinstance(start, tuple):
            if len(start) != len(names) + 1:
                pair = ", ".join([*names, "h0"])
                what = f"the start is a tuple of {len(start)}"
                raise ShapeError(f"forward: {what}; give ({pair}), or {names[0]}.")
            given = dict(zip([*names, "h0"], start, strict=True))
        elif start is not None:
            given = {names[0]: start}
        given |= {"h0": h0} if h0 is not None else {}
        given |= {"stim_input": stim} if stim is not None else {}
        for name, tensor in (("inp", inp), *given.items()):
            check_tensor(name, tensor)
        inp, given = self.cast(inp), {name: self.cast(tensor) for name, tensor in given.items()}
        n, width, owned = units.layout().n, self.inputs.shape[1], self.owned
        order = "(batch, time, " if self.batch_first else "(time, batch, "
        regions = ", ".join(f"{r.name} {r.n}" for r in self.inputs.sources.regions) or "no inputs"
        self.check_shape("inp", inp, (None, None, width), f"{order}{width}): {regions}")
        batch, steps = inp.shape[:2] if self.batch_first else (inp.shape[1], inp.shape[0])
        if steps == 0:
            raise ShapeError("forward: inp has 0 time steps; give at least one.")
        advice = "; see net.take" if owned != "units" else ""
        for name in (*names, "h0"):
            if name in given:
                expected = f"(batch, {owned}) = ({batch}, {n}){advice}"
                self.check_shape(name, given[name], (batch, n), expected)
        if stim is not None:
            expected = f"{order}{owned}), batch {batch}, time {steps}, {owned} {n}"
            self.check_shape("stim_input", given["stim_input"], (*inp.shape[:2], n), expected)
        if start is None:
            given = dict(zip([*names, "h0"], initial(batch), strict=True)) | given
        to_internal = (1, 2, 0) if self.batch_first else (0, 2, 1)
        first = given[names[0]].t().contiguous()
        if names[-1] in given:
            states = (first, *(given[name].t().contiguous() for name in names[1:]))
        else:
            states = step.initial(first)
        return ForwardCall(
            inputs=inp.permute(*to_internal),
            states=states,
            h0=given["h0"].t().contiguous() if "h0" in given else step.activity(states),
            stim=None if stim is None else given["stim_input"].permute(*to_internal),
            noise=true_or_false(noise, "noise", ConfigError),
            checkpoint_steps=_checkpoint_steps(checkpoint_steps, steps),
            returned=returned,
        )

    def check_shape(self, name: str, tensor: Tensor, shape: tuple[int | None, ...], expected: str) -> None:
        """Refuse a tensor of another shape (None: any size), dtype or device."""
        units, got = self.units, tuple(tensor.shape)
        if len(got) != len(shape) or any(e is not None and g != e for g, e in zip(got, shape, strict=True)):
            raise ShapeError(f"forward: {name} has shape {got}; expected {expected}.")
        if tensor.dtype != units.dtype or tensor.device != units.device:
            what = f"{name} is {tensor.dtype} on {tensor.device}, the network {units.dtype} on {units.device}"
            net = "net" if self.owned == "units" else "net.units"
            raise ShapeError(f"forward: {what}; use {name}.to({net}.device, {net}.dtype).")

    def back(self, sequences: tuple[Tensor, ...]) -> Tensor | tuple[Tensor, ...]:
        """Lay sequences of shape (time, units, batch) out like the inputs.

        Returns all states and the activity; the activity alone if it decides what follows, as without a leak.
        """
        order = (2, 0, 1) if self.batch_first else (0, 2, 1)
        found = tuple(each.permute(*order) for each in sequences)
        return found[-1] if self.step.coordinate == "h" else found


def prepare(
    border: Border,
    call: ForwardCall,
    recurrent: Callable[[Tensor], DelayedProduct],
    weights: Tensor,
    noise: Noise | None,
    *,
    largest: int | None = None,
) -> tuple[RecurrenceSpec, RecurrenceTensors]:
    """Make the arguments of `recurrence` for a call.

    ``recurrent`` makes the recurrent product from its stored values, which are ``weights``; the noise is that
    of these units and the inputs, and ``largest`` that of `RecurrenceSpec`.
    """
    units, inputs, step, u = border.units, border.inputs, border.step, call.inputs
    operator: Operator | None = None
    input_weights: Tensor | None = None
    if not inputs.is_empty:
        if noise is not None and has_delays(inputs, units.dt):  # noise is delayed with the input
            u, noise = noise.on_inputs(u), noise.without_inputs()
        u, operand = delayed_inputs(inputs, u, units.dt)
        operator, input_weights = operand.operator, inputs.stored_values(operand)
    spec = RecurrenceSpec(
        step=step,
        recurrent=recurrent,
        input_operator=operator,
        noise=noise,
        checkpoint_steps=call.checkpoint_steps,
        units=call.returned,
        largest=largest,
    )
    tensors = RecurrenceTensors(
        weights=weights,
        input_weights=input_weights,
        inputs=u,
        stim=call.stim,
        h0=call.h0,
        states=call.states,
        parameters={**units.step_parameters(), **step.learnt},
    )
    return spec, tensors


def check_tensor(name: str, given: object) -> None:
    """Refuse what is not a dense tensor; W_rec may be sparse, too."""
    if not isinstance(given, Tensor):
        raise ShapeError(f"forward: {name} is of type {type(given).__name__}; give a tensor.")
    if (given.layout != torch.strided and name != "W_rec") or given.is_nested:
        kind = "nested" if given.is_nested else f"sparse ({given.layout})"
        raise ShapeError(f"forward: {name} is {kind}; give a dense tensor, such as {name}.to_dense().")


def _checkpoint_steps(given: int | str | None, steps: int) -> int | None:
    if given is None:
        return None
    if given == "auto":
        return math.ceil(math.sqrt(steps))
    if isinstance(given, bool) or not isinstance(given, int) or given < 1:
        raise ConfigError(f"checkpoint_steps is {given!r}; use a whole number of at least 1, or 'auto'.")
    return given
