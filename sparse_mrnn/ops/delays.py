"""Delayed products: W h[t] is the sum over delays d, in steps, of W_d h[t + 1 - d].

A sequence has the activity of all its steps anyway (`ActivityHistory`); gradients on their way back to
earlier steps wait in a ring (`GradientRing`). A simulation keeps the latest activity of units that delayed
projections come from (`RingHistory`). Activity before the start is the initial one.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from sparse_mrnn.ops.philox import Levels, Words, words
from sparse_mrnn.ops.products import CsrOperator, EventDrivenProduct, Operator, Product, events_pay


@dataclass(frozen=True, eq=False)
class DelayGroup:
    """The synapses of one delay in time steps; 1 is the next step, as without a delay.

    The operator is that of these synapses, over all source units. ``entries``, shape (synapses,), says which
    of the matrix's stored values are theirs (None: all); ``sources`` are the ranges of units (start, stop)
    that they come from.
    """

    delay: int
    operator: Operator
    entries: Tensor | None = None
    sources: tuple[tuple[int, int], ...] = ()

    def select(self, stored: Tensor) -> Tensor:
        """Their values among all stored ones."""
        return stored if self.entries is None else stored[self.entries]


@dataclass(frozen=True, eq=False)
class SynapticDelays:
    """Delay of every synapse in steps, one number or a distribution for each block of synapses.

    Block k has the values ``ptr[k]:ptr[k + 1]``; what it draws for a synapse follows from ``keys[k]``, its
    target and source unit, and how many synapses of this pair come before it in CSR order. So nothing is
    stored for a synapse, and it keeps its delay when others come and go.
    """

    ptr: NDArray[np.int64]
    levels: tuple[Levels, ...]
    keys: Words

    @property
    def shortest(self) -> int:
        """Shortest delay that a synapse may have."""
        return min((each.least for each in self.levels), default=1)

    @property
    def longest(self) -> int:
        """Longest delay that a synapse may have."""
        return max((each.most for each in self.levels), default=1)

    def steps(
        self, block: NDArray[np.integer], row: NDArray[np.integer], col: NDArray[np.integer]
    ) -> NDArray[np.int64]:
        """Return the delays of all synapses in CSR order, of these blocks, rows and columns."""
        found: NDArray[np.int64] = np.array([each.least for each in self.levels], dtype=np.int64)[block]
        entry = np.arange(len(row))
        new = np.append(True, (row[1:] != row[:-1]) | (col[1:] != col[:-1]))[: len(row)]
        repeat = entry - np.maximum.accumulate(np.where(new, entry, 0))
        for k, each in enumerate(self.levels):
            if len(each.levels):
                own = np.flatnonzero(block == k)
                found[own] = each.counts(words(row[own], col[own], repeat[own], self.keys[k]))
        return found


# ---------------------------------------------------------------- sequences, with gradients


class PastActivity(Protocol):
    """Anything that knows the activity at past steps."""

    def at(self, step: int) -> Tensor:
        """Activity at a step, shape (units, batch)."""


class ActivityHistory:
    """Activity by step relative to a segment: 0 is its start, 1 after its first step, -1 one step before.

    ``hs``, shape (steps, units, batch), is filled while the segment runs; ``before``, shape (longest - 1,
    units, batch), is the activity before the start, the latest last.
    """

    def __init__(self, start: Tensor, hs: Tensor, before: Tensor) -> None:
        self.start, self.before, self.states = start, before, hs.unbind(0)

    def at(self, step: int) -> Tensor:
        """Activity at a step."""
        if step > 0:
            return self.states[step - 1]
        return self.start if step == 0 else self.before[step]

    def tail(self, steps: int) -> Tensor:
        """Return ``before`` of a segment that follows after ``steps`` steps."""
        longest = len(self.before)
        if longest == 0:
            return self.before
        return torch.stack([self.at(step) for step in range(steps - longest, steps)])


class DelayedProduct:
    """The products of all delays; each group takes its values from ``weights``, those of all synapses."""

    def __init__(self, groups: Sequence[DelayGroup], weights: Tensor) -> None:
        self.weights = weights
        self.parts: list[tuple[DelayGroup, Product]] = [
            (group, group.operator.bind(group.select(weights.detach()))) for group in groups
        ]
        self.longest = max((group.delay for group in groups), default=1)
        self.source_sizes = [group.operator.shape[1] for group in groups]  # units that `sources` have

    def before(self, h0: Tensor, given: Tensor | None = None) -> Tensor:
        """The activity before a sequence, as `ActivityHistory` takes it: as given, or h0 all the time."""
        return h0.expand(self.longest - 1, *h0.shape) if given is None else given

    def addmm(self, y: Tensor, history: PastActivity, step: int, *, beta: float, alpha: float) -> None:
        """y = beta y + alpha sum_d W_d h[step + 1 - d], in place."""
        for group, product in self.parts:
            product.addmm(y, history.at(step + 1 - group.delay), beta=beta, alpha=alpha, out=y)
            beta = 1.0

    def sources(self, history: PastActivity, step: int) -> list[Tensor]:
        """The activity each delay transmits in a step."""
        return [history.at(step + 1 - group.delay) for group, _ in self.parts]

    def gradients(self, like: Tensor, before: Tensor | None = None) -> GradientRing:
        """The way of gradients back to the activity, which is like ``like``, and to that given before."""
        return GradientRing(self, like, before)

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
    """Gradients on their way back to the activity of earlier steps: a ring as long as the longest delay.

    ``before`` are the gradients of the activity before the start, if one was given, as `ActivityHistory`
    takes it; None: that activity was h0.
    """

    def __init__(self, product: DelayedProduct, like: Tensor, before: Tensor | None = None) -> None:
        self.product = product
        self.before = None if before is None else torch.zeros_like(before)
        without_delays = product.longest == 1 and len(product.parts) == 1
        self.ring = like.new_zeros((0 if without_delays else product.longest, *like.shape))
        self.scratch = None if without_delays else torch.empty_like(like)

    def back(self, g: Tensor, step: int, out: Tensor, *, last: bool) -> None:
        """Send W_d^T g from a step to the activity it read, and take what reached the activity at ``step``.

        ``last``: nothing is sent.
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
            self._slot(step + 1 - group.delay).add_(product.rmatmul(g, out=self.scratch))

    def take(self, step: int, out: Tensor) -> None:
        """Write the gradient of the activity at a step to ``out``, and forget it."""
        slot = self._slot(step)
        out.copy_(slot)
        slot.zero_()

    def _slot(self, step: int) -> Tensor:
        """The place in which the gradient of the activity at a step is gathered."""
        if step < 0 and self.before is not None:
            return self.before[step]
        return self.ring[max(step, 0) % len(self.ring)]


