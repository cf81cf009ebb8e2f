"""Currents of electrical synapses: between the states of two units, in proportion to their difference.

    into unit i, from the pair (i, j):  g (x_j - x_i), and the same current out of unit j
    of a rectifying pair:               g max(x_j - x_i, 0)

Differences are taken before they are multiplied: units in equal states exchange nothing, exactly.
"""

from __future__ import annotations

from functools import cached_property
from typing import Any

import torch
from torch import Tensor

from sparse_mrnn.ops import kernels
from sparse_mrnn.ops.pattern import Pattern


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
    >>> pairs.current(torch.tensor([[3.0], [1.0]]), torch.tensor([0.5])).tolist()
    [[-1.0], [1.0]]
    """

    def __init__(self, units: int, rows: Tensor, cols: Tensor, rectifies: Tensor) -> None:
        self.units, self.rows, self.cols, self.rectifies = units, rows, cols, rectifies
        self.any_rectifies = bool(rectifies.any())

    @cached_property
    def _arrays(self) -> tuple[Any, ...]:
        """Each pair twice, by unit: CSR rows, the other unit, the pair, and the direction of its current.

        The direction is 0 for both, 1 into the row only, and -1 out of it only; the first entry of a pair is
        in the row of its unit i, and has the pair's number; the second has -1 - that number.
        """
        n = len(self.rows)
        row, col = torch.cat([self.rows, self.cols]), torch.cat([self.cols, self.rows])
        number = torch.arange(n, device=row.device)
        pair, sign = torch.cat([number, -1 - number]), self.rectifies.to(torch.int8)
        order = torch.argsort(row, stable=True)
        crow = torch.bincount(row, minlength=self.units).cumsum(0)
        crow = torch.cat([crow.new_zeros(1), crow])
        side = torch.cat([sign, -sign])
        return tuple(t.numpy() for t in (crow, col[order].int(), pair[order].int(), side[order]))

    def _kernel(self, like: Tensor) -> Any:
        return kernels.load("electrical") if like.device.type == "cpu" else None

    def current(self, x: Tensor, conductance: Tensor, out: Tensor | None = None) -> Tensor:
        """Return the current into each unit, shape (units, batch); not differentiable."""
        kernel = self._kernel(x)
        if kernel is None:
            return self.plain_current(x, conductance)
        out = torch.empty_like(x, memory_format=torch.contiguous_format) if out is None else out
        work = 2 * len(self.rows) * x.shape[1]
        kernel.current.of(work)(*self._arrays, conductance.numpy(), x.contiguous().numpy(), out.numpy())
        return out

    def plain_current(self, x: Tensor, conductance: Tensor) -> Tensor:
        """Return the current in torch functions, which autograd and exporters know."""
        current = conductance[:, None] * self._difference(x)
        return torch.zeros_like(x).index_add(0, self.rows, current).index_add(0, self.cols, -current)

    def _difference(self, x: Tensor) -> Tensor:
        difference = x.index_select(0, self.cols) - x.index_select(0, self.rows)
        if self.any_rectifies:
            flows = ~self.rectifies[:, None] | (difference > 0)
            difference = difference * flows
        return difference

    def pull_back(
        self, x: Tensor, conductance: Tensor, grad: Tensor, grad_x: Tensor, of_conductance: Tensor | None
    ) -> None:
        """Add the gradients of x and of the conductances (None: not needed), from that of the current."""
        kernel = self._kernel(x)
        if kernel is not None:
            total = conductance.new_empty(0) if of_conductance is None else of_conductance
            arrays = conductance, x.contiguous(), grad.contiguous(), grad_x, total
            work = 2 * len(self.rows) * x.shape[1]
            kernel.pull_back.of(work)(*self._arrays, *(a.numpy() for a in arrays))
            return
        received = grad.index_select(0, self.rows) - grad.index_select(0, self.cols)
        difference = self._difference(x)
        if of_conductance is not None:
            of_conductance += (received * difference).sum(1)
        received = received * conductance[:, None]
        if self.any_rectifies:
            received = received * (~self.rectifies[:, None] | (difference > 0))
        grad_x.index_add_(0, self.cols, received).index_add_(0, self.rows, -received)

    def jacobian(self, x: Tensor, conductance: Tensor) -> Tensor:
        """Return the derivative of the current by the states at one state x, (units, 1), as a CSR tensor.

        Off the diagonal it has the conductances, on it their sums with a minus sign. Where a rectifying pair
        is in equal states, no current flows.
        """
        g = conductance
        if self.any_rectifies:
            g = g * (~self.rectifies | (self._difference(x)[:, 0] > 0))
        i, j = self.rows, self.cols
        # Of a rectifying pair, too, what flows into i flows out of j.
        row, col = torch.cat([i, j, i, j]), torch.cat([j, i, i, j])
        pattern, order = Pattern.from_coo(row, col, (self.units, self.units))
        values = torch.cat([g, g, -g, -g])
        return pattern.matrix(values if order is None else values[order.long()])
