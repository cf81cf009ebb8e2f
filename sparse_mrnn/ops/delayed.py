"""Products with present and past activity: one product per distinct delay, over a history of what they need."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from torch import Tensor

from sparse_mrnn.ops.backends import CsrOperator, Operator, Product
from sparse_mrnn.ops.events import EventProduct, events_pay
from sparse_mrnn.ops.history import History


@dataclass(frozen=True, eq=False)
class DelayedWeights:
    """Synapses of one delay. ``delay`` counts steps; 1 is none, since a step takes one anyway.

    With a longer delay the columns are the units of ``ranges`` of the history, below each other.
    """

    delay: int
    operator: Operator
    values: Tensor
    ranges: tuple[int, ...] = ()


class DelayedProduct:
    """sum_d W_d source[d steps ago], without gradients.

    Parameters
    ----------
    source : Tensor, shape (sources, batch)
        The present activity, updated in place by its owner; it also stands for all time before the start.
    ranges : sequence of (start, stop, length)
        Sources whose past is needed, and for how many steps.
    events : bool
        Skip silent sources where that can pay.
    """

    def __init__(self, source: Tensor, ranges: Sequence[tuple[int, int, int]] = (), *, events: bool = True) -> None:
        self.source, self.events = source, events
        self.history = History(ranges, source) if ranges else None
        self.products: list[tuple[DelayedWeights, Product, Tensor]] = []

    def set_weights(self, groups: Sequence[DelayedWeights]) -> None:
        """Use these weights from now on."""
        self.products = []
        batch = self.source.shape[1]
        for group in groups:
            operator = group.operator
            if self.events and isinstance(operator, CsrOperator) and events_pay(operator.pattern, batch, self.source.device):
                product: Product = EventProduct(operator, group.values)
            else:
                product = operator.bind(group.values)
            past = self.source if group.delay == 1 else self.source.new_empty(operator.shape[1], batch)
            self.products.append((group, product, past))

    def advance(self) -> None:
        """Put the present activity into the history, before each step."""
        if self.history is not None:
            self.history.push(self.source)

    def add_to(self, y: Tensor, *, beta: float, alpha: float) -> None:
        """y = beta * y + alpha * (the sum), in place."""
        for group, product, past in self.products:
            if group.delay > 1 and self.history is not None:
                self.history.gather(group.ranges, group.delay, past)
            product.add_to(y, past, beta=beta, alpha=alpha, out=y)
            beta = 1.0
        if beta == 0:
            y.zero_()
        elif beta != 1:
            y.mul_(beta)

    def state(self) -> dict[str, Tensor]:
        """The past, by name."""
        return {} if self.history is None else {f"past_{k}": ring for k, ring in enumerate(self.history.rings)}

    def load(self, state: dict[str, Tensor], steps: int) -> None:
        """Take over the past after ``steps`` steps."""
        if self.history is not None:
            self.history.count = steps
            for k, ring in enumerate(self.history.rings):
                ring.copy_(state[f"past_{k}"])
