"""The leading eigenvalues of a whole matrix, put together from those of its strongly connected components."""

from __future__ import annotations

from typing import NoReturn

import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray

from sparse_mrnn.errors import SpectralConvergenceError, SpectralInputError
from sparse_mrnn.spectral.arnoldi import Found, UncertifiedError
from sparse_mrnn.spectral.component import DENSE_COMPONENT, gradient_entries, order_of, solve
from sparse_mrnn.spectral.extend import extend
from sparse_mrnn.spectral.krylov import SCORES
from sparse_mrnn.spectral.result import Budget, Complex, SpectralResult, not_converged
from sparse_mrnn.spectral.structure import Components, norm_bound

NAMES = {
    "LM": "the spectral radius",
    "LR": "the spectral abscissa",
    "SR": "the smallest real part",
    "LI": "the largest imaginary part",
}


def check_options(rtol: float, budget: Budget) -> None:
    """Refuse an accuracy or a budget that is out of range."""
    if not 1e-12 <= rtol < 1:
        raise SpectralInputError(f"rtol is {rtol!r}; it must lie between 1e-12 and 1.")
    for name in ("max_products", "max_seconds"):
        if not getattr(budget, name) > 0:
            raise SpectralInputError(f"{name} is {getattr(budget, name)!r}; it must be positive.")


class WholeSearch:
    """The leading eigenvalues of all components together."""

    def __init__(
        self, w: sp.csr_array, which: str, k: int, rtol: float, seed: int, budget: Budget, *, pairs: bool
    ) -> None:
        parts = Components.of(w)
        self.w, self.parts, self.which, self.k = w, parts, which, k
        self.rtol, self.budget, self.pairs = rtol, budget, pairs
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


def locate_radius(
    w: sp.csr_array, rtol: float, seed: int, *, gradient: bool
) -> tuple[float, NDArray[np.integer], sp.csr_array | None]:
    """The spectral radius, the component that attains it, and its derivative by that component's entries.

    No derivative (None) without ``gradient``, and where the radius is 0.
    """
    budget = Budget()
    check_options(rtol, budget)
    whole = WholeSearch(w, "LM", 1, rtol, seed, budget, pairs=False)
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
