"""The steps of the recurrence, forward, over buffers given to them."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from sparse_mrnn.ops import kernels
from sparse_mrnn.ops.activations import ActivationSegments
from sparse_mrnn.ops.products.base import Product
from sparse_mrnn.ops.sequence.delays import ActivityHistory
from sparse_mrnn.ops.sequence.spec import RecurrenceSpec, RecurrenceTensors

ONE_PASS_STATES = 10_000
"""States from which on the pointwise part of a step is one compiled pass; below, calls cost more."""


class ForwardLoop:
    """The forward loop of one pass: the products with their values, and what a step needs besides."""

    def __init__(self, spec: RecurrenceSpec, tensors: RecurrenceTensors) -> None:
        alpha, bias, x0 = tensors.alpha, tensors.bias, tensors.x0
        self.spec, self.alpha, self.noise = spec, alpha, spec.noise
        self.product = spec.product(tensors.weights)
        self.input_product: Product | None = None
        if tensors.input_weights is not None and spec.input_operator is not None:
            self.input_product = spec.input_operator.bind(tensors.input_weights)
        self.keep = 1 - alpha  # share of the state that a step leaves
        self.tonic = None if bias is None else alpha * bias[:, None]  # (units, 1): added to x in each step
        self.unit_std = None if self.noise is None else alpha * self.noise.unit_std
        needs_scratch = spec.rate is None or self.noise is not None
        self.scratch = x0.new_empty(x0.shape if needs_scratch else 0)  # (units, batch): input, or noise
        one_pass = spec.rate is None and x0.device.type == "cpu" and x0.numel() >= ONE_PASS_STATES
        self.kernel = kernels.load("forward_step") if one_pass else None
        if self.kernel is not None:
            self._prepare_kernel(self.kernel.ACTIVATIONS, len(x0))

    def _prepare_kernel(self, codes: dict[str, int], units: int) -> None:
        """Arguments of `kernels.forward_step` that stay the same; torch applies other activations."""
        parts = self.spec.activation.parts
        code = [np.full(stop - start, codes.get(a.name, -1), np.int8) for start, stop, a in parts]
        self.by_torch = ActivationSegments(tuple(part for part in parts if part[2].name not in codes))
        tonic = self.alpha.new_empty(0) if self.tonic is None else self.tonic.detach()[:, 0]
        rate = self.alpha.detach().expand(units, 1)[:, 0].contiguous()
        self.fixed = np.concatenate(code), rate.numpy(), tonic.numpy(), self.scratch.numpy()

    def run(
        self, x: Tensor, history: ActivityHistory, inputs: Tensor, stim: Tensor | None, xs: Tensor
    ) -> Tensor:
        """Fill ``xs`` and ``history.hs`` from the state x, history; returns the inputs with their noise."""
        inputs = inputs.contiguous()
        if self.noise is not None:
            inputs = self.noise.on_inputs(inputs)
        us, stims = inputs.unbind(0), None if stim is None else stim.unbind(0)
        kernel = self.kernel if stim is None and self.noise is None else None
        if kernel is not None:
            forward_step = kernel.forward_step.of(x.numel())
        for t, new in enumerate(xs.unbind(0)):
            if kernel is not None:
                self._current(t, history, us[t])
                arrays = x.contiguous().numpy(), xs.numpy(), history.hs.numpy()
                forward_step(*self.fixed, *arrays, t)
                self.by_torch.apply_to(new, history.states[t])
            else:
                self.step(t, x, history, us[t], None if stims is None else stims[t], new)
            x = new
        return inputs

    def _current(self, t: int, history: ActivityHistory, u: Tensor) -> None:
        """scratch = sum_d W_d h[t+1-d] + W_inp u."""
        self.product.addmm(self.scratch, history, t, beta=0.0, alpha=1.0)
        if self.input_product is not None:
            self.input_product.addmm(self.scratch, u, beta=1.0, alpha=1.0, out=self.scratch)

    def step(
        self, t: int, x: Tensor, history: ActivityHistory, u: Tensor, stim: Tensor | None, new: Tensor
    ) -> None:
        """new = (1 - alpha) x + alpha (sum_d W_d h[t+1-d] + W_inp u + b + noise + stim);  h[t+1] = f(new)."""
        rate, scratch = self.spec.rate, self.scratch
        if self.tonic is None:
            torch.mul(x, self.keep, out=new)
        elif rate is not None:
            torch.add(self.tonic, x, alpha=1 - rate, out=new)
        else:
            torch.addcmul(self.tonic, x, self.keep, out=new)
        if rate is not None:  # one rate for all: the products add to the new state directly
            self.product.addmm(new, history, t, beta=1.0, alpha=rate)
            if self.input_product is not None:
                self.input_product.addmm(new, u, beta=1.0, alpha=rate, out=new)
        else:
            self._current(t, history, u)
            new.addcmul_(scratch, self.alpha)
        if self.noise is not None and self.unit_std is not None:
            new.addcmul_(self.noise.on_units(scratch), self.unit_std)
        if stim is not None:
            new.addcmul_(stim, self.alpha)
        self.spec.activation.apply_to(new, history.states[t])
