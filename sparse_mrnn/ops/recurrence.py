"""The recurrence over a whole sequence, with its own backward pass.

    x[t+1] = (1 - alpha) x[t] + alpha (W h[t] + W_inp u[t] + b + noise + stim[t]),    h[t+1] = f(x[t+1])

With delays, W h[t] is the sum over delays d, in steps, of W_d h[t + 1 - d]; before the start, h is h0.
alpha = dt / tau; alpha = 1 is the Elman net. State is (units, batch). Forward: one product and two pointwise passes
a step. Backward (backpropagation through time, Werbos 1990): one transposed product and about seven pointwise passes
a step; the weight gradient is one sampled product per chunk of steps instead of one per step. Buffers are made once.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from sparse_mrnn.ops.activations import Segments
from sparse_mrnn.ops.backends.base import Operator, Product
from sparse_mrnn.ops.lagged import Carry, Lag, LaggedProduct, Past, first_past

GRAD_COLUMNS, GRAD_BYTES = (128, 256), 2**21
"""Time x batch columns gathered before a sampled product: the more the better it is amortised, within so many bytes."""
UNSAVED_STEPS = 64
"""Steps kept at a time where only some units are recorded and no gradient is needed."""


@dataclass(frozen=True)
class Noise:
    """Gaussian noise on inputs and units: standard deviations and where it is drawn from.

    The two streams are separate and drawn step by step, so a run in pieces has the noise of one long run.
    """

    input_std: float
    unit_std: float | Tensor
    input_generator: torch.Generator
    unit_generator: torch.Generator

    def state(self) -> tuple[Tensor, Tensor]:
        """Where both streams are, to draw the same noise again."""
        return self.input_generator.get_state(), self.unit_generator.get_state()

    def replay(self, state: tuple[Tensor, Tensor]) -> Noise:
        """The same noise from ``state`` on, on generators of its own."""
        pairs = zip((self.input_generator, self.unit_generator), state, strict=True)
        copies = [torch.Generator(old.device).set_state(where) for old, where in pairs]
        return replace(self, input_generator=copies[0], unit_generator=copies[1])


@dataclass(frozen=True)
class Plan:
    """What the recurrence runs on, apart from differentiable tensors.

    Parameters
    ----------
    operator, input_operator : Operator
    activation : Segments
    rate : float, optional
        alpha where it is one fixed number: leak and product are then one pass.
    noise : Noise, optional
    checkpoint_every : int, optional
        Keep the state at every so many steps only and compute the others again in the backward pass.
    record : Tensor of int, shape (recorded,), optional
        Return these units only.
    lags : sequence of Lag
        The recurrent synapses by delay, in place of ``operator``, where there are delays.
    """

    operator: Operator
    input_operator: Operator | None
    activation: Segments
    rate: float | None = None
    noise: Noise | None = None
    checkpoint_every: int | None = None
    record: Tensor | None = None
    lags: tuple[Lag, ...] = ()


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


class _Steps:
    """The forward loop, over buffers given to it."""

    def __init__(
        self, plan: Plan, weights: Tensor, input_weights: Tensor | None, bias: Tensor | None, alpha: Tensor, like: Tensor
    ) -> None:
        self.plan, self.alpha = plan, alpha
        self.product = LaggedProduct(plan.lags or (Lag(1, plan.operator),), weights)
        self.input_product: Product | None = None
        if input_weights is not None and plan.input_operator is not None:
            self.input_product = plan.input_operator.bind(input_weights)
        self.keep = 1 - alpha
        self.drive = None if bias is None else alpha * bias[:, None]
        self.noise = plan.noise
        self.scratch = like.new_empty(like.shape if plan.rate is None or self.noise is not None else 0)

    def run(self, x: Tensor, past: Past, inputs: Tensor, stim: Tensor | None, xs: Tensor) -> Tensor:
        """Fill ``xs`` and ``past.hs`` from the state x, past; returns the inputs, contiguous and with their noise."""
        hs = past.hs
        rate, noise, alpha, scratch = self.plan.rate, self.noise, self.alpha, self.scratch
        inputs = inputs.contiguous()
        if noise is not None:
            unit_std = alpha * noise.unit_std
            draws = [
                torch.randn(u.shape, dtype=u.dtype, device=u.device, generator=noise.input_generator) for u in inputs
            ]
            inputs = inputs + noise.input_std * torch.stack(draws)
        for t in range(len(inputs)):
            new = xs[t]
            if self.drive is None:
                torch.mul(x, self.keep, out=new)
            elif rate is not None:
                torch.add(self.drive, x, alpha=1 - rate, out=new)
            else:
                torch.addcmul(self.drive, x, self.keep, out=new)
            if rate is not None:
                self.product.add_to(new, past, t, beta=1.0, alpha=rate)
                if self.input_product is not None:
                    self.input_product.add_to(new, inputs[t], beta=1.0, alpha=rate, out=new)
            else:
                self.product.add_to(scratch, past, t, beta=0.0, alpha=1.0)
                if self.input_product is not None:
                    self.input_product.add_to(scratch, inputs[t], beta=1.0, alpha=1.0, out=scratch)
                new.addcmul_(scratch, alpha)
            if noise is not None:
                new.addcmul_(scratch.normal_(generator=noise.unit_generator), unit_std)
            if stim is not None:
                new.addcmul_(stim[t], alpha)
            self.plan.activation.apply_to(new, hs[t])
            x = new
        return inputs


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
    every = plan.checkpoint_every if saving else None if record is None else UNSAVED_STEPS
    every = min(every or steps, steps)
    loop = _Steps(plan, weights, input_weights, bias, alpha, x0)
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
            for states, out in ((xs, out_x), (hs, out_h)):
                out[begin:end] = states[:n] if record is None else states[:n].index_select(1, record)
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
        loop = _Steps(plan, weights, input_weights, bias, alpha, x0)
        before = first_past(h0, loop.product.longest)
        back = _Backward(ctx.needs_input_grad[1:], plan, loop, inputs, x0, alpha, ctx.steps)
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


def grad_columns(units: int, size: int) -> int:
    """Time x batch columns gathered before a sampled product, for so many units of ``size`` bytes."""
    least, most = GRAD_COLUMNS
    return max(least, min(most, GRAD_BYTES // (units * size)))


class _Backward:
    """Backpropagation through time, segment by segment from the last."""

    def __init__(
        self, needs: tuple[bool, ...], plan: Plan, loop: _Steps, inputs: Tensor, x0: Tensor, alpha: Tensor, steps: int
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
        self.width = min(steps, max(1, grad_columns(units, x0.element_size()) // batch))
        gathering = self.width if (self.need_w or self.need_w_inp) and self.width > 1 else 0
        self.gathered = x0.new_empty(units, gathering, batch)
        self.activity = [x0.new_empty(units, gathering if self.need_w else 0, batch) for _ in loop.product.parts]
        self.gathered_u = x0.new_empty(inputs.shape[1], gathering if self.need_w_inp else 0, batch)
        self.filled = 0

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
        hs = past.hs
        loop, carry_x, carry_h, scaled = self.loop, self.carry_x, self.carry_h, self.scaled
        rate = self.plan.rate
        for t in reversed(range(len(hs))):
            self._add(carry_h, grad_h, begin + t)
            self.plan.activation.slope_into(carry_h, hs[t])
            carry_x += carry_h
            self._add(carry_x, grad_x, begin + t)
            torch.mul(carry_x, self.alpha if rate is None else rate, out=scaled)
            if self.grad_stim is not None:
                self.grad_stim[begin + t] = scaled
            if self.grad_bias is not None:
                self.grad_bias += scaled.sum(1)
            if self.grad_alpha is not None and xs is not None:
                self.grad_alpha += (carry_x * (xs[t] - (xs[t - 1] if t else x_start))).sum(1, keepdim=True)
            if self.grad_u is not None and loop.input_product is not None:
                self.grad_u[begin + t] = loop.input_product.transposed(scaled)
            if self.need_w or self.need_w_inp:
                self._gather(scaled, loop.product.sources(past, t), inputs[t])
            carry_x -= scaled
            self.carry.back(scaled, begin + t, carry_h, last=not (begin or t or self.need_h0))

    def _add(self, carry: Tensor, grad: Tensor | None, t: int) -> None:
        if grad is None:
            return
        if self.plan.record is None:
            carry += grad[t]
        else:
            carry.index_add_(0, self.plan.record, grad[t])

    def _gather(self, g: Tensor, hs: list[Tensor], u: Tensor) -> None:
        """Add a step to the columns of the next sampled product."""
        if self.width == 1:
            self._sample(g, u, [h.contiguous() for h in hs])
            return
        k = self.filled
        self.gathered[:, k] = g
        for activity, h in zip(self.activity, hs if self.need_w else (), strict=False):
            activity[:, k] = h
        if self.need_w_inp:
            self.gathered_u[:, k] = u
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
            grad_alpha = (grad_alpha / self.alpha).sum_to_size(self.alpha.shape)
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
