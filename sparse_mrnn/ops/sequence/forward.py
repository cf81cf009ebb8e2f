"""The steps of the recurrence, forward, over buffers given to them."""

from __future__ import annotations

import torch
from torch import Tensor

from sparse_mrnn.ops.sequence.delays import ActivityHistory
from sparse_mrnn.ops.sequence.spec import Products, RecurrenceSpec, RecurrenceTensors
from sparse_mrnn.ops.step import States

EVERY_UNIT = slice(None)


class ForwardLoop:
    """The forward loop of one pass: it multiplies, and has the model's step do the rest.

    Parameters
    ----------
    spec : RecurrenceSpec
    tensors : RecurrenceTensors
    products : Products
    """

    def __init__(self, spec: RecurrenceSpec, tensors: RecurrenceTensors, products: Products) -> None:
        self.products, self.noise = products, spec.noise
        unit_std = None if spec.noise is None else spec.noise.unit_std
        self.step = spec.step.sequence(tensors.parameters, unit_std, tensors.h0)
        self._drawn = torch.empty_like(tensors.h0) if spec.noise is not None else tensors.h0

    def run(
        self,
        states: States,
        history: ActivityHistory,
        inputs: Tensor,
        stim: Tensor | None,
        out: tuple[Tensor, ...],
        kept: Tensor | None,
    ) -> Tensor:
        """Fill ``out``, ``kept`` and the history's activity from the states; returns the inputs with noise.

        Parameters
        ----------
        states : States
        history : ActivityHistory
        inputs : Tensor, shape (time, inputs, batch)
        stim : Tensor, shape (time, units, batch), optional
        out : tuple of Tensor, each of shape (time, units, batch)
            One for each state.
        kept : Tensor, shape (time, units, batch), optional
            The array that `Step.keeps` names besides states.
        """
        inputs = inputs.contiguous()
        draw = None
        if self.noise is not None:
            inputs, draw = self.noise.on_inputs(inputs), self._draw
        us, stims = inputs.unbind(0), None if stim is None else stim.unbind(0)
        keep = None if kept is None else kept.unbind(0)
        self._history, advance, multiply, hs = history, self.step.advance, self._multiply, history.states
        for t, after in enumerate(zip(*(each.unbind(0) for each in out), strict=True)):
            self._t, self._u = t, us[t]
            currents = () if stims is None else ((EVERY_UNIT, stims[t]),)
            advance(states, after, hs[t], multiply, draw, currents, None if keep is None else keep[t])
            states = after
        return inputs

    def _multiply(self, y: Tensor, beta: float, alpha: float) -> None:
        """y = beta y + alpha (sum_d W_d h[t + 1 - d] + W_inp u[t])."""
        self.products.recurrent.addmm(y, self._history, self._t, beta=beta, alpha=alpha)
        if self.products.inputs is not None:
            self.products.inputs.addmm(y, self._u, beta=1.0, alpha=alpha, out=y)

    def _draw(self) -> Tensor:
        return self._drawn if self.noise is None else self.noise.on_units(self._drawn)
