"""The synapses of a network as one sparse matrix whose rows are of a source, a sign and a target each."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from sparse_mrnn.models.delays import steps_of
from sparse_mrnn.models.network import mRNNBase
from sparse_mrnn.models.weights import SparseWeights, check_dense
from sparse_mrnn.ops.pattern import Pattern
from sparse_mrnn.ops.products import CsrOperator, LowRankBlock, LowRankSum, Operator, Product


@dataclass(frozen=True, eq=False)
class Rows:
    """The rows of the currents: each is of a source, a sign and a place.

    A place is a target unit or, of means, a target region. ``sources`` are (name, kind, key);
    ``of_projection`` has, by kind, the number of the source of each projection, -1 without a target here.
    ``place`` is that of each unit of the network, -1 of one that is left out, and ``share`` what it counts
    there, 1 or, of means, 1 / units.
    """

    sources: tuple[tuple[str, str, str], ...]
    of_projection: dict[str, NDArray[np.int64]]
    place: Tensor
    share: Tensor
    places: int
    split: bool

    @property
    def signs(self) -> int:
        """Number of rows of each source and place."""
        return 2 if self.split else 1

    @property
    def count(self) -> int:
        """Number of rows."""
        return len(self.sources) * self.signs * self.places

    def number(self, source: Tensor | int, place: Tensor, value: Tensor) -> Tensor:
        """Rows of currents with weights, or currents, of this value."""
        sign = (value < 0).long() if self.split else 0
        return (source * self.signs + sign) * self.places + place


def source_products(net: mRNNBase, kind: str, rows: Rows) -> list[tuple[int, Product]]:
    """The synapses of one kind of sources as matrices over the rows, one for each delay in steps."""
    weights = net.weights(kind)
    source = torch.from_numpy(rows.of_projection[kind]).to(net.device)
    steps = torch.from_numpy(steps_of(weights, net.dt)).to(net.device)
    row, col, value, projection = _entries(weights, split=rows.split)
    keep = (rows.place[row] >= 0) & (source[projection] >= 0)
    row, col, value, projection = (each[keep] for each in (row, col, value, projection))
    numbers = rows.number(source[projection], rows.place[row], value)
    value = value * rows.share[row]
    delay = steps[projection]
    low_rank = {} if rows.split else _low_rank(weights, rows, source, steps)
    found = []
    for d in sorted({*delay.tolist(), *low_rank}):
        here = delay == d
        pattern, order = Pattern.from_coo(numbers[here], col[here], (rows.count, weights.shape[1]))
        own = value[here] if order is None else value[here][order.long()]
        once, merged = pattern.unique
        if merged is not None:  # as of means: synapses onto one region
            own = own.new_zeros(once.nnz).index_add_(0, merged.long(), own)
        operator: Operator = CsrOperator(once)
        if d in low_rank:
            blocks, factors = zip(*low_rank[d], strict=True)
            operator = LowRankSum(operator, once.nnz, blocks)
            own = torch.cat([own, *(each.reshape(-1) for pair in factors for each in pair)])
        found.append((d, operator.bind(own)))
    return found


def _entries(weights: SparseWeights, *, split: bool) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Target, source, effective weight and projection of every synapse.

    Of low-rank projections every entry is one, if signs are told apart.
    """
    row, col, value = weights.pattern.row.long(), weights.col.long(), weights.csr_values().detach()
    projection = weights.projection_of_entry().long()
    if weights.low_rank is None or not split:
        return row, col, value, projection
    parts = [(row, col, value, projection)]
    factors = zip(weights.low_rank.blocks, weights.low_rank.left, weights.low_rank.right, strict=True)
    for k, (block, left, right) in enumerate(factors, len(weights.projections)):
        dense = left.detach() @ right.detach().t()
        check_dense((dense.shape[0], dense.shape[1]))
        i, j = torch.meshgrid(*(torch.arange(n, device=row.device) for n in dense.shape), indexing="ij")
        rows, cols = i.reshape(-1) + block.rows.start, j.reshape(-1) + block.cols.start
        parts.append((rows, cols, dense.reshape(-1), torch.full_like(rows, k)))
    row, col, value, projection = (torch.cat(each) for each in zip(*parts, strict=True))
    return row, col, value, projection


def _low_rank(
    weights: SparseWeights, rows: Rows, source: Tensor, steps: Tensor
) -> dict[int, list[tuple[LowRankBlock, tuple[Tensor, Tensor]]]]:
    """The low-rank projections as blocks of the rows, by delay in steps, each with its U and V."""
    found: dict[int, list[tuple[LowRankBlock, tuple[Tensor, Tensor]]]] = {}
    low_rank = weights.low_rank
    if low_rank is None:
        return found
    parts = zip(low_rank.blocks, low_rank.left, low_rank.right, strict=True)
    for k, (block, left, right) in enumerate(parts, len(weights.projections)):
        place = rows.place[block.rows]
        chosen = place >= 0
        if int(source[k]) < 0 or not bool(chosen.any()):
            continue
        first, last = int(place[chosen].min()), int(place[chosen].max()) + 1  # neighbours: of one region
        u = left.detach()[chosen] * rows.share[block.rows][chosen][:, None]
        u = u.new_zeros(last - first, block.rank).index_add_(0, place[chosen] - first, u)
        start = int(source[k]) * rows.places
        there = LowRankBlock(slice(start + first, start + last), block.cols, block.rank)
        found.setdefault(int(steps[k]), []).append((there, (u, right.detach())))
    return found
