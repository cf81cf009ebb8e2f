"""Leading eigenvalues of a matrix, put together from those of its strongly connected components."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import NoReturn

import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray
from scipy.sparse.csgraph import breadth_first_order
from scipy.sparse.linalg import gmres, splu

from sparse_mrnn.errors import SpectralConvergenceError
from sparse_mrnn.spectral.arnoldi import TwoSidedSearch
from sparse_mrnn.spectral.component import DENSE_COMPONENT, solve_component
from sparse_mrnn.spectral.inputs import with_small_indices
from sparse_mrnn.spectral.result import ComponentResult, SpectralResult, UncertifiedError, not_converged
from sparse_mrnn.spectral.settings import Complex, SearchSettings, leading_order
from sparse_mrnn.spectral.structure import Components, norm_bound

DIRECT = 2000
"""Units downstream up to which the linear system is factorised; above, GMRES."""


def extend_downstream(w: sp.csr_array, units: NDArray[np.integer], value: complex, x: Complex) -> Complex:
    """The eigenvector of ``w`` that is ``x`` on ``units``: solves ``(v I - W_dd) x_d = W_du x`` downstream.

    The result has unit length. The caller checks that it is an eigenvector: it is not if the value is an
    eigenvalue downstream, too.
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
    system = sp.csc_matrix(value * sp.identity(len(feed), dtype=complex, format="csc") - inner)
    if len(feed) > DIRECT:
        return np.asarray(gmres(sp.csr_array(system), feed, rtol=1e-11, restart=60, maxiter=30)[0])
    try:
        return np.asarray(splu(system).solve(feed))
    except RuntimeError:  # exactly singular
        return 0 * feed



@dataclass(frozen=True, eq=False)
class Eigenvalue:
    """An eigenvalue, its component, and which of the values found there it is (None: a lone unit)."""

    value: complex
    component: int
    found: ComponentResult | None = None
    number: int = 0


