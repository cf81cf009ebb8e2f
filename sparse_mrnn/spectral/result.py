"""Results of a spectral search: of a whole matrix, of one component, and of a failed one."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import numpy as np

from sparse_mrnn.errors import SpectralConvergenceError
from sparse_mrnn.spectral.settings import Complex, Float, SearchSettings


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
        with "cyclic classes: " before it if a power of the matrix was searched.
    residual : float
        ``|W x - lambda x| / |lambda|`` of the leading pair, within its component; 0 if it needed no vector.
    error : float
        Estimated relative error of ``value``: half the bracket if the bounds are proven, else the residual
        times the condition number of the eigenvalue.
    lower, upper : float or None
        Bounds of ``value`` that hold whatever the search found. From one-signed weights (Collatz-Wielandt),
        norms, traces, and the growth of a random vector (wrong with a probability below 1e-5).
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


@dataclass(frozen=True, eq=False)
class ComponentResult:
    """Eigenvalues of one component. ``error`` and ``residual`` are relative to the largest modulus.

    ``right`` and ``left`` are eigenvectors, shape (units, found): ``W x = v x``, ``y^T W = v y^T``.
    """

    values: Complex
    error: float
    residual: float
    lower: float | None
    upper: float
    method: str
    right: Complex | None = field(default=None, repr=False)
    left: Complex | None = field(default=None, repr=False)

    def within(self, lower: float | None, upper: float) -> ComponentResult:
        """Result with bounds known from elsewhere, if they are closer."""
        lowers = [bound for bound in (self.lower, lower) if bound is not None]
        return replace(self, lower=max(lowers) if lowers else None, upper=min(self.upper, upper))

    def times(self, factor: float) -> ComponentResult:
        """Result for the matrix times a positive factor."""
        lower = None if self.lower is None else self.lower * factor
        return replace(self, values=self.values * factor, lower=lower, upper=self.upper * factor)

    def unbalanced(self, d: Float) -> ComponentResult:
        """Result for W, from that for the balanced ``D^-1 W D``."""
        if self.right is None or self.left is None or (d == 1).all():
            return self
        right, left = self.right * d[:, None], self.left / d[:, None]
        right, left = right / np.linalg.norm(right, axis=0), left / np.linalg.norm(left, axis=0)
        return replace(self, right=right, left=left)


class UncertifiedError(Exception):
    """Inside the package: a component's search ended without a certified value; ``best`` is what it has."""

    def __init__(self, why: str, best: ComponentResult) -> None:
        super().__init__(why)
        self.why, self.best = why, best


NAMES = {
    "LM": "the spectral radius", "LR": "the spectral abscissa", "SR": "the smallest real part",
    "LI": "the largest imaginary part",
}


def not_converged(
    settings: SearchSettings, why: str, known: ComponentResult, best: float | None, place: str = ""
) -> SpectralConvergenceError:
    """The error of a search that certified nothing, with the bounds that are known and the best value."""
    which, k, lower, upper, error = settings.which, settings.k, known.lower, known.upper, known.error
    what = (NAMES[which] if k == 1 else f"the {k} leading eigenvalues ({which})") + place
    bounds = f"is at most {upper:.6g}" if lower is None else f"lies between {lower:.6g} and {upper:.6g}"
    guess = ""
    if best is not None:
        off = f"estimated relative error {error:.2g}" if np.isfinite(error) else "error unknown"
        guess = f" The best value found is {best:.6g} ({off}), not certified."
    message = f"{what} is not certified: {why}; it {bounds}.{guess}"
    return SpectralConvergenceError(message, lower=lower, upper=upper, best=best)
