"""The contract of a model's step: the equation of one time step, once, in plain torch.

    current[t]    = sum_d W_d h[t + 1 - d] + W_inp u[t] + noise[t] + stim[t]
    states[t + 1] = step(states[t], current[t], parameters)
    h[t + 1]      = activity(states[t + 1])

A model is a `Step`: the states that a unit carries, the equation that changes them, and the activity h that
they transmit. ``ops`` multiplies and adds up the current; everything else that needs the equation takes it
from here: sequences and their gradients, streaming, analysis, export, and ranks. A new model writes
``states`` and ``step`` alone. The passes below run any step; a model whose step has compiled kernels returns
passes of its own.

Electrical synapses add a current between the states x of two units, g (x_j - x_i) (`ops/electrical.py`); a
step has their pairs, and what calls it adds their current as one more direct current.

Every state has shape (units, batch), every parameter of units a shape that broadcasts to it, such as
(units, 1). The equation is pointwise: what a unit does in a trial depends on its own states, current and
parameters.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Collection, Mapping, Sequence
from copy import copy
from functools import cached_property
from typing import Any, ClassVar, NamedTuple, Self

import torch
from torch import Tensor

from sparse_mrnn.ops.activations import ActivationSegments
from sparse_mrnn.ops.electrical import ElectricalPairs, Exchange

States = tuple[Tensor, ...]
"""The states of the units in the order of `Step.states`, each of shape (units, batch)."""
Parameters = Mapping[str, Tensor]
"""Tensors besides states and current that a step is differentiable in, by name; they broadcast to a state."""
Units = Tensor | slice
"""A range of units, or their numbers without repeats."""
Currents = Sequence[tuple[Units, Tensor]]
"""Direct currents: values have shape (those units or 1, batch or 1)."""
NoiseStd = float | Tensor | None
"""Standard deviation of the units' noise, a number or of shape (units, 1); None without noise."""


CONDUCTANCE = "conductance"
"""Name of the parameter that is of pairs of units, shape (pairs,), and not of units."""


class Step(ABC):
    """The equation of one time step of a model.

    Parameters
    ----------
    activation : ActivationSegments
        The function f of every unit.

    Examples
    --------
    A unit that adds up what it receives, forgets nothing, and transmits tanh of the sum:

    >>> from sparse_mrnn.ops.activations import get_activation
    >>> class Accumulator(Step):
    ...     states = ("x",)
    ...     def step(self, states, current, parameters):
    ...         return (states[0] + parameters["gain"] * current,)
    >>> step = Accumulator(ActivationSegments(((0, 1, get_activation("tanh")),)))
    >>> step.step((torch.tensor([[1.0]]),), torch.tensor([[2.0]]), {"gain": torch.tensor([[0.5]])})
    (tensor([[2.]]),)
    """

    states: ClassVar[tuple[str, ...]] = ("x",)
    """Names of the states a unit carries; the first is the one that an initial condition sets."""
    coordinate: ClassVar[str] = "x"
    """"h" if the activity alone decides what follows, as without a leak; then it is the state to analyse."""
    spiking: ClassVar[bool] = False
    """True if the activity is spikes, 0 or 1."""
    rate: float | None = None
    """`rates`, where it is one fixed number."""

    electrical: ElectricalPairs | None = None
    """Pairs of units whose states exchange current; their conductances are the parameter `CONDUCTANCE`."""

    def __init__(self, activation: ActivationSegments) -> None:
        self.activation = activation
        self.learnt = activation.learnt  # tensors inside functions of the user's that need a gradient

    @abstractmethod
    def step(self, states: States, current: Tensor, parameters: Parameters) -> States:
        """Return the states one time step later; made of torch functions, without in-place changes."""

    def activity(self, states: States) -> Tensor:
        """Return h, what the units transmit in these states: f of the first one."""
        return self.activation.apply(states[0])

    def initial(self, x0: Tensor) -> States:
        """Return the states at the start, the first of which is ``x0``; the others are 0."""
        return (x0, *(torch.zeros_like(x0) for _ in self.states[1:]))

    def velocity(self, states: States, current: Tensor, parameters: Parameters) -> States:
        """Return the rate of change, of which a step adds the share `rates`: here, the change itself."""
        after = self.step(states, current, parameters)
        return tuple(new - old for new, old in zip(after, states, strict=True))

    def rates(self, parameters: Parameters) -> Tensor:
        """Return the share of `velocity` that a step adds to the states, which broadcasts to them; 1 here."""
        return next(iter(parameters.values())).new_ones(1, 1)

    def partials(
        self, states: States, current: Callable[[], Tensor], parameters: Parameters
    ) -> tuple[Tensor | float, Tensor | None, Tensor | None]:
        """Derivatives of a step of one state, each of its shape, for the Jacobian of a network.

        They are those of the velocity by the state and by the current, which is computed if it is needed, and
        that of the activity by the state. A number stands for one of all units, None for 1.
        """
        with torch.enable_grad():
            (x,) = (state.detach().requires_grad_() for state in states)
            received = current().detach().requires_grad_()
            (velocity,) = self.velocity((x,), received, parameters)
            own, into = torch.autograd.grad(velocity.sum(), (x, received), materialize_grads=True)
            (out,) = torch.autograd.grad(self.activity((x,)).sum(), x)
        return own, into, out

    def with_activation(self, activation: ActivationSegments) -> Self:
        """Return the same step for other units, whose activation this is."""
        other = copy(self)
        other.activation, other.learnt = activation, activation.learnt
        return other

    def exchange(self, parameters: Parameters) -> Exchange | None:
        """Return the currents of electrical synapses with these conductances; None without any."""
        return None if self.electrical is None else self.electrical.bind(parameters[CONDUCTANCE])

    # ---------------------------------------------------------------- passes, which a model may fuse

    def keeps(self, needed: Collection[str]) -> tuple[str, ...]:
        """Name what `adjoint` reads, for gradients of these parameters: states, and one array more.

        The array more is written by the forward pass; here it is the current, from which each step is
        computed again.
        """
        return (*self.states, "current")

    def sequence(self, parameters: Parameters, unit_std: NoiseStd, like: Tensor) -> Advance:
        """Return what advances the states over a sequence, into new arrays at each step."""
        return Advance(self, parameters, unit_std, like)

    def stream(self, parameters: Parameters, unit_std: NoiseStd, like: Tensor) -> Advance:
        """Return what advances the states of a simulation in place."""
        return Advance(self, parameters, unit_std, like)

    def adjoint(self, parameters: Parameters, needed: Collection[str], like: Tensor) -> Adjoint:
        """Return what takes gradients back through the steps."""
        return Adjoint(self, parameters, needed, like)


