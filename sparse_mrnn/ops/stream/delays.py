"""Products with present and past activity, without gradients: one per distinct delay, and their past."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from sparse_mrnn.ops.delays import DelayGroup
from sparse_mrnn.ops.products import CsrOperator, EventDrivenProduct, Product, events_pay


class RingHistory:
    """The last activities of ranges of units: a ring buffer per range, each as long as its own longest delay.

    Parameters
    ----------
    lengths : dict of (start, stop) to int
        Units ``start:stop`` are kept for so many steps. Ranges do not overlap.
    h : Tensor, shape (units, batch)
        Activity at the start, which also stands for all time before.

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

    Parameters
    ----------
    groups : sequence of DelayGroup
    source : Tensor, shape (sources, batch)
        The present activity, updated in place by its owner; it also stands for all time before the start.
    event_driven : bool
        Skip silent sources where that can pay.
    """

    def __init__(self, groups: Sequence[DelayGroup], source: Tensor, *, event_driven: bool = True) -> None:
        self.groups, self.source, self.event_driven = groups, source, event_driven
        lengths: dict[tuple[int, int], int] = {}
        for group in groups:
            for units in group.sources if group.delay > 1 else ():
                lengths[units] = max(lengths.get(units, 0), group.delay)
        self.history = RingHistory(lengths, source) if lengths else None
        # (sources, batch): read by delayed groups
        self.past = torch.zeros_like(source) if lengths else source
        self.products: list[tuple[DelayGroup, Product]] = []

    @property
    def longest(self) -> int:
        """Longest delay, in steps."""
        return max((group.delay for group in self.groups), default=1)

    def set_values(self, stored: Tensor) -> None:
        """Use these stored values, of all groups together, from now on."""
        batch, device = self.source.shape[1], self.source.device
        self.products = []
        for group in self.groups:
            operator, values = group.operator, group.select(stored)
            if not values.numel():
                continue
            csr = operator if isinstance(operator, CsrOperator) else None
            if self.event_driven and csr is not None and events_pay(csr.pattern, batch, device):
                self.products.append((group, EventDrivenProduct(csr, values)))
            else:
                self.products.append((group, operator.bind(values)))

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
