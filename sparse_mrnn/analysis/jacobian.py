"""Jacobians of a network at one state as sparse matrices, and linear systems with a shifted one."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import scipy.sparse as sp
import torch
from numpy.typing import NDArray
from scipy.sparse.linalg import splu
from torch import Tensor

from sparse_mrnn.analysis.dynamics import Dynamics
from sparse_mrnn.analysis.gmres import gmres
from sparse_mrnn.errors import AnalysisError, KinkWarning, suggest
from sparse_mrnn.ops.pattern import csr, to_scipy

KINDS = ("step", "flow")


def sparse_jacobian(
    dynamics: Dynamics, state: Tensor, kind: str = "step", of: str | None = None
) -> sp.csr_array:
    """The Jacobian of a step, 1 + alpha (A - 1), or of the flow, (A - 1) / tau.

    A is W diag(f') in the coordinates x and diag(f') W in h.

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


def warn_of_kinks(units: str) -> None:
    """Warn that some units, named as the subject of a sentence, have no derivative."""
    warnings.warn(
        f"{units} lie at a kink of their activation, which has no derivative there; the Jacobian takes the "
        "derivative of one side.",
        KinkWarning,
        stacklevel=3,
    )


def to_torch(matrix: sp.csr_array) -> Tensor:
    """A scipy CSR matrix as a torch one, which shares its memory."""
    crow, col, values = (torch.from_numpy(part) for part in (matrix.indptr, matrix.indices, matrix.data))
    return csr(crow, col, values, matrix.shape)


DIRECT = 2000
"""Units up to which the system is factorised."""
RTOL = 1e-9


def solve_shifted(jacobian: sp.csr_array, shift: complex, rhs: NDArray[Any]) -> NDArray[np.complex128]:
    """x with ``(shift - J) x = rhs``, column by column.

    Raises
    ------
    AnalysisError
        If the system is singular, or GMRES does not solve it to 1e-9.
    """
    n = jacobian.shape[0]
    if n <= DIRECT:
        system = sp.csc_array(shift * sp.identity(n, dtype=complex, format="csc") - jacobian)
        try:
            solution: NDArray[np.complex128] = splu(sp.csc_matrix(system)).solve(rhs.astype(complex))
        except RuntimeError:
            raise _singular(shift) from None
    else:
        # As a real system of twice the size: rows of the real part, then of the imaginary part.
        matrix = to_torch(jacobian)
        b = torch.from_numpy(np.concatenate([rhs.real, rhs.imag]).astype(np.float64))

        def product(v: torch.Tensor) -> torch.Tensor:
            real, imag = v[:n], v[n:]
            upper = shift.real * real - shift.imag * imag - matrix @ real
            return torch.cat([upper, shift.real * imag + shift.imag * real - matrix @ imag])

        rtol = torch.full((b.shape[1],), RTOL, dtype=torch.float64)
        x, residual = gmres(product, b, rtol, basis=100, cycles=40)
        if not bool((residual <= 10 * RTOL).all()):
            raise _singular(shift)
        solution = (x[:n] + 1j * x[n:]).numpy()
    if not np.isfinite(solution).all():
        raise _singular(shift)
    return solution


def _singular(shift: complex) -> AnalysisError:
    hz = 1000 * shift.imag / (2 * np.pi)
    return AnalysisError(
        f"the response at {hz:g} Hz cannot be computed: an eigenvalue of the Jacobian lies too near. "
        "Take another frequency, or look at the modes."
    )
