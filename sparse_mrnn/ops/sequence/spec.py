"""What the recurrence runs on: `RecurrenceSpec`, and the tensors it is differentiable in."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

from torch import Tensor

from sparse_mrnn.ops.activations import ActivationSegments
from sparse_mrnn.ops.delays import DelayGroup
from sparse_mrnn.ops.noise import Noise
from sparse_mrnn.ops.products.base import Operator
from sparse_mrnn.ops.sequence.delays import DelayedProduct


class RecurrenceTensors(NamedTuple):
    """The tensors that the recurrence is differentiable in.

    Parameters
    ----------
    weights, input_weights : Tensor
        Values in the order of the operators; no input weights where there are no inputs.
    inputs : Tensor, shape (time, inputs, batch)
    bias : Tensor, shape (units,), or None
    x0, h0 : Tensor, shape (units, batch)
    stim : Tensor, shape (time, units, batch), or None
    alpha : Tensor, shape (1, 1) or (units, 1)
    """

    weights: Tensor
    input_weights: Tensor | None
    inputs: Tensor
    bias: Tensor | None
    x0: Tensor
    h0: Tensor
    stim: Tensor | None
    alpha: Tensor


class NeedsGradient(NamedTuple):
    """Which of the `RecurrenceTensors` need a gradient."""

    weights: bool
    input_weights: bool
    inputs: bool
    bias: bool
    x0: bool
    h0: bool
    stim: bool
    alpha: bool


@dataclass(frozen=True)
class RecurrenceSpec:
    """What the recurrence runs on, apart from differentiable tensors.

    Parameters
    ----------
    groups : tuple of DelayGroup
        The recurrent synapses by delay; a single group of delay 1 where there are no delays.
    input_operator : Operator or None
    activation : ActivationSegments
    rate : float, optional
        alpha where it is one fixed number: leak and product are then one pass.
    noise : Noise, optional
    checkpoint_steps : int, optional
        Keep the state at every so many steps only and compute the others again in the backward pass.
    units : Tensor of int, shape (returned units,), optional
        Return these units only.
    largest : int, optional
        Units to size buffers by, where these are the part of a network that one of several processes has: the
        largest part, so that all cut time alike. Default: the units there are.
    """

    groups: tuple[DelayGroup, ...]
    input_operator: Operator | None
    activation: ActivationSegments
    rate: float | None = None
    noise: Noise | None = None
    checkpoint_steps: int | None = None
    units: Tensor | None = None
    largest: int | None = None

    def product(self, weights: Tensor) -> DelayedProduct:
        """The recurrent products with these values."""
        return DelayedProduct(self.groups, weights)
