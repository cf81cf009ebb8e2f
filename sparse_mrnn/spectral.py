"""Spectral radius of sparse matrices: certified, or a clear error. No dense N x N matrix is made.

Strongly connected components come first (the eigenvalues of a matrix are those of its components), so an
acyclic net has radius exactly 0. Small components are solved densely, non-negative ones by Perron-Frobenius
with two-sided bounds, others by ARPACK with several eigenvalues, residual checks and a second, wider run.
One plain ``eigs(k=1)`` call is silently wrong on random matrices, whose edge eigenvalues are clustered.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray
from scipy.sparse.csgraph import connected_components
from scipy.sparse.linalg import ArpackError, eigs

from sparse_mrnn.errors import SpectralError

DENSE_COMPONENT = 400
"""Strongly connected components up to this many units are solved densely."""


@dataclass(frozen=True)
class SpectralResult:
    """A spectral radius: its value, a bracket around it where there is one, and how it was found."""

    value: float
    lower: float | None
    upper: float | None
    method: str


def spectral_radius(matrix: Any, rtol: float = 1e-4, *, seed: int = 0) -> SpectralResult:
    """Largest absolute eigenvalue of a square matrix.

    Parameters
    ----------
    matrix : scipy sparse array or ndarray, shape (units, units)
    rtol : float
        Relative error asked for.
    seed : int
        Of the start vector, so the result is reproducible.

    Raises
    ------
    SpectralError
        If the matrix is not square, not finite, or the accuracy cannot be confirmed.

    References
    ----------
    Collatz-Wielandt bounds: Horn & Johnson, Matrix Analysis, 8.1. ARPACK: Lehoucq, Sorensen & Yang 1998.

    Examples
    --------
    >>> spectral_radius(np.array([[0.0, 5.0], [0.0, 0.0]])).value   # a chain: no cycle, no eigenvalue
    0.0
    >>> round(spectral_radius(np.array([[0.0, 4.0], [1.0, 0.0]])).value, 6)
    2.0
    """
    w = sp.csr_array(matrix, dtype=np.float64, copy=True)
    if w.shape[0] != w.shape[1]:
        raise SpectralError(f"the spectral radius needs a square matrix; this one is {w.shape[0]} x {w.shape[1]}.")
    if not np.isfinite(w.data).all():
        raise SpectralError("the matrix has NaN or infinite entries; its spectral radius is not defined.")
    w.sum_duplicates()
    w.eliminate_zeros()
    best = SpectralResult(0.0, 0.0, 0.0, "acyclic")
    n_parts, label = connected_components(w, directed=True, connection="strong")
    size = np.bincount(label, minlength=n_parts)
    diagonal = np.abs(w.diagonal())
    alone = size[label] == 1
    if alone.any() and diagonal[alone].max() > 0:
        best = _exact(float(diagonal[alone].max()), "diagonal")
    order = np.argsort(label, kind="stable")
    stop = np.cumsum(size)
    for part in sorted(np.flatnonzero(size > 1), key=lambda k: -size[k]):
        units = order[stop[part] - size[part] : stop[part]]
        block = w if len(units) == w.shape[0] else w[units][:, units]
        magnitude = abs(block)
        bound = float(min(magnitude.sum(axis=0).max(), magnitude.sum(axis=1).max()))
        if bound <= best.value:
            continue  # it cannot hold the largest eigenvalue
        found = _component(block, bound, rtol, seed)
        best = max(best, found, key=lambda result: result.value)
    return best


def _exact(value: float, method: str) -> SpectralResult:
    return SpectralResult(value, value, value, method)


def _component(block: sp.csr_array, bound: float, rtol: float, seed: int) -> SpectralResult:
    if block.shape[0] <= DENSE_COMPONENT:
        return _exact(float(np.abs(np.linalg.eigvals(block.toarray())).max()), "dense component")
    if block.data.min() >= 0 or block.data.max() <= 0:
        return _perron(abs(block), bound, rtol)
    return _arpack(block, bound, rtol, seed)


def _perron(block: sp.csr_array, bound: float, rtol: float) -> SpectralResult:
    """Power iteration on A + s I (primitive for s > 0) with Collatz-Wielandt bounds."""
    shift = 0.1 * bound
    x = np.ones(block.shape[0])
    lower, upper = 0.0, bound
    for _ in range(20_000):
        y = block @ x
        ratio = y / x
        lower, upper = max(lower, float(ratio.min())), min(upper, float(ratio.max()))
        if upper - lower <= rtol * upper:
            return SpectralResult(0.5 * (lower + upper), lower, upper, "Perron-Frobenius")
        y += shift * x
        x = np.maximum(y / y.max(), 1e-300)
    raise SpectralError(
        f"the spectral radius lies between {lower:.6g} and {upper:.6g}, but no further after 20000 products; raise rtol."
    )


def _arpack(block: sp.csr_array, bound: float, rtol: float, seed: int) -> SpectralResult:
    start = np.random.default_rng(seed).standard_normal(block.shape[0])
    previous: float | None = None
    worst = np.inf
    for k, width in ((6, 60), (10, 120), (16, 200), (24, 320)):
        k, width = min(k, block.shape[0] - 2), min(width, block.shape[0])
        try:
            values, vectors = eigs(block, k=k, ncv=width, v0=start, tol=0.01 * rtol, which="LM", maxiter=2000)
        except ArpackError:
            continue
        top = int(np.argmax(np.abs(values)))
        value = float(abs(values[top]))
        worst = _residual(block, values[top], vectors[:, top]) / max(value, 1e-300)
        if worst <= rtol and previous is not None and abs(value - previous) <= rtol * value:
            return SpectralResult(max(value, previous), None, bound, "ARPACK")
        previous = value
    raise SpectralError(
        f"no certified spectral radius within rtol={rtol:g} (best {previous}, relative residual {worst:.2g}, "
        f"upper bound {bound:.6g}). The matrix may be highly non-normal; raise rtol."
    )


def _residual(block: sp.csr_array, value: complex, vector: NDArray[np.complex128]) -> float:
    return float(np.linalg.norm(block @ vector - value * vector))
