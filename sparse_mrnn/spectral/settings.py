"""Settings of a spectral search: which eigenvalues, in what order, how accurately, at what cost."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from sparse_mrnn.errors import SpectralInputError, suggest

Float = NDArray[np.float64]
Complex = NDArray[np.complex128]
Progress = Callable[[int, float], None]

SCORES: dict[str, Callable[[Complex], Float]] = {
    "LM": np.abs,
    "LR": np.real,
    "SR": lambda values: -np.real(values),
    "LI": lambda values: np.abs(np.imag(values)),
}
"""Number that is largest at the leading eigenvalue, for each ``which``."""


def leading_order(values: Complex, which: str) -> NDArray[np.intp]:
    """Indices from the leading value on; of ties (to 12 digits), the upper one first."""
    score = SCORES[which](values)
    digits = 12 - int(np.ceil(np.log10(max(float(np.abs(score).max()), 1e-300))))
    return np.lexsort((-values.imag, -np.round(score, min(digits, 300))))


class BudgetSpentError(Exception):
    """Inside the package: the search has used up its products or its time."""


class Budget:
    """Counts products, keeps the clock, and reports how far a search is; see `spectral_search`."""

    def __init__(
        self, products: int | None = None, seconds: float | None = None, progress: Progress | None = None
    ) -> None:
        self.max_products = 100_000 if products is None else products
        self.max_seconds = np.inf if seconds is None else seconds
        for name in ("max_products", "max_seconds"):
            if not getattr(self, name) > 0:
                raise SpectralInputError(f"{name} is {getattr(self, name)!r}; it must be positive.")
        self.progress = progress
        self.start = self._reported = time.perf_counter()
        self.products = 0
        self.best = 0.0
        self.unit = 0.0
        """Factor from a search's values to the user's (0: they mean nothing to a user)."""

    @property
    def seconds(self) -> float:
        """Time since the search began."""
        return time.perf_counter() - self.start

    def spend(self, products: int = 1) -> None:
        """Account for products before they are made; `BudgetSpentError` if too few, or no time, are left."""
        now = time.perf_counter()
        if self.products + products > self.max_products or now - self.start > self.max_seconds:
            raise BudgetSpentError
        self.products += products
        if self.progress is not None and now - self._reported > 0.2:
            self._reported = now
            self.progress(self.products, self.best)

    def note(self, value: float) -> None:
        """Remember the best value so far, for the progress report."""
        self.best = max(self.best, value * self.unit)

    @property
    def why(self) -> str:
        """Sentence that says which limit was met."""
        if self.seconds > self.max_seconds:
            return f"max_seconds={self.max_seconds:g} was reached after {self.products:,} products"
        return f"max_products={self.max_products:,} was reached after {self.seconds:.1f} s"


@dataclass(frozen=True)
class SearchSettings:
    """Eigenvalues wanted, accuracy and cost; see `spectral_search`.

    ``vectors`` asks for right eigenvectors, ``precise`` for right and left ones to double precision.
    """

    which: str
    k: int
    rtol: float
    seed: int
    budget: Budget
    vectors: bool = False
    precise: bool = False

    def __post_init__(self) -> None:
        if self.which not in SCORES:
            known = f"it must be one of {', '.join(SCORES)}. {suggest(self.which, SCORES)}"
            raise SpectralInputError(f"which is {self.which!r}; {known}")
        if isinstance(self.k, bool) or not isinstance(self.k, int | np.integer) or self.k < 1:
            raise SpectralInputError(f"k is {self.k!r}; it must be a whole number of at least 1.")
        if not 1e-12 <= self.rtol < 1:
            raise SpectralInputError(f"rtol is {self.rtol!r}; it must lie between 1e-12 and 1.")

    @property
    def one_value(self) -> bool:
        """True if one eigenvalue without its vectors is all that is asked for."""
        return self.k == 1 and not self.vectors and not self.precise

    def score(self, values: Complex) -> float:
        """Number that orders the first of some eigenvalues: its modulus, or a part of it."""
        return float(SCORES[self.which](values[:1])[0])
