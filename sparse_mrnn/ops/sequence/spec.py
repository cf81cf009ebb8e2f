"""What the recurrence runs on: `RecurrenceSpec`, and the tensors it is differentiable in."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

from torch import Tensor

from sparse_mrnn.ops.delays import DelayedProduct
from sparse_mrnn.ops.noise import Noise
from sparse_mrnn.ops.products.base import Operator, Product
from sparse_mrnn.ops.step import States, Step


@dataclass(frozen=True, eq=False)
class RecurrenceTensors:
    """The tensors that the recurrence is differentiable in.

    Weights are values in the order of the operators, and None where there are no inputs. Inputs have shape
    (time, inputs, batch), stim (time, units, batch); h0 and the states at the start, in the order of
    `Step.states`, have shape (units, batch). The parameters are those of the step.
    """

    weights: Tensor
    input_weights: Tensor | None
    inputs: Tensor
    stim: Tensor | None
    h0: Tensor
    states: States
    parameters: dict[str, Tensor]

    def flat(self) -> list[Tensor | None]:
        """All of them in a row, as autograd takes them."""
        named = self.weights, self.input_weights, self.inputs, self.stim, self.h0
        return [*named, *self.states, *self.parameters.values()]

    @staticmethod
    def of(flat: tuple[Tensor, ...], states: int, names: tuple[str, ...]) -> RecurrenceTensors:
        """`flat` reversed, for so many states and parameters of these names."""
        parameters = dict(zip(names, flat[5 + states :], strict=True))
        weights, input_weights, inputs, stim, h0 = flat[:5]
        start = flat[5 : 5 + states]
        return RecurrenceTensors(weights, input_weights, inputs, stim, h0, start, parameters)


class Products(NamedTuple):
    """The products of one pass, with their values."""

    recurrent: DelayedProduct
    inputs: Product | None


@dataclass(frozen=True)
class RecurrenceSpec:
    """What the recurrence runs on, apart from differentiable tensors.

    Parameters
    ----------
    step : Step
    recurrent : callable
        Makes the recurrent product, of all delays, from the stored values.
    input_operator : Operator or None
    noise : Noise, optional
    checkpoint_steps : int, optional
        Keep the state at every so many steps only and compute the others again in the backward pass.
    units : Tensor of int, shape (returned units,), optional
        Return these units only.
    largest : int, optional
        Units to size buffers by, where these are the part of a network that one of several processes has: the
        largest part, so that all cut time alike. Default: the units there are.
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
