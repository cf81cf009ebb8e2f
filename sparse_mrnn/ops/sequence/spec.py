"""What the recurrence runs on: `RecurrenceSpec`, and the tensors it is differentiable in."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from torch import Tensor

from sparse_mrnn.ops.noise import Noise
from sparse_mrnn.ops.products.base import Operator, Product
from sparse_mrnn.ops.sequence.delays import DelayedProduct
from sparse_mrnn.ops.step import States, Step


@dataclass(frozen=True, eq=False)
class RecurrenceTensors:
    """The tensors that the recurrence is differentiable in.

    Parameters
    ----------
    weights, input_weights : Tensor
        Values in the order of the operators; no input weights where there are no inputs.
    inputs : Tensor, shape (time, inputs, batch)
    stim : Tensor, shape (time, units, batch), or None
    h0 : Tensor, shape (units, batch)
    states : tuple of Tensor, each of shape (units, batch)
        At the start, in the order of `Step.states`.
    parameters : dict of str to Tensor
        Of the step.
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
    def of(flat: list[Tensor], states: int, names: tuple[str, ...]) -> RecurrenceTensors:
        """`flat` reversed, for so many states and parameters of these names."""
        parameters = dict(zip(names, flat[5 + states :], strict=True))
        weights, input_weights, inputs, stim, h0 = flat[:5]
        start = tuple(flat[5 : 5 + states])
        return RecurrenceTensors(weights, input_weights, inputs, stim, h0, start, parameters)


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


class Products:
    """The products of one pass, with their values.

    Parameters
    ----------
    spec : RecurrenceSpec
    tensors : RecurrenceTensors

    Attributes
    ----------
    recurrent : DelayedProduct
    inputs : Product or None
    """

    def __init__(self, spec: RecurrenceSpec, tensors: RecurrenceTensors) -> None:
        self.recurrent = spec.recurrent(tensors.weights)
        self.inputs: Product | None = None
        if tensors.input_weights is not None and spec.input_operator is not None:
            self.inputs = spec.input_operator.bind(tensors.input_weights)


class StateBuffers:
    """States and activity of some steps, and what the backward pass needs besides.

    Parameters
    ----------
    step : Step
    length : int
        Steps.
    like : Tensor, shape (units, batch)
    needed : collection of str, or None
        Parameters that need a gradient; None: there is no backward pass.

    Attributes
    ----------
    states : tuple of Tensor, h : Tensor, each of shape (steps, units, batch)
    kept : Tensor of the same shape, or None
        The array that `Step.keeps` names besides states.
    """

    def __init__(self, step: Step, length: int, like: Tensor, needed: frozenset[str] | None) -> None:
        self.keeps = step.keeps(needed) if needed is not None else ()
        self.names = step.states
        self.states = tuple(like.new_empty(length, *like.shape) for _ in step.states)
        self.h = like.new_empty(length, *like.shape)
        keeping = any(name not in step.states for name in self.keeps)
        self.kept = like.new_empty(length, *like.shape) if keeping else None

    def backward_states(self) -> list[Tensor | None]:
        """The states that the backward pass reads; None in place of others."""
        return [s if name in self.keeps else None for name, s in zip(self.names, self.states, strict=True)]
