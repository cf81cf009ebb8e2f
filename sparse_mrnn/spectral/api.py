"""Spectral radius, abscissa and leading eigenpairs of a whole matrix, component by component.

The eigenvalues of a matrix are those of its strongly connected components. One plain ``eigs(k=1)`` call on the
whole is silently wrong on random matrices, whose edge eigenvalues are clustered, and on chains, whose norms hide
that they have no eigenvalue but 0.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal, NoReturn, TypedDict, Unpack, overload

import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray

from sparse_mrnn.errors import SpectralConvergenceError, SpectralInputError, suggest
from sparse_mrnn.spectral.arnoldi import Found, UncertifiedError
from sparse_mrnn.spectral.component import DENSE_COMPONENT, gradient_entries, order_of, solve
from sparse_mrnn.spectral.extend import extend
from sparse_mrnn.spectral.inputs import as_matrix
from sparse_mrnn.spectral.krylov import SCORES
from sparse_mrnn.spectral.result import Budget, Complex, Progress, SpectralResult, not_converged
from sparse_mrnn.spectral.structure import Components, norm_bound


class Options(TypedDict, total=False):
    """What the three functions share; see `spectral_radius`."""

    regions: str | Sequence[str] | None
    seed: int
    max_products: int | None
    max_seconds: float | None
    progress: Progress | None


class PairOptions(Options, total=False):
    """And what `leading_eigenpairs` takes besides."""

    vectors: bool


NAMES = {"LM": "the spectral radius", "LR": "the spectral abscissa", "SR": "the smallest real part", "LI": "the largest imaginary part"}


@overload
def spectral_radius(W: Any, rtol: float = ..., return_result: Literal[False] = ..., **options: Unpack[Options]) -> float: ...  # noqa: N803
@overload
def spectral_radius(W: Any, rtol: float = ..., *, return_result: Literal[True], **options: Unpack[Options]) -> SpectralResult: ...  # noqa: N803
def spectral_radius(
    W: Any,  # noqa: N803
    rtol: float = 1e-4,
    return_result: bool = False,
    *,
    regions: str | Sequence[str] | None = None,
    seed: int = 0,
    max_products: int | None = None,
    max_seconds: float | None = None,
    progress: Progress | None = None,
) -> float | SpectralResult:
    """Largest absolute eigenvalue of a weight matrix: certified within ``rtol``, or an error.

    Parameters
    ----------
    W : mRNN, ElmanmRNN, RegionGraph, torch Tensor (dense, COO, CSR), scipy sparse array or ndarray, shape (units, units)
        Of a network, its effective recurrent weights (Dale's law applied); of a graph, those that
        ``mRNN(graph, seed=seed)`` starts with.
    rtol : float
        Relative error allowed.
    return_result : bool
        Return a `SpectralResult` with bounds, residual, method and cost instead of the number.
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
    float or SpectralResult

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
    Strongly connected components first; components of up to 400 units densely, with condition numbers; where no
    cycle's sign disagrees, by Perron-Frobenius between proven bounds; cyclic ones by the product over their classes;
    others by two independent filtered Arnoldi searches, of W and its transpose, that have to agree within an
    error of residual times condition number. Time and memory are proportional to the synapses, plus at most
    300 vectors.

    Examples
    --------
    >>> spectral_radius(np.array([[0.0, 5.0], [0.0, 0.0]]))   # a chain: no cycle, no eigenvalue
    0.0
    >>> result = spectral_radius(np.array([[0.0, 4.0], [1.0, 0.0]]), return_result=True)
    >>> round(result.value, 6), result.method
    (2.0, 'cycle')
    """
    result = _leading(W, "LM", 1, rtol, regions, seed, Budget(max_products, max_seconds, progress), pairs=False)
    return result if return_result else result.value


@overload
def spectral_abscissa(W: Any, rtol: float = ..., return_result: Literal[False] = ..., **options: Unpack[Options]) -> float: ...  # noqa: N803
@overload
def spectral_abscissa(W: Any, rtol: float = ..., *, return_result: Literal[True], **options: Unpack[Options]) -> SpectralResult: ...  # noqa: N803
def spectral_abscissa(
    W: Any,  # noqa: N803
    rtol: float = 1e-4,
    return_result: bool = False,
    *,
    regions: str | Sequence[str] | None = None,
    seed: int = 0,
    max_products: int | None = None,
    max_seconds: float | None = None,
    progress: Progress | None = None,
) -> float | SpectralResult:
    """Largest real part of the eigenvalues. The leaky network ``tau dx/dt = -x + W x`` is stable where it is below 1.

    Parameters
    ----------
    W, return_result, regions, seed, max_products, max_seconds, progress
        As for `spectral_radius`.
    rtol : float
        Error allowed, relative to the largest modulus of the component's eigenvalues: a real part may be 0.

    Returns
    -------
    float or SpectralResult

    Raises
    ------
    SpectralInputError, SpectralConvergenceError, UnknownNameError
        As for `spectral_radius`.

    Examples
    --------
    >>> spectral_abscissa(np.array([[0.0, -4.0], [1.0, 0.0]]))   # an oscillator
    0.0
    """
    result = _leading(W, "LR", 1, rtol, regions, seed, Budget(max_products, max_seconds, progress), pairs=False)
    return result if return_result else result.value


@overload
def leading_eigenpairs(
    W: Any, k: int = ..., which: str = ..., rtol: float = ..., return_result: Literal[False] = ..., **options: Unpack[PairOptions]  # noqa: N803
) -> tuple[Complex, Complex | None]: ...
@overload
def leading_eigenpairs(
    W: Any, k: int = ..., which: str = ..., rtol: float = ..., *, return_result: Literal[True], **options: Unpack[PairOptions]  # noqa: N803
) -> SpectralResult: ...
def leading_eigenpairs(
    W: Any,  # noqa: N803
    k: int = 6,
    which: str = "LM",
    rtol: float = 1e-4,
    return_result: bool = False,
    *,
    vectors: bool = True,
    regions: str | Sequence[str] | None = None,
    seed: int = 0,
    max_products: int | None = None,
    max_seconds: float | None = None,
    progress: Progress | None = None,
) -> tuple[Complex, Complex | None] | SpectralResult:
    """The k leading eigenvalues of a weight matrix and their right eigenvectors.

    Parameters
    ----------
    W, return_result, regions, seed, max_products, max_seconds, progress
        As for `spectral_radius`.
    k : int
        How many. Of a conjugate pair cut in two, the one with positive imaginary part is kept.
    which : {"LM", "LR", "SR", "LI"}
        Largest modulus, largest real part, smallest real part, largest imaginary part (in absolute value).
    rtol : float
        Error allowed, relative to the largest modulus.
    vectors : bool
        False for the eigenvalues alone, which are cheaper and exist where a defective matrix lacks vectors.

    Returns
    -------
    values : ndarray of complex, shape (k,)
        The leading one first.
    vectors : ndarray of complex, shape (units, k), or None
        ``W @ vectors[:, i] == values[i] * vectors[:, i]``, of unit length.

    Raises
    ------
    SpectralInputError, SpectralConvergenceError, UnknownNameError
        As for `spectral_radius`.

    Examples
    --------
    >>> values, vectors = leading_eigenpairs(np.array([[0.0, 4.0], [1.0, 0.0]]), k=2)
    >>> np.round(values.real, 6).tolist(), vectors.shape
    ([2.0, -2.0], (2, 2))
    """
    if which not in SCORES:
        raise SpectralInputError(f"which is {which!r}; it must be one of {', '.join(SCORES)}. {suggest(which, SCORES)}")
    if isinstance(k, bool) or not isinstance(k, int | np.integer) or k < 1:
        raise SpectralInputError(f"k is {k!r}; it must be a whole number of at least 1.")
    result = _leading(W, which, int(k), rtol, regions, seed, Budget(max_products, max_seconds, progress), pairs=vectors)
    return result if return_result else (result.eigenvalues, result.vectors)


def _leading(
    weights: Any, which: str, k: int, rtol: float, regions: str | Sequence[str] | None, seed: int, budget: Budget, *, pairs: bool
) -> SpectralResult:
    _check_options(rtol, budget)
    w = as_matrix(weights, regions, seed)
    if k > w.shape[0]:
        raise SpectralInputError(f"k is {k}, but the matrix has only {w.shape[0]} eigenvalues.")
    parts = Components.of(w)
    search = _Whole(w, parts, which, k, rtol, seed, budget, pairs)
    return search.result()


def _check_options(rtol: float, budget: Budget) -> None:
    if not 1e-12 <= rtol < 1:
        raise SpectralInputError(f"rtol is {rtol!r}; it must lie between 1e-12 and 1.")
    for name in ("max_products", "max_seconds"):
        if not getattr(budget, name) > 0:
            raise SpectralInputError(f"{name} is {getattr(budget, name)!r}; it must be positive.")


class _Whole:
    """The leading eigenvalues of all components together."""

    def __init__(
        self, w: sp.csr_array, parts: Components, which: str, k: int, rtol: float, seed: int, budget: Budget, pairs: bool
    ) -> None:
        self.w, self.parts, self.which, self.k, self.rtol, self.budget, self.pairs = w, parts, which, k, rtol, budget, pairs
        self.score = SCORES[which]
        self.values: list[complex] = []
        self.origin: list[tuple[Found | None, int, int]] = []  # what found it, which of its values, component (or unit)
        self.failed: list[tuple[str, Found, int]] = []
        self.upper, self.pruned = -np.inf, -np.inf
        self._singles()
        bounds = {part: norm_bound(parts.block(part)) for part in parts.nontrivial()}
        for part in sorted(bounds, key=lambda p: (parts.sizes[p] > DENSE_COMPONENT, -bounds[p])):
            if len(self.values) == k and bounds[part] <= self.cut:
                self.pruned = max(self.pruned, bounds[part])  # it cannot hold any of them
                continue
            try:
                found = solve(parts.block(part), which, k, rtol, seed, budget, pairs=pairs)
            except UncertifiedError as error:
                self.failed.append((error.why, error.found, part))
                continue
            self.upper = max(self.upper, found.upper)
            self._add([(v, (found, i, part)) for i, v in enumerate(found.values)])

    @property
    def cut(self) -> float:
        """Score of the last of the values kept."""
        return float(self.score(np.array(self.values[-1:]))[0])

    def _singles(self) -> None:
        """Units on no cycle but their own: the eigenvalue is the weight to themselves, or 0."""
        alone = self.parts.order[self.parts.start[:-1][self.parts.sizes == 1]]
        if len(alone):
            diagonal = self.w.diagonal()[alone].astype(complex)
            top = order_of(diagonal, self.which)[: self.k]
            self._add([(complex(diagonal[t]), (None, 0, int(alone[t]))) for t in top])
            self.upper = float(self.score(diagonal[top[:1]])[0])

    def _add(self, more: list[tuple[complex, tuple[Found | None, int, int]]]) -> None:
        every = [*zip(self.values, self.origin, strict=True), *more]
        order = order_of(np.array([v for v, _ in every]), self.which)[: self.k]
        self.values, self.origin = [every[i][0] for i in order], [every[i][1] for i in order]
        self.budget.best = float(self.score(np.array(self.values[:1]))[0])

    def result(self) -> SpectralResult:
        """Put together what was found, or say what is missing."""
        for why, found, part in self.failed:
            if len(self.values) < self.k or found.upper > self.cut:
                self._fail(why, found, part)
        values = np.array(self.values, dtype=complex)
        value = float(self.score(values[:1])[0])
        first = self.origin[0][0]
        parts = [f for f, _, _ in self.origin if f is not None]
        acyclic = value == 0 and self.parts.sizes.max() == 1
        method = first.method if first is not None else "acyclic" if acyclic else "diagonal"
        upper = max([self.upper, min(self.pruned, value), *(f.upper for _, f, _ in self.failed)])
        lowers = [value] if first is None else [f.lower for f in parts if f.lower is not None]
        lower = max(lowers) if lowers else None
        return SpectralResult(
            value=value,
            eigenvalues=values,
            method=method,
            residual=0.0 if first is None else first.residual,
            error=max((f.error for f in parts), default=0.0),
            lower=None if lower is None else min(lower, value),
            upper=max(upper, value) if np.isfinite(upper) else None,
            matvecs=self.budget.products,
            vectors=self._vectors(values) if self.pairs else None,
            seconds=self.budget.seconds,
        )

    def _fail(self, why: str, found: Found, part: int) -> NoReturn:
        """Raise with bounds of the whole matrix: other components count too."""
        lower, upper = found.lower, max(found.upper, self.upper)
        best = float(self.score(found.values[:1])[0]) if len(found.values) else None
        if self.values:
            known = float(self.score(np.array(self.values[:1]))[0])
            lower = known if lower is None else max(lower, known)
            best = known if best is None else max(best, known)
        if best is not None and not (-np.inf if lower is None else lower) <= best <= upper:
            best = None  # the bounds refute it
        what = NAMES[self.which] if self.k == 1 else f"the {self.k} leading eigenvalues ({self.which})"
        size = self.parts.sizes[part]
        where = f" (component of {size:,} of {self.w.shape[0]:,} units)" if size < self.w.shape[0] else ""
        raise not_converged(what + where, why, lower, upper, best, found.error)

    def _vectors(self, values: Complex) -> Complex:
        """Eigenvectors of the whole matrix: a component's, carried on to the units it reaches."""
        vectors = np.zeros((self.w.shape[0], len(values)), dtype=complex)
        scale = max(float(np.abs(values).max()), 1e-300)
        for column, (value, (found, i, part)) in enumerate(zip(values, self.origin, strict=True)):
            units = np.array([part]) if found is None else self.parts.units(part)
            x = np.ones(1, dtype=complex) if found is None or found.right is None else found.right[:, i]
            whole = extend(self.w, units, complex(value), x)
            off = float(np.linalg.norm(self.w @ whole - value * whole)) / scale
            if not off <= max(self.rtol, 1e-8):
                raise SpectralConvergenceError(
                    f"the eigenvalue {value:.6g} has no eigenvector within rtol={self.rtol:g} (residual {off:.2g}): it is tied "
                    "with one of a component downstream, or nearly defective. Pass vectors=False for the eigenvalues.",
                    best=float(self.score(values[:1])[0]),
                )
            vectors[:, column] = whole
        return vectors




def locate_radius(w: sp.csr_array, rtol: float, seed: int, *, gradient: bool) -> tuple[float, NDArray[np.integer], sp.csr_array | None]:
    """The spectral radius, the component that attains it, and its derivative by that component's entries.

    No derivative (None) without ``gradient``, and where the radius is 0.
    """
    budget = Budget()
    _check_options(rtol, budget)
    whole = _Whole(w, Components.of(w), "LM", 1, rtol, seed, budget, pairs=False)
    value = whole.result().value
    found, _, part = whole.origin[0]
    units = np.array([part]) if found is None else whole.parts.units(part)
    if not gradient or value == 0:
        return value, units, None
    if found is None:
        return value, units, sp.csr_array(np.sign(w.diagonal()[units])[None])
    block = whole.parts.block(part)
    block.sort_indices()
    try:
        sharp = solve(block, "LM", 1, rtol, seed, budget, pairs=True, sharp=True)
    except UncertifiedError as error:
        whole._fail(error.why, error.found, part)
    return value, units, sp.csr_array((gradient_entries(block, sharp), block.indices, block.indptr), shape=block.shape)
