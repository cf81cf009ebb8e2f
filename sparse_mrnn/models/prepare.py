"""The preparation of a forward pass: what ``forward`` was given, checked, becomes what ``ops`` runs.

A network in one process and a rank's part of one prepare alike; they differ in the recurrent product alone.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Protocol

import torch
from torch import Tensor

from sparse_mrnn.checks import true_or_false
from sparse_mrnn.errors import ConfigError, ShapeError
from sparse_mrnn.lowering.layout import Layout
from sparse_mrnn.models.delays import delayed_inputs, has_delays, longest_delay
from sparse_mrnn.models.network_state import PAST, NetworkState
from sparse_mrnn.models.weights import SparseWeights
from sparse_mrnn.ops.delays import DelayedProduct
from sparse_mrnn.ops.noise import Noise
from sparse_mrnn.ops.products import Operator
from sparse_mrnn.ops.sequence import RecurrenceSpec, RecurrenceTensors
from sparse_mrnn.ops.step import Step

Start = Tensor | tuple[Tensor, ...] | NetworkState | None
"""Start of a run: the first state; all states and the activity; these with their past; or the network's
initial condition."""


class UnitModel(Protocol):
    """The units that a preparation is for: a network, or a rank's units without synapses."""

    dt: float
    dtype: torch.dtype
    device: torch.device

    @property
    def equation(self) -> Step:
        """The equation of a time step."""

    def step_parameters(self) -> dict[str, Tensor]:
        """The quantities that the equation has besides states and current."""

    def layout(self, kind: str = "recurrent") -> Layout:
        """Regions and their units."""


@dataclass(frozen=True, eq=False)
class ForwardCall:
    """The arguments of ``forward``, checked.

    Inputs have shape (time, inputs, batch), stim (time, units, batch), and ``returned``, the numbers of the
    units to return, (returned units,); None returns every unit.
    """

    inputs: Tensor
    start: NetworkState
    stim: Tensor | None
    noise: bool
    checkpoint_steps: int | None
    returned: Tensor | None


