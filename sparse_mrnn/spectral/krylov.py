"""One-sided Krylov search: a random start, filtered by powers of the matrix, then Arnoldi.

The eigenvalues of a random network fill a disc whose edge is crowded. A filter of q products damps the inside
as ``|lambda|^q``, the best a polynomial can do on a disc, at the price of one sparse product a degree; the
Arnoldi basis that then separates the edge stays small. Cost: a product moves 12 bytes a synapse; step m of
Arnoldi 16 m bytes a unit, twice if it has to orthogonalise again. At 50,000 units and 100 synapses a unit,
300 basis vectors cost as much as 1,000 products, and without a filter it takes 1,000 vectors.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import scipy.sparse as sp
import torch
from torch import Tensor

from sparse_mrnn.ops.pattern import csr
from sparse_mrnn.spectral.settings import SCORES, Budget, Complex, Float, leading_order

BASIS = 300
"""Most Arnoldi vectors."""
BASIS_BYTES = 512 * 2**20
"""Most bytes they take."""
FAILURE = 1e-6
"""Probability that the start vector hides the growth of the matrix."""


Product = Callable[[Tensor], Tensor]


def sparse_product(factors: Sequence[sp.csr_array], budget: Budget) -> Product:
    """``y = F_1 F_2 ... F_h x`` for sparse factors, paid for by the budget: torch CSR, int32 indices, MKL."""
    tensors = [to_torch(factor) for factor in reversed(factors)]

    def product(x: Tensor) -> Tensor:
        budget.spend()
        for tensor in tensors:
            x = torch.mv(tensor, x)
        return x

    return product


def to_torch(w: sp.csr_array) -> Tensor:
    """A scipy CSR matrix as a torch one, which shares its memory."""
    return csr(torch.from_numpy(w.indptr), torch.from_numpy(w.indices), torch.from_numpy(w.data), w.shape)


class KrylovSearch:
    """Leading eigenvalues of a product of n units, from one random start; ``which`` as `spectral_search`."""

    def __init__(self, product: Product, n: int, which: str, rng: np.random.Generator) -> None:
        self.product, self.n, self.which, self.rng = product, n, which, rng
        self.score = SCORES[which]
        self.limit = int(min(BASIS, max(20, BASIS_BYTES // (8 * n))))
        self.locked = torch.empty(0, n, dtype=torch.float64)
        self.inside = np.zeros((0, 0))
        self.center = 0.0
        self.values: Complex = np.empty(0, dtype=complex)
        self.residuals: Float = np.empty(0)
        self.vectors: Complex = np.empty((n, 0), dtype=complex)
        self._restart()

    def _restart(self) -> None:
        self.v = self._fresh(self.locked)
        self.degree, self.log_growth = 0, 0.0

    def _fresh(self, against: Tensor) -> Tensor:
        x = torch.from_numpy(self.rng.standard_normal(self.n))
        for _ in range(2):
            x = x - against.t() @ (against @ x)
            x = x / x.norm()
        return x

    @property
    def scale(self) -> float:
        """Largest modulus found."""
        return float(np.abs(self.values).max()) if len(self.values) else 0.0

    def filter(self, degree: int) -> None:
        """Filter the start vector, up to this degree: powers of W, shifted towards the wanted side."""
        if self.which != "LM" and self.center == 0.0:
            self.center = self.scale
        if self.which != "LM" and self.center == 0.0:
            return
        while self.degree < degree:
            y = self._step(self.v)
            if len(self.locked):
                y = y - self.locked.t() @ (self.locked @ y)
            size = float(y.norm())
            self.degree += 1
            if size < 1e-280:
                self.v, self.log_growth = self._fresh(self.locked), -np.inf
                return
            self.log_growth += np.log(size)
            self.v = y / size

    def _step(self, x: Tensor) -> Tensor:
        if self.which == "LM":
            return self.product(x)
        if self.which == "LI":
            return self.product(self.product(x)) - self.center**2 * x
        return self.product(x) + (self.center if self.which == "LR" else -self.center) * x

    @property
    def upper(self) -> float:
        """Upper bound of the score: ``rho^q <= |W^q| <= |W^q v| sqrt(n) / failure``, v the start vector."""
        if self.degree == 0 or len(self.locked) or self.which == "LI":
            return np.inf
        grown = np.exp((self.log_growth + 0.5 * np.log(self.n) - np.log(FAILURE)) / self.degree)
        return float(grown - self.center)

    def expand(self, limit: int, k: int, tol: float, patient: bool) -> bool:
        """Run Arnoldi from the filtered start; True if the ``k`` leading Ritz pairs have settled.

        The basis has at most ``limit`` vectors; ``tol`` is the residual asked for, relative to the largest
        modulus. Unless ``patient``, give up early if a better filtered start would be the quicker way.
        """
        kept = len(self.inside)
        size = min(max(limit, 2 * k + 20) + kept, self.n)
        basis = torch.empty(min(size + 1, self.n), self.n, dtype=torch.float64)
        basis[:kept], basis[kept] = self.locked, self.v
        h = np.zeros((size + 1, size))
        h[:kept, :kept] = self.inside
        check, previous = kept + min(30 + 2 * k, size - kept), np.inf
        for j in range(kept, size):
            x = self.product(basis[j])
            head = basis[: j + 1]
            before = float(x.norm())
            part = head @ x
            x = torch.addmv(x, head.t(), part, alpha=-1)
            after = float(x.norm())
            if after < 0.7 * before:
                more = head @ x
                x = torch.addmv(x, head.t(), more, alpha=-1)
                part, after = part + more, float(x.norm())
            h[: j + 1, j] = part.numpy()
            if j + 1 < len(basis):
                if after > 1e-14 * before:
                    h[j + 1, j] = after
                    basis[j + 1] = x / after
                else:  # an invariant subspace: go on in a new direction
                    basis[j + 1] = self._fresh(head)
            if j + 1 == check or j + 1 == size:
                small, settled = self._ritz(h, j + 1), self.settled(k, tol)
                worst = float(self.residuals[:k].max())
                slow = j + 1 >= kept + 50 and worst > 0.01 and worst > previous / 3
                if settled or j + 1 == size or (slow and not patient):
                    self._keep(basis[: j + 1], small[:, : k + 8])
                    return settled
                previous = worst
                check = kept + int(1.4 * (check - kept)) + 1
        return False

    def _ritz(self, h: Float, j: int) -> Complex:
        """Find Ritz values and residuals from j basis vectors; in their coordinates, the Ritz vectors."""
        values, vectors = np.linalg.eig(h[:j, :j])
        values, vectors = values.astype(complex), vectors.astype(complex)
        order = leading_order(values, self.which)
        self.values = values[order]
        self.residuals = h[j, j - 1] * np.abs(vectors[-1, order]) / max(self.scale, 1e-300)
        return vectors[:, order]

    def settled(self, k: int, tol: float) -> bool:
        """Tell if the k leading pairs have converged and no other Ritz value may still overtake them."""
        if self.scale == 0.0 or len(self.values) < min(k, self.n) or (self.residuals[:k] > tol).any():
            return False
        score, rest = self.score(self.values), slice(k, k + 4)
        reach = score[rest] + 2 * self.residuals[rest] * self.scale
        return bool(((self.residuals[rest] < 1e-3) | (reach < score[k - 1])).all())

    def _keep(self, basis: Tensor, small: Complex) -> None:
        """Keep Ritz vectors of the leading values, of unit length."""
        x = (basis.t() @ torch.from_numpy(np.concatenate([small.real, small.imag], axis=1))).numpy()
        pairs = x[:, : small.shape[1]] + 1j * x[:, small.shape[1] :]
        self.vectors = pairs / np.linalg.norm(pairs, axis=0)

    def lock(self, k: int, degree: int) -> None:
        """Set aside converged values so dominant that a filter of this degree leaves nothing else."""
        done = np.flatnonzero(self.residuals > 1e-9)
        count = min(int(done[0]) if len(done) else len(self.values), self.vectors.shape[1] - 1)
        shift = {"LM": 0.0, "LR": self.center, "SR": -self.center}.get(self.which)
        if shift is None or count <= len(self.inside):
            return
        size = np.abs(self.values + shift)
        cut = size[min(max(k, count), len(size) - 1)]
        with np.errstate(divide="ignore"):
            dominant = np.flatnonzero(degree * np.log(size[:count] / cut) > np.log(1e6))
        count = int(dominant[-1]) + 1 if len(dominant) else 0
        if 0 < count < len(self.values):
            last, after = self.values[count - 1 : count + 1]
            count += bool(last.imag != 0 and after == last.conj())
        if count <= len(self.inside):
            return
        self.locked, image = self._subspace(self.vectors[:, :count])
        self.inside = (self.locked @ image.t()).numpy()
        self._restart()

    def _subspace(self, x: Complex) -> tuple[Tensor, Tensor]:
        """Orthonormal rows that span the real and imaginary parts of some vectors, and their images."""
        u, s, _ = np.linalg.svd(np.concatenate([x.real, x.imag], axis=1), full_matrices=False)
        q = torch.from_numpy(np.ascontiguousarray(u[:, s > 1e-7 * s[0]].T))
        return q, torch.stack([self.product(row) for row in q])
