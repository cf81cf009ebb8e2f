"""Facts about one region and one projection."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray

from sparse_mrnn.connectivity import ConnectionRule, Site
from sparse_mrnn.explicit import SynapseBlock
from sparse_mrnn.initializers import Initializer

SIGNS: dict[str | None, int] = {"pos": 1, "neg": -1, None: 0}


@dataclass(frozen=True, eq=False)
class Region:
    """The facts of one region; see `RegionGraph.add_region` for their meaning."""

    name: str
    n: int
    kind: str = "recurrent"
    sign: str | NDArray[np.int8] | None = "pos"
    base_firing: float | NDArray[np.float64] = 0.0
    init: float | NDArray[np.float64] = 0.0
    parent_region: str | None = None
    learnable_bias: bool = False
    tau: float | None = None
    learnable_tau: bool = False
    activation: str | None = None
    noise_level: float | None = None
    unit_ids: tuple[str, ...] | None = field(default=None, repr=False)
    positions: NDArray[np.float64] | None = field(default=None, repr=False)

    @property
    def num_units(self) -> int:
        """mRNNTorch's name for ``n``."""
        return self.n

    @property
    def unit_signs(self) -> NDArray[np.int8]:
        """One int8 per unit: +1, -1, or 0 for a unit without a sign."""
        if isinstance(self.sign, np.ndarray):
            return self.sign
        return np.full(self.n, SIGNS[self.sign], dtype=np.int8)


@dataclass(frozen=True, eq=False)
class Projection:
    """The facts of one projection; see `RegionGraph.add_projection` for their meaning."""

    source: str
    target: str
    key: str
    site: Site = field(repr=False)
    rule: ConnectionRule | None
    synapses: sp.csr_array | SynapseBlock | None = field(default=None, repr=False)
    init: Initializer | None = None
    sign: str | None = "inherit"
    trainable: bool = True
    delay: float | None = None

    @property
    def weights(self) -> sp.csr_array | None:
        """Explicit weights, shape (target units, source units); None where a rule draws the synapses."""
        return self.synapses.tocsr() if isinstance(self.synapses, SynapseBlock) else self.synapses

    @property
    def expected_synapses(self) -> float:
        """Synapses the projection will have: exact for explicit weights and exact rules."""
        return self.synapses.nnz if self.synapses is not None else self.rule.expected(self.site)  # type: ignore[union-attr]
