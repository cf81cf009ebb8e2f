"""The passes of the leaky step, whose leak is part of the product or of one compiled pass over the states.

With one rate for all units, the products add to the new state directly: leak and product are one pass. With
a rate for each unit, `kernels.forward_step` does everything behind the product. `kernels.backward_step` is
the closed adjoint, and `kernels.relu_step` the end of a step of a simulation. Each has its equal in torch
here, for other devices, other activations, and states so few that a call costs more than a pass.

The equation is that of `models.leaky.LeakyStep`.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

import numpy as np
import torch
from torch import Tensor

from sparse_mrnn.ops import kernels
from sparse_mrnn.ops.activations import ActivationSegments, get_activation
from sparse_mrnn.ops.step import (
    Adjoint,
    Advance,
    Columns,
    Currents,
    Drive,
    NoiseStd,
    Parameters,
    SavedStep,
    States,
    Step,
    add_current,
)

ONE_PASS_STATES = 10_000
"""States from which on what follows the products is one compiled pass; below, calls cost more."""


def _codes(
    activation: ActivationSegments, codes: dict[str, int], other: int
) -> tuple[np.ndarray[Any, Any], ActivationSegments]:
    """The code of each unit's activation in a kernel, and the activations that have none."""
    code, others = [], []
    for start, stop, a in activation.parts:
        known = a.slope_into is not None and a.name in codes  # a function of the user's may have such a name
        code.append(np.full(stop - start, codes[a.name] if known else other, np.int8))
        if not known:
            others.append((start, stop, a))
    return np.concatenate(code), ActivationSegments(tuple(others))


class LeakyAdvance(Advance):
    """The part of both passes forward: the parameters as a step uses them."""

    def __init__(self, step: Step, parameters: Parameters, unit_std: NoiseStd, like: Tensor) -> None:
        super().__init__(step, parameters, unit_std, like if step.rate is None else like.new_empty(0))
        self.alpha, self.rate = parameters["alpha"], step.rate
        self.keep = 1 - self.alpha  # share of the state that a step leaves
        self.bias = parameters.get("bias")
        self.tonic = None if self.bias is None else self.alpha * self.bias  # added to x in each step
        self.scaled_std = None if unit_std is None else self.alpha * unit_std


class LeakySequence(LeakyAdvance):
    """The leaky step over a sequence, from one array of states to the next.

    It keeps the change per rate, current + b - x, where alpha is learnt: (x[t + 1] - x[t]) / alpha would lose
    most digits of a small alpha, and be NaN without one.
    """

    def __init__(self, step: Step, parameters: Parameters, unit_std: NoiseStd, like: Tensor) -> None:
        super().__init__(step, parameters, unit_std, like)
        one_pass = self.rate is None and like.device.type == "cpu" and like.numel() >= ONE_PASS_STATES
        self.kernel = kernels.load("leaky") if one_pass and unit_std is None else None
        if self.kernel is not None:
            self.forward_step = self.kernel.forward_step.of(like.numel())
            code, self.by_torch = _codes(step.activation, self.kernel.ACTIVATIONS, -1)
            none = like.new_empty(0)
            bias, tonic, share = (
                none if p is None else p.detach().expand(len(like), 1)[:, 0].contiguous()
                for p in (self.bias, self.tonic, self.alpha)
            )
            self.fixed = code, share.numpy(), tonic.numpy(), bias.numpy(), self.current.numpy()
            self.no_change = like.new_empty(0, like.shape[1])

    def advance(
        self, before: States, after: States, h: Tensor, drive: Drive, currents: Currents, kept: Tensor | None
    ) -> bool | None:
        x, new, rate = before[0], after[0], self.rate
        if self.kernel is not None:
            drive.multiply(self.current, 0.0, 1.0)
            for units, values in currents:
                add_current(self.current, units, values)
            change = self.no_change if kept is None else kept
            arrays = x.contiguous().numpy(), new.numpy(), h.numpy(), change.numpy()
            self.forward_step(*self.fixed, *arrays)
            self.by_torch.apply_to(new, h)
            return None
        if self.tonic is None:
            torch.mul(x, self.keep, out=new)
        elif rate is not None:
            torch.add(self.tonic, x, alpha=1 - rate, out=new)
        else:
            torch.addcmul(self.tonic, x, self.keep, out=new)
        if rate is not None:
            drive.multiply(new, 1.0, rate)
        else:
            drive.multiply(self.current, 0.0, 1.0)
            new.addcmul_(self.current, self.alpha)
        if kept is not None:
            torch.sub(self.current, x, out=kept)
            if self.bias is not None:
                kept += self.bias
        std = self.unit_std
        if std is not None and self.scaled_std is not None:
            drawn = drive.draw()
            new.addcmul_(drawn, self.scaled_std)
            if kept is not None and isinstance(std, Tensor):
                kept.addcmul_(drawn, std)
            elif kept is not None and not isinstance(std, Tensor):
                kept.add_(drawn, alpha=std)
        for _, values in currents:  # those of a sequence are of all units
            new.addcmul_(values, self.alpha)
            if kept is not None:
                kept += values
        self.step.activation.apply_to(new, h)
        return None


