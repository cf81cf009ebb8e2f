"""Extend an eigenvector of one component to the units downstream of it."""

from __future__ import annotations

import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray
from scipy.sparse.csgraph import breadth_first_order
from scipy.sparse.linalg import gmres, splu

from sparse_mrnn.spectral.settings import Complex

DIRECT = 2000
"""Units downstream up to which the linear system is factorised; above, GMRES."""


def extend_downstream(w: sp.csr_array, units: NDArray[np.integer], value: complex, x: Complex) -> Complex:
    """The eigenvector of ``w`` that is ``x`` on ``units``: solves ``(v I - W_dd) x_d = W_du x`` downstream.

    The result has unit length; whether it is an eigenvector (it is not where the value is an eigenvalue
    downstream too) is for the caller to check.
    """
    vector = np.zeros(w.shape[0], dtype=complex)
    vector[units] = x
    if len(units) < w.shape[0]:
        reached = breadth_first_order(w.T.tocsr(), int(units[0]), directed=True, return_predecessors=False)
        down = np.setdiff1d(reached, units)
        if len(down):
            rows = w[down]
            inner = rows[:, down]
            feed = np.asarray(rows[:, units] @ x, dtype=np.complex128)
            vector[down] = _solve(inner, value, feed)
    vector /= max(float(np.linalg.norm(vector)), 1e-300)
    return vector


def _solve(inner: sp.csr_array, value: complex, feed: Complex) -> Complex:
    if not feed.any():
        return feed
    n = len(feed)
    system = sp.csc_array(value * sp.identity(n, dtype=complex, format="csc") - inner)
    if n <= DIRECT:
        try:
            direct: Complex = splu(sp.csc_matrix(system)).solve(feed)
            return direct
        except RuntimeError:  # exactly singular
            return 0 * feed
    solution: Complex = gmres(sp.csr_array(system), feed, rtol=1e-11, restart=60, maxiter=30)[0]
    return solution
