"""Delayed products with gradients: what the recurrence over a sequence multiplies by, and the past it needs.

Activity before the start of a sequence is taken to be the initial one, so h0 collects the gradients of all of
it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import torch
from torch import Tensor

from sparse_mrnn.ops.delays import DelayGroup
from sparse_mrnn.ops.products.base import Product


class PastActivity(Protocol):
    """Anything that knows the activity at past steps."""

    def at(self, step: int) -> Tensor:
        """Activity at a step, shape (units, batch)."""


class ActivityHistory:
    """Activity by step relative to a segment: 0 is its start, 1 after its first step, -1 one step before.

    Parameters
    ----------
    start : Tensor, shape (units, batch)
    hs : Tensor, shape (steps, units, batch)
        Filled while the segment runs.
    before : Tensor, shape (longest - 1, units, batch)
        Activity before the start, the latest last.
    """

    def __init__(self, start: Tensor, hs: Tensor, before: Tensor) -> None:
        self.start, self.hs, self.before = start, hs, before
        self.states = hs.unbind(0)

    def at(self, step: int) -> Tensor:
        """Activity at a step."""
        if step > 0:
            return self.states[step - 1]
        return self.start if step == 0 else self.before[step]

    def tail(self, steps: int) -> Tensor:
        """What is ``before`` for a segment that follows after ``steps`` steps."""
        longest = len(self.before)
        if longest == 0:
            return self.before
        return torch.stack([self.at(step) for step in range(steps - longest, steps)])


def before_start(h0: Tensor, longest: int) -> Tensor:
    """Activity before a sequence: the initial one."""
    return h0.expand(longest - 1, *h0.shape)


class DelayedProduct:
    """The products of all delays, with values.

    Parameters
    ----------
    groups : sequence of DelayGroup
    weights : Tensor
        Values of all synapses, from which each group takes its own.
    """

    def __init__(self, groups: Sequence[DelayGroup], weights: Tensor) -> None:
        self.weights = weights
        self.parts: list[tuple[DelayGroup, Product]] = [
            (group, group.operator.bind(group.select(weights.detach()))) for group in groups
        ]
        self.longest = max((group.delay for group in groups), default=1)
        self.source_sizes = [group.operator.shape[1] for group in groups]  # units that `sources` have

    def addmm(self, y: Tensor, history: PastActivity, step: int, *, beta: float, alpha: float) -> None:
        """y = beta y + alpha sum_d W_d h[step + 1 - d], in place."""
        for group, product in self.parts:
            product.addmm(y, history.at(step + 1 - group.delay), beta=beta, alpha=alpha, out=y)
            beta = 1.0

    def sources(self, history: PastActivity, step: int) -> list[Tensor]:
        """The activity each delay transmits in a step."""
        return [history.at(step + 1 - group.delay) for group, _ in self.parts]

    def sddmm(self, part: int, g: Tensor, h: Tensor) -> None:
        """Add to the gradient of one delay's synapses; see `Product.sddmm`."""
        self.parts[part][1].sddmm(g, h)

    def gradients(self, like: Tensor) -> GradientRing:
        """The way of gradients back to the activity, which is like ``like``."""
        return GradientRing(self, like)

    def grad(self) -> Tensor:
        """The gradient of ``weights``."""
        if len(self.parts) == 1 and self.parts[0][0].entries is None:
            return self.parts[0][1].grad()
        grad = torch.zeros_like(self.weights)
        for group, product in self.parts:
            if group.entries is not None:
                grad.index_copy_(0, group.entries.long(), product.grad())
        return grad


class GradientRing:
    """Gradients on their way back to the activity of earlier steps: a ring as long as the longest delay."""

    def __init__(self, product: DelayedProduct, like: Tensor) -> None:
        self.product = product
        without_delays = product.longest == 1 and len(product.parts) == 1
        self.ring = like.new_zeros((0 if without_delays else product.longest, *like.shape))
        self.scratch = None if without_delays else torch.empty_like(like)

    def back(self, g: Tensor, step: int, out: Tensor, *, last: bool) -> None:
        """Send W_d^T g from a step to the activity it read, and take what reached the activity at ``step``.

        Before the start, that activity is h0, the one at step 0. ``last``: nothing is sent.
        """
        if self.scratch is None:
            if not last:
                self.product.parts[0][1].rmatmul(g, out=out)
            return
        if not last:
            self.send(g, step)
        self.take(step, out)

    def send(self, g: Tensor, step: int) -> None:
        """Add W_d^T g to the gradient of the activity that each delay d read in a step."""
        for group, product in self.product.parts:
            self.slot(step + 1 - group.delay).add_(product.rmatmul(g, out=self.scratch))

    def take(self, step: int, out: Tensor) -> None:
        """Write the gradient of the activity at a step to ``out``, and forget it."""
        slot = self.slot(step)
        out.copy_(slot)
        slot.zero_()

    def slot(self, step: int) -> Tensor:
        """Where the gradient of the activity at a step is gathered."""
        return self.ring[max(step, 0) % len(self.ring)]
