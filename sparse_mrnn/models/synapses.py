"""Synapses in projection order, and how tensors laid out like the old ones become tensors laid out like the new ones."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from sparse_mrnn.ops.pattern import Pattern

Name = tuple[str, str, str]
"""A projection: source, target, key."""


@dataclass(frozen=True, eq=False)
class SynapseTable:
    """Every synapse of a weight matrix, projection after projection, row-major inside each.

    Parameters
    ----------
    projections : tuple of (source, target, key)
        The trainable ones first.
    lengths : Tensor of int64, shape (projections,)
        Synapses of each, on the CPU.
    n_trainable : int
        How many leading synapses are trainable.
    row, col : Tensor of int64, shape (synapses,)
        Target and source unit in the whole matrix.
    values : Tensor, shape (synapses,)
    origin : Tensor of int64, shape (synapses,)
        Where the synapse was in the table this one was made from; -1 for a new synapse.
    """

    projections: tuple[Name, ...]
    lengths: Tensor
    n_trainable: int
    row: Tensor
    col: Tensor
    values: Tensor
    origin: Tensor

    def take(self, places: Tensor, projections: tuple[Name, ...], lengths: Tensor, n_trainable: int) -> SynapseTable:
        """The synapses at ``places``, as a table of ``projections``."""
        return SynapseTable(
            projections, lengths, n_trainable, self.row[places], self.col[places], self.values[places], self.origin[places]
        )

    def reordered(self, order: list[int], n_trainable: int) -> SynapseTable:
        """Projections in another order, of which the first ``n_trainable`` are trainable."""
        start = torch.cumsum(self.lengths, 0) - self.lengths
        lengths = self.lengths[order]
        before = torch.cumsum(lengths, 0) - lengths
        places = torch.arange(int(lengths.sum())) + torch.repeat_interleave(start[order] - before, lengths)
        trainable = int(lengths[:n_trainable].sum())
        return self.take(places.to(self.row.device), tuple(self.projections[k] for k in order), lengths, trainable)


def fuse(row: Tensor, col: Tensor, shape: tuple[int, int], dtype: torch.dtype) -> tuple[Tensor, Tensor, Tensor | None]:
    """CSR pointers, columns and the permutation that sorts synapses by row and column (None: they are sorted)."""
    crow = torch.zeros(shape[0] + 1, dtype=dtype, device=row.device)
    torch.cumsum(torch.bincount(row, minlength=shape[0]), 0, dtype=dtype, out=crow[1:])
    place = row * max(shape[1], 1) + col
    if bool((place[1:] >= place[:-1]).all()):
        return crow, col.to(dtype), None
    perm = torch.argsort(place, stable=True)
    return crow, col[perm].to(dtype), perm.to(dtype)


def follow(old: Tensor, origin: Tensor) -> Tensor:
    """``old[origin]``, and 0 where the origin is -1: what optimiser state, or a gradient, becomes."""
    if old.numel() == 0:
        return old.new_zeros(origin.shape)
    return torch.where(origin < 0, 0, old[origin.clamp(min=0)])


def sampled_gradient(row: Tensor, col: Tensor, shape: tuple[int, int], g: Tensor, h: Tensor) -> Tensor:
    """sum_k g[row, k] h[col, k] for any pairs, repeated or not, in time and memory proportional to the pairs.

    Parameters
    ----------
    row, col : Tensor of int64, shape (pairs,)
    shape : (int, int)
        Units of g and of h.
    g, h : Tensor, shape (units, k)

    Examples
    --------
    >>> g, h = torch.tensor([[1.0, 2.0]]), torch.tensor([[3.0, 4.0], [5.0, 6.0]])
    >>> sampled_gradient(torch.tensor([0, 0]), torch.tensor([1, 0]), (1, 2), g, h)
    tensor([17., 11.])
    """
    if row.numel() == 0:
        return g.new_zeros(0)
    place, back = torch.unique(row * shape[1] + col, return_inverse=True)
    kind = torch.int32 if place.numel() < 2**31 else torch.int64
    crow, col, _ = fuse(place // shape[1], place % shape[1], shape, kind)
    empty = Pattern(crow, col, shape).matrix(g.new_zeros(place.numel()))
    found: Tensor = torch.sparse.sampled_addmm(empty, g.contiguous(), h.t(), beta=0.0).values()[back]
    return found