# ---------------------------------------------------------------- simulation, without gradients


class RingHistory:
    """The last activities of ranges of units: a ring buffer per range, each as long as its own longest delay.

    Units ``start:stop`` are kept for ``lengths[start, stop]`` steps; ranges do not overlap. h, shape (units,
    batch), is the activity at the start, which also stands for all time before.

    Examples
    --------
    >>> h = torch.tensor([[1.0], [2.0], [3.0]])
    >>> past = RingHistory({(1, 3): 2}, h)
    >>> past.push(10 * h); past.push(20 * h)
    >>> out = torch.zeros(3, 1)
    >>> past.gather([(1, 3)], 2, out)
    >>> out.ravel().tolist()
    [0.0, 20.0, 30.0]
    """

    def __init__(self, lengths: dict[tuple[int, int], int], h: Tensor) -> None:
        self.rings = {
            (start, stop): h[start:stop].expand(length, -1, -1).contiguous()
            for (start, stop), length in sorted(lengths.items())
        }
        self.count = 0  # steps pushed

    def push(self, h: Tensor) -> None:
        """Add the newest activity."""
        self.count += 1
        self.put([h])

    def put(self, latest: Sequence[Tensor]) -> None:
        """Write the activity of the latest steps, the newest last: `count` has them already.

        Ranges must be kept for as many steps at least.
        """
        for step, h in enumerate(latest, self.count - len(latest)):
            for (start, stop), ring in self.rings.items():
                ring[step % len(ring)].copy_(h[start:stop])

    def gather(self, ranges: Sequence[tuple[int, int]], delay: int, out: Tensor) -> None:
        """Write the activity of ranges ``delay`` steps ago (1: the newest) into their rows of ``out``."""
        for start, stop in ranges:
            ring = self.rings[start, stop]
            out[start:stop].copy_(ring[(self.count - delay) % len(ring)])

    @property
    def nbytes(self) -> int:
        """Memory of the rings."""
        return sum(ring.nbytes for ring in self.rings.values())