class LeakyStream(LeakyAdvance):
    """The leaky step of a simulation, in place."""

    def __init__(self, step: Step, parameters: Parameters, unit_std: NoiseStd, like: Tensor) -> None:
        super().__init__(step, parameters, unit_std, like)
        relu = [a for _, _, a in step.activation.parts] == [get_activation("relu")]
        one_pass = relu and like.device.type == "cpu" and like.numel() >= ONE_PASS_STATES
        self.kernel = kernels.load("leaky") if one_pass else None
        self.tonic_row = like.new_empty(0) if self.tonic is None else self.tonic[:, 0]

    def advance(
        self, before: States, after: States, h: Tensor, drive: Drive, currents: Currents, kept: Tensor | None
    ) -> bool | None:
        (x,), rate = after, self.rate
        if rate is not None:
            drive.multiply(x, 1 - rate, rate)
        else:
            drive.multiply(self.current, 0.0, 1.0)
            x.mul_(self.keep).addcmul_(self.alpha, self.current)
        if self.scaled_std is not None:
            x.addcmul_(drive.draw(), self.scaled_std)
        for units, values in currents:
            add_current(x, units, values * (rate if rate is not None else self.alpha[units]))
        if self.kernel is not None and not drive.held_x:
            return bool(self.kernel.relu_step(x, self.tonic_row, h))
        if self.tonic is not None:
            x.add_(self.tonic)
        for units, value in drive.held_x:
            x[units] = value
        self.step.activation.apply_to(x, h)
        return None


class LeakyAdjoint(Adjoint):
    """The closed adjoint of the leaky step.

        back    = grad x[t + 1] + f'(x[t + 1]) grad h[t + 1]
        current : alpha back        x[t] : (1 - alpha) back        bias : alpha back
        alpha   : back (current + b - x[t])
    """

    def __init__(self, step: Step, parameters: Parameters, needed: Collection[str], like: Tensor) -> None:
        super().__init__(step, parameters, needed, like)
        self.alpha, self.rate = self.parameters["alpha"], step.rate
        self.grad_x, units = self.grad_states[0], len(like)
        # Sums over time and trials, of every unit; empty where none are needed.
        self.of_bias, self.of_alpha = (
            like.new_zeros(units if name in needed else 0) for name in ("bias", "alpha")
        )
        self.kernel = kernels.load("leaky") if like.device.type == "cpu" else None
        self.by_torch = step.activation
        if self.kernel is None:
            self.of_unit = like.new_empty(units)
        else:
            self.none = like.new_empty(0, like.shape[1]).numpy()
            code, self.by_torch = _codes(step.activation, self.kernel.SLOPES, 0)
            self.backward_step = self.kernel.backward_step.of(like.numel())
            self.fixed = code, self.alpha.expand(units, 1)[:, 0].contiguous().numpy()
            self.buffers = self.grad_h.numpy(), self.grad_x.numpy()
            self.totals = self.of_bias.numpy(), self.of_alpha.numpy()
        # scratch of the parts that are not compiled
        self.product = like.new_empty(like.shape if self.kernel is None or self.by_torch.parts else 0)

    def back(self, saved: SavedStep, given: Tensor | None, scaled: Tensor, columns: Columns) -> None:
        if self.by_torch.parts:
            if given is not None:
                self.grad_h += given
                given = None
            for tensor, grad in self.by_torch.pull_back(self.grad_h, saved.h, saved.after[0], self.product):
                name = next(name for name, one in self.step.learnt.items() if one is tensor)
                if grad is not None and name in self.sums:
                    self.sums[name] += grad
        if self.kernel is None:
            self._by_torch(saved, given, scaled)
            columns.put(scaled)
            return
        change = self.none if saved.kept is None else saved.kept.numpy()
        grads = self.none if given is None else given.numpy()  # in any layout
        arrays = saved.h.numpy(), grads, change, columns.source.contiguous().numpy()
        to = *columns.arrays, columns.filled
        self.backward_step(*self.fixed, *arrays, *self.buffers, scaled.numpy(), *self.totals, *to)

    def _by_torch(self, saved: SavedStep, given: Tensor | None, scaled: Tensor) -> None:
        """Do the work of `kernels.backward_step`, in as many passes as there are lines."""
        grad_x = self.grad_x
        if given is not None:
            self.grad_h += given
        grad_x += self.grad_h
        if len(self.of_alpha) and saved.kept is not None:
            torch.mul(grad_x, saved.kept, out=self.product)
            self.of_alpha += torch.sum(self.product, 1, out=self.of_unit)
        torch.mul(grad_x, self.alpha if self.rate is None else self.rate, out=scaled)
        grad_x -= scaled
        if len(self.of_bias):
            self.of_bias += torch.sum(scaled, 1, out=self.of_unit)

    def gradients(self) -> dict[str, Tensor]:
        found = dict(super().gradients())
        for name, total in (("bias", self.of_bias), ("alpha", self.of_alpha)):
            if name in found:
                found[name] = total[:, None].sum_to_size(found[name].shape)
        return found
