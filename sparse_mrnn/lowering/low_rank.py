"""First factors of low-rank projections, W = U V^T (Mastrogiuseppe & Ostojic 2018, Neuron 99:609)."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from sparse_mrnn.declaration.graph import Projection

Float = NDArray[np.float64]


def draw_factors(projection: Projection, rng: np.random.Generator) -> tuple[Float, Float]:
    """Draw U, shape (target units, rank), and V, shape (source units, rank).

    Entries are normal, of standard deviation 1 / sqrt(rank) and 1 / (source units), so that an input of order
    1 to every source unit gives one of order 1 or less to the target units.
    """
    rank, n_source, n_target = projection.rank or 0, projection.pair.n_source, projection.pair.n_target
    left = rank**-0.5 * rng.standard_normal((n_target, rank))
    return left, 1 / n_source * rng.standard_normal((n_source, rank))
