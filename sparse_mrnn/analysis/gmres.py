"""Restarted GMRES for many systems at once, each known by its products only; systems of a shifted Jacobian.

Saad & Schultz 1986. A product is one sparse matrix times (units, columns); step m of a cycle moves 16 m
bytes per unit and column besides. The small least-squares problems are solved every few steps, for all
columns together.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import scipy.sparse as sp
import torch
from numpy.typing import NDArray
from scipy.sparse.linalg import splu
from torch import Tensor

from sparse_mrnn.analysis.result import Complex
from sparse_mrnn.errors import AnalysisError
from sparse_mrnn.spectral.krylov import to_torch

CHECK = 5
"""Steps between two looks at the residuals."""
BASIS_BYTES = 2**28
"""Bytes the basis of a cycle may take."""
DIRECT = 2000
"""Units up to which a shifted Jacobian is factorised."""
RTOL = 1e-9


def gmres(
    product: Callable[[Tensor], Tensor], rhs: Tensor, rtol: Tensor, *, basis: int = 60, cycles: int = 4
) -> tuple[Tensor, Tensor]:
    """Solve ``product(x) = rhs`` in every column, shape (units, columns): the best x, and its residuals.

    Residuals, shape (columns,), and ``rtol``, the one asked for, are relative to that of x = 0. A cycle has
    ``basis`` steps, fewer if they would take more than 256 MiB.

    >>> x, residual = gmres(lambda v: 4 * v, torch.ones(4, 1), torch.tensor([1e-6]))
    >>> x.flatten().tolist()
    [0.25, 0.25, 0.25, 0.25]
    """
    n, columns = rhs.shape
    basis = max(2, min(basis, n, BASIS_BYTES // (8 * n * columns)))
    size = rhs.norm(dim=0).clamp_min(1e-300)
    x, left = torch.zeros_like(rhs), rhs
    residual = torch.ones_like(size)
    for _ in range(cycles):
        x, left = _cycle(product, x, left, rtol * size, basis)
        residual = left.norm(dim=0) / size
        if bool((residual <= rtol).all()):
            break
    return x, residual


def _cycle(
    product: Callable[[Tensor], Tensor], x: Tensor, left: Tensor, goal: Tensor, basis: int
) -> tuple[Tensor, Tensor]:
    """One cycle from x, whose residual is ``left``: the better x and its residual."""
    n, columns = left.shape
    v = left.new_zeros(basis + 1, n, columns)
    h = left.new_zeros(columns, basis + 1, basis)
    start = left.norm(dim=0)
    v[0] = left / start.clamp_min(1e-300)
    target = left.new_zeros(columns, basis + 1, 1)
    target[:, 0, 0] = start
    spent = start == 0  # columns whose Krylov space has ended: their further vectors are 0
    for j in range(basis):
        w = product(v[j])
        before = w.norm(dim=0)
        for _ in range(2):  # classical Gram-Schmidt, twice
            part = torch.einsum("jnb,nb->jb", v[: j + 1], w)
            w = w - torch.einsum("jnb,jb->nb", v[: j + 1], part)
            h[:, : j + 1, j] += part.t()
        after = w.norm(dim=0)
        h[:, j, j] += spent
        spent = spent | (after <= 1e-13 * before)
        h[:, j + 1, j] = torch.where(spent, 0.0, after)
        v[j + 1] = torch.where(spent, 0.0, w / after.clamp_min(1e-300))
        over = bool(spent.all())
        if (j + 1) % CHECK == 0 or j + 1 == basis or over:
            small, right = h[:, : j + 2, : j + 1], target[:, : j + 2]
            y = torch.linalg.lstsq(small, right, driver="gels").solution.nan_to_num(0, 0, 0)
            off = (right - small @ y)[..., 0].norm(dim=1)
            if over or bool((off <= 0.9 * goal).all()):
                break
    step = torch.einsum("jnb,bj->nb", v[: y.shape[1]], y[..., 0])
    return x + step, left - product(step)


def solve_shifted(jacobian: sp.csr_array, shift: complex, rhs: NDArray[Any]) -> Complex:
    """x with ``(shift - J) x = rhs``; `AnalysisError` if it is singular, or not solved to 1e-9."""
    n = jacobian.shape[0]
    if n <= DIRECT:
        system = sp.csc_array(shift * sp.identity(n, dtype=complex, format="csc") - jacobian)
        try:
            solution: Complex = splu(sp.csc_matrix(system)).solve(rhs.astype(complex))
        except RuntimeError:
            raise _singular(shift) from None
    else:
        # As a real system of twice the size: rows of the real part, then of the imaginary part.
        matrix = to_torch(jacobian)
        b = torch.from_numpy(np.concatenate([rhs.real, rhs.imag]).astype(np.float64))

        def product(v: Tensor) -> Tensor:
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
