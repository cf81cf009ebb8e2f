"""The recurrence over a whole sequence, with its own backward pass.

    x[t+1] = (1 - alpha) x[t] + alpha (W h[t] + W_inp u[t] + b + noise + stim[t]),    h[t+1] = f(x[t+1])

With delays, W h[t] is the sum over delays d, in steps, of W_d h[t + 1 - d]; before the start, h is h0.
alpha = dt / tau; alpha = 1 is the Elman net. State is (units, batch). A step forward is one product and two pointwise
passes (`Steps`), a step backward one transposed product and one pass (`Backward`); the weight gradient is one sampled
product per chunk of steps instead of one per step. Buffers are made once.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from sparse_mrnn.ops.backward import Backward
from sparse_mrnn.ops.lagged import Past, first_past
from sparse_mrnn.ops.steps import Plan, Steps

UNSAVED_BYTES, UNSAVED_STEPS = 2**20, 64
"""States kept at a time where only some units are recorded and no gradient is needed: few enough to stay in cache."""


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
    weights, input_weights : Tensor
        Values in the order of the operators; no input weights where there are no inputs.
    inputs : Tensor, shape (time, inputs, batch)
    bias : Tensor, shape (units,), or None
    x0, h0 : Tensor, shape (units, batch)
    stim : Tensor, shape (time, units, batch), or None
    alpha : Tensor, shape (1, 1) or (units, 1)

    Returns
    -------
    x, h : Tensor, shape (time, units or recorded units, batch)
        States after each step.
    """
    tensors = weights, input_weights, inputs, bias, x0, h0, stim, alpha
    if not (torch.is_grad_enabled() and any(t is not None and t.requires_grad for t in tensors)):
        with torch.no_grad():
            x, h, _ = _forward(plan, *tensors, saving=False)
        return x, h
    x, h = _Recurrence.apply(plan, *tensors)  # type: ignore[no-untyped-call]
    return x, h


@dataclass
class _Saved:
    """What the backward pass needs beside the arguments: whole states, or states at segment starts."""

    every: int
    xs: Tensor | None
    hs: Tensor | None
    inputs: Tensor
    starts: list[tuple[Tensor, Tensor, Tensor]]
    noise: list[tuple[Tensor, Tensor]]


def _forward(
    plan: Plan,
    weights: Tensor,
    input_weights: Tensor | None,
    inputs: Tensor,
    bias: Tensor | None,
    x0: Tensor,
    h0: Tensor,
    stim: Tensor | None,
    alpha: Tensor,
    *,
    saving: bool,
) -> tuple[Tensor, Tensor, _Saved]:
    steps, record = len(inputs), plan.record
    if saving:
        every = plan.checkpoint_every
    else:
        fitting = UNSAVED_BYTES // (x0.numel() * x0.element_size())
        every = None if record is None else max(1, min(fitting, UNSAVED_STEPS))
    every = min(every or steps, steps)
    loop = Steps(plan, weights, input_weights, bias, alpha, x0)
    xs, hs = x0.new_empty((every, *x0.shape)), x0.new_empty((every, *x0.shape))
    whole = every == steps
    shape = (steps, x0.shape[0] if record is None else len(record), x0.shape[1])
    own = whole and record is None
    out_x, out_h = (xs, hs) if own else (x0.new_empty(shape), x0.new_empty(shape))
    saved = _Saved(every, xs if whole else None, hs if whole else None, inputs, [], [])
    x, h, before = x0, h0, first_past(h0, loop.product.longest)
    for begin in range(0, steps, every):
        end = min(begin + every, steps)
        if saving and not whole:
            saved.starts.append((x.clone(), h.clone(), before))
            if plan.noise is not None:
                saved.noise.append(plan.noise.state())
        n = end - begin
        past = Past(h, hs[:n], before)
        noisy = loop.run(x, past, inputs[begin:end], None if stim is None else stim[begin:end], xs[:n])
        if end < steps:
            before = past.tail(n)
            x, h = (xs[n - 1].clone(), hs[n - 1].clone()) if len(before) else (xs[n - 1], hs[n - 1])
        if whole:
            saved.inputs = noisy
        if not own:
            for states, out in ((xs[:n], out_x[begin:end]), (hs[:n], out_h[begin:end])):
                if record is None:
                    out.copy_(states)
                else:
                    torch.index_select(states, 1, record, out=out)
    return out_x, out_h, saved


class _Recurrence(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, plan: Plan, *tensors: Any) -> tuple[Tensor, Tensor]:
        out_x, out_h, saved = _forward(plan, *tensors, saving=True)
        weights, input_weights, _, bias, x0, h0, stim, alpha = tensors
        need_x = ctx.needs_input_grad[8]
        again = saved.hs is None  # bias and stim are needed to compute steps again
        ctx.plan, ctx.every, ctx.noise, ctx.steps = plan, saved.every, saved.noise, len(saved.inputs)
        ctx.save_for_backward(
            weights,
            input_weights,
            saved.inputs,
            bias if again else None,
            x0,
            h0,
            stim if again else None,
            alpha,
            saved.xs if need_x else None,
            saved.hs,
            *(state for start in saved.starts for state in start),
        )
        ctx.set_materialize_grads(False)
        return out_x, out_h

    @staticmethod
    def backward(ctx: Any, grad_x: Tensor | None, grad_h: Tensor | None) -> tuple[Tensor | None, ...]:
        if torch.is_grad_enabled():  # create_graph=True: a second derivative would silently miss terms
            raise RuntimeError("the recurrence is differentiable once; call backward or grad without create_graph=True.")
        if grad_x is None and grad_h is None:
            return (None,) * 9
        weights, input_weights, inputs, bias, x0, h0, stim, alpha, xs, hs, *starts = ctx.saved_tensors
        plan: Plan = ctx.plan
        loop = Steps(plan, weights, input_weights, bias, alpha, x0)
        before = first_past(h0, loop.product.longest)
        back = Backward(ctx.needs_input_grad[1:], plan, loop, inputs, x0, alpha, ctx.steps)
        if hs is not None:
            back.run(0, xs, Past(h0, hs, before), inputs, x0, grad_x, grad_h)
        else:
            xs, hs = x0.new_empty((ctx.every, *x0.shape)), x0.new_empty((ctx.every, *x0.shape))
            for k in reversed(range(len(starts) // 3)):
                x, h, before = starts[3 * k : 3 * k + 3]
                part = slice(k * ctx.every, min((k + 1) * ctx.every, ctx.steps))
                n = part.stop - part.start
                if plan.noise is not None:
                    loop.noise = plan.noise.replay(ctx.noise[k])
                past = Past(h, hs[:n], before)
                noisy = loop.run(x, past, inputs[part], None if stim is None else stim[part], xs[:n])
                back.run(part.start, xs[:n], past, noisy, x, grad_x, grad_h)
        return None, *back.result()


