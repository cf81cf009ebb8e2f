"""LowRankProjections: U and V of the projections that are declared with a rank, as a torch module."""

from __future__ import annotations

from collections.abc import Collection, Sequence

import numpy as np
import torch
from torch import Tensor, nn

from sparse_mrnn.declaration.graph import Projection, projection_label
from sparse_mrnn.errors import UnknownNameError
from sparse_mrnn.lowering.layout import Layout
from sparse_mrnn.models.synapse_table import ProjectionKey
from sparse_mrnn.ops.products import LowRankBlock


class LowRankProjections(nn.Module):
    """Projections W = U V^T (Mastrogiuseppe & Ostojic 2018, Neuron 99:609), 2 N R parameters each.

    Entries of U and V are normal at first, of standard deviation 1 / sqrt(R) and 1 / (source units), so that
    an input of order 1 to every source unit gives one of order 1 or less to the target units.

    Parameters
    ----------
    projections : sequence of Projection
        Those with a rank, all of one kind of source.
    targets, sources : Layout
    rng : numpy Generator
    dtype : torch.dtype
    device : torch.device

    Attributes
    ----------
    names : tuple of (source, target, key)
    left, right : nn.ParameterList
        U, shape (target units, rank), and V, shape (source units, rank), of each.
    delays : tuple of float or None
        ms; None: one time step.
    """

    def __init__(
        self,
        projections: list[Projection],
        targets: Layout,
        sources: Layout,
        rng: np.random.Generator,
        dtype: torch.dtype,
        device: torch.device,
    ) -> None:
        super().__init__()
        self.names: tuple[ProjectionKey, ...] = tuple((p.source, p.target, p.key) for p in projections)
        self.delays = tuple(p.delay for p in projections)
        self.blocks = tuple(
            LowRankBlock(targets.slice(p.target), sources.slice(p.source), p.rank or 0) for p in projections
        )
        self.left, self.right = nn.ParameterList(), nn.ParameterList()
        for p in projections:
            rank, n_source, n_target = p.rank or 0, p.site.n_source, p.site.n_target
            for factors, n, scale in (
                (self.left, n_target, rank**-0.5),
                (self.right, n_source, 1 / n_source),
            ):
                drawn = torch.from_numpy(scale * rng.standard_normal((n, rank)))
                factors.append(nn.Parameter(drawn.to(device, dtype), requires_grad=p.trainable))

    def __len__(self) -> int:
        return len(self.names)

    def stored_values(self, gain: Tensor | None = None) -> Tensor:
        """U, V, U, V, ..., as `LowRankSum` stores them, U times ``gain`` of its projection.
        Differentiable."""
        parts = []
        for k, (left, right) in enumerate(zip(self.left, self.right, strict=True)):
            parts += [(left if gain is None else left * gain[k]).reshape(-1), right.reshape(-1)]
        return torch.cat(parts)

    def among(self, targets: Sequence[str], sources: Sequence[str]) -> LowRankProjections | None:
        """Itself if some projection is from one of these source to one of these target regions, else None."""
        return self if any(s in sources and t in targets for s, t, _ in self.names) else None

    def set_trainable(self, names: Collection[ProjectionKey], trainable: bool) -> None:
        """Train the U and V of some projections, or no longer; a gradient they have is dropped."""
        for name, *factors in zip(self.names, self.left, self.right, strict=True):
            for factor in factors if name in names else ():
                factor.requires_grad_(trainable)
                factor.grad = None if not trainable else factor.grad

    def submatrix(self, rows: Tensor, cols: Tensor) -> Tensor:
        """Rows and columns of the sum of every U V^T, dense, shape (rows, columns). Differentiable."""
        total: Tensor = self.left[0].new_zeros(len(rows), len(cols))
        for block, left, right in zip(self.blocks, self.left, self.right, strict=True):
            inside, u = _inside(rows.to(left.device), block.rows, left)
            among, v = _inside(cols.to(left.device), block.cols, right)
            total = total.index_put((inside[:, None], among[None, :]), u @ v.t(), accumulate=True)
        return total

    def factors(self, *, source: str, target: str, key: str = "default") -> tuple[nn.Parameter, nn.Parameter]:
        """U and V of a projection.

        Raises
        ------
        UnknownNameError
            If there is no low-rank projection of that name.
        """
        if (source, target, key) not in self.names:
            known = ", ".join(projection_label(*name) for name in self.names) or "none"
            raise UnknownNameError(
                f"no low-rank {projection_label(source, target, key)}; there are: {known}."
            )
        k = self.names.index((source, target, key))
        return self.left[k], self.right[k]

    def extra_repr(self) -> str:
        return ", ".join(
            f"{s} -> {t} (rank {b.rank})" for (s, t, _), b in zip(self.names, self.blocks, strict=True)
        )


def _inside(units: Tensor, block: slice, factor: Tensor) -> tuple[Tensor, Tensor]:
    """Which of some units lie in the block, and the rows of U or V of those."""
    inside = torch.nonzero((units >= block.start) & (units < block.stop))[:, 0]
    return inside, factor[units[inside] - block.start]
