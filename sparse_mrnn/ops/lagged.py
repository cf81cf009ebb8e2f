"""Delayed products with gradients: what the recurrence over a sequence multiplies by, and the past it needs.

Activity before the start of a sequence is taken to be the initial one, so h0 collects the gradients of all of it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from sparse_mrnn.ops.backends.base import Operator, Product


@dataclass(frozen=True, eq=False)
class Lag:
    """Synapses of one delay: ``delay`` in steps (1: none), and which of the weights they have (None: all)."""

    delay: int
    operator: Operator
    entries: Tensor | None = None


class Past:
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


def first_past(h0: Tensor, longest: int) -> Tensor:
    """Activity before a sequence: the initial one."""
    return h0.expand(longest - 1, *h0.shape)


class LaggedProduct:
    """The products of all delays, with values.

    Parameters
    ----------
    lags : sequence of Lag
    weights : Tensor
        Values of all synapses, from which each lag takes its entries.
    """

    def __init__(self, lags: Sequence[Lag], weights: Tensor) -> None:
        self.weights = weights
        self.parts: list[tuple[Lag, Product]] = [
            (lag, lag.operator.bind(weights if lag.entries is None else weights.detach()[lag.entries])) for lag in lags
        ]
        self.longest = max(lag.delay for lag in lags)

    def add_to(self, y: Tensor, past: Past, step: int, *, beta: float, alpha: float) -> None:
        """y = beta y + alpha sum_d W_d h[step + 1 - d], in place."""
        for lag, product in self.parts:
            product.add_to(y, past.at(step + 1 - lag.delay), beta=beta, alpha=alpha, out=y)
            beta = 1.0

    def sources(self, past: Past, step: int) -> list[Tensor]:
        """The activity each delay transmits in a step."""
        return [past.at(step + 1 - lag.delay) for lag, _ in self.parts]

    def accumulate_grad(self, part: int, g: Tensor, h: Tensor) -> None:
        """Add to the gradient of one delay's synapses; see `Product.accumulate_grad`."""
        self.parts[part][1].accumulate_grad(g, h)

    def grad(self) -> Tensor:
        """The gradient of ``weights``."""
        if len(self.parts) == 1 and self.parts[0][0].entries is None:
            return self.parts[0][1].grad()
        found = torch.zeros_like(self.weights)
        for lag, product in self.parts:
            if lag.entries is not None:
                found.index_copy_(0, lag.entries.long(), product.grad())
        return found


class Carry:
    """Gradients on their way back to the activity of earlier steps: a ring as long as the longest delay."""

    def __init__(self, product: LaggedProduct, like: Tensor) -> None:
        self.product = product
        plain = product.longest == 1 and len(product.parts) == 1
        self.ring = like.new_zeros((0 if plain else product.longest, *like.shape))
        self.scratch = None if plain else torch.empty_like(like)

    def back(self, g: Tensor, step: int, out: Tensor, *, last: bool) -> None:
        """Send W_d^T g from a step to the activity it read, and take what has reached the activity at ``step``.

        Before the start, that activity is h0, the one at step 0. ``last``: nothing is sent, nobody asks for it.
        """
        if self.scratch is None:
            if not last:
                self.product.parts[0][1].transposed(g, out=out)
            return
        if not last:
            for lag, product in self.product.parts:
                slot = self.ring[max(step + 1 - lag.delay, 0) % len(self.ring)]
                slot += product.transposed(g, out=self.scratch)
        slot = self.ring[step % len(self.ring)]
        out.copy_(slot)
        slot.zero_()
