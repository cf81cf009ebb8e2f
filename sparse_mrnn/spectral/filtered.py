"""Leading eigenvalues of a spectrum away from 0: restarted Arnoldi on a polynomial made for them.

At the edge of a disc whose centre c is far from 0, powers of W hardly tell the leading eigenvalues from their
neighbours. Expanded about c, the T-th power of W needs far fewer than T products, and so does ``exp(t W)``,
which orders by real part as powers do by modulus. ARPACK's basis for such a polynomial stays small. For the
exponential: Meerbergen & Sadkane 1999, Using Krylov approximations to the matrix exponential operator in
Davidson's method.
"""

from __future__ import annotations

import math

import numpy as np
import torch
from scipy.sparse.linalg import ArpackError, ArpackNoConvergence, LinearOperator, eigs

from sparse_mrnn.spectral.krylov import KrylovSearch
from sparse_mrnn.spectral.settings import Complex, Float, leading_order

REACH = 20.0
"""First growth, as a logarithm, of the polynomial from the middle of the spectrum to its edge; it doubles."""


class FilteredSearch(KrylovSearch):
    """As `KrylovSearch`, for eigenvalues of largest modulus or of largest or smallest real part.

    The first two attempts, and then every other one, are those of `KrylovSearch`, which also find where the
    spectrum lies: within ``radius`` of ``middle``.
    """

    reach = REACH
    attempts = 0
    middle, radius = 0.0, math.inf

    @property
    def restarts(self) -> bool:
        """Whether the next attempt is one with the polynomial."""
        if self.attempts < 2 or self.attempts % 2 or self.n < 3 * self.limit // 2:
            return False
        if self.which == "LM":
            return abs(self.middle) > 1.5 * self.radius
        return bool(np.ptp(self.values.real) > 1e-3 * self.radius)  # not where all lie above each other

    def filter(self, degree: int) -> None:
        """As `KrylovSearch.filter`; not before an attempt with the polynomial, which needs none."""
        if not self.restarts:
            super().filter(degree)

    def lock(self, k: int, degree: int) -> None:
        """As `KrylovSearch.lock`; not after an attempt with the polynomial, which lets nothing dominate."""
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
        u, s, _ = np.linalg.svd(np.concatenate([x.real, x.imag], axis=1), full_matrices=False)
        q = torch.from_numpy(np.ascontiguousarray(u[:, s > 1e-7 * s[0]].T))
        image = torch.stack([self.product(row) for row in q])
        values, small = np.linalg.eig((q @ image.t()).numpy())
        order = leading_order(values.astype(complex), self.which)
        values, small = values[order].astype(complex), small[:, order]
        vectors = q.t().numpy() @ small
        residual = np.linalg.norm(image.t().numpy() @ small - vectors * values, axis=0)
        self.vectors = vectors / np.linalg.norm(vectors, axis=0)
        self.values = values
        self.residuals = residual / max(self.scale, 1e-300)
