"""The recurrence forward: its arguments, and its steps over buffers given to them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from sparse_mrnn.ops.buffers import new_buffer
from sparse_mrnn.ops.delays import ActivityHistory, DelayedProduct
from sparse_mrnn.ops.noise import Noise
from sparse_mrnn.ops.products.base import Operator, Product
from sparse_mrnn.ops.step import EVERY_UNIT, Drive, States, Step


@dataclass(frozen=True, eq=False)
class RecurrenceTensors:
    """The tensors that the recurrence is differentiable in.

    Weights are values in the order of the operators; those of inputs are None in a network without any.
    Inputs have shape (time, inputs, batch), stim (time, units, batch); h0 and the states at the start, in the
    order of `Step.states`, have shape (units, batch). ``before`` is the activity before the start, as
    `ActivityHistory` takes it; None: it was h0. The parameters are those of the step.
    """

    weights: Tensor
    input_weights: Tensor | None
    inputs: Tensor
    stim: Tensor | None
    h0: Tensor
    before: Tensor | None
    states: States
    parameters: dict[str, Tensor]

    def flat(self) -> list[Tensor | None]:
        """All of them in a row, as autograd takes them."""
        named = self.weights, self.input_weights, self.inputs, self.stim, self.h0, self.before
        return [*named, *self.states, *self.parameters.values()]

    @staticmethod
    def of(flat: tuple[Tensor, ...], states: int, names: tuple[str, ...]) -> RecurrenceTensors:
        """`flat` reversed, for so many states and parameters of these names."""
        first = 6 + states
        parameters = dict(zip(names, flat[first:], strict=True))
        weights, input_weights, inputs, stim, h0, before = flat[:6]
        return RecurrenceTensors(
            weights, input_weights, inputs, stim, h0, before, flat[6:first], parameters
        )


class Products(NamedTuple):
    """The products of one pass, with their values."""

    recurrent: DelayedProduct
    inputs: Product | None


@dataclass(frozen=True)
class RecurrenceSpec:
    """The arguments of the recurrence apart from differentiable tensors.

    ``recurrent`` makes the product of all delays from the stored values. With ``checkpoint_steps``, the state
    is kept at every so many steps only, and the backward pass computes the others again. ``units``, shape
    (returned units,), are the only ones to return. If several processes have a part of the network each,
    ``largest`` is the size of the largest part: buffers are sized by it, so that all cut time alike.
    """

    step: Step
    recurrent: Callable[[Tensor], DelayedProduct]
    input_operator: Operator | None
    noise: Noise | None = None
    checkpoint_steps: int | None = None
    units: Tensor | None = None
    largest: int | None = None

    def products(self, tensors: RecurrenceTensors) -> Products:
        """The products with these weights."""
        operator, weights = self.input_operator, tensors.input_weights
        inputs = None if operator is None or weights is None else operator.bind(weights)
        return Products(self.recurrent(tensors.weights), inputs)


class StateBuffers:
    """States and activity of some steps, and ``kept``, what the backward pass needs besides.

    Each has shape (steps, units, batch). ``needed`` names the parameters that need a gradient; it is None
    without a backward pass.
    """

    def __init__(self, step: Step, length: int, like: Tensor, needed: frozenset[str] | None) -> None:
        keeps, shape = () if needed is None else step.keeps(needed), (length, *like.shape)
        self.states = tuple(new_buffer(like, *shape) for _ in step.states)
        self.h = new_buffer(like, *shape)
        self.kept = new_buffer(like, *shape) if set(keeps) - set(step.states) else None
        named = zip(step.states, self.states, strict=True)
        self.of_backward = [s if name in keeps else None for name, s in named]  # the states that it reads


class ForwardLoop(Drive):
    """The forward loop of one pass: it multiplies, and has the model's step do the rest."""

    def __init__(self, spec: RecurrenceSpec, tensors: RecurrenceTensors, products: Products) -> None:
        self.tensors, self.products, self.noise = tensors, products, spec.noise
        unit_std = None if spec.noise is None else spec.noise.unit_std
        self.electrical = spec.step.exchange(tensors.parameters)
        self.step = spec.step.sequence(tensors.parameters, unit_std, tensors.h0)
        self._drawn = torch.empty_like(tensors.h0) if spec.noise is not None else tensors.h0

    def run(
        self, part: slice, states: States, h: Tensor, before: Tensor, buffers: StateBuffers
    ) -> tuple[ActivityHistory, Tensor]:
        """Fill the buffers from the states and the activity at the start of a range of steps.

        ``before`` is the activity before that start, as `ActivityHistory` takes it.

        Returns
        -------
        history : ActivityHistory
            Of these steps.
        inputs : Tensor, shape (steps, inputs, batch)
            With their noise.
        """
        inputs, stim = self.tensors.inputs[part].contiguous(), self.tensors.stim
        self._history = history = ActivityHistory(h, buffers.h[: len(inputs)], before)
        if self.noise is not None:
            inputs = self.noise.on_inputs(inputs)
        us, stims = inputs.unbind(0), None if stim is None else stim[part].unbind(0)
        keep = None if buffers.kept is None else buffers.kept.unbind(0)
        advance, hs = self.step.advance, history.states
        for t, after in enumerate(zip(*(each[: len(us)].unbind(0) for each in buffers.states), strict=True)):
            self._t, self._u = t, us[t]
            self._x = states[0]
            currents = () if stims is None else ((EVERY_UNIT, stims[t]),)
            advance(states, after, hs[t], self, currents, None if keep is None else keep[t])
            states = after
        return history, inputs

    def multiply(self, y: Tensor, beta: float, alpha: float) -> None:
        self.products.recurrent.addmm(y, self._history, self._t, beta=beta, alpha=alpha)
        if self.products.inputs is not None:
            self.products.inputs.addmm(y, self._u, beta=1.0, alpha=alpha, out=y)
        if self.electrical is not None:
            self.electrical.add(self._x, y, alpha)

    def draw(self) -> Tensor:
        return self._drawn if self.noise is None else self.noise.on_units(self._drawn)
