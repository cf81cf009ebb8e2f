"""Spectral radius of an irreducible non-negative matrix, between proven bounds that close in on it.

Collatz-Wielandt: for every positive x, ``min (Wx)_i / x_i <= rho <= max (Wx)_i / x_i`` (Horn & Johnson, Matrix
Analysis, 8.1.26). Three ways to a good x, each starting from the last one's: powers of ``W + s I`` (s > 0 makes it
primitive); Arnoldi, where powers mix slowly; Noda's shifted inverse iteration (Noda 1971), where the network is
a ring, a chain or a narrow lattice, on which nothing mixes but a factorisation is cheap.
"""

from __future__ import annotations

import numpy as np
import scipy.sparse as sp
import torch
from numpy.typing import NDArray
from scipy.sparse.csgraph import reverse_cuthill_mckee
from scipy.sparse.linalg import splu

from sparse_mrnn.spectral.arnoldi import Found, UncertifiedError
from sparse_mrnn.spectral.krylov import Operator, Search
from sparse_mrnn.spectral.result import Budget, BudgetSpentError
from sparse_mrnn.spectral.structure import norm_bound

POWERS = 400
FILL = 20_000_000
"""Entries a factor may have."""
TINY = 1e-290


class _Bracket:
    """The bounds so far and the vector behind them."""

    def __init__(self, op: Operator, upper: float) -> None:
        self.op, self.lower, self.upper = op, 0.0, upper
        self.x = torch.ones(op.n, dtype=torch.float64)

    def improve(self, shift: float) -> None:
        """One product: better bounds and a smoother vector."""
        y = self.op.forward(self.x)
        ratio = y / self.x
        self.lower = max(self.lower, float(ratio.min()))
        self.upper = min(self.upper, float(ratio.max()))
        y = y + shift * self.x
        self.x = torch.clamp(y / y.max(), min=TINY)

    def closed(self, rtol: float) -> bool:
        return self.upper - self.lower <= rtol * self.upper

    def powers(self, rtol: float, count: int) -> bool:
        """Power iteration; whether the bounds have closed."""
        for _ in range(count):
            self.improve(0.1 * self.upper)
            if self.closed(rtol):
                return True
        return False

    def found(self) -> Found:
        value = 0.5 * (self.lower + self.upper)
        half = 0.5 * (self.upper - self.lower) / max(value, 1e-300)
        return Found(np.array([value], dtype=complex), half, 0.0, self.lower, self.upper, "Perron-Frobenius")


def perron(block: sp.csr_array, rtol: float, seed: int, budget: Budget) -> Found:
    """The Perron root of an irreducible non-negative matrix.

    Raises
    ------
    UncertifiedError
        With the bounds reached.
    """
    bracket = _Bracket(Operator([block], budget), norm_bound(block))
    try:
        if bracket.powers(rtol, POWERS):
            return bracket.found()
        if _noda(block, bracket, rtol):
            return bracket.found()
        search = Search(bracket.op.forward, block.shape[0], "LM", np.random.default_rng(seed))
        for attempt in range(5):
            search.filter(256 * 2**attempt)
            search.expand(search.limit, 1, 1e-3 * rtol, patient=True)
            count = search.vectors.shape[1]
            x = np.abs(search.vectors[:, int(np.argmax(search.values[:count].real))].real)
            bracket.x = torch.from_numpy(np.maximum(x / x.max(), TINY))
            if bracket.powers(rtol, POWERS):
                return bracket.found()
    except BudgetSpentError:
        raise UncertifiedError(budget.why, bracket.found()) from None
    raise UncertifiedError("the bounds close in too slowly", bracket.found())


def _noda(block: sp.csr_array, bracket: _Bracket, rtol: float) -> bool:
    """Inverse iteration with shifts from above: quadratic, and positive throughout. Only where factors stay small."""
    order = reverse_cuthill_mckee(block, symmetric_mode=False)
    w = block[order][:, order].tocoo()
    n = block.shape[0]
    if n * 3 * int(np.abs(w.row - w.col).max()) > FILL:
        return False
    w, eye = w.tocsc(), sp.identity(n, format="csc")
    for _ in range(300):
        x: NDArray[np.float64] = bracket.x.numpy()[order]
        shift = float(np.max((w @ x) / x)) * (1 + 4e-16)
        try:
            y = splu(sp.csc_matrix(shift * eye - w), permc_spec="NATURAL").solve(x)
        except RuntimeError:  # singular: the shift is the eigenvalue to the last digit
            break
        y = np.abs(y)
        if not np.isfinite(y).all() or y.max() == 0:
            break
        back = np.empty(n)
        back[order] = np.maximum(y / y.max(), TINY)
        bracket.x = torch.from_numpy(back)
        bracket.improve(0.0 if bracket.upper == 0 else 1e-3 * bracket.upper)
        if bracket.closed(rtol):
            return True
    return False