class Drive(ABC):
    """The drive of the steps of a pass: products, noise of the units, and values that a state is held at."""

    @property
    def held_x(self) -> Sequence[tuple[Units, float]]:
        """Units whose first state is set to a value in each step, before the activity is computed."""
        return ()

    @abstractmethod
    def multiply(self, y: Tensor, beta: float, alpha: float) -> None:
        """y = beta y + alpha (W h + W_inp u) in the present step, in place."""

    @abstractmethod
    def draw(self) -> Tensor:
        """Return the step's standard normal numbers, shape (units, batch); valid until the next call."""


class Advance:
    """Steps forward, one after another, without gradients.

    ``like`` is a state.
    """

    def __init__(self, step: Step, parameters: Parameters, unit_std: NoiseStd, like: Tensor) -> None:
        self.step, self.parameters, self.unit_std = step, parameters, unit_std
        self.current = torch.empty_like(like)

    def advance(
        self, before: States, after: States, h: Tensor, drive: Drive, currents: Currents, kept: Tensor | None
    ) -> bool | None:
        """Write the states one time step after ``before`` to ``after``, and their activity to ``h``.

        ``before`` and ``after`` may be the same tensors. The array that `Step.keeps` names besides states is
        written to ``kept``. Returns True if the first state is finite, False if not, and None if the pass has
        not found out on its way.
        """
        current = self.current if kept is None else kept
        drive.multiply(current, 0.0, 1.0)
        if self.unit_std is not None:
            current += drive.draw() * self.unit_std
        for units, values in currents:
            add_current(current, units, values)
        for out, new in zip(after, self.step.step(before, current, self.parameters), strict=True):
            out.copy_(new)
        for units, value in drive.held_x:
            after[0][units] = value
        h.copy_(self.step.activity(after))
        return None


def add_current(to: Tensor, units: Units, values: Tensor) -> None:
    """Add values, of shape (those units or 1, batch or 1), to some units of a state."""
    if isinstance(units, slice):
        to[units].add_(values)
    else:
        to.index_add_(0, units, values.expand(len(units), to.shape[1]))


EVERY_UNIT = slice(None)


def with_exchange(exchange: Exchange | None, states: States, direct: Currents) -> Currents:
    """Return direct currents and, if there are electrical synapses, theirs in these states."""
    return direct if exchange is None else (*direct, (EVERY_UNIT, exchange.current(states[0])))


class SavedStep(NamedTuple):
    """One time step as the forward pass has left it: states before and after, and the activity after it.

    None stands in place of each state that `Step.keeps` does not name; ``kept`` is what it names besides.
    """

    before: tuple[Tensor | None, ...]
    after: tuple[Tensor | None, ...]
    h: Tensor
    kept: Tensor | None


