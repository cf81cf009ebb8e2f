"""Spectral radius of an irreducible non-negative matrix, between proven bounds that close in on it.

Collatz-Wielandt: for every positive x, ``min (Wx)_i / x_i <= rho <= max (Wx)_i / x_i`` (Horn & Johnson,
Matrix Analysis, 8.1.26). Three ways to a good x, each starting from the last one's: powers of ``W + s I``
(s > 0 makes it primitive); Arnoldi, where powers mix slowly; Noda's shifted inverse iteration (Noda 1971) on
rings, chains and narrow lattices, where nothing mixes but a factorisation is cheap.
"""

from __future__ import annotations

import numpy as np
import scipy.sparse as sp
import torch
from numpy.typing import NDArray
from scipy.sparse.csgraph import reverse_cuthill_mckee
from scipy.sparse.linalg import splu

from sparse_mrnn.spectral.krylov import KrylovSearch, Product, sparse_product
from sparse_mrnn.spectral.result import ComponentResult, UncertifiedError
from sparse_mrnn.spectral.settings import BudgetSpentError, SearchSettings
from sparse_mrnn.spectral.structure import norm_bound

POWERS = 400
"""Products of a round of power iteration."""
FILL = 20_000_000
"""Entries a factor may have."""
TINY = 1e-290


class _Bracket:
    """The bounds so far and the vector behind them."""

    def __init__(self, product: Product, n: int, upper: float) -> None:
        self.product, self.lower, self.upper = product, 0.0, upper
        self.x = torch.ones(n, dtype=torch.float64)

    def improve(self, shift: float) -> None:
        """One product: better bounds and a smoother vector."""
        y = self.product(self.x)
        ratio = y / self.x
        self.lower = max(self.lower, float(ratio.min()))
        self.upper = min(self.upper, float(ratio.max()))
        y = y + shift * self.x
        self.x = torch.clamp(y / y.max(), min=TINY)

    def closed(self, rtol: float) -> bool:
        return self.upper - self.lower <= rtol * self.upper

    def powers(self, rtol: float, count: int) -> bool:
        """Iterate powers; True if the bounds have closed."""
        for _ in range(count):
            self.improve(0.1 * self.upper)
            if self.closed(rtol):
                return True
        return False

    def result(self) -> ComponentResult:
        middle = 0.5 * (self.lower + self.upper)
        half = 0.5 * (self.upper - self.lower) / max(middle, 1e-300)
        value = np.array([middle], dtype=complex)
        return ComponentResult(value, half, 0.0, self.lower, self.upper, "Perron-Frobenius")


def perron(block: sp.csr_array, settings: SearchSettings) -> ComponentResult:
    """The Perron root of an irreducible non-negative matrix; `UncertifiedError` has the bounds reached."""
    rtol, n, product = settings.rtol, block.shape[0], sparse_product([block], settings.budget)
    bracket = _Bracket(product, n, norm_bound(block))
    try:
        if bracket.powers(rtol, POWERS) or _noda(block, bracket, rtol):
            return bracket.result()
        search = KrylovSearch(product, n, "LM", np.random.default_rng(settings.seed))
        for attempt in range(5):
            search.filter(256 * 2**attempt)
            search.expand(search.limit, 1, 1e-3 * rtol, patient=True)
            count = search.vectors.shape[1]
            x = np.abs(search.vectors[:, int(np.argmax(search.values[:count].real))].real)
            bracket.x = torch.from_numpy(np.maximum(x / x.max(), TINY))
            if bracket.powers(rtol, POWERS):
                return bracket.result()
    except BudgetSpentError:
        raise UncertifiedError(settings.budget.why, bracket.result()) from None
    raise UncertifiedError("the bounds close in too slowly", bracket.result())


def _noda(block: sp.csr_array, bracket: _Bracket, rtol: float) -> bool:
    """Inverse iteration with shifts from above: quadratic, positive. Only if factors stay small."""
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
