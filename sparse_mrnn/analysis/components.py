"""Principal components of states, out of core.

Above 1,000 units they come from a randomised range with subspace iterations, in a few passes over the
states: Halko, Martinsson & Tropp 2011, SIAM Review 53:217.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from sparse_mrnn.analysis.dynamics import as_tensor
from sparse_mrnn.analysis.planes import Plane
from sparse_mrnn.analysis.result import Result
from sparse_mrnn.analysis.state_source import StateSource
from sparse_mrnn.errors import AnalysisError
from sparse_mrnn.plot.figure import Axes, axes_or_new

Float = NDArray[np.float64]


@dataclass(frozen=True, eq=False, repr=False)
class PrincipalComponents(Result):
    """Principal components of recorded states.

    Parameters
    ----------
    mean : ndarray, shape (units,)
    components : ndarray, shape (k, units)
        Orthonormal, the one of the largest variance first.
    variance : ndarray, shape (k,)
    total : float
        Variance in all dimensions.
    """

    mean: Float
    components: Float
    variance: Float
    total: float

    DIMENSIONS: ClassVar[dict[str, tuple[str, ...]]] = {
        "mean": ("unit",),
        "components": ("component", "unit"),
        "variance": ("component",),
    }

    @property
    def explained(self) -> Float:
        """Share of each component in the variance."""
        return np.asarray(self.variance / self.total)

    def plane(self, first: int = 0, second: int = 1) -> Plane:
        """The plane of two components, for `flow_field` and the plots."""
        if not 0 <= first < len(self.variance) > second >= 0 or first == second:
            pair = f"components {first} and {second} of {len(self.variance)}"
            raise AnalysisError(f"there is no plane of {pair}.")
        labels = [f"PC {c + 1} ({100 * self.explained[c]:.0f}% of variance)" for c in (first, second)]
        return Plane(self.mean, self.components[[first, second]].T, (labels[0], labels[1]))

    def project(self, states: Any) -> Float:
        """Coordinates of states, shape (..., units): (..., k)."""
        given = as_tensor(states).cpu().double().numpy()
        projected: Float = (given - self.mean) @ self.components.T
        return projected

    def plot(self, ax: Axes | None = None) -> Axes:
        """Draw the share of variance of each component, and of all up to it."""
        ax = axes_or_new(ax, (4.6, 3.4))
        number = np.arange(1, len(self.variance) + 1)
        ax.bar(number, 100 * self.explained, color="#0072B2", label="each")
        ax.plot(number, 100 * np.cumsum(self.explained), "o-", color="#D55E00", ms=3, label="up to it")
        ax.set(xlabel="component", ylabel="variance (%)", ylim=(0, 103))
        ax.legend(frameon=False, fontsize=8)
        return ax


def principal_components(
    states: Any, k: int = 10, *, passes: int = 4, rng: np.random.Generator | int = 0
) -> PrincipalComponents:
    """The k leading principal components of states, out of core.

    Exact up to 1,000 units; above, by a randomised range with subspace iterations, whose error falls with
    every pass. Memory: one block of states and 2 (k + 10) vectors of units.

    Parameters
    ----------
    states : array, shape (..., time, units); xarray DataArray or Dataset; or path of a recording
    k : int
    passes : int
        Readings of the states by which the subspace is improved.
    rng : numpy Generator or int

    Raises
    ------
    AnalysisError
        If there are not k components.

    Examples
    --------
    >>> x = np.random.default_rng(0).standard_normal((500, 3)) * [3.0, 1.0, 0.1]
    >>> principal_components(x, 2).explained.round(2).tolist()
    [0.9, 0.1]
    """
    source = StateSource(states)
    most = min(source.n, source.count - 1)
    if not 1 <= k <= most:
        has = f"{source.count} states of {source.n} units have {most}"
        raise AnalysisError(f"principal_components: k is {k}; {has}.")
    total = float(sum((block**2).sum() for block in source.blocks())) / (source.count - 1)
    if source.n <= 1000:
        basis = np.eye(source.n)
    else:
        width = min(k + 10, most)
        basis = np.linalg.qr(np.random.default_rng(rng).standard_normal((source.n, width)))[0]
        for _ in range(passes):
            basis = np.linalg.qr(sum(block.T @ (block @ basis) for block in source.blocks()))[0]
    small = sum((part := block @ basis).T @ part for block in source.blocks()) / (source.count - 1)
    variance, vectors = np.linalg.eigh(small)
    variance, vectors = np.maximum(variance[::-1][:k], 0), vectors[:, ::-1][:, :k]
    return PrincipalComponents(source.mean, (basis @ vectors).T, variance, total)