class MatrixSearch:
    """The search of all components of a matrix, each as far as its bounds say that it matters."""

    def __init__(self, w: sp.csr_array, settings: SearchSettings) -> None:
        self.w, self.settings, self.parts = w, settings, Components.of(w)
        self.leading: list[Eigenvalue] = []
        self.failed: list[tuple[UncertifiedError, int]] = []
        self.upper, self.pruned = -np.inf, -np.inf
        self._lone_units()
        several = np.flatnonzero(self.parts.sizes > 1).tolist()
        bounds = {part: norm_bound(self.parts.block(part)) for part in several}
        for part in sorted(bounds, key=lambda p: (self.parts.sizes[p] > DENSE_COMPONENT, -bounds[p])):
            if len(self.leading) == settings.k and bounds[part] <= self._lowest_score:
                self.pruned = max(self.pruned, bounds[part])  # it cannot hold any of them
                continue
            try:
                found = solve_component(self.parts.block(part), settings)
            except UncertifiedError as error:
                self.failed.append((error, part))
                continue
            self.upper = max(self.upper, found.upper)
            self._add([Eigenvalue(complex(v), part, found, i) for i, v in enumerate(found.values)])

    @property
    def _values(self) -> Complex:
        return np.array([one.value for one in self.leading], dtype=complex)

    @property
    def _lowest_score(self) -> float:
        return self.settings.score(self._values[-1:])

    def _lone_units(self) -> None:
        """Units on no cycle but their own: the eigenvalue is the weight to themselves, or 0."""
        alone = np.flatnonzero(self.parts.sizes == 1)
        if len(alone):
            diagonal = self.w.diagonal()[self.parts.order[self.parts.start[alone]]].astype(complex)
            top = leading_order(diagonal, self.settings.which)[: self.settings.k]
            self._add([Eigenvalue(complex(diagonal[t]), int(alone[t])) for t in top])
            self.upper = self.settings.score(diagonal[top[:1]])

    def _add(self, more: list[Eigenvalue]) -> None:
        every = self.leading + more
        order = leading_order(np.array([one.value for one in every]), self.settings.which)
        self.leading = [every[i] for i in order[: self.settings.k]]
        self.settings.budget.best = self.settings.score(self._values)

    def result(self) -> SpectralResult:
        """Result of the search; `SpectralConvergenceError` if a component that matters is not certified."""
        for error, part in self.failed:
            if len(self.leading) < self.settings.k or error.best.upper > self._lowest_score:
                self.fail(error, part)
        values = self._values
        value, first = self.settings.score(values), self.leading[0].found
        found = [one.found for one in self.leading if one.found is not None]
        acyclic = value == 0 and self.parts.sizes.max() == 1
        method = first.method if first is not None else "acyclic" if acyclic else "diagonal"
        upper = max([self.upper, min(self.pruned, value), *(error.best.upper for error, _ in self.failed)])
        lowers = [value] if first is None else [f.lower for f in found if f.lower is not None]
        vectors = self._vectors() if self.settings.vectors else None
        off = max((f.error for f in found), default=0.0)
        lower = min(max(lowers), value) if lowers else None
        bounds = lower, max(upper, value) if np.isfinite(upper) else None
        residual = 0.0 if first is None else first.residual
        products, seconds = self.settings.budget.products, self.settings.budget.seconds
        return SpectralResult(value, values, method, residual, off, *bounds, products, seconds, vectors)

    def fail(self, error: UncertifiedError, part: int) -> NoReturn:
        """Raise with bounds of the whole matrix: other components count too."""
        found, score = error.best, self.settings.score
        lower, upper = found.lower, max(found.upper, self.upper)
        best = score(found.values) if len(found.values) else None
        if self.leading:
            known = score(self._values)
            lower = known if lower is None else max(lower, known)
            best = known if best is None else max(best, known)
        if best is not None and not (-np.inf if lower is None else lower) <= best <= upper:
            best = None  # the bounds refute it
        size, n = self.parts.sizes[part], self.w.shape[0]
        place = f" (component of {size:,} of {n:,} units)" if size < n else ""
        raise not_converged(
            self.settings, error.why, replace(found, lower=lower, upper=upper), best, place
        )

    def _vectors(self) -> Complex:
        """Eigenvectors of the matrix: a component's, extended to the units it reaches."""
        rtol, values = self.settings.rtol, self._values
        vectors = np.zeros((self.w.shape[0], len(values)), dtype=complex)
        scale = max(float(np.abs(values).max()), 1e-300)
        for column, one in enumerate(self.leading):
            right = None if one.found is None else one.found.right
            x = np.ones(1, dtype=complex) if right is None else right[:, one.number]
            vector = extend_downstream(self.w, self.parts.units(one.component), one.value, x)
            off = float(np.linalg.norm(self.w @ vector - one.value * vector)) / scale
            if not off <= max(rtol, 1e-8):
                raise SpectralConvergenceError(
                    f"the eigenvalue {one.value:.6g} has no eigenvector within rtol={rtol:g} "
                    f"(residual {off:.2g}): it is tied with one of a component downstream, or nearly "
                    "defective. Pass vectors=False for the eigenvalues.",
                    best=self.settings.score(values),
                )
            vectors[:, column] = vector
        return vectors


def low_rank_search(
    synapses: sp.csr_array, left: sp.csr_array, right: sp.csr_array, settings: SearchSettings
) -> SpectralResult:
    """Leading eigenvalues of ``synapses + left @ right.T``, which is never multiplied out.

    It is searched as the product of ``[synapses, left]`` and ``[1, right]^T``, which has the same products.
    """
    n, budget, ones = synapses.shape[0], settings.budget, np.ones(synapses.shape[0])
    rows = abs(synapses) @ ones + abs(left) @ (abs(right).T @ ones)
    columns = abs(synapses).T @ ones + abs(right) @ (abs(left).T @ ones)
    size = max(float(min(rows.max(), columns.max())), 1e-300)  # a bound of the radius
    budget.unit = size
    factors = sp.hstack([synapses / size, left / size]), sp.vstack([sp.eye_array(n), right.T])
    try:
        search = TwoSidedSearch([with_small_indices(sp.csr_array(factor)) for factor in factors], settings)
        found = search.run().times(size).within(None, size)
    except UncertifiedError as error:
        best = error.best.times(size).within(None, size)
        value = settings.score(best.values) if len(best.values) else None
        raise not_converged(settings, error.why, best, value) from None
    value, vectors = settings.score(found.values), found.right if settings.vectors else None
    cost = found.residual, found.error, found.lower, max(found.upper, value), budget.products, budget.seconds
    return SpectralResult(value, found.values, found.method, *cost, vectors)
