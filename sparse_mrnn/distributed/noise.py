"""Noise of some of a network's units, which is that of the whole network for these units."""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from torch import Tensor

from sparse_mrnn.ops.noise import Noise


@dataclass(frozen=True)
class ShardedNoise(Noise):
    """The noise of some units: every rank draws that of all units and keeps its own.

    Parameters
    ----------
    units : Tensor of int64, shape (own units,)
    n_units : int
        Of the whole network.
    """

    units: Tensor = field(default_factory=lambda: torch.empty(0, dtype=torch.int64))
    n_units: int = 0

    def on_units(self, out: Tensor) -> Tensor:
        drawn = out.new_empty(self.n_units, out.shape[1]).normal_(generator=self.unit_generator)
        return torch.index_select(drawn, 0, self.units, out=out)
