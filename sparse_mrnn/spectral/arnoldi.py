"""Certified leading eigenvalues of a general matrix: two independent searches, of W and of its transpose.

The searches have to agree; their vectors x and y give the condition number ``|x||y| / |y^T x|`` of each
eigenvalue, and with it the error that the residual allows. If they disagree, or it is too large, both go on.

At the edge of a disc whose centre c is far from 0, powers of W hardly tell the leading eigenvalues from their
neighbours. Expanded about c, the T-th power of W needs far fewer than T products, and so does ``exp(t W)``,
which orders by real part as powers do by modulus. ARPACK's basis for such a polynomial stays small
(`FilteredSearch`). For the exponential: Meerbergen & Sadkane 1999, Using Krylov approximations to the matrix
exponential operator in Davidson's method.
"""

from __future__ import annotations

import math

import numpy as np
import scipy.sparse as sp
import torch
from scipy.sparse.linalg import ArpackError, ArpackNoConvergence, LinearOperator, eigs

from sparse_mrnn.spectral.krylov import KrylovSearch, sparse_product
from sparse_mrnn.spectral.result import ComponentResult, UncertifiedError
from sparse_mrnn.spectral.settings import (
    SCORES,
    BudgetSpentError,
    Complex,
    Float,
    SearchSettings,
    leading_order,
)


class FilteredSearch(KrylovSearch):
    """`KrylovSearch` for eigenvalues of largest modulus or of largest or smallest real part.

    The first two attempts, and then every other one, go as in `KrylovSearch`; they also find where the
    spectrum lies: within ``radius`` of ``middle``.
    """

    reach = 20.0
    """Growth, as a logarithm, of the polynomial from the middle of the spectrum to its edge; it doubles."""
    attempts = 0
    middle, radius = 0.0, math.inf

    @property
    def restarts(self) -> bool:
        """True if the next attempt uses the polynomial."""
        if self.attempts < 2 or self.attempts % 2 or self.n < 3 * self.limit // 2:
            return False
        if self.which == "LM":
            return abs(self.middle) > 1.5 * self.radius
        return bool(np.ptp(self.values.real) > 1e-3 * self.radius)  # not where all lie above each other

    def filter(self, degree: int) -> None:
        """Filter as `KrylovSearch` does; an attempt with the polynomial needs no filter."""
        if not self.restarts:
            super().filter(degree)

    def lock(self, k: int, degree: int) -> None:
        """Lock as `KrylovSearch` does; after an attempt with the polynomial nothing dominates."""
        if self.attempts < 3 or self.attempts % 2 == 0:
            super().lock(k, degree)

    def expand(self, limit: int, k: int, tol: float, patient: bool) -> bool:
        """Arguments and result as `KrylovSearch.expand`."""
        restarts = self.restarts
        self.attempts += 1
        if restarts:
            wanted = k + 6
            self._restarted_arnoldi(wanted, min(self.limit, max(40, 2 * wanted + 10)), tol)
            self.reach *= 2
            return self.settled(k, tol)
        settled = super().expand(limit, k, tol, patient)
        self.middle = 0.5 * float(self.values.real.min() + self.values.real.max())
        self.radius = 1.1 * float(np.abs(self.values - self.middle).max())
        return settled

    def _factors(self) -> list[float]:
        """Term j of the polynomial is term j - 1 times factor j times (W - center)."""
        center, radius = self.middle, self.radius
        if self.which == "LM":  # (1 + z)^power, z = (W - center) / center
            power = self.reach * abs(center) / radius
            lead = power * math.log(self.scale / abs(center))
        else:
            power, lead = math.inf, self.reach / radius * float(np.abs(self.values.real - center).max())
        sign = -1.0 if self.which == "SR" else 1.0
        factors: list[float] = []
        log_term, j = 0.0, 1
        while j <= self.reach or log_term > lead - math.log(100):  # until the rest cannot matter
            factor = (power - j + 1) / j / center if self.which == "LM" else sign * self.reach / radius / j
            log_term += math.log(max(abs(factor) * radius, 1e-300))
            factors.append(factor)
            j += 1
        return factors

    def _restarted_arnoldi(self, wanted: int, size: int, tol: float) -> None:
        factors = self._factors()

        def polynomial(x: Float) -> Float:
            term = torch.from_numpy(np.ascontiguousarray(x))
            total = term.clone()
            for factor in factors:
                term = (self.product(term) - self.middle * term).mul_(factor)
                total += term
            return total.numpy()

        operator = LinearOperator((self.n, self.n), matvec=polynomial, dtype=np.float64)
        try:
            _, found = eigs(operator, wanted, ncv=size, v0=self.v.numpy(), tol=tol, maxiter=60)
        except ArpackNoConvergence as error:
            found = error.eigenvectors
        except ArpackError:
            return
        if found.shape[1]:
            self._rayleigh_ritz(found)

    def _rayleigh_ritz(self, x: Complex) -> None:
        """Eigenpairs of W from eigenvectors of the polynomial."""
        q, image = self._subspace(x)
        values, small = np.linalg.eig((q @ image.t()).numpy())
        order = leading_order(values.astype(complex), self.which)
        values, small = values[order].astype(complex), small[:, order]
        vectors = q.t().numpy() @ small
        residual = np.linalg.norm(image.t().numpy() @ small - vectors * values, axis=0)
        self.vectors = vectors / np.linalg.norm(vectors, axis=0)
        self.values = values
        self.residuals = residual / max(self.scale, 1e-300)


FIRST_FILTER = 256
"""Degree of the first filter; it doubles."""
LAST_TOL = 1e-13
"""Residual below which more work gains nothing in double precision."""


class TwoSidedSearch:
    """The k leading eigenvalues of a product of sparse matrices; usually of one, scaled to a norm near 1.

    ``normal``: it is symmetric or skew-symmetric, so every eigenvalue has condition number 1.
    """

    def __init__(self, factors: list[sp.csr_array], settings: SearchSettings, normal: bool = False) -> None:
        n, budget = factors[0].shape[0], settings.budget
        self.settings, self.normal, self.k = settings, normal, min(settings.k, n)
        self.method = "Lanczos" if normal else "Arnoldi"
        streams = [np.random.default_rng(s) for s in np.random.SeedSequence(settings.seed).spawn(2)]
        forward = sparse_product(factors, budget)
        adjoint = forward if normal else sparse_product([f.T.tocsr() for f in reversed(factors)], budget)
        search = KrylovSearch if settings.which == "LI" else FilteredSearch
        self.right = search(forward, n, settings.which, streams[0])
        self.left = search(adjoint, n, settings.which, streams[1])

    def run(self) -> ComponentResult:
        """Search until both sides agree; raise `UncertifiedError` if they do not."""
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
        """Best values of the search of W, of unknown error."""
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
            real, imag = (self.right.product(part).numpy() for part in parts)
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
