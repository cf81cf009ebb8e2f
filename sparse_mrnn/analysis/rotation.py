"""The plane in which states rotate most strongly (jPCA)."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from sparse_mrnn.analysis.components import principal_components
from sparse_mrnn.analysis.planes import Plane
from sparse_mrnn.analysis.result import Result
from sparse_mrnn.analysis.state_source import StateSource
from sparse_mrnn.errors import AnalysisError

Float = NDArray[np.float64]


@dataclass(frozen=True, eq=False, repr=False)
class Rotation(Result):
    """The plane in which recorded states rotate most strongly.

    Parameters
    ----------
    origin, basis : ndarray, shape (units,), (units, 2)
    frequency : float
        Hz.
    r2, r2_any : float
        Share of the variance of the derivative that rotation alone, and any linear dynamics, explain in the
        leading principal components.
    """

    origin: Float
    basis: Float
    frequency: float
    r2: float
    r2_any: float

    DIMENSIONS: ClassVar[dict[str, tuple[str, ...]]] = {"origin": ("unit",), "basis": ("unit", "axis")}

    @property
    def plane(self) -> Plane:
        """The plane, for `flow_field` and the plots."""
        return Plane(self.origin, self.basis, ("rotation 1", "rotation 2"))


def rotational_plane(
    states: Any, dt: float, *, components: int = 6, rng: np.random.Generator | int = 0
) -> Rotation:
    """The plane of strongest rotation: of a skew-symmetric M fitted to dx/dt = M x in leading components.

    Parameters
    ----------
    states : array, shape (..., time, units); xarray DataArray or Dataset; or path of a recording
    dt : float
        ms between two times.
    components : int
        Principal components to look in.
    rng : numpy Generator or int
        Of the randomised search for the components, or its seed.

    Returns
    -------
    Rotation

    Raises
    ------
    AnalysisError
        If the states have fewer components, or do not move.

    References
    ----------
    Churchland et al. 2012, Neural population dynamics during reaching.

    Examples
    --------
    >>> t = np.linspace(0, 1000, 201)   # ms; two turns
    >>> circle = np.stack([np.cos(4e-3 * np.pi * t), np.sin(4e-3 * np.pi * t)], axis=1) @ np.eye(2, 4)
    >>> found = rotational_plane(circle, 5.0, components=2)
    >>> round(found.frequency, 2), round(found.r2, 2)   # Hz
    (2.0, 1.0)
    """
    if components < 2 or not dt > 0:
        raise AnalysisError("rotational_plane: needs at least two components and a dt above 0.")
    pca = principal_components(states, components, rng=rng)
    source = StateSource(states)
    steps = source.array.shape[-2]
    scores = np.concatenate([block @ pca.components.T for block in source.blocks()])
    scores = scores.reshape(-1, steps, components)
    if steps < 3:
        raise AnalysisError("rotational_plane: needs at least three times.")
    x = scores[:, 1:-1].reshape(-1, components)
    dx = ((scores[:, 2:] - scores[:, :-2]) / (2 * dt)).reshape(-1, components)
    moved = float((dx**2).sum())
    if moved == 0:
        raise AnalysisError("rotational_plane: the states do not move.")
    pairs = [(i, j) for i in range(components) for j in range(i)]
    design = np.zeros((*x.shape, len(pairs)))  # dx = M x with M[i, j] = -M[j, i]
    for p, (i, j) in enumerate(pairs):
        design[:, i, p], design[:, j, p] = x[:, j], -x[:, i]
    weights = np.linalg.lstsq(design.reshape(-1, len(pairs)), dx.ravel(), rcond=None)[0]
    m = np.zeros((components, components))
    for value, (i, j) in zip(weights, pairs, strict=True):
        m[i, j], m[j, i] = value, -value
    free = np.linalg.lstsq(x, dx, rcond=None)[0]
    left, left_any = float(((dx - x @ m.T) ** 2).sum()), float(((dx - x @ free) ** 2).sum())
    values, vectors = np.linalg.eigh(1j * m)  # eigenvalues of a skew-symmetric matrix are imaginary, in pairs
    lead = vectors[:, -1]
    plane, _ = np.linalg.qr(np.stack([lead.real, lead.imag], axis=1))
    frequency = 1000 * abs(float(values[-1])) / (2 * math.pi)
    return Rotation(pca.mean, pca.components.T @ plane, frequency, 1 - left / moved, 1 - left_any / moved)
