"""`recurrence`: one autograd function for a whole sequence."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from sparse_mrnn.ops.activations import ActivationSegments, get_activation
from sparse_mrnn.ops.sequence.backward import BackwardLoop
from sparse_mrnn.ops.sequence.delays import ActivityHistory, before_start
from sparse_mrnn.ops.sequence.forward import ForwardLoop
from sparse_mrnn.ops.sequence.spec import NeedsGradient, RecurrenceSpec, RecurrenceTensors

UNSAVED_BYTES, UNSAVED_STEPS = 2**20, 64
"""States kept at a time where only some units are returned and no gradient is needed: they stay in cache."""


def recurrence(spec: RecurrenceSpec, tensors: RecurrenceTensors) -> tuple[Tensor, Tensor]:
    """Run the recurrence. Differentiable once, in every tensor.

    Returns
    -------
    x, h : Tensor, shape (time, units or returned units, batch)
        States after each step.
    """
    if torch.is_grad_enabled() and any(t is not None and t.requires_grad for t in tensors):
        x, h = _Recurrence.apply(spec, *tensors)  # type: ignore[no-untyped-call]
        return x, h
    with torch.no_grad():
        x, h, _ = _forward(spec, tensors, saving=False)
    return x, h


def stepwise_recurrence(spec: RecurrenceSpec, tensors: RecurrenceTensors) -> tuple[Tensor, Tensor]:
    """`recurrence` for activations that torch's autograd differentiates: a linear step, then the function."""
    linear = ActivationSegments(((0, len(tensors.x0), get_activation("linear")),))
    one_step = replace(spec, activation=linear, units=None)
    x, h, xs, hs = tensors.x0, tensors.h0, [], []
    for t in range(len(tensors.inputs)):
        step = slice(t, t + 1)
        stim = None if tensors.stim is None else tensors.stim[step]
        now = tensors._replace(inputs=tensors.inputs[step], x0=x, h0=h, stim=stim)
        x = recurrence(one_step, now)[0][0]
        h = spec.activation.apply(x)
        xs.append(x)
        hs.append(h)
    x_seq, h_seq = torch.stack(xs), torch.stack(hs)
    if spec.units is None:
        return x_seq, h_seq
    return x_seq.index_select(1, spec.units), h_seq.index_select(1, spec.units)


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
    spec: RecurrenceSpec, tensors: RecurrenceTensors, *, saving: bool
) -> tuple[Tensor, Tensor, _Saved]:
    inputs, stim, x0, units = tensors.inputs, tensors.stim, tensors.x0, spec.units
    steps = len(inputs)
    if saving:
        every = spec.checkpoint_steps
    else:
        step_bytes = (spec.largest or x0.shape[0]) * x0.shape[1] * x0.element_size()
        fitting = UNSAVED_BYTES // step_bytes
        every = None if units is None else max(1, min(fitting, UNSAVED_STEPS))
    every = min(every or steps, steps)
    loop = ForwardLoop(spec, tensors)
    xs, hs = x0.new_empty((every, *x0.shape)), x0.new_empty((every, *x0.shape))
    whole = every == steps
    returned = whole and units is None  # the buffers are what is returned
    shape = (steps, x0.shape[0] if units is None else len(units), x0.shape[1])
    out_x, out_h = (xs, hs) if returned else (x0.new_empty(shape), x0.new_empty(shape))
    saved = _Saved(every, xs if whole else None, hs if whole else None, inputs, [], [])
    x, h, before = x0, tensors.h0, before_start(tensors.h0, loop.product.longest)
    for begin in range(0, steps, every):
        end = min(begin + every, steps)
        if saving and not whole:
            saved.starts.append((x.clone(), h.clone(), before))
            if spec.noise is not None:
                saved.noise.append(spec.noise.state())
        n = end - begin
        history = ActivityHistory(h, hs[:n], before)
        noisy = loop.run(x, history, inputs[begin:end], None if stim is None else stim[begin:end], xs[:n])
        if end < steps:
            before = history.tail(n)
            x, h = (xs[n - 1].clone(), hs[n - 1].clone()) if len(before) else (xs[n - 1], hs[n - 1])
        if whole:
            saved.inputs = noisy
        if not returned:
            for states, out in ((xs[:n], out_x[begin:end]), (hs[:n], out_h[begin:end])):
                if units is None:
                    out.copy_(states)
                else:
                    torch.index_select(states, 1, units, out=out)
    return out_x, out_h, saved


class _Recurrence(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, spec: RecurrenceSpec, *args: Any) -> tuple[Tensor, Tensor]:
        tensors, needed = RecurrenceTensors(*args), NeedsGradient(*ctx.needs_input_grad[1:])
        out_x, out_h, saved = _forward(spec, tensors, saving=True)
        kept = tensors._replace(inputs=saved.inputs)
        if saved.hs is not None:  # bias and stim are needed to compute steps again, and for nothing else
            kept = kept._replace(bias=None, stim=None)
        ctx.spec, ctx.every, ctx.noise, ctx.steps = spec, saved.every, saved.noise, len(saved.inputs)
        ctx.needed = needed
        starts = (state for start in saved.starts for state in start)
        ctx.save_for_backward(*kept, saved.xs if needed.alpha else None, saved.hs, *starts)
        ctx.set_materialize_grads(False)
        return out_x, out_h

    @staticmethod
    def backward(ctx: Any, grad_x: Tensor | None, grad_h: Tensor | None) -> tuple[Tensor | None, ...]:
        if torch.is_grad_enabled():  # create_graph=True: a second derivative would silently miss terms
            raise RuntimeError("the recurrence is differentiable once; leave out create_graph=True.")
        if grad_x is None and grad_h is None:
            return (None,) * 9
        n = len(RecurrenceTensors._fields)
        tensors = RecurrenceTensors(*ctx.saved_tensors[:n])
        xs, hs, *starts = ctx.saved_tensors[n:]
        spec: RecurrenceSpec = ctx.spec
        loop = ForwardLoop(spec, tensors)
        back = BackwardLoop(ctx.needed, loop, tensors, ctx.steps)
        x0, inputs, stim = tensors.x0, tensors.inputs, tensors.stim
        if hs is not None:
            history = ActivityHistory(tensors.h0, hs, before_start(tensors.h0, loop.product.longest))
            back.run(0, xs, history, inputs, x0, grad_x, grad_h)
        else:
            xs, hs = x0.new_empty((ctx.every, *x0.shape)), x0.new_empty((ctx.every, *x0.shape))
            for k in reversed(range(len(starts) // 3)):
                x, h, before = starts[3 * k : 3 * k + 3]
                part = slice(k * ctx.every, min((k + 1) * ctx.every, ctx.steps))
                n = part.stop - part.start
                if spec.noise is not None:
                    loop.noise = spec.noise.replay(ctx.noise[k])
                history = ActivityHistory(h, hs[:n], before)
                noisy = loop.run(x, history, inputs[part], None if stim is None else stim[part], xs[:n])
                back.run(part.start, xs[:n], history, noisy, x, grad_x, grad_h)
        return None, *back.result()
