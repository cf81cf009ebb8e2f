"""The steps of the recurrence, forward, over buffers given to them; and what they run on."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from sparse_mrnn.ops.activations import Segments
from sparse_mrnn.ops.backends.base import Operator, Product
from sparse_mrnn.ops.lagged import Lag, LaggedProduct, Past


@dataclass(frozen=True)
class Noise:
    """Gaussian noise on inputs and units: standard deviations and where it is drawn from.

    The two streams are separate and drawn step by step, so a run in pieces has the noise of one long run.
    """

    input_std: float
    unit_std: float | Tensor
    input_generator: torch.Generator
    unit_generator: torch.Generator

    def on_inputs(self, inputs: Tensor) -> Tensor:
        """Inputs of shape (time, channels, batch) with their noise, drawn step by step."""
        drawn = torch.empty_like(inputs, memory_format=torch.contiguous_format)
        for step in drawn.unbind(0):
            step.normal_(generator=self.input_generator)
        return inputs + drawn.mul_(self.input_std)

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


class Steps:
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
        rate, noise, alpha, scratch = self.plan.rate, self.noise, self.alpha, self.scratch
        inputs = inputs.contiguous()
        if noise is not None:
            unit_std = alpha * noise.unit_std
            inputs = noise.on_inputs(inputs)
        hs, us, stims = past.states, inputs.unbind(0), None if stim is None else stim.unbind(0)
        for t, new in enumerate(xs.unbind(0)):
            if self.drive is None:
                torch.mul(x, self.keep, out=new)
            elif rate is not None:
                torch.add(self.drive, x, alpha=1 - rate, out=new)
            else:
                torch.addcmul(self.drive, x, self.keep, out=new)
            if rate is not None:
                self.product.add_to(new, past, t, beta=1.0, alpha=rate)
                if self.input_product is not None:
                    self.input_product.add_to(new, us[t], beta=1.0, alpha=rate, out=new)
            else:
                self.product.add_to(scratch, past, t, beta=0.0, alpha=1.0)
                if self.input_product is not None:
                    self.input_product.add_to(scratch, us[t], beta=1.0, alpha=1.0, out=scratch)
                new.addcmul_(scratch, alpha)
            if noise is not None:
                new.addcmul_(scratch.normal_(generator=noise.unit_generator), unit_std)
            if stims is not None:
                new.addcmul_(stims[t], alpha)
            self.plan.activation.apply_to(new, hs[t])
            x = new
        return inputs
