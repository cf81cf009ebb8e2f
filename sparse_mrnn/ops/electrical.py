"""Currents of electrical synapses: between the states of two units, in proportion to their difference.

    into unit i, from the pair (i, j):  g (x_j - x_i), and the same current out of unit j
    of a rectifying pair:               g max(x_j - x_i, 0)

Differences are taken before they are multiplied: units in equal states exchange nothing, exactly.
"""

from __future__ import annotations

from functools import cached_property

import torch
from torch import Tensor

from sparse_mrnn.ops import kernels
from sparse_mrnn.ops.pattern import Pattern

GATHERED, GATHERED_BYTES = 32, 2**19
"""Columns, time x batch, that are gathered before the gradients of conductances are added up, at least, and
bytes of more of them."""


class ElectricalPairs:
    """The pairs of units that electrical synapses connect.

    Parameters
    ----------
    units : int
        Units of the network.
    rows, cols : Tensor of int64, shape (pairs,)
        Units i and j of each pair.
    rectifies : Tensor of bool, shape (pairs,)
        The pairs whose current flows from j to i only.

    Examples
    --------
    >>> pairs = ElectricalPairs(2, torch.tensor([1]), torch.tensor([0]), torch.tensor([False]))
    >>> pairs.bind(torch.tensor([0.5])).current(torch.tensor([[3.0], [1.0]])).tolist()
    [[-1.0], [1.0]]
    """

    def __init__(self, units: int, rows: Tensor, cols: Tensor, rectifies: Tensor) -> None:
        self.units, self.rows, self.cols, self.rectifies = units, rows, cols, rectifies
        self.any_rectifies = bool(rectifies.any())
        self.all_rectify = bool(rectifies.all())

    @cached_property
    def both_ways(self) -> Tensor:
        """Numbers of the pairs that do not rectify."""
        return torch.nonzero(~self.rectifies)[:, 0]

    @cached_property
    def one_way(self) -> ElectricalPairs:
        """The pairs that rectify."""
        chosen = (t[self.rectifies] for t in (self.rows, self.cols, self.rectifies))
        return ElectricalPairs(self.units, *chosen)

    @cached_property
    def in_rows(self) -> tuple[Pattern, Tensor]:
        """The pairs that do not rectify, each in the rows of both units, and which pair each entry is."""
        i, j = self.rows[self.both_ways], self.cols[self.both_ways]
        return self._pattern(torch.cat([i, j]), torch.cat([j, i]), self.both_ways.repeat(2))

    @cached_property
    def once(self) -> tuple[Pattern, Tensor]:
        """The pairs that do not rectify, each in the row of unit i, and which pair each entry is."""
        return self._pattern(self.rows[self.both_ways], self.cols[self.both_ways], self.both_ways)

    def _pattern(self, row: Tensor, col: Tensor, number: Tensor) -> tuple[Pattern, Tensor]:
        pattern, order = Pattern.from_coo(row, col, (self.units, self.units))
        return pattern, number if order is None else number[order.long()]

    def bind(self, conductance: Tensor) -> Exchange:
        """The currents with these conductances, shape (pairs,)."""
        return Exchange(self, conductance.detach())

    def plain_current(self, x: Tensor, conductance: Tensor) -> Tensor:
        """Return the current in torch functions, which autograd and exporters know."""
        current = conductance[:, None] * self.difference(x)
        return torch.zeros_like(x).index_add(0, self.rows, current).index_add(0, self.cols, -current)

    def difference(self, x: Tensor) -> Tensor:
        """Difference of states that drives each pair, shape (pairs, batch)."""
        difference = x.index_select(0, self.cols) - x.index_select(0, self.rows)
        return difference * self.flows(difference) if self.any_rectifies else difference

    def flows(self, difference: Tensor) -> Tensor:
        """Tell through which pairs current flows at such differences."""
        return ~self.rectifies[:, None] | (difference > 0)

    def jacobian(self, x: Tensor, conductance: Tensor) -> Tensor:
        """Return the derivative of the current by the states at one state x, (units, 1), as a CSR tensor.

        Off the diagonal it has the conductances, on it their sums with a minus sign. Where a rectifying pair
        is in equal states, no current flows.
        """
        g = conductance * self.flows(self.difference(x))[:, 0]
        i, j = self.rows, self.cols
        # Of a rectifying pair, too, what flows into i flows out of j.
        row, col = torch.cat([i, j, i, j]), torch.cat([j, i, i, j])
        pattern, order = self._pattern(row, col, torch.arange(len(row), device=row.device))
        return pattern.matrix(torch.cat([g, g, -g, -g])[order])


