"""What a spectral search returns, what it may spend, and what it says when it fails."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from sparse_mrnn.errors import SpectralConvergenceError

Complex = NDArray[np.complex128]
Progress = Callable[[int, float], None]

MAX_PRODUCTS = 100_000
"""Products with the matrix a search may make unless told otherwise."""


@dataclass(frozen=True, eq=False)
class SpectralResult:
    """A spectral quantity: its value, how far off it may be, and how it was found.

    Parameters
    ----------
    value : float
        The spectral radius or abscissa; for eigenpairs, the modulus or part that ordered the first of them.
    eigenvalues : ndarray of complex, shape (found,)
        Leading eigenvalues, the first attains ``value``. At least one, unless the matrix has no cycle.
    method : str
        "acyclic", "diagonal", "dense component", "cycle", "Perron-Frobenius", "Arnoldi", "Lanczos",
        with "cyclic classes: " before it where a power of the matrix was searched.
    residual : float
        ``|W x - lambda x| / |lambda|`` of the leading pair, within its component; 0 where no vector was needed.
    error : float
        Estimated relative error of ``value``: half the bracket where the bounds are proven, else the residual
        times the condition number of the eigenvalue.
    lower, upper : float or None
        Bounds of ``value`` that hold whatever the search found. From one-signed weights (Collatz-Wielandt), norms,
        traces, and the growth of a random vector (wrong with a probability below 1e-5).
    matvecs : int
        Products with the matrix or its transpose.
    seconds : float
    vectors : ndarray of complex, shape (units, found), or None
        Right eigenvectors of unit length, from `leading_eigenpairs`.

    References
    ----------
    Collatz-Wielandt: Horn & Johnson, Matrix Analysis, 8.1. Growth of a random vector: Dixon 1983, Estimating
    extremal eigenvalues and condition numbers of matrices.
    """

    value: float
    eigenvalues: Complex = field(repr=False)
    method: str
    residual: float
    error: float
    lower: float | None
    upper: float | None
    matvecs: int
    seconds: float
    vectors: Complex | None = field(default=None, repr=False)


class BudgetSpentError(Exception):
    """Inside the package: the search has used up its products or its time."""


class Budget:
    """Counts products, keeps the clock, and tells how far a search is.

    Parameters
    ----------
    max_products : int, optional
    max_seconds : float, optional
    progress : callable, optional
        Called with (products so far, best value so far) about five times a second.
    """

    def __init__(self, max_products: int | None = None, max_seconds: float | None = None, progress: Progress | None = None) -> None:
        self.max_products = MAX_PRODUCTS if max_products is None else max_products
        self.max_seconds = np.inf if max_seconds is None else max_seconds
        self.progress = progress
        self.start = self._told = time.perf_counter()
        self.products = 0
        self.best = 0.0
        self.unit = 0.0
        """What a search's values are to be multiplied by for the user (0: they mean nothing to one)."""

    @property
    def seconds(self) -> float:
        """Time since the search began."""
        return time.perf_counter() - self.start

    def spend(self, products: int = 1) -> None:
        """Account for products, before they are made.

        Raises
        ------
        BudgetSpentError
            If they are more than are left, or the time is over.
        """
        now = time.perf_counter()
        if self.products + products > self.max_products or now - self.start > self.max_seconds:
            raise BudgetSpentError
        self.products += products
        if self.progress is not None and now - self._told > 0.2:
            self._told = now
            self.progress(self.products, self.best)

    def note(self, value: float) -> None:
        """Remember the best value so far, for the progress report."""
        self.best = max(self.best, value * self.unit)

    @property
    def why(self) -> str:
        """Which limit was met."""
        if self.seconds > self.max_seconds:
            return f"max_seconds={self.max_seconds:g} was reached after {self.products:,} products"
        return f"max_products={self.max_products:,} was reached after {self.seconds:.1f} s"


def not_converged(what: str, why: str, lower: float | None, upper: float, best: float | None, error: float) -> SpectralConvergenceError:
    """The error of a search that certified nothing, with what it knows."""
    known = f"it is at most {upper:.6g}" if lower is None else f"it lies between {lower:.6g} and {upper:.6g}"
    guess = ""
    if best is not None:
        off = f"estimated relative error {error:.2g}" if np.isfinite(error) else "error unknown"
        guess = f" The best value found is {best:.6g} ({off}), not certified."
    return SpectralConvergenceError(f"{what} is not certified: {why}; {known}.{guess}", lower=lower, upper=upper, best=best)
