"""Structure of a matrix: components, period, one-signedness, bounds. All O(synapses)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray
from scipy.sparse.csgraph import breadth_first_order, connected_components

from sparse_mrnn.spectral.settings import Float

Int = NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class Components:
    """Strongly connected components: ``order`` lists the units, component after component.

    ``matrix`` is the whole matrix in that order, so a component is one range of rows; entries outside the
    ranges belong to no cycle and hold no eigenvalue.
    """

    matrix: sp.csr_array
    order: Int
    start: Int

    @classmethod
    def of(cls, w: sp.csr_array) -> Components:
        """Find them, in one pass over the synapses."""
        count, label = connected_components(w, directed=True, connection="strong")
        size = np.bincount(label, minlength=count)
        start = np.concatenate([[0], np.cumsum(size)])
        order = np.argsort(label, kind="stable")
        return cls(w if count == 1 else w[order][:, order], order, start)

    @property
    def sizes(self) -> Int:
        """Units of each component."""
        return np.diff(self.start)

    def units(self, part: int) -> Int:
        """Units of a component, in the original numbering."""
        return self.order[self.start[part] : self.start[part + 1]]

    def block(self, part: int) -> sp.csr_array:
        """The weights inside a component."""
        a, b = int(self.start[part]), int(self.start[part + 1])
        if (a, b) == (0, self.matrix.shape[0]):
            return self.matrix
        return self.matrix[a:b, a:b]


def rows_of(w: sp.csr_array) -> NDArray[np.integer]:
    """Row of every stored entry."""
    return np.repeat(np.arange(w.shape[0], dtype=w.indices.dtype), np.diff(w.indptr))


def norm_bound(w: sp.csr_array) -> float:
    """An upper bound of the spectral radius: the smaller of the largest absolute row and column sum."""
    return float(min(abs(w).sum(axis=axis).max() for axis in (0, 1)))


def trace_bound(w: sp.csr_array, which: str) -> float | None:
    """A lower bound: of the radius, |tr W| <= n rho and |tr W^2| <= n rho^2; of the abscissa, tr W / n."""
    n = w.shape[0]
    mean = float(w.diagonal().sum()) / n
    if which == "LM":
        return float(max(abs(mean), np.sqrt(abs(w.multiply(w.T.tocsr()).sum()) / n)))
    return {"LR": mean, "SR": -mean}.get(which)


def symmetry(w: sp.csr_array) -> int:
    """1 if the matrix is symmetric, -1 if skew-symmetric (both are normal), else 0."""
    other = w.T.tocsr()
    return 1 if not (w - other).nnz else -1 if not (w + other).nnz else 0


@dataclass(frozen=True, eq=False)
class Cycles:
    """The cycles of a strongly connected matrix.

    ``period`` is the greatest common divisor of their lengths, ``level`` the cyclic class of each unit, shape
    (units,), 0 .. period - 1: an entry (i, j) has class(j) = class(i) + 1. ``one_signed`` is 1 if the product
    of the weights along every cycle is positive (of a period's odd multiples: -1 if negative, while that
    along even ones is positive); then the absolute values have the same radius (Wielandt's theorem; Horn &
    Johnson, Matrix Analysis, 8.4.5). It is 0 if neither.
    """

    period: int
    level: Int
    one_signed: int

    @classmethod
    def of(cls, w: sp.csr_array) -> Cycles:
        """Levels and signs along a breadth-first tree, checked on every entry."""
        n = w.shape[0]
        order, before = breadth_first_order(w, 0, directed=True)
        level = np.zeros(n, dtype=np.int64)
        sign = np.ones(n)
        level[order[1:]] = 1
        sign[order[1:]] = np.sign(w[before[order[1:]], order[1:]])
        up = before.astype(np.int64)
        while (inside := up >= 0).any():  # pointer jumping: log2(depth) passes
            above = up[inside]
            level[inside] += level[above]
            sign[inside] *= sign[above]
            up[inside] = up[above]
        row = rows_of(w)
        step = level[row] + 1 - level[w.indices]
        period = int(np.gcd.reduce(np.abs(step)))
        agree = np.sign(w.data) * sign[row] * sign[w.indices]
        odd = (step // period) % 2 == 1
        kinds = set(np.unique(agree[odd]).tolist())
        one_signed = 0
        if (agree[~odd] > 0).all() and len(kinds) < 2:
            one_signed = int(kinds.pop()) if kinds else 1
        return cls(period, level % period, one_signed)


def balance(w: sp.csr_array, sweeps: int = 60) -> tuple[sp.csr_array, Float]:
    """``D^-1 W D`` with rows and columns of like size, and D: the same eigenvalues, better conditioned.

    Powers of two, so nothing is rounded. A matrix within a factor of 16 already is left alone (Osborne 1960;
    all units at once, half a step, so that two-cycles settle).
    """
    n = w.shape[0]
    row = rows_of(w)
    off = row != w.indices
    size = np.where(off, np.abs(w.data), 0.0)
    exponent = np.zeros(n)
    for sweep in range(sweeps):
        scaled = size * np.exp2(exponent[w.indices] - exponent[row])
        with np.errstate(divide="ignore"):
            rows, columns = (np.bincount(index, scaled, minlength=n) for index in (row, w.indices))
            gap = np.log2(rows) - np.log2(columns)
        gap[~np.isfinite(gap)] = 0
        if np.abs(gap).max() < (4 if sweep == 0 else 1):
            break
        exponent += 0.25 * gap
    whole = np.round(exponent)
    if not whole.any():
        return w, np.ones(n)
    data = w.data * np.exp2(whole[w.indices] - whole[row])
    return sp.csr_array((data, w.indices, w.indptr), shape=w.shape), np.exp2(whole)
