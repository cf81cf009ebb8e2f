"""LowRankProjections: U and V of the projections that are declared with a rank, as a torch module."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from sparse_mrnn.declaration.graph import Projection, projection_label
from sparse_mrnn.errors import UnknownNameError
from sparse_mrnn.lowering.layout import Layout
from sparse_mrnn.lowering.sampling import draw_factors
from sparse_mrnn.models.fixed_tensors import FixedTensors
from sparse_mrnn.models.synapse_table import ProjectionKey
from sparse_mrnn.ops.products import LowRankBlock


class LowRankProjections(FixedTensors):
    """Projections W = U V^T (Mastrogiuseppe & Ostojic 2018, Neuron 99:609), 2 N R parameters each.

    The projections are those with a rank, all of one kind of source; `draw_factors` draws the first U and V.
    ``left`` has U, of shape (target units, rank), and ``right`` V, of shape (source units, rank), of each.
    Delays are in ms; None is one time step.
    """

    trained: Tensor
    """Flag of each projection: it is trained; shape (projections,); it is in the state dict."""

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
            for factors, drawn in zip((self.left, self.right), draw_factors(p, rng), strict=True):
                initial = torch.from_numpy(drawn).to(device, dtype)
                factors.append(nn.Parameter(initial, requires_grad=p.trainable))
        self.fix("trained", torch.tensor([p.trainable for p in projections], device=device))

    def __len__(self) -> int:
        return len(self.names)

    def stored_values(self, gain: Tensor | None = None) -> Tensor:
        """U, V, U, V, ..., as `LowRankSum` stores them, U times ``gain`` of its projection.
        Differentiable."""
        for factors in (self.left, self.right):
            for hook in factors._forward_pre_hooks.values():  # of torch.nn.utils.prune
                hook(factors, ())
        parts = []
        for k, (left, right) in enumerate(zip(self.left, self.right, strict=True)):
            parts += [(left if gain is None else left * gain[k]).reshape(-1), right.reshape(-1)]
        return torch.cat(parts)

    def among(self, targets: Sequence[str], sources: Sequence[str]) -> LowRankProjections | None:
        """Itself if some projection is from one of these source to one of these target regions, else None."""
        return self if any(s in sources and t in targets for s, t, _ in self.names) else None

    def set_trainable(self, names: Collection[ProjectionKey], trainable: bool) -> None:
        """Train the U and V of some projections, or no longer; a gradient they have is dropped."""
        chosen = [name in names for name in self.names]
        self.trained = self.trained.masked_fill(torch.tensor(chosen, device=self.trained.device), trainable)
        self._require_gradients(chosen)

    def _require_gradients(self, chosen: Sequence[bool]) -> None:
        """Let the U and V of the chosen projections require gradients if they are trained."""
        for k, trained in enumerate(self.trained.tolist()):
            for factor in (self.left[k], self.right[k]) if chosen[k] else ():
                factor.requires_grad_(trained)
                factor.grad = factor.grad if trained else None

    def _load_from_state_dict(self, state_dict: dict[str, Any], prefix: str, *args: Any) -> None:
        before = self.trained
        self._load_fixed(state_dict, prefix, *args)
        super()._load_from_state_dict(state_dict, prefix, *args)  # type: ignore[no-untyped-call]
        self._require_gradients((before.cpu() != self.trained.cpu()).tolist())

    def submatrix(self, rows: Tensor, cols: Tensor) -> Tensor:
        """Rows and columns of the sum of every U V^T, dense, shape (rows, columns). Differentiable."""
        total: Tensor = self.left[0].new_zeros(len(rows), len(cols))
        for block, left, right in zip(self.blocks, self.left, self.right, strict=True):
            inside, u = _inside(rows.to(left.device), block.rows, left)
            among, v = _inside(cols.to(left.device), block.cols, right)
            total = total.index_put((inside[:, None], among[None, :]), u @ v.t(), accumulate=True)
        return total

    def factors(self, *, source: str, target: str, key: str = "default") -> tuple[nn.Parameter, nn.Parameter]:
        """U and V of a projection."""
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
    """Places, among some units, of those within the block, and their rows of U or V."""
    inside = torch.nonzero((units >= block.start) & (units < block.stop))[:, 0]
    return inside, factor[units[inside] - block.start]