class Columns:
    """Arrays that the next SDDMM reads, for a pass that writes column ``filled`` of either on its way.

    ``gradient`` gathers gradients of the current, shape (units, steps, batch), and ``activity`` what was
    multiplied, shape (sources, steps, batch); they have no steps if nothing is to be written. ``source`` is
    the activity that was multiplied in the present step, shape (sources, batch).
    """

    def __init__(self, gradient: Tensor, activity: Tensor) -> None:
        self.gradient, self.activity, self.filled = gradient, activity, 0
        self.source: Tensor

    @cached_property
    def arrays(self) -> tuple[Any, Any]:
        """Both as numpy arrays, for compiled kernels."""
        return self.gradient.numpy(), self.activity.numpy()

    def put(self, scaled: Tensor) -> None:
        """Write the column of a step whose current has the gradient ``scaled``."""
        if self.gradient.shape[1]:
            self.gradient[:, self.filled] = scaled
        if self.activity.shape[1]:
            self.activity[:, self.filled] = self.source


class Adjoint:
    """Steps backward, one after another: by torch's autograd of each step, which is computed again.

    ``needed`` names the parameters that need a gradient. ``grad_states`` and ``grad_h``, each (units, batch),
    are the gradients that reach the states and the activity after the step to go back through next.
    """

    def __init__(self, step: Step, parameters: Parameters, needed: Collection[str], like: Tensor) -> None:
        self.step, self.parameters = step, {name: p.detach() for name, p in parameters.items()}
        self.grad_states = [torch.zeros_like(like) for _ in step.states]
        self.grad_h = torch.zeros_like(like)
        self.sums = {name: torch.zeros_like(p) for name, p in parameters.items() if name in needed}
        self.electrical = step.exchange(self.parameters)

    def back(self, saved: SavedStep, given: Tensor | None, scaled: Tensor, columns: Columns) -> None:
        """Go back through one step.

        Adds ``given`` to ``grad_h``; writes the gradient of the current to ``scaled`` and ``columns``;
        replaces ``grad_states`` by the gradients of the states before the step, and adds to those of the
        parameters. ``grad_h`` is used up: its owner writes what reaches the activity before the step.
        """
        if given is not None:
            self.grad_h += given
        with torch.enable_grad():
            states = tuple(s.detach().requires_grad_() for s in saved.before if s is not None)
            if saved.kept is None:
                raise ValueError("the current of a step was not kept; Step.keeps must name it.")
            current = saved.kept.detach().requires_grad_()
            learnt = {name: self.parameters[name].detach().requires_grad_() for name in self.sums}
            learnt |= {name: tensor for name, tensor in self.step.learnt.items() if name in learnt}
            after = self.step.step(states, current, {**self.parameters, **learnt})
            outputs = (*after, self.step.activity(after))
        wanted = (*states, current, *learnt.values())
        of_outputs = (*self.grad_states, self.grad_h)
        pairs = [(out, grad) for out, grad in zip(outputs, of_outputs, strict=True) if out.requires_grad]
        # Tensors inside a function of the user's may have a graph of their own, which the next step needs.
        more = {"allow_unused": True, "retain_graph": bool(self.step.learnt)}
        found = torch.autograd.grad([out for out, _ in pairs], wanted, [grad for _, grad in pairs], **more)
        results = (*self.grad_states, scaled)
        # A gradient may be the very tensor that was given, as of the current in "state + current".
        used = {grad.data_ptr() for grad in of_outputs}
        new = [g.clone() if g is not None and g.data_ptr() in used else g for g in found[: len(results)]]
        for result, grad in zip(results, new, strict=True):
            result.zero_() if grad is None else result.copy_(grad)
        for total, grad in zip(self.sums.values(), found[len(results) :], strict=True):
            if grad is not None:
                total += grad
        columns.put(scaled)

    def exchange(self, saved: SavedStep, scaled: Tensor) -> None:
        """Add the gradients of what electrical synapses did in a step that `back` has gone through."""
        x = saved.before[0]
        if self.electrical is not None and x is not None:
            self.electrical.pull_back(x, scaled, self.grad_states[0])
            if CONDUCTANCE in self.sums:
                self.electrical.gather(x, scaled)

    def gradients(self) -> dict[str, Tensor]:
        """Return the gradients of the parameters, over all steps gone back through."""
        if self.electrical is not None and CONDUCTANCE in self.sums:
            return {**self.sums, CONDUCTANCE: self.electrical.gradient()}
        return self.sums
