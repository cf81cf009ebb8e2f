"""Certified leading eigenvalues of a general matrix: two independent searches, of W and of its transpose.

They have to agree; their vectors x and y give the condition number ``|x||y| / |y^T x|`` of each eigenvalue,
and with it the error that the residual allows. Where they do not agree, or it is too large, both go on.
"""

from __future__ import annotations

import numpy as np
import scipy.sparse as sp
import torch

from sparse_mrnn.spectral.filtered import FilteredSearch
from sparse_mrnn.spectral.krylov import KrylovSearch, SparseProduct
from sparse_mrnn.spectral.result import ComponentResult, UncertifiedError
from sparse_mrnn.spectral.settings import SCORES, BudgetSpentError, SearchSettings

FIRST_FILTER = 256
"""Degree of the first filter; it doubles."""
LAST_TOL = 1e-13
"""Residual below which more work gains nothing in double precision."""


class TwoSidedSearch:
    """The k leading eigenvalues of a product of sparse matrices; usually of one, scaled to a norm near 1.

    ``normal``: it is symmetric or skew-symmetric, so every eigenvalue has condition number 1.
    """

    def __init__(self, factors: list[sp.csr_array], settings: SearchSettings, normal: bool = False) -> None:
        self.product = product = SparseProduct(factors, settings.budget)
        self.settings, self.normal, self.k = settings, normal, min(settings.k, product.n)
        self.method = "Lanczos" if normal else "Arnoldi"
        streams = [np.random.default_rng(s) for s in np.random.SeedSequence(settings.seed).spawn(2)]
        adjoint = product.forward if normal else product.adjoint
        search = KrylovSearch if settings.which == "LI" else FilteredSearch
        self.right = search(product.forward, product.n, settings.which, streams[0])
        self.left = search(adjoint, product.n, settings.which, streams[1])

    def run(self) -> ComponentResult:
        """Search until both sides agree; raises `UncertifiedError` where they do not."""
        budget, rtol = self.settings.budget, self.settings.rtol
        tol = 1e-10 if self.settings.precise else 0.01 * rtol
        degree, attempt = 0, 0
        try:
            while True:
                self._expand(degree, attempt, tol)
                budget.note(self.settings.score(self.right.values))
                if self.right.settled(self.k, tol) and self.left.settled(self.k, tol):
                    found = self._compared()
                    if found.error <= rtol:
                        return found
                    if np.isfinite(found.error):
                        if tol <= LAST_TOL:
                            why = "too ill-conditioned for double precision (the matrix is highly non-normal)"
                            raise UncertifiedError(f"the eigenvalue is {why}", found)
                        tol = max(0.3 * tol * min(1.0, rtol / found.error), LAST_TOL)
                if self.right.log_growth == -np.inf:
                    why = "powers of the matrix vanish on a random vector: it looks nilpotent"
                    raise UncertifiedError(why, self._uncompared())
                degree = 2 * degree if degree else FIRST_FILTER
                attempt += 1
        except BudgetSpentError:
            raise UncertifiedError(budget.why, self._uncompared()) from None

    def _expand(self, degree: int, attempt: int, tol: float) -> None:
        """A larger filter and a larger basis for each search that has not settled."""
        size, patient = min(self.right.limit, 80 + 40 * attempt), attempt >= 6
        both = [self.right, self.left]
        for search in [s for s in both if not s.settled(self.k, tol)] or both:
            if search is self.left and self.settings.which != "LM":
                self.left.center = self.left.center or self.right.scale
            search.filter(max(degree, FIRST_FILTER) if search is self.left else degree)
            if not search.expand(size, self.k, tol, patient):
                search.lock(self.k, 2 * max(degree, FIRST_FILTER))
                break

    def _uncompared(self) -> ComponentResult:
        """What the search of W has, of unknown error."""
        residuals = self.right.residuals[: self.k]
        residual = float(residuals.max()) if len(residuals) else np.inf
        upper = min(self.right.upper, self.left.upper)
        return ComponentResult(self.right.values[: self.k], np.inf, residual, None, upper, self.method)

    def _compared(self) -> ComponentResult:
        """Both searches put together; the error is large unless they agree."""
        values, x, theta = self.right.values[: self.k], self.right.vectors[:, : self.k], self.left.values
        scale, score = max(self.right.scale, 1e-300), SCORES[self.settings.which]
        y = np.empty_like(x)
        error, residual = 0.0, 0.0
        for i, value in enumerate(values):
            parts = (torch.from_numpy(np.ascontiguousarray(part)) for part in (x[:, i].real, x[:, i].imag))
            real, imag = (self.product.forward(part).numpy() for part in parts)
            off = float(np.linalg.norm(real + 1j * imag - value * x[:, i])) / scale
            j = int(np.argmin(np.abs(theta[: self.left.vectors.shape[1]] - value)))
            y[:, i] = self.left.vectors[:, j]
            with np.errstate(divide="ignore"):
                condition = 1.0 if self.normal else float(1 / np.abs(y[:, i] @ x[:, i]))
            apart = float(abs(score(theta[i : i + 1])[0] - score(values[i : i + 1])[0])) / scale
            if not self.normal:  # one eigenvalue, if the two values are as close as their errors allow
                apart = max(apart, float(np.abs(theta[j] - value)) / scale)
            error, residual = max(error, condition * max(off, 1e-16), apart), max(residual, off)
        lower = self.settings.score(values) - residual * scale if self.normal else None
        upper = min(self.right.upper, self.left.upper)
        return ComponentResult(values, error, residual, lower, upper, self.method, x, y)