@dataclass(frozen=True, eq=False)
class Border:
    """The arguments and results of a network, in the user's layout.

    ``units`` have their states here: those of a network, or a rank's. ``inputs`` are the input synapses onto
    them, ``owned`` is their name in messages, ``longest`` the longest delay of a recurrent projection in
    steps, and ``caller`` the function that was called.
    """

    units: UnitModel
    inputs: SparseWeights
    batch_first: bool
    owned: str = "units"
    longest: int = 1
    caller: str = "forward"

    @cached_property
    def equation(self) -> Step:
        """The equation of a time step of these units."""
        return self.units.equation

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
        check_tensor("inp", inp, self.caller)
        inp, n, width, owned = self.cast(inp), self.units.layout().n, self.inputs.shape[1], self.owned
        order = "(batch, time, " if self.batch_first else "(time, batch, "
        regions = ", ".join(f"{r.name} {r.n}" for r in self.inputs.sources.regions) or "no inputs"
        self.check_shape("inp", inp, (None, None, width), f"{order}{width}): {regions}")
        batch, steps = inp.shape[:2] if self.batch_first else (inp.shape[1], inp.shape[0])
        if steps == 0:
            raise ShapeError("forward: inp has 0 time steps; give at least one.")
        begun = self.start(start, h0, batch, initial)
        if stim is not None:
            check_tensor("stim_input", stim, self.caller)
            stim = self.cast(stim)
            expected = f"{order}{owned}), batch {batch}, time {steps}, {owned} {n}"
            self.check_shape("stim_input", stim, (*inp.shape[:2], n), expected)
        to_internal = (1, 2, 0) if self.batch_first else (0, 2, 1)
        return ForwardCall(
            inputs=inp.permute(*to_internal),
            start=begun,
            stim=None if stim is None else stim.permute(*to_internal),
            noise=true_or_false(noise, "noise", ConfigError),
            checkpoint_steps=_checkpoint_steps(checkpoint_steps, steps),
            returned=returned,
        )

    def start(
        self, start: Start, h0: Tensor | None, batch: int, initial: Callable[[int], tuple[Tensor, ...]]
    ) -> NetworkState:
        """Check a start of so many trials, and make a state of it; arguments as of `check`."""
        step, n, owned = self.equation, self.units.layout().n, self.owned
        names = [f"{name}0" for name in step.states]
        state = start if isinstance(start, NetworkState) else None
        if isinstance(start, NetworkState):
            self._check_state(start, h0)
            start = *(each.t() for each in start.states), start.h
        if isinstance(start, Tensor) and step.coordinate == "h":
            start = (start,) * (len(names) + 1)
        given: dict[str, Tensor] = {}
        if isinstance(start, tuple):
            if len(start) != len(names) + 1:
                pair = ", ".join([*names, "h0"])
                what = f"the start is a tuple of {len(start)}"
                raise ShapeError(f"{self.caller}: {what}; give ({pair}), or {names[0]}.")
            given = dict(zip([*names, "h0"], start, strict=True))
        elif start is not None:
            given = {names[0]: start}
        given |= {"h0": h0} if h0 is not None else {}
        advice = "; see net.take" if owned != "units" else ""
        for name, tensor in given.items():
            check_tensor(name, tensor, self.caller)
            given[name] = tensor = self.cast(tensor)
            self.check_shape(name, tensor, (batch, n), f"(batch, {owned}) = ({batch}, {n}){advice}")
        if start is None:
            given = dict(zip([*names, "h0"], initial(batch), strict=True)) | given
        first = given[names[0]].t().contiguous()
        if names[-1] in given:
            states = (first, *(given[name].t().contiguous() for name in names[1:]))
        else:
            states = step.initial(first)
        activity = given["h0"].t().contiguous() if "h0" in given else step.activity(states)
        past: list[tuple[Tensor, ...]] = []
        widths = n, self.inputs.shape[1]
        for name, steps, width in zip(PAST, ((), ()) if state is None else state.past, widths, strict=True):
            past.append(tuple(self.cast(each) for each in steps))
            for each in past[-1]:
                self.check_shape(name, each, (width, batch), f"({width}, {batch}) in each step")
        return NetworkState(step.states, states, activity, *past)

    def _check_state(self, state: NetworkState, h0: Tensor | None) -> None:
        """Refuse a state of another model, and what does not go with a state."""
        names, own = (", ".join([*each, "h"]) for each in (state.names, self.equation.states))
        if names != own:
            raise ShapeError(f"{self.caller}: the state has {names}; the units of this network have {own}.")
        if h0 is not None:
            raise ConfigError(f"{self.caller}: the state has an h of its own; leave h0 out.")
        if self.owned != "units" and (state.past_h or state.past_inputs):
            what = "what is under way in delayed projections is not divided among ranks yet"
            raise ConfigError(f"{self.caller}: {what}; give (x0, h0).")

    def check_shape(self, name: str, tensor: Tensor, shape: tuple[int | None, ...], expected: str) -> None:
        """Refuse a tensor of another shape (None: any size), dtype or device."""
        units, got = self.units, tuple(tensor.shape)
        if len(got) != len(shape) or any(e is not None and g != e for g, e in zip(got, shape, strict=True)):
            raise ShapeError(f"{self.caller}: {name} has shape {got}; expected {expected}.")
        if tensor.dtype != units.dtype or tensor.device != units.device:
            what = f"{name} is {tensor.dtype} on {tensor.device}, the network {units.dtype} on {units.device}"
            net = "net" if self.owned == "units" else "net.units"
            raise ShapeError(f"{self.caller}: {what}; use {name}.to({net}.device, {net}.dtype).")

    def back(self, sequences: tuple[Tensor, ...]) -> Tensor | tuple[Tensor, ...]:
        """Lay sequences of shape (time, units, batch) out like the inputs.

        Returns all states and the activity; the activity alone if it decides what follows, as without a leak.
        """
        order = (2, 0, 1) if self.batch_first else (0, 2, 1)
        found = tuple(each.permute(*order) for each in sequences)
        return found[-1] if self.equation.coordinate == "h" else found

    def with_noise(self, call: ForwardCall, noise: Noise | None) -> tuple[ForwardCall, Noise | None]:
        """Add the noise of delayed inputs, which is delayed with them; any other the recurrence adds.

        Noise of a learnt level is added as a current of the units, which is differentiated as it is.
        """
        if noise is not None and noise.is_learnt:
            steps, _, batch = call.inputs.shape
            like = call.inputs.new_empty(steps, self.units.layout().n, batch)
            drawn = noise.of_units(like)
            stim = drawn if call.stim is None else call.stim + drawn
            return replace(call, inputs=noise.on_inputs(call.inputs), stim=stim), None
        if noise is None or self.inputs.is_empty or not has_delays(self.inputs, self.units.dt):
            return call, noise
        return replace(call, inputs=noise.on_inputs(call.inputs)), noise.without_inputs()

    def after(self, call: ForwardCall, sequences: tuple[Tensor, ...]) -> NetworkState:
        """Make the state after a call, from the sequences of all states and of the activity."""
        *states, h = sequences
        late, late_inputs = self.longest - 1, longest_delay(self.inputs, self.units.dt) - 1
        last, u, start = len(h) - 1, call.inputs, call.start
        past_h = [h[t] for t in range(last - 1, max(last - 1 - late, -1), -1)]
        past_inputs = [u[t] for t in range(last, max(last - late_inputs, -1), -1)]
        past_h = [*past_h, start.activity, *start.past_h][:late]
        past_inputs = [*past_inputs, *start.past_inputs][:late_inputs]
        found = NetworkState(start.names, tuple(s[-1] for s in states), h[-1], past_h, past_inputs)
        return found.clone()  # views would keep the whole sequences


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
    units, inputs, step, u, start = border.units, border.inputs, border.equation, call.inputs, call.start
    before: Tensor | None = None
    if start.past_h and border.longest > 1:
        before = torch.stack(start.h_before(border.longest - 1)[::-1])
    operator: Operator | None = None
    input_weights: Tensor | None = None
    if not inputs.is_empty:
        late = longest_delay(inputs, units.dt) - 1 if start.past_inputs else 0
        u, operand = delayed_inputs(inputs, u, units.dt, start.inputs_before(late, inputs.shape[1]))
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
        h0=start.activity,
        before=before,
        states=start.states,
        parameters={**units.step_parameters(), **step.learnt},
    )
    return spec, tensors


def check_tensor(name: str, given: object, caller: str = "forward") -> None:
    """Refuse what is not a dense tensor; W_rec may be sparse, too."""
    if not isinstance(given, Tensor):
        raise ShapeError(f"{caller}: {name} is of type {type(given).__name__}; give a tensor.")
    if (given.layout != torch.strided and name != "W_rec") or given.is_nested:
        kind = "nested" if given.is_nested else f"sparse ({given.layout})"
        raise ShapeError(f"{caller}: {name} is {kind}; give a dense tensor, such as {name}.to_dense().")


def _checkpoint_steps(given: int | str | None, steps: int) -> int | None:
    if given is None:
        return None
    if given == "auto":
        return math.ceil(math.sqrt(steps))
    if isinstance(given, bool) or not isinstance(given, int) or given < 1:
        raise ConfigError(f"checkpoint_steps is {given!r}; use a whole number of at least 1, or 'auto'.")
    return given
