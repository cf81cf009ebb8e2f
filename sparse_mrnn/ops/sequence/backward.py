"""Backpropagation through time (Werbos 1990): one transposed product and one pass over the states a step."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from sparse_mrnn.ops import kernels
from sparse_mrnn.ops.activations import ActivationSegments
from sparse_mrnn.ops.sequence.delays import ActivityHistory
from sparse_mrnn.ops.sequence.forward import ForwardLoop
from sparse_mrnn.ops.sequence.spec import NeedsGradient, RecurrenceTensors

APART_STATES = 2**16
"""States from which on the columns of an SDDMM are put by a kernel of their own."""
GRAD_COLUMNS, GRAD_BYTES = (128, 256), 2**21
"""Time x batch columns gathered before an SDDMM: the more the better, within so many bytes."""


def gathered_steps(steps: int, batch: int, units: int, size: int) -> int:
    """Time steps gathered before each SDDMM, of so many units and trials, of ``size`` bytes each.

    All SDDMMs of a sequence have as many, or the last one a few less, so that none is small.

    Examples
    --------
    >>> gathered_steps(40, 4, 50_000, 4)
    20
    """
    least, most = GRAD_COLUMNS
    columns = max(least, min(most, GRAD_BYTES // (units * size)))
    times = -(-steps // max(1, columns // batch))
    return -(-steps // times)


class BackwardLoop:
    """Backpropagation through time, segment by segment from the last.

    Parameters
    ----------
    needed : NeedsGradient
    loop : ForwardLoop
    tensors : RecurrenceTensors
    steps : int
        Of the whole sequence.
    """

    def __init__(
        self, needed: NeedsGradient, loop: ForwardLoop, tensors: RecurrenceTensors, steps: int
    ) -> None:
        if loop.input_product is None:
            needed = needed._replace(input_weights=False)
        self.needed, self.loop, self.alpha = needed, loop, tensors.alpha
        x0, inputs = tensors.x0, tensors.inputs
        units, batch = x0.shape
        self.grad_x, self.grad_h = torch.zeros_like(x0), torch.zeros_like(x0)  # gradients reaching x[t], h[t]
        self.ring = loop.product.gradients(x0)
        self.grad_u = torch.zeros(inputs.shape, dtype=x0.dtype, device=x0.device) if needed.inputs else None
        self.grad_bias = x0.new_zeros(units) if needed.bias else None
        self.grad_stim = x0.new_empty(steps, units, batch) if needed.stim else None
        self.grad_alpha = x0.new_zeros(units) if needed.alpha else None
        # Columns (time x batch) gathered for the next SDDMM: scaled, the activity each delay reads, inputs.
        largest = loop.spec.largest or units
        self.width = gathered_steps(steps, batch, largest, x0.element_size())
        gathering = self.width if (needed.weights or needed.input_weights) and self.width > 1 else 0
        self.gathered = x0.new_empty(units, gathering, batch)
        read = gathering if needed.weights else 0
        self.activity = [x0.new_empty(n, read, batch) for n in loop.product.source_sizes]
        self.gathered_u = x0.new_empty(inputs.shape[1], gathering if needed.input_weights else 0, batch)
        self.filled = 0  # steps gathered
        on_cpu = x0.device.type == "cpu"
        self.kernel = kernels.load("backward_step") if on_cpu else None
        # Columns of many states are put by a kernel of their own, which is faster; of few, within the step.
        self.gather = kernels.load("gather_columns") if on_cpu and x0.numel() >= APART_STATES else None
        # alpha grad x[t + 1], the gradient of a step's summed input, of the steps that are not yet put
        together = 1 if self.gather is None else self.gather.TOGETHER
        self.scaled = [torch.empty_like(x0) for _ in range(together)]
        self.waiting: list[list[Tensor]] = []  # by step: scaled, and the activity each delay reads
        if self.kernel is None:
            self.change, self.of_unit = x0.new_empty(x0.shape if needed.alpha else 0), x0.new_empty(units)
        else:
            self._prepare_kernel(self.kernel.SLOPES, units, x0)

    def _prepare_kernel(self, codes: dict[str, int], units: int, x0: Tensor) -> None:
        """Arguments of `kernels.backward_step` that stay the same; torch differentiates other activations."""
        parts = self.loop.spec.activation.parts
        code = [np.full(stop - start, codes.get(a.name, 0), np.int8) for start, stop, a in parts]
        self.by_torch = ActivationSegments(tuple(part for part in parts if part[2].name not in codes))
        self.fixed = np.concatenate(code), self.alpha.detach().expand(units, 1)[:, 0].contiguous().numpy()
        none = x0.new_empty(0)
        sums = (none if s is None else s for s in (self.grad_bias, self.grad_alpha))
        gathered = activity = x0.new_empty(units, 0, x0.shape[1])
        if self.gather is None:
            gathered, activity = self.gathered, self.activity[0] if len(self.activity) == 1 else activity
        self.grads = self.grad_h.numpy(), self.grad_x.numpy()
        self.changing = [t.numpy() for t in (*sums, gathered, activity)]
        self.no_gradient = x0.new_empty(0, *x0.shape)

    def run(
        self,
        begin: int,
        xs: Tensor | None,
        history: ActivityHistory,
        inputs: Tensor,
        x_start: Tensor,
        grad_xs: Tensor | None,
        grad_hs: Tensor | None,
    ) -> None:
        """Go back over the steps of a segment, which began at step ``begin`` in the state x_start,
        history."""
        loop, needed, steps = self.loop, self.needed, len(history.states)
        one_pass = self.kernel is not None and not self.by_torch.parts
        one_pass = one_pass and loop.spec.units is None and grad_hs is not None
        if self.kernel is not None:
            backward_step = self.kernel.backward_step.of(self.grad_h.numel())
            hs = history.hs.numpy()
            given = (grad_hs if one_pass and grad_hs is not None else self.no_gradient).numpy()
        part = slice(begin, begin + steps)
        grads_h, grads_x = (None if g is None else g[part].unbind(0) for g in (grad_hs, grad_xs))
        us = inputs.unbind(0)
        for t in reversed(range(steps)):
            if grads_h is not None and not one_pass:
                self._add(self.grad_h, grads_h[t])
            if grads_x is not None:
                self._add(self.grad_x, grads_x[t])
            scaled = self.scaled[len(self.waiting)]
            sources = loop.product.sources(history, t) if needed.weights else [self.grad_h]
            # The gradient of alpha needs the states; without it any array of their shape will do.
            states = (scaled, scaled) if xs is None else (xs[t], xs[t - 1] if t else x_start)
            if self.kernel is None:
                self._pointwise(scaled, history.states[t], sources, *states)
            else:
                self.by_torch.slope_into(self.grad_h, history.states[t])
                source, x, x_before = (array.contiguous().numpy() for array in (sources[0], *states))
                arrays = hs, t, x, x_before, given, begin + t, source, *self.grads, scaled.numpy()
                backward_step(*self.fixed, *arrays, *self.changing, self.filled)
            if self.grad_stim is not None:
                self.grad_stim[begin + t] = scaled
            if self.grad_u is not None and loop.input_product is not None:
                loop.input_product.rmatmul(scaled, out=self.grad_u[begin + t])
            if needed.weights or needed.input_weights:
                self._gather(scaled, sources, us[t])
            self.ring.back(scaled, begin + t, self.grad_h, last=not (begin or t or needed.h0))
        self._put()  # the states of a segment are overwritten by those of the one before

    def _pointwise(
        self, scaled: Tensor, h: Tensor, sources: list[Tensor], x: Tensor, x_before: Tensor
    ) -> None:
        """What `kernels.backward_step` does, in as many passes as there are lines."""
        grad_h, grad_x, rate = self.grad_h, self.grad_x, self.loop.spec.rate
        self.loop.spec.activation.slope_into(grad_h, h)
        grad_x += grad_h
        torch.mul(grad_x, self.alpha if rate is None else rate, out=scaled)
        grad_x -= scaled
        if self.grad_bias is not None:
            self.grad_bias += torch.sum(scaled, 1, out=self.of_unit)
        if self.grad_alpha is not None:
            torch.sub(x, x_before, out=self.change)
            self.grad_alpha += torch.sum(self.change.mul_(scaled), 1, out=self.of_unit)
        if self.gathered.shape[1]:
            self.gathered[:, self.filled] = scaled
            if len(self.activity) == 1 and self.needed.weights:
                self.activity[0][:, self.filled] = sources[0]

    def _add(self, total: Tensor, grad: Tensor) -> None:
        units = self.loop.spec.units
        if units is None:
            total += grad
        else:
            total.index_add_(0, units, grad)

    def _gather(self, scaled: Tensor, sources: list[Tensor], u: Tensor) -> None:
        """Add the rest of a step to the columns of the next SDDMM."""
        if self.width == 1:
            self._sddmm(scaled, u, [h.contiguous() for h in sources])
            return
        if self.gather is not None:
            self.waiting.append([scaled, *(sources if self.needed.weights else ())])
        elif self.needed.weights and len(sources) > 1:
            for states, columns in zip(sources, self.activity, strict=True):
                columns[:, self.filled] = states
        if self.needed.input_weights:
            self.gathered_u[:, self.filled] = u
        self.filled += 1
        if len(self.waiting) == len(self.scaled):
            self._put()
        if self.filled == self.width:
            self._flush()

    def _put(self) -> None:
        """Put the waiting steps among the columns."""
        if self.gather is not None and self.waiting:
            first = self.filled - len(self.waiting)
            read = self.activity if self.needed.weights else []
            for columns, *steps in zip([self.gathered, *read], *self.waiting, strict=True):
                self.gather.put(steps, columns, first)
            self.waiting.clear()

    def _flush(self) -> None:
        self._put()
        if self.filled:
            # the same width every time keeps the rows contiguous; a last, shorter one is copied
            buffers = self.gathered, self.gathered_u, *self.activity
            n = self.filled
            columns = (b[:, :n].reshape(len(b), b.shape[2] * min(n, b.shape[1])) for b in buffers)
            g, u, *hs = columns
            self._sddmm(g, u, hs)
            self.filled = 0

    def _sddmm(self, g: Tensor, u: Tensor, hs: list[Tensor]) -> None:
        for part, h in enumerate(hs if self.needed.weights else ()):
            self.loop.product.sddmm(part, g, h)
        if self.needed.input_weights and self.loop.input_product is not None:
            self.loop.input_product.sddmm(g, u)

    def result(self) -> tuple[Tensor | None, ...]:
        """Gradients in the order of the arguments of `recurrence`."""
        self._flush()
        needed, input_product, grad_alpha = self.needed, self.loop.input_product, self.grad_alpha
        if grad_alpha is not None:  # divided once for scaled, once for the step
            grad_alpha = (grad_alpha[:, None] / self.alpha / self.alpha).sum_to_size(self.alpha.shape)
        return (
            self.loop.product.grad() if needed.weights else None,
            input_product.grad() if needed.input_weights and input_product is not None else None,
            self.grad_u,
            self.grad_bias,
            self.grad_x if needed.x0 else None,
            self.grad_h if needed.h0 else None,
            self.grad_stim,
            grad_alpha,
        )
