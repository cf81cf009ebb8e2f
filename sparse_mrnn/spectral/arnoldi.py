"""Certified leading eigenvalues of a general matrix: two independent searches, of W and of its transpose.

They have to agree; their vectors x and y give the condition number ``|x||y| / |y^T x|`` of each eigenvalue, and
with it the error that the residual allows. Where the two do not agree, or the error is too large, both go on.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import scipy.sparse as sp
import torch

from sparse_mrnn.spectral.krylov import Operator, Search
from sparse_mrnn.spectral.result import Budget, BudgetSpentError, Complex


@dataclass(frozen=True, eq=False)
class Found:
    """What a search of one component found. ``error`` is relative to the largest modulus, as is ``residual``."""

    values: Complex
    error: float
    residual: float
    lower: float | None
    upper: float
    method: str
    right: Complex | None = field(default=None, repr=False)
    left: Complex | None = field(default=None, repr=False)
    """Right and left eigenvectors, shape (units, found): ``W x = v x``, ``y^T W = v y^T``."""


class UncertifiedError(Exception):
    """Inside the package: the search ended without a certified value; ``found`` is what it has."""

    def __init__(self, why: str, found: Found) -> None:
        super().__init__(why)
        self.why, self.found = why, found


FIRST_FILTER = 256
"""Degree of the first filter; it doubles."""
LAST_TOL = 1e-13
"""Residual below which more work gains nothing in double precision."""


def search(
    factors: list[sp.csr_array], which: str, k: int, rtol: float, seed: int, budget: Budget, *, normal: bool = False, sharp: bool = False
) -> Found:
    """The k leading eigenvalues of a product of sparse matrices.

    Parameters
    ----------
    factors : list of csr_array
        Usually one matrix, scaled to a norm near 1.
    which : {"LM", "LR", "SR", "LI"}
    k : int
    rtol : float
        Error asked for, relative to the largest modulus.
    seed : int
    budget : Budget
    normal : bool
        The matrix is symmetric or skew-symmetric: every eigenvalue has condition number 1.
    sharp : bool
        Ask for vectors as accurate as double precision allows.

    Raises
    ------
    UncertifiedError
    """
    op = Operator(factors, budget)
    n = op.n
    k = min(k, n)
    streams = np.random.SeedSequence(seed).spawn(2)
    right = Search(op.forward, n, which, np.random.default_rng(streams[0]))
    left = Search(op.forward if normal else op.adjoint, n, which, np.random.default_rng(streams[1]))
    tol = 1e-10 if sharp else 0.01 * rtol
    found = Found(np.empty(0, dtype=complex), np.inf, np.inf, None, np.inf, "Lanczos" if normal else "Arnoldi")
    degree, attempt = 0, 0
    try:
        while True:
            room = min(right.limit, 80 + 40 * attempt)
            patient = attempt >= 6
            sides = [s for s in (right, left) if not s.settled(k, tol)] or [right, left]
            for side in sides:
                if side is left and which != "LM":
                    left.center = left.center or right.scale
                side.filter(max(degree, FIRST_FILTER) if side is left else degree)
                if not side.expand(room, k, tol, patient):
                    side.lock(k, 2 * max(degree, FIRST_FILTER))
                    break
            budget.note(float(right.score(right.values[:1])[0]))
            found = _judge(op, right, left, k, found.method, normal, right.settled(k, tol) and left.settled(k, tol))
            if right.settled(k, tol) and left.settled(k, tol):
                if found.error <= rtol:
                    return found
                if np.isfinite(found.error):
                    if tol <= LAST_TOL:
                        why = "the eigenvalue is too ill-conditioned for double precision (the matrix is highly non-normal)"
                        raise UncertifiedError(why, found)
                    tol = max(0.3 * tol * min(1.0, rtol / found.error), LAST_TOL)
            if right.log_growth == -np.inf:
                raise UncertifiedError("powers of the matrix vanish on a random vector: it looks nilpotent", found)
            degree = 2 * degree if degree else FIRST_FILTER
            attempt += 1
    except BudgetSpentError:
        found = _judge(None, right, left, k, found.method, normal, False)
        raise UncertifiedError(budget.why, found) from None


def _judge(op: Operator | None, right: Search, left: Search, k: int, method: str, normal: bool, complete: bool) -> Found:
    """Put both searches together; the error is infinite unless both settled and agree."""
    values = right.values[:k]
    upper = min(right.upper, left.upper)
    scale = max(right.scale, 1e-300)
    if not complete or op is None:
        rough = float(right.residuals[:k].max()) if len(values) else np.inf
        return Found(values, np.inf, rough, None, upper, method)
    x, theta = right.vectors[:, :k], left.values
    y = np.empty_like(x)
    every = left.vectors
    error, residual = 0.0, 0.0
    score = right.score
    for i, value in enumerate(values):
        parts = [op.forward(torch.from_numpy(np.ascontiguousarray(p))).numpy() for p in (x[:, i].real, x[:, i].imag)]
        off = float(np.linalg.norm(parts[0] + 1j * parts[1] - value * x[:, i])) / scale
        j = int(np.argmin(np.abs(theta[: every.shape[1]] - value)))
        y[:, i] = every[:, j]
        apart = float(np.abs(theta[j] - value)) / scale
        ranks = float(abs(score(theta[i : i + 1])[0] - score(values[i : i + 1])[0])) / scale
        with np.errstate(divide="ignore"):
            condition = 1.0 if normal else float(1 / np.abs(y[:, i] @ x[:, i]))
        bad = max(condition * max(off, 1e-16), ranks)
        if not normal:  # the two values belong together only if they are as close as their errors allow
            bad = max(bad, apart)
        error, residual = max(error, bad), max(residual, off)
    lower = float(score(values[:1])[0]) - residual * scale if normal else None
    return Found(values, error, residual, lower, upper, method, x, y)
