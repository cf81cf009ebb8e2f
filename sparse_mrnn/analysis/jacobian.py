"""The Jacobian of a network at one state as a sparse matrix: of one time step, or of the flow."""

from __future__ import annotations

import scipy.sparse as sp
import torch
from torch import Tensor

from sparse_mrnn.analysis.dynamics import Dynamics
from sparse_mrnn.errors import AnalysisError, suggest
from sparse_mrnn.ops.pattern import csr, to_scipy

KINDS = ("step", "flow")


def sparse_jacobian(
    dynamics: Dynamics, state: Tensor, kind: str = "step", of: str | None = None
) -> sp.csr_array:
    """With A = W diag(f') in x, diag(f') W in h: 1 + alpha (A - 1) of a step, (A - 1) / tau of the flow.

    Parameters
    ----------
    dynamics : Dynamics
    state : Tensor, shape (units, 1)
    kind : {"step", "flow"}
        Dimensionless; per ms.
    of : {"x", "h"}, optional
        Coordinates. Default: those of the state. The others are of the same eigenvalues: dh = f' dx.
    """
    if kind not in KINDS:
        raise AnalysisError(f"kind is {kind!r}; use 'step' or 'flow'. {suggest(kind, KINDS)}")
    own = "h" if dynamics.elman else "x"
    slope = dynamics.slope(dynamics.preactivation(state))[:, 0]
    pattern = dynamics.pattern
    index = pattern.col if (of or own) == "x" else pattern.row
    a = to_scipy(pattern.matrix(dynamics.values * slope[index.long()]))
    rate = (dynamics.alpha if kind == "step" else 1 / dynamics.tau).cpu().numpy()[:, 0]
    own_term = (1.0 if kind == "step" else 0.0) - rate
    return sp.csr_array(sp.diags_array(rate) @ a + sp.diags_array(own_term))


def to_torch(matrix: sp.csr_array) -> Tensor:
    """A scipy CSR matrix as a torch one, which shares its memory."""
    crow, col, values = (torch.from_numpy(part) for part in (matrix.indptr, matrix.indices, matrix.data))
    return csr(crow, col, values, matrix.shape)