class StreamingProduct:
    """sum_d W_d source[d steps ago], without gradients.

    The source, shape (sources, batch), is the present activity, which its owner updates in place; it also
    stands for all time before the start. ``event_driven``: skip silent sources where that can pay.
    """

    def __init__(self, groups: Sequence[DelayGroup], source: Tensor, *, event_driven: bool = True) -> None:
        self.groups, self.source, self.event_driven = groups, source, event_driven
        self.longest = max((group.delay for group in groups), default=1)
        lengths: dict[tuple[int, int], int] = {}
        for group in groups:
            for units in group.sources if group.delay > 1 else ():
                lengths[units] = max(lengths.get(units, 0), group.delay)
        self.history = RingHistory(lengths, source) if lengths else None
        # (sources, batch): read by delayed groups
        self.past = torch.zeros_like(source) if lengths else source
        self.products: list[tuple[DelayGroup, Product]] = []

    def set_values(self, stored: Tensor) -> None:
        """Use these stored values, of all groups together, from now on."""
        batch, device = self.source.shape[1], self.source.device
        self.products = []
        for group in self.groups:
            operator, values = group.operator, group.select(stored)
            if not values.numel():
                continue
            if (
                self.event_driven
                and isinstance(operator, CsrOperator)
                and events_pay(operator.pattern, batch, device)
            ):
                self.products.append((group, EventDrivenProduct(operator, values)))
            else:
                self.products.append((group, operator.bind(values)))

    def release(self) -> None:
        """Let go of the values."""
        self.products = []

    def advance(self) -> None:
        """Put the present activity into the history, before each step."""
        if self.history is not None:
            self.history.push(self.source)

    def addmm(self, y: Tensor, *, beta: float, alpha: float) -> None:
        """y = beta * y + alpha * (the sum), in place."""
        for group, product in self.products:
            source = self.source
            if group.delay > 1 and self.history is not None:
                source = self.past
                self.history.gather(group.sources, group.delay, source)
            product.addmm(y, source, beta=beta, alpha=alpha, out=y)
            beta = 1.0
        if beta == 0:
            y.zero_()
        elif beta != 1:
            y.mul_(beta)

    def set_before(self, before: Sequence[Tensor]) -> None:
        """Take over the past at the start: the source of as many steps as is read, the latest first."""
        if self.history is not None:
            self.history.put(before[::-1])

    def before(self) -> list[Tensor]:
        """Return the past after a step, as `set_before` takes it; 0 where nothing reads it."""
        found = []
        for late in range(1, self.longest):
            past = torch.zeros_like(self.source)
            if self.history is not None:
                ranges = [units for units, ring in self.history.rings.items() if len(ring) > late]
                self.history.gather(ranges, late, past)
            found.append(past)
        return found

    def state(self) -> dict[str, Tensor]:
        """The past, by name."""
        rings = [] if self.history is None else self.history.rings.values()
        return {f"past_{k}": ring for k, ring in enumerate(rings)}

    def load(self, state: dict[str, Tensor], steps: int) -> None:
        """Take over the past after ``steps`` steps."""
        if self.history is not None:
            self.history.count = steps
            for name, ring in self.state().items():
                ring.copy_(state[name])
