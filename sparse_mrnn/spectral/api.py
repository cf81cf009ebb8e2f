"""The public functions of `sparse_mrnn.spectral`, all by `spectral_search`.

The eigenvalues of a matrix are those of its strongly connected components. A plain ``eigs(k=1)`` of a whole
matrix is silently wrong on random ones, whose edge eigenvalues are clustered, and on chains, whose norms hide
that they have no eigenvalue but 0.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, TypedDict, Unpack

from sparse_mrnn.errors import SpectralInputError
from sparse_mrnn.spectral.inputs import as_matrix
from sparse_mrnn.spectral.matrix_search import MatrixSearch
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
    W: Any,  # noqa: N803
    which: str = "LM",
    k: int = 1,
    *,
    vectors: bool = False,
    rtol: float = 1e-4,
    regions: str | Sequence[str] | None = None,
    seed: int = 0,
    max_products: int | None = None,
    max_seconds: float | None = None,
    progress: Progress | None = None,
) -> SpectralResult:
    """Leading eigenvalues of a weight matrix with bounds, residual, method and cost: certified, or an error.

    Parameters
    ----------
    W : mRNN, ElmanmRNN, RegionGraph, Tensor (dense, COO, CSR), scipy sparse array or ndarray, (units, units)
        Of a network, its effective recurrent weights (Dale's law applied); of a graph, those that
        ``mRNN(graph, seed=seed)`` starts with.
    which : {"LM", "LR", "SR", "LI"}
        Largest modulus, largest real part, smallest real part, largest imaginary part (in absolute value).
    k : int
        How many. Of a conjugate pair cut in two, the one with positive imaginary part is kept.
    vectors : bool
        Find the right eigenvectors too. Eigenvalues alone are cheaper, and exist where a defective matrix
        lacks vectors.
    rtol : float
        Error allowed, relative to the largest modulus of the component's eigenvalues.
    regions : str or sequence of str, optional
        Only the sub-network of these regions or parents of a network or graph.
    seed : int
        Of the start vectors (and of a graph's synapses), so results are reproducible.
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
        If there is no such region.

    Notes
    -----
    Strongly connected components first. Those of up to 400 units densely, with condition numbers; where no
    cycle's sign disagrees, by Perron-Frobenius between proven bounds; cyclic ones by the product over their
    classes; others by two independent filtered Arnoldi searches, of W and its transpose, that have to agree
    within an error of residual times condition number. Time and memory are proportional to the synapses, plus
    at most 300 vectors.

    Examples
    --------
    >>> import numpy as np
    >>> result = spectral_search(np.array([[0.0, 4.0], [1.0, 0.0]]))
    >>> round(result.value, 6), result.method
    (2.0, 'cycle')
    """
    budget = Budget(max_products, math.inf if max_seconds is None else max_seconds, progress)
    settings = SearchSettings(which, k, rtol, seed, budget, vectors)
    matrix = as_matrix(W, regions, seed)
    if k > matrix.shape[0]:
        raise SpectralInputError(f"k is {k}, but the matrix has only {matrix.shape[0]} eigenvalues.")
    return MatrixSearch(matrix, settings).result()


def spectral_radius(W: Any, **options: Unpack[SearchOptions]) -> float:  # noqa: N803
    """Largest absolute eigenvalue of a weight matrix: certified within ``rtol``, or an error.

    Parameters
    ----------
    W : mRNN, ElmanmRNN, RegionGraph, Tensor, scipy sparse array or ndarray, shape (units, units)
        As for `spectral_search`.
    **options
        ``rtol``, ``regions``, ``seed``, ``max_products``, ``max_seconds`` and ``progress`` of
        `spectral_search`, which also returns bounds, residual and method.

    Raises
    ------
    SpectralInputError, SpectralConvergenceError, UnknownNameError
        As `spectral_search`.

    Examples
    --------
    >>> import numpy as np
    >>> spectral_radius(np.array([[0.0, 5.0], [0.0, 0.0]]))   # a chain: no cycle, no eigenvalue
    0.0
    """
    return spectral_search(W, "LM", **options).value


def spectral_abscissa(W: Any, **options: Unpack[SearchOptions]) -> float:  # noqa: N803
    """Largest real part of the eigenvalues. ``tau dx/dt = -x + W x`` is stable where it is below 1.

    Parameters
    ----------
    W : mRNN, ElmanmRNN, RegionGraph, Tensor, scipy sparse array or ndarray, shape (units, units)
        As for `spectral_search`.
    **options
        ``rtol``, ``regions``, ``seed``, ``max_products``, ``max_seconds`` and ``progress`` of
        `spectral_search`, which also returns bounds, residual and method.

    Raises
    ------
    SpectralInputError, SpectralConvergenceError, UnknownNameError
        As `spectral_search`.

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
        As for `spectral_search`.
    k : int
        How many.
    which : {"LM", "LR", "SR", "LI"}
        Largest modulus, largest or smallest real part, largest imaginary part.
    vectors : bool
        Whether to find the eigenvectors; eigenvalues alone are cheaper.
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
        As `spectral_search`.

    Examples
    --------
    >>> import numpy as np
    >>> values, vectors = leading_eigenpairs(np.array([[0.0, 4.0], [1.0, 0.0]]), k=2)
    >>> np.round(values.real, 6).tolist(), vectors.shape
    ([2.0, -2.0], (2, 2))
    """
    result = spectral_search(W, which, k, vectors=vectors, **options)
    return result.eigenvalues, result.vectors
