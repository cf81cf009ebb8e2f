"""`recurrence`: one autograd function for a whole sequence."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor

from sparse_mrnn.ops.buffers import new_buffer
from sparse_mrnn.ops.delays import ActivityHistory
from sparse_mrnn.ops.idle_threads import share_cores
from sparse_mrnn.ops.sequence.backward import BackwardLoop
from sparse_mrnn.ops.sequence.forward import ForwardLoop, RecurrenceSpec, RecurrenceTensors, StateBuffers
from sparse_mrnn.ops.torch_modes import refuse_transforms

UNSAVED_BYTES, UNSAVED_STEPS = 2**20, 64
"""States kept at a time where only some units are returned and no gradient is needed: they stay in cache."""


def recurrence(spec: RecurrenceSpec, tensors: RecurrenceTensors) -> tuple[Tensor, ...]:
    """Run the recurrence. Differentiable once, in every tensor.

    Returns
    -------
    tuple of Tensor, each of shape (time, units or returned units, batch)
        The states in the order of `Step.states`, and then the activity, after each step.
    """
    refuse_transforms()
    share_cores()
    if tensors.h0.shape[1] == 0:
        return _without_trials(spec, tensors)
    flat = tensors.flat()
    if torch.is_grad_enabled() and any(t is not None and t.requires_grad for t in flat):
        names = tuple(tensors.parameters)
        found: tuple[Tensor, ...] = _Recurrence.apply(spec, names, *flat)  # type: ignore[no-untyped-call]
        return found
    with torch.no_grad():
        return _forward(spec, tensors, None)[0]


def _without_trials(spec: RecurrenceSpec, tensors: RecurrenceTensors) -> tuple[Tensor, ...]:
    """Run one trial of zeros in place of none, and leave it out: kernels need not know of empty arrays."""

    def one(t: Tensor) -> Tensor:
        return torch.cat([t, t.new_zeros(*t.shape[:-1], 1)], -1)

    stim, states = None if tensors.stim is None else one(tensors.stim), tuple(map(one, tensors.states))
    before = None if tensors.before is None else one(tensors.before)
    inputs, h0 = one(tensors.inputs), one(tensors.h0)
    given = replace(tensors, inputs=inputs, h0=h0, before=before, states=states, stim=stim)
    return tuple(each[..., :0] for each in recurrence(replace(spec, noise=None), given))


@dataclass
class _Saved:
    """Arrays that the backward pass needs beside the arguments: whole states, or those at segment starts."""

    every: int
    whole: StateBuffers | None
    inputs: Tensor
    starts: list[Tensor] = field(default_factory=list)
    noise: list[tuple[Tensor, Tensor]] = field(default_factory=list)


def _forward(
    spec: RecurrenceSpec, tensors: RecurrenceTensors, needed: frozenset[str] | None
) -> tuple[tuple[Tensor, ...], _Saved]:
    """States and activity after each step, and what is saved: little, if ``needed`` is None."""
    inputs, h0, units = tensors.inputs, tensors.h0, spec.units
    steps = len(inputs)
    if needed is not None:
        every = spec.checkpoint_steps
    else:
        step_bytes = (spec.largest or h0.shape[0]) * h0.shape[1] * h0.element_size()
        every = None if units is None else max(1, min(UNSAVED_BYTES // step_bytes, UNSAVED_STEPS))
    every = min(every or steps, steps)
    whole = every == steps
    products = spec.products(tensors)
    loop = ForwardLoop(spec, tensors, products)
    buffers = StateBuffers(spec.step, every, h0, needed if whole else None)
    found = (*buffers.states, buffers.h)
    returned = whole and units is None  # the buffers are what is returned
    shape = steps, h0.shape[0] if units is None else len(units), h0.shape[1]
    out = found if returned else tuple(new_buffer(h0, *shape) for _ in found)
    saved = _Saved(every, buffers if whole else None, inputs)
    states, h, before = tensors.states, h0, products.recurrent.before(h0, tensors.before)
    for begin in range(0, steps, every):
        part = slice(begin, min(begin + every, steps))
        if needed is not None and not whole:
            saved.starts += [*(s.clone() for s in states), h.clone(), before]
            if spec.noise is not None:
                saved.noise.append(spec.noise.state())
        n = part.stop - begin
        history, noisy = loop.run(part, states, h, before, buffers)
        if part.stop < steps:
            before = history.tail(n)
            states, h = tuple(s[n - 1] for s in buffers.states), history.states[-1]
            if len(before):
                states, h = tuple(s.clone() for s in states), h.clone()
        if whole:
            saved.inputs = noisy
        if not returned:
            for each, to in zip(found, out, strict=True):
                if units is None:
                    to[part].copy_(each[:n])
                else:
                    torch.index_select(each[:n], 1, units, out=to[part])
    return out, saved


class _Recurrence(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, spec: RecurrenceSpec, names: tuple[str, ...], *flat: Any
    ) -> tuple[Tensor, ...]:
        count, ctx.needed = len(spec.step.states), ctx.needs_input_grad[2:]
        tensors = RecurrenceTensors.of(flat, count, names)
        of_parameters = zip(names, ctx.needed[6 + count :], strict=True)
        ctx.learnt = frozenset(name for name, need in of_parameters if need)
        out, saved = _forward(spec, tensors, ctx.learnt)
        kept = replace(tensors, inputs=saved.inputs)
        sequences: list[Tensor | None] = []
        if saved.whole is not None:  # stim is needed to compute steps again, and for nothing else
            kept = replace(kept, stim=None)
            sequences = [saved.whole.h, saved.whole.kept, *saved.whole.of_backward]
        ctx.spec, ctx.names, ctx.every, ctx.noise = spec, names, saved.every, saved.noise
        ctx.steps, ctx.whole = len(saved.inputs), saved.whole is not None
        ctx.save_for_backward(*kept.flat(), *sequences, *saved.starts)
        ctx.set_materialize_grads(False)
        return out

    @staticmethod
    def backward(ctx: Any, *grads: Tensor | None) -> tuple[Tensor | None, ...]:
        refuse_transforms(*grads)
        if torch.is_grad_enabled():  # create_graph=True: a second derivative would silently miss terms
            raise RuntimeError("the recurrence is differentiable once; leave out create_graph=True.")
        if all(grad is None for grad in grads):
            return (None, None, *(None for _ in ctx.needed))
        spec: RecurrenceSpec = ctx.spec
        count, n = len(spec.step.states), len(ctx.needed)
        saved = ctx.saved_tensors  # once: torch.utils.checkpoint hands each tensor out one time
        tensors = RecurrenceTensors.of(saved[:n], count, ctx.names)
        products = spec.products(tensors)
        back = BackwardLoop(spec, tensors, ctx.needed, ctx.learnt, products, grads, ctx.steps)
        if ctx.whole:
            hs, kept, *states = saved[n:]
            before = products.recurrent.before(tensors.h0, tensors.before)
            back.run(0, ActivityHistory(tensors.h0, hs, before), states, kept, tensors.inputs, tensors.states)
        else:
            loop = ForwardLoop(spec, tensors, products)
            buffers = StateBuffers(spec.step, ctx.every, tensors.h0, ctx.learnt)
            starts, size = saved[n:], count + 2
            for k in reversed(range(len(starts) // size)):
                *begun, h, before = starts[k * size : (k + 1) * size]
                begin, start = k * ctx.every, tuple(begun)
                if spec.noise is not None:
                    loop.noise = spec.noise.replay(ctx.noise[k])
                part = slice(begin, min(begin + ctx.every, ctx.steps))
                history, noisy = loop.run(part, start, h, before, buffers)
                back.run(begin, history, buffers.of_backward, buffers.kept, noisy, start)
        return None, None, *back.result()
