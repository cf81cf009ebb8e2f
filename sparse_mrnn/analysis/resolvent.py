"""Linear systems with a shifted Jacobian: by sparse LU where a factor stays small, by GMRES above."""

from __future__ import annotations

from typing import Any

import numpy as np
import scipy.sparse as sp
import torch
from numpy.typing import NDArray
from scipy.sparse.linalg import splu

from sparse_mrnn.analysis.gmres import gmres
from sparse_mrnn.analysis.jacobian import to_torch
from sparse_mrnn.errors import AnalysisError

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
