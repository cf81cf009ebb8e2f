"""Backpropagation through time (Werbos 1990): one transposed product and one pass over the states a step."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from sparse_mrnn.ops.activations import Segments
from sparse_mrnn.ops.compiled import SLOPES, backward_step, use_torch_threads
from sparse_mrnn.ops.lagged import Carry, Past
from sparse_mrnn.ops.steps import Plan, Steps

GRAD_COLUMNS, GRAD_BYTES = (128, 256), 2**21
"""Time x batch columns gathered before a sampled product: the more the better it is amortised, within so many bytes."""


def grad_columns(units: int, size: int) -> int:
    """Time x batch columns gathered before a sampled product, for so many units of ``size`` bytes."""
    least, most = GRAD_COLUMNS
    return max(least, min(most, GRAD_BYTES // (units * size)))


class Backward:
    """Backpropagation through time, segment by segment from the last."""

    def __init__(
        self, needs: tuple[bool, ...], plan: Plan, loop: Steps, inputs: Tensor, x0: Tensor, alpha: Tensor, steps: int
    ) -> None:
        self.plan, self.loop, self.alpha = plan, loop, alpha
        self.need_w, self.need_w_inp, need_u, need_bias, self.need_x0, self.need_h0, need_stim, need_alpha = needs
        self.need_w_inp = self.need_w_inp and loop.input_product is not None
        units, batch = x0.shape
        self.carry_x, self.carry_h = torch.zeros_like(x0), torch.zeros_like(x0)  # gradients reaching x[t], h[t]
        self.carry = Carry(loop.product, x0)
        self.scaled = torch.empty_like(x0)
        self.grad_u = torch.zeros(inputs.shape, dtype=x0.dtype, device=x0.device) if need_u else None
        self.grad_bias = x0.new_zeros(units) if need_bias else None
        self.grad_stim = x0.new_empty(steps, units, batch) if need_stim else None
        self.grad_alpha = x0.new_zeros(units, 1) if need_alpha else None
        self.change, self.of_unit = torch.empty_like(x0) if need_alpha else None, x0.new_empty(units)
        self.width = min(steps, max(1, grad_columns(units, x0.element_size()) // batch))
        gathering = self.width if (self.need_w or self.need_w_inp) and self.width > 1 else 0
        self.gathered = x0.new_empty(units, gathering, batch)
        self.activity = [x0.new_empty(units, gathering if self.need_w else 0, batch) for _ in loop.product.parts]
        self.gathered_u = x0.new_empty(inputs.shape[1], gathering if self.need_w_inp else 0, batch)
        self.filled = 0
        self.compiled = backward_step() if x0.device.type == "cpu" else None
        if self.compiled is not None:
            parts = plan.activation.parts
            kinds = np.concatenate([np.full(stop - start, SLOPES.get(a.name, 0), np.int8) for start, stop, a in parts])
            self.by_torch = Segments(tuple(part for part in parts if part[2].name not in SLOPES))
            self.fixed = kinds, alpha.detach().expand(units, 1)[:, 0].contiguous().numpy()
            none = x0.new_empty(units, 0, batch)
            activity = self.activity[0] if len(self.activity) == 1 else none
            bias = x0.new_empty(0) if self.grad_bias is None else self.grad_bias
            self.carried = [t.numpy() for t in (self.carry_h, self.carry_x, self.scaled, self.gathered, activity)]
            self.bias_sum = bias.numpy()

    def run(
        self,
        begin: int,
        xs: Tensor | None,
        past: Past,
        inputs: Tensor,
        x_start: Tensor,
        grad_x: Tensor | None,
        grad_h: Tensor | None,
    ) -> None:
        """Go back over the steps of one segment, which began at step ``begin`` in the state x_start, past."""
        loop, scaled, steps = self.loop, self.scaled, len(past.states)
        hs = None
        if self.compiled is not None:
            use_torch_threads()
            hs = past.hs.numpy()
        grads_h, grads_x = (None if g is None else g[begin : begin + steps].unbind(0) for g in (grad_h, grad_x))
        us = inputs.unbind(0)
        for t in reversed(range(steps)):
            if grads_h is not None:
                self._add(self.carry_h, grads_h[t])
            if grads_x is not None:
                self._add(self.carry_x, grads_x[t])
            sources = loop.product.sources(past, t)
            if self.compiled is None:
                self._pointwise(past.states[t], sources)
            else:
                self.by_torch.slope_into(self.carry_h, past.states[t])
                self.compiled(*self.fixed, hs, t, sources[0].contiguous().numpy(), *self.carried, self.filled, self.bias_sum)
            if self.grad_stim is not None:
                self.grad_stim[begin + t] = scaled
            if self.grad_alpha is not None and xs is not None and self.change is not None:
                torch.sub(xs[t], xs[t - 1] if t else x_start, out=self.change)
                self.grad_alpha[:, 0] += torch.sum(self.change.mul_(scaled), 1, out=self.of_unit)
            if self.grad_u is not None and loop.input_product is not None:
                loop.input_product.transposed(scaled, out=self.grad_u[begin + t])
            if self.need_w or self.need_w_inp:
                self._gather(sources, us[t])
            self.carry.back(scaled, begin + t, self.carry_h, last=not (begin or t or self.need_h0))

    def _pointwise(self, h: Tensor, sources: list[Tensor]) -> None:
        """What `compiled.backward_step` does, in as many passes as there are lines."""
        carry_h, carry_x, scaled, rate = self.carry_h, self.carry_x, self.scaled, self.plan.rate
        self.plan.activation.slope_into(carry_h, h)
        carry_x += carry_h
        torch.mul(carry_x, self.alpha if rate is None else rate, out=scaled)
        carry_x -= scaled
        if self.grad_bias is not None:
            self.grad_bias += torch.sum(scaled, 1, out=self.of_unit)
        if self.gathered.shape[1]:
            self.gathered[:, self.filled] = scaled
            if len(self.activity) == 1 and self.need_w:
                self.activity[0][:, self.filled] = sources[0]

    def _add(self, carry: Tensor, grad: Tensor) -> None:
        if self.plan.record is None:
            carry += grad
        else:
            carry.index_add_(0, self.plan.record, grad)

    def _gather(self, sources: list[Tensor], u: Tensor) -> None:
        """Add the rest of a step to the columns of the next sampled product."""
        if self.width == 1:
            self._sample(self.scaled, u, [h.contiguous() for h in sources])
            return
        if len(self.activity) > 1 and self.need_w:
            for activity, h in zip(self.activity, sources, strict=True):
                activity[:, self.filled] = h
        if self.need_w_inp:
            self.gathered_u[:, self.filled] = u
        self.filled += 1
        if self.filled == self.width:
            self._flush()

    def _flush(self) -> None:
        if self.filled:
            # the same width every time keeps the rows contiguous; a last, shorter one is copied
            buffers = self.gathered, self.gathered_u, *self.activity
            g, u, *hs = (b[:, : self.filled].reshape(len(b), b.shape[2] * min(self.filled, b.shape[1])) for b in buffers)
            self._sample(g, u, hs)
            self.filled = 0

    def _sample(self, g: Tensor, u: Tensor, hs: list[Tensor]) -> None:
        for part, h in enumerate(hs if self.need_w else ()):
            self.loop.product.accumulate_grad(part, g, h)
        if self.need_w_inp and self.loop.input_product is not None:
            self.loop.input_product.accumulate_grad(g, u)

    def result(self) -> tuple[Tensor | None, ...]:
        """Gradients in the order of the arguments."""
        self._flush()
        loop, grad_alpha = self.loop, self.grad_alpha
        if grad_alpha is not None:
            grad_alpha = (grad_alpha / self.alpha / self.alpha).sum_to_size(self.alpha.shape)  # once for scaled, once for the step
        return (
            loop.product.grad() if self.need_w else None,
            loop.input_product.grad() if self.need_w_inp and loop.input_product is not None else None,
            self.grad_u,
            self.grad_bias,
            self.carry_x if self.need_x0 else None,
            self.carry_h if self.need_h0 else None,
            self.grad_stim,
            grad_alpha,
        )
