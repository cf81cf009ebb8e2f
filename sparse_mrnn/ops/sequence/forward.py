"""The steps of the recurrence, forward, over buffers given to them."""

from __future__ import annotations

import torch
from torch import Tensor

from sparse_mrnn.ops.delays import ActivityHistory
from sparse_mrnn.ops.sequence.spec import Products, RecurrenceSpec, RecurrenceTensors
from sparse_mrnn.ops.step import Drive, States, Step

EVERY_UNIT = slice(None)


class StateBuffers:
    """States and activity of some steps, and ``kept``, what the backward pass needs besides.

    Each has shape (steps, units, batch). ``needed`` names the parameters that need a gradient; None if there
    is no backward pass.
    """

    def __init__(self, step: Step, length: int, like: Tensor, needed: frozenset[str] | None) -> None:
        keeps, shape = () if needed is None else step.keeps(needed), (length, *like.shape)
        self.states = tuple(like.new_empty(shape) for _ in step.states)
        self.h = like.new_empty(shape)
        self.kept = like.new_empty(shape) if set(keeps) - set(step.states) else None
        named = zip(step.states, self.states, strict=True)
        self.of_backward = [s if name in keeps else None for name, s in named]  # the states that it reads


class ForwardLoop(Drive):
    """The forward loop of one pass: it multiplies, and has the model's step do the rest."""

    def __init__(self, spec: RecurrenceSpec, tensors: RecurrenceTensors, products: Products) -> None:
        self.tensors, self.products, self.noise = tensors, products, spec.noise
        unit_std = None if spec.noise is None else spec.noise.unit_std
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
            currents = () if stims is None else ((EVERY_UNIT, stims[t]),)
            advance(states, after, hs[t], self, currents, None if keep is None else keep[t])
            states = after
        return history, inputs

    def multiply(self, y: Tensor, beta: float, alpha: float) -> None:
        self.products.recurrent.addmm(y, self._history, self._t, beta=beta, alpha=alpha)
        if self.products.inputs is not None:
            self.products.inputs.addmm(y, self._u, beta=1.0, alpha=alpha, out=y)

    def draw(self) -> Tensor:
        return self._drawn if self.noise is None else self.noise.on_units(self._drawn)
