"""The recurrence over a whole sequence, with its own backward pass.

    x[t+1] = (1 - alpha) x[t] + alpha (W h[t] + W_inp u[t] + b + noise + stim[t]),    h[t+1] = f(x[t+1])

alpha = dt / tau; alpha = 1 is the Elman net. State is (units, batch). Forward: one product and a few pointwise
passes a step. Backward (backpropagation through time, Werbos 1990): one transposed product a step; the weight
gradient is one sampled product per chunk of steps instead of one per step.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from sparse_mrnn.ops.activations import Segments
from sparse_mrnn.ops.pattern import Pattern
from sparse_mrnn.ops.product import make_product

GRAD_COLUMNS = 128
"""Time x batch columns gathered before a sampled product: long enough to amortise it, small enough for cache."""


@dataclass(frozen=True)
class Noise:
    """Gaussian noise on inputs and units: standard deviations and where it is drawn from.

    The two streams are separate and drawn step by step, so a run in pieces has the noise of one long run.
    """

    input_std: float
    unit_std: float | Tensor
    input_generator: torch.Generator
    unit_generator: torch.Generator


@dataclass(frozen=True)
class Plan:
    """What the recurrence runs on, apart from differentiable tensors. A pattern of None means dense weights."""

    pattern: Pattern | None
    input_pattern: Pattern | None
    activation: Segments
    noise: Noise | None = None


def recurrence(
    plan: Plan,
    weights: Tensor,
    input_weights: Tensor | None,
    inputs: Tensor,
    bias: Tensor | None,
    x0: Tensor,
    h0: Tensor,
    stim: Tensor | None,
    alpha: Tensor,
) -> tuple[Tensor, Tensor]:
    """Run the recurrence. Differentiable once, in every tensor argument.

    Parameters
    ----------
    plan : Plan
    weights : Tensor, shape (synapses,) in CSR order, or (units, units) where ``plan.pattern`` is None
    input_weights : Tensor, shape (input synapses,), or None where there are no inputs
    inputs : Tensor, shape (time, inputs, batch)
    bias : Tensor, shape (units,), or None
    x0, h0 : Tensor, shape (units, batch)
    stim : Tensor, shape (time, units, batch), or None
    alpha : Tensor, shape (1, 1) or (units, 1)

    Returns
    -------
    x, h : Tensor, shape (time, units, batch)
        States after each step.
    """
    x, h = _Recurrence.apply(plan, weights, input_weights, inputs, bias, x0, h0, stim, alpha)  # type: ignore[no-untyped-call]
    return x, h


class _Recurrence(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        plan: Plan,
        weights: Tensor,
        input_weights: Tensor | None,
        inputs: Tensor,
        bias: Tensor | None,
        x0: Tensor,
        h0: Tensor,
        stim: Tensor | None,
        alpha: Tensor,
    ) -> tuple[Tensor, Tensor]:
        steps, batch = inputs.shape[0], x0.shape[1]
        xs, hs = x0.new_empty((2, steps, *x0.shape)).unbind(0)
        product = make_product(plan.pattern, weights)
        input_product = None if input_weights is None else make_product(plan.input_pattern, input_weights)
        rate = float(alpha) if alpha.numel() == 1 else None  # one rate: leak and product in one pass
        keep = 1 - alpha
        drive = None if bias is None else alpha * bias[:, None]
        noise = plan.noise
        if noise is not None:
            inputs = inputs.clone(memory_format=torch.contiguous_format)
            unit_noise = torch.empty_like(xs[0])
            unit_std = alpha * noise.unit_std
        x, h = x0, h0.contiguous()
        for t in range(steps):
            new = xs[t]
            if rate is not None:
                product.add_to(x, h, beta=1 - rate, alpha=rate, out=new)
            else:
                product.add_to(x, h, beta=0.0, alpha=1.0, out=new)
                new.mul_(alpha).addcmul_(keep, x)
            if noise is not None:
                inputs[t] += noise.input_std * torch.randn(
                    inputs.shape[1], batch, dtype=x.dtype, device=x.device, generator=noise.input_generator
                )
                unit_noise.normal_(generator=noise.unit_generator)
                new.addcmul_(unit_noise, unit_std)
            if input_product is not None:
                u = inputs[t].contiguous()
                if rate is not None:
                    input_product.add_to(new, u, beta=1.0, alpha=rate, out=new)
                else:
                    current = torch.zeros_like(new)
                    input_product.add_to(current, u, beta=0.0, alpha=1.0, out=current)
                    new.addcmul_(alpha, current)
            if drive is not None:
                new.add_(drive)
            if stim is not None:
                new.addcmul_(alpha, stim[t])
            hs[t] = plan.activation.apply(new)
            x, h = new, hs[t]
        ctx.plan = plan
        ctx.has_bias, ctx.has_stim = bias is not None, stim is not None
        ctx.save_for_backward(weights, input_weights, inputs, x0, h0, xs, hs, alpha)
        ctx.set_materialize_grads(False)
        return xs, hs

    @staticmethod
    def backward(ctx: Any, grad_x: Tensor | None, grad_h: Tensor | None) -> tuple[Tensor | None, ...]:
        if torch.is_grad_enabled():  # create_graph=True: a second derivative would silently miss terms
            raise RuntimeError("the recurrence is differentiable once; call backward or grad without create_graph=True.")
        weights, input_weights, inputs, x0, h0, xs, hs, alpha = ctx.saved_tensors
        plan: Plan = ctx.plan
        _, need_w, need_w_inp, need_u, need_bias, _, _, need_stim, need_alpha = ctx.needs_input_grad
        if grad_x is None and grad_h is None:
            return (None,) * 9
        steps, units, batch = xs.shape
        product = make_product(plan.pattern, weights)
        input_product = None if input_weights is None else make_product(plan.input_pattern, input_weights)
        grad_u = torch.zeros_like(inputs) if need_u else None
        grad_bias = x0.new_zeros(units) if need_bias else None
        grad_stim = torch.empty_like(xs) if need_stim else None
        grad_alpha = x0.new_zeros(units, 1) if need_alpha else None
        width = min(steps, max(1, GRAD_COLUMNS // batch))
        gathered = x0.new_empty(units, width, batch)
        activity = x0.new_empty(units, width, batch)
        gathered_u = x0.new_empty(inputs.shape[1], width, batch)
        filled = 0
        carry_x: Tensor | None = None  # gradient reaching x[t] through the leak of the next step
        carry_h: Tensor | None = None  # and reaching h[t] through the weights
        for t in reversed(range(steps)):
            carry_h = _plus(carry_h, None if grad_h is None else grad_h[t])
            total = _plus(carry_x, None if grad_x is None else grad_x[t])
            if carry_h is not None:
                total = _plus(total, carry_h * plan.activation.derivative(xs[t], hs[t]))
            if total is None:
                raise RuntimeError("no gradient reaches the recurrence")  # unreachable: one of the two is given
            before_x, before_h = (xs[t - 1], hs[t - 1]) if t else (x0, h0)
            scaled = (alpha * total).contiguous()
            if grad_stim is not None:
                grad_stim[t] = scaled
            if grad_bias is not None:
                grad_bias += scaled.sum(1)
            if grad_alpha is not None:
                grad_alpha += (total * (xs[t] - before_x)).sum(1, keepdim=True)
            if grad_u is not None and input_product is not None:
                grad_u[t] = input_product.transposed(scaled)
            if need_w or need_w_inp:
                gathered[:, filled], activity[:, filled], gathered_u[:, filled] = scaled, before_h, inputs[t]
                filled += 1
                if filled == width or t == 0:
                    g = gathered[:, :filled].reshape(units, -1)
                    if need_w:
                        product.accumulate_grad(g, activity[:, :filled].reshape(units, -1))
                    if need_w_inp and input_product is not None:
                        input_product.accumulate_grad(g, gathered_u[:, :filled].reshape(gathered_u.shape[0], -1))
                    filled = 0
            carry_h = product.transposed(scaled)
            carry_x = total - scaled
        if grad_alpha is not None:
            grad_alpha = (grad_alpha / alpha).sum_to_size(alpha.shape)
        return (
            None,
            product.grad() if need_w else None,
            input_product.grad() if need_w_inp and input_product is not None else None,
            grad_u,
            grad_bias,
            carry_x,
            carry_h,
            grad_stim,
            grad_alpha,
        )


def _plus(a: Tensor | None, b: Tensor | None) -> Tensor | None:
    if a is None or b is None:
        return b if a is None else a
    return a + b
