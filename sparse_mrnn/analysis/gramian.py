"""Controllability and observability Gramians of low rank, from a block Krylov subspace.

The Lyapunov equation P = J P J^T + B B^T is projected on span(B, J B, J^2 B, ...) and solved there
(Jaimoukha & Kasenally 1994, SIAM J. Numer. Anal. 31:227); the residual of the whole equation comes with the
projection.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray
from scipy.linalg import solve_discrete_lyapunov

from sparse_mrnn.analysis.result import Float, Result
from sparse_mrnn.errors import AnalysisError


@dataclass(frozen=True, eq=False, repr=False)
class Gramian(Result):
    """A Gramian ``factor @ factor.T``.

    Parameters
    ----------
    factor : ndarray, shape (units, rank)
        Principal directions times the roots of their energies, the largest first.
    energy : ndarray, shape (rank,)
        Eigenvalues of the Gramian.
    residual : float
        Residual of the Lyapunov equation, relative to ``|B B^T|``.
    region : ndarray of str, shape (units,)
    """

    factor: Annotated[Float, "unit", "direction"]
    energy: Annotated[Float, "direction"]
    region: Annotated[NDArray[np.str_], "unit"]
    residual: float

    @property
    def by_region(self) -> dict[str, float]:
        """Energy in each region: the trace of its block. They add up to that of the Gramian."""
        squares = (self.factor**2).sum(axis=1)
        names = dict.fromkeys(self.region.tolist())
        return {name: float(squares[self.region == name].sum()) for name in names}


def low_rank_gramian(
    jacobian: sp.csr_array, source: Float, region: NDArray[np.str_], rtol: float, rank: int
) -> Gramian:
    """The solution of ``P = J P J^T + B B^T`` within ``rtol``.

    `AnalysisError` if a step is not stable, or the subspace would have more than ``rank`` dimensions.
    """
    n, size = jacobian.shape[0], float(np.linalg.norm(source.T @ source))
    if size == 0:
        return Gramian(np.zeros((n, 1)), np.zeros(1), region, 0.0)
    block, small_source = np.linalg.qr(source)
    basis, images = np.empty((n, 0)), np.empty((n, 0))
    limit = min(rank, n)
    while True:
        basis = np.concatenate([basis, block], axis=1)
        images = np.concatenate([images, jacobian @ block], axis=1)
        projected = basis.T @ images
        b = np.zeros((basis.shape[1], source.shape[1]))
        b[: len(small_source)] = small_source
        outside = images - basis @ projected
        outside -= basis @ (basis.T @ outside)
        residual = np.inf
        stable = np.abs(np.linalg.eigvals(projected)).max() < 1
        if stable:
            p = solve_discrete_lyapunov(projected, b @ b.T)
            # J P J^T + B B^T - P = U p A^T + (.)^T + U p U^T outside the basis, U = outside
            r = np.linalg.qr(outside)[1]
            cross, corner = r @ p @ projected.T, r @ p @ r.T
            residual = float(np.sqrt(2 * np.linalg.norm(cross) ** 2 + np.linalg.norm(corner) ** 2)) / size
            if residual <= rtol:
                break
        u, s, _ = np.linalg.svd(outside, full_matrices=False)
        block = u[:, s > 1e-12 * max(1.0, float(np.abs(projected).max()))][:, : source.shape[1]]
        if basis.shape[1] + block.shape[1] > limit or block.shape[1] == 0:
            if not stable:
                raise AnalysisError("the Gramian does not exist: a step of the linear dynamics is unstable.")
            if block.shape[1] == 0:
                break
            raise AnalysisError(
                f"the Gramian has a residual of {residual:.2g} at rank {basis.shape[1]}, above {rtol:g}: "
                "pass a larger rank or rtol."
            )
    energy, vectors = np.linalg.eigh(p)
    energy, vectors = np.maximum(energy[::-1], 0), vectors[:, ::-1]
    keep = energy > 1e-14 * energy[0]
    return Gramian(basis @ vectors[:, keep] * np.sqrt(energy[keep]), energy[keep], region, residual)
