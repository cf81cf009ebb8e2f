"""The public functions of `sparse_mrnn.spectral`, all by `spectral_search`.

Its strongly connected components have the eigenvalues of a matrix. A plain ``eigs(k=1)`` of a whole
matrix is silently wrong on random ones, whose edge eigenvalues are clustered, and on chains, whose norms hide
that they have no eigenvalue but 0.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypedDict, Unpack

import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray

from sparse_mrnn.errors import SpectralInputError
from sparse_mrnn.spectral.inputs import (
    LOW_RANK_UNITS,
    LowRankMatrix,
    as_linear_dynamics,
    as_matrix,
    as_weights,
)
from sparse_mrnn.spectral.matrix_search import MatrixSearch, low_rank_search
from sparse_mrnn.spectral.result import SpectralResult
from sparse_mrnn.spectral.settings import Budget, Complex, Progress, SearchSettings


class SearchOptions(TypedDict, total=False):
    """Keyword arguments that all functions share; see `spectral_search`."""

    rtol: float
    regions: str | Sequence[str] | None
    seed: int
    max_products: int | None
    max_seconds: float | None
    progress: Progress | None


def spectral_search(
    W: Any, which: str = "LM", k: int = 1, *, vectors: bool = False, rtol: float = 1e-4,  # noqa: N803
    regions: str | Sequence[str] | None = None, seed: int = 0, max_products: int | None = None,
    max_seconds: float | None = None, progress: Progress | None = None,
) -> SpectralResult:
    """Leading eigenvalues of a weight matrix with bounds, residual, method and cost: certified, or an error.

    Parameters
    ----------
    W : mRNN, ElmanmRNN, RegionGraph, Tensor (dense, COO, CSR), scipy sparse array or ndarray, (units, units)
        A network has its effective recurrent weights (Dale's law applied), a graph the weights that
        ``mRNN(graph, seed=seed)`` starts with; projections of low rank count. Electrical synapses, which add
        G x, count by W + G with "LR" and "SR"; they are refused with the others.
    which : {"LM", "LR", "SR", "LI"}
        Largest modulus, largest real part, smallest real part, largest imaginary part (in absolute value).
    k : int
        How many. Of a conjugate pair cut in two, the one with positive imaginary part is kept.
    vectors : bool
        Find the right eigenvectors too. Eigenvalues alone are cheaper, and a defective matrix has them
        even if it lacks vectors.
    rtol : float
        Error allowed, relative to the largest modulus of the component's eigenvalues.
    regions : str or sequence of str, optional
        Only the sub-network of these regions or parents of a network or graph.
    seed : int
        Seed of the start vectors (and of a graph's synapses), so that results are reproducible.
    max_products : int, optional
        Products with the matrix to spend. Default: 100,000.
    max_seconds : float, optional
        Time to spend. Default: no limit.
    progress : callable, optional
        Called with (products so far, best value so far) about five times a second.

    Returns
    -------
    SpectralResult

    Raises
    ------
    SpectralInputError
        If the matrix is not square, empty, not finite or not floating-point, or an option is out of range.
    SpectralConvergenceError
        If the value cannot be certified within ``rtol`` and the budget; it carries the best bounds known.
    UnknownNameError
        If a region does not exist.

    Notes
    -----
    Each strongly connected component is searched by itself: up to 400 units densely, with condition numbers;
    by Perron-Frobenius between proven bounds if no cycle's sign disagrees; by the product over its classes if
    it is cyclic; else by two independent filtered Arnoldi searches, of W and its transpose, which must agree
    within an error of residual times condition number. Time and memory are proportional to the synapses, plus
    at most 300 vectors.

    Examples
    --------
    >>> import numpy as np
    >>> result = spectral_search(np.array([[0.0, 4.0], [1.0, 0.0]]))
    >>> round(result.value, 6), result.method
    (2.0, 'cycle')
    """
    settings = SearchSettings(which, k, rtol, seed, Budget(max_products, max_seconds, progress), vectors)
    weights = as_linear_dynamics(W, regions, seed) if which in ("LR", "SR") else as_weights(W, regions, seed)
    n = (weights.synapses if isinstance(weights, LowRankMatrix) else weights).shape[0]
    if k > n:
        raise SpectralInputError(f"k is {k}, but the matrix has only {n} eigenvalues.")
    if not isinstance(weights, LowRankMatrix):
        return MatrixSearch(weights, settings).result()
    if n > LOW_RANK_UNITS:
        return low_rank_search(weights.synapses, weights.left, weights.right, settings)
    return MatrixSearch(as_matrix(weights.multiplied_out()), settings).result()


def spectral_radius(W: Any, **options: Unpack[SearchOptions]) -> float:  # noqa: N803
    """Largest absolute eigenvalue of a weight matrix: certified within ``rtol``, or an error.

    Parameters
    ----------
    W : mRNN, ElmanmRNN, RegionGraph, Tensor, scipy sparse array or ndarray, shape (units, units)
        See `spectral_search`.
    **options
        ``rtol``, ``regions``, ``seed``, ``max_products``, ``max_seconds`` and ``progress`` of
        `spectral_search`, which also returns bounds, residual and method.

    Raises
    ------
    SpectralInputError, SpectralConvergenceError, UnknownNameError
        See `spectral_search`.

    Examples
    --------
    >>> import numpy as np
    >>> spectral_radius(np.array([[0.0, 5.0], [0.0, 0.0]]))   # a chain: no cycle, no eigenvalue
    0.0
    """
    return spectral_search(W, "LM", **options).value


def spectral_abscissa(W: Any, **options: Unpack[SearchOptions]) -> float:  # noqa: N803
    """Largest real part of the eigenvalues. ``tau dx/dt = -x + W x`` is stable if it is below 1.

    Parameters
    ----------
    W : mRNN, ElmanmRNN, RegionGraph, Tensor, scipy sparse array or ndarray, shape (units, units)
        See `spectral_search`.
    **options
        ``rtol``, ``regions``, ``seed``, ``max_products``, ``max_seconds`` and ``progress`` of
        `spectral_search`, which also returns bounds, residual and method.

    Raises
    ------
    SpectralInputError, SpectralConvergenceError, UnknownNameError
        See `spectral_search`.

    Examples
    --------
    >>> import numpy as np
    >>> spectral_abscissa(np.array([[0.0, -4.0], [1.0, 0.0]]))   # an oscillator
    0.0
    """
    return spectral_search(W, "LR", **options).value


def leading_eigenpairs(
    W: Any, k: int = 6, which: str = "LM", *, vectors: bool = True,  # noqa: N803
    **options: Unpack[SearchOptions],
) -> tuple[Complex, Complex | None]:
    """The k leading eigenvalues of a weight matrix and their right eigenvectors.

    Parameters
    ----------
    W : mRNN, ElmanmRNN, RegionGraph, Tensor, scipy sparse array or ndarray, shape (units, units)
        See `spectral_search`.
    k : int
        How many.
    which : {"LM", "LR", "SR", "LI"}
        Largest modulus, largest or smallest real part, largest imaginary part.
    vectors : bool
        False finds the eigenvalues alone, which is cheaper.
    **options
        ``rtol``, ``regions``, ``seed``, ``max_products``, ``max_seconds`` and ``progress`` of
        `spectral_search`.

    Returns
    -------
    values : ndarray of complex, shape (k,)
        The leading one first.
    vectors : ndarray of complex, shape (units, k), or None
        ``W @ vectors[:, i] == values[i] * vectors[:, i]``, of unit length.

    Raises
    ------
    SpectralInputError, SpectralConvergenceError, UnknownNameError
        See `spectral_search`.

    Examples
    --------
    >>> import numpy as np
    >>> values, vectors = leading_eigenpairs(np.array([[0.0, 4.0], [1.0, 0.0]]), k=2)
    >>> np.round(values.real, 6).tolist(), vectors.shape
    ([2.0, -2.0], (2, 2))
    """
    result = spectral_search(W, which, k, vectors=vectors, **options)
    return result.eigenvalues, result.vectors


def disc_radius(weights: Any, ptr: NDArray[np.integer] | None = None, seed: int = 0) -> float:
    """Radius of the disc that the eigenvalues of a random network with these statistics would fill.

    ``R^2`` is the largest eigenvalue of the regions' matrix of summed variances, ``S[a, b] = n_b var(W_ab)``:
    the circular law for one region, its extension to blocks for several. Rows of a Dale net are taken by sign
    of source, so the disc does not count the outlier that unbalanced means make.

    Parameters
    ----------
    weights : as for `spectral_radius`
    ptr : ndarray of int, optional
        First unit of each region and the total at the end. Default: one region.
    seed : int
        Seed of a graph's synapses.

    References
    ----------
    Girko 1985; Rajan & Abbott 2006; Aljadeff, Stern & Sharpee 2015, Transition to chaos in random networks
    with cell-type-specific connectivity.

    Examples
    --------
    >>> w = np.random.default_rng(0).standard_normal((400, 400)) / 20
    >>> round(disc_radius(w), 1)
    1.0
    """
    w: sp.csr_array = as_matrix(weights, seed=seed)
    n = w.shape[0]
    edges = np.array([0, n]) if ptr is None else np.asarray(ptr)
    region = np.repeat(np.arange(len(edges) - 1), np.diff(edges))
    lean = np.sign(np.bincount(w.indices, w.data, minlength=n)).astype(int) + 1
    kind = region * 3 + lean  # a region's excitatory and inhibitory sources have means of their own
    _, kind, size = np.unique(kind, return_inverse=True, return_counts=True)
    each = sp.csr_array((1 / size[kind], kind, np.arange(n + 1)))
    mean, square = (each.T @ m @ each for m in (w, w.multiply(w)))  # sparse, as thousands of regions may be
    summed = (square - mean.multiply(mean)).maximum(0) @ sp.diags_array(size.astype(np.float64))
    return float(np.sqrt(spectral_radius(summed, rtol=1e-9)))
