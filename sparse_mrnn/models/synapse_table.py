"""Synapses in projection order, and how tensors laid out like old ones become tensors like new ones."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from sparse_mrnn.declaration.connectivity import ranges
from sparse_mrnn.declaration.projections import ProjectionKey
from sparse_mrnn.ops.pattern import Pattern
from sparse_mrnn.ops.products import CsrOperator

__all__ = ["ProjectionKey", "SynapseTable", "follow", "gradient_at"]


@dataclass(frozen=True, eq=False)
class SynapseTable:
    """Every synapse of a weight matrix, projection after projection, row-major inside each.

    Parameters
    ----------
    projections : tuple of (source, target, key)
        The trainable ones first.
    lengths : Tensor of int64, shape (projections,)
        Synapses of each, on the CPU.
    trainable_synapses : int
        How many leading synapses are trainable.
    row, col : Tensor of int64, shape (synapses,)
        Target and source unit in the whole matrix.
    values : Tensor, shape (synapses,)
        Parameters, base values of shared synapses, or frozen values.
    group : Tensor of int32, shape (synapses,)
        Which gain each has; -1 for one that is not shared. Shared synapses follow the trainable ones.
    origin : Tensor of int64, shape (synapses,)
        Which synapse it was in the table this one was made from; -1 for a new synapse.
    """

    projections: tuple[ProjectionKey, ...]
    lengths: Tensor
    trainable_synapses: int
    row: Tensor
    col: Tensor
    values: Tensor
    group: Tensor
    origin: Tensor

    def take(
        self, slots: Tensor, projections: tuple[ProjectionKey, ...], lengths: Tensor, trainable: int
    ) -> SynapseTable:
        """A table of the synapses at ``slots``, of which the first ``trainable`` are trained."""
        return SynapseTable(
            projections=projections,
            lengths=lengths,
            trainable_synapses=trainable,
            row=self.row[slots],
            col=self.col[slots],
            values=self.values[slots],
            group=self.group[slots],
            origin=self.origin[slots],
        )

    def reordered(self, order: list[int], n_trainable: int) -> SynapseTable:
        """Projections in another order, of which the first ``n_trainable`` are trainable."""
        start = torch.cumsum(self.lengths, 0) - self.lengths
        lengths = self.lengths[order]
        slots = torch.from_numpy(ranges(start[order].numpy(), lengths.numpy())).to(self.row.device)
        projections = tuple(self.projections[k] for k in order)
        return self.take(slots, projections, lengths, int(lengths[:n_trainable].sum()))


def follow(old: Tensor, origin: Tensor) -> Tensor:
    """``old[origin]``, and 0 where the origin is -1: what optimiser state, or a gradient, becomes."""
    if old.numel() == 0:
        return old.new_zeros(origin.shape)
    return torch.where(origin < 0, 0, old[origin.clamp(min=0)])


def gradient_at(row: Tensor, col: Tensor, shape: tuple[int, int], g: Tensor, h: Tensor) -> Tensor:
    """SDDMM for any pairs, repeated or not: sum_k g[row, k] h[col, k], in time proportional to the pairs.

    ``row`` and ``col`` are of shape (pairs,), g and h of shape (units, k), their units in ``shape``.

    Examples
    --------
    >>> g, h = torch.tensor([[1.0, 2.0]]), torch.tensor([[3.0, 4.0], [5.0, 6.0]])
    >>> gradient_at(torch.tensor([0, 0]), torch.tensor([1, 0]), (1, 2), g, h)
    tensor([17., 11.])
    """
    if row.numel() == 0:
        return g.new_zeros(0)
    pattern, order = Pattern.from_coo(row, col, shape)
    product = CsrOperator(pattern).bind(g.new_zeros(pattern.nnz))
    product.sddmm(g.contiguous(), h.contiguous())
    found = product.grad()
    return found if order is None else torch.empty_like(found).scatter_(0, order.long(), found)