class Exchange:
    """The currents of electrical synapses with their conductances, and the gradients of these.

    Pairs that do not rectify are compiled on the CPU; the others, and other devices, are plain torch.
    """

    def __init__(self, pairs: ElectricalPairs, conductance: Tensor) -> None:
        self.pairs, self.conductance = pairs, conductance
        on_cpu = conductance.device.type == "cpu" and not pairs.all_rectify
        self.kernel = kernels.load("electrical") if on_cpu else None
        self.rest, self.total = pairs, torch.zeros_like(conductance)  # what is computed in plain torch
        if self.kernel is not None:
            self.rest = pairs.one_way
            pattern, number = pairs.in_rows
            self._values = conductance[number]
            self._matrix = pattern.crow.numpy(), pattern.col.numpy(), self._values.numpy()
            self._one = self._values.numpy().dtype.type(1)
        self.rest_conductance = conductance if self.kernel is None else conductance[pairs.rectifies]
        self._columns: tuple[Tensor, Tensor] | None = None
        self._filled = 0
        self._once: Tensor | None = None  # gradients in the order of `ElectricalPairs.once`

    def _add(self, x: Tensor, y: Tensor, beta: float, alpha: float = 1.0) -> None:
        """y = beta y + alpha times the currents of pairs that do not rectify, compiled."""
        if self.kernel is not None:
            run = self.kernel.exchange.of(len(self._values) * x.shape[1])
            run(*self._matrix, x.contiguous().numpy(), y.numpy(), self._one * beta, self._one * alpha)

    def add(self, x: Tensor, y: Tensor, alpha: float) -> None:
        """y += alpha times the current into each unit in the states x, which are not y."""
        self._add(x, y, 1.0, alpha)
        if len(self.rest_conductance):
            y.add_(self.rest.plain_current(x, self.rest_conductance), alpha=alpha)

    def current(self, x: Tensor) -> Tensor:
        """Return the current into each unit, shape (units, batch)."""
        if self.kernel is None:
            return self.pairs.plain_current(x, self.conductance)
        out = torch.empty(x.shape, dtype=x.dtype)
        self._add(x, out, 0.0)
        if len(self.rest_conductance):
            out += self.rest.plain_current(x, self.rest_conductance)
        return out

    def pull_back(self, x: Tensor, grad: Tensor, grad_x: Tensor) -> None:
        """Add the gradient of x, in this state, to ``grad_x``, from that of the current."""
        self._add(grad, grad_x, 1.0)  # the derivative is symmetric
        if len(self.rest_conductance):
            rest = self.rest
            received = grad.index_select(0, rest.cols) - grad.index_select(0, rest.rows)
            received *= self.rest_conductance[:, None]
            if rest.any_rectifies:
                received *= rest.flows(x.index_select(0, rest.cols) - x.index_select(0, rest.rows))
            grad_x.index_add_(0, rest.rows, received).index_add_(0, rest.cols, -received)

    def gather(self, x: Tensor, grad: Tensor) -> None:
        """Add a step to the gradients of the conductances."""
        if len(self.rest_conductance):
            rest = self.rest
            received = grad.index_select(0, rest.rows) - grad.index_select(0, rest.cols)
            added = (received * rest.difference(x)).sum(1)
            if self.kernel is None:
                self.total += added
            else:
                self.total[self.pairs.rectifies] += added
        if self.kernel is None:
            return
        units, batch = x.shape
        most = max(GATHERED, min(256, GATHERED_BYTES // (units * x.element_size())))
        steps = max(1, most // batch)
        if steps == 1:
            self._accumulate(x, grad)
            return
        if self._columns is None:
            self._columns = x.new_empty(units, steps, batch), x.new_empty(units, steps, batch)
        for columns, values in zip(self._columns, (x, grad), strict=True):
            columns[:, self._filled] = values
        self._filled += 1
        if self._filled == steps:
            self._flush()

    def _flush(self) -> None:
        """Add the steps that were gathered."""
        if self._columns is not None and self._filled:
            x, grad = (c[:, : self._filled].reshape(len(c), -1) for c in self._columns)
            self._accumulate(x, grad)
            self._filled = 0

    def _accumulate(self, x: Tensor, grad: Tensor) -> None:
        pattern, number = self.pairs.once
        if self._once is None:
            self._once = x.new_zeros(len(number))
        if self.kernel is not None:
            self.kernel.accumulate(pattern.crow, pattern.col, grad.contiguous(), x.contiguous(), self._once)

    def gradient(self) -> Tensor:
        """Gradients of the conductances over all steps gathered, shape (pairs,)."""
        self._flush()
        if self._once is None:
            return self.total
        return self.total.index_copy(0, self.pairs.once[1], self._once)
