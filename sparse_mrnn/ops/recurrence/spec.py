"""What the recurrence runs on, apart from differentiable tensors."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from sparse_mrnn.ops.activations import ActivationSegments
from sparse_mrnn.ops.backends.base import Operator
from sparse_mrnn.ops.delays import DelayGroup
from sparse_mrnn.ops.noise import Noise


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
    """

    groups: tuple[DelayGroup, ...]
    input_operator: Operator | None
    activation: ActivationSegments
    rate: float | None = None
    noise: Noise | None = None
    checkpoint_steps: int | None = None
    units: Tensor | None = None
