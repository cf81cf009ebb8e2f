"""Planes in the state space: principal components, given axes, and the plane of strongest rotation."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sparse_mrnn.analysis.dynamics import as_tensor
from sparse_mrnn.errors import AnalysisError, ShapeError

Float = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Plane:
    """A plane: ``origin + coordinates @ basis.T``.

    Parameters
    ----------
    origin : ndarray, shape (units,)
    basis : ndarray, shape (units, 2)
        Orthonormal columns.
    labels : (str, str)
        Names of the axes.

    Examples
    --------
    >>> plane = Plane(np.zeros(3), np.eye(3)[:, :2], ("a", "b"))
    >>> plane.project([1.0, 2.0, 3.0]).tolist(), plane.lift([1.0, 2.0]).tolist()
    ([1.0, 2.0], [1.0, 2.0, 0.0])
    """

    origin: Float
    basis: Float
    labels: tuple[str, str] = ("axis 1", "axis 2")

    def project(self, states: Any) -> Float:
        """Coordinates of states, shape (..., units), on the plane: (..., 2)."""
        given = as_tensor(states).cpu().double().numpy()
        if given.shape[-1:] != self.origin.shape:
            expected = f"expected {len(self.origin)} units last"
            raise ShapeError(f"project: states have shape {given.shape}; {expected}.")
        projected: Float = (given - self.origin) @ self.basis
        return projected

    def lift(self, coordinates: Any) -> Float:
        """States on the plane at some coordinates, shape (..., 2)."""
        lifted: Float = self.origin + np.asarray(coordinates, dtype=np.float64) @ self.basis.T
        return lifted


def plane_of(origin: Any, basis: Any, labels: tuple[str, str] = ("axis 1", "axis 2")) -> Plane:
    """The plane through a state that two vectors span, the first along the first axis.

    Parameters
    ----------
    origin : array, shape (units,)
    basis : array, shape (units, 2)
        Need not be orthonormal; the plane's own basis is.
    labels : (str, str)
        Names of the axes, for plots.

    Returns
    -------
    Plane

    Raises
    ------
    AnalysisError
        If the vectors are parallel, or one is 0.
    ShapeError
        If the basis has another shape.

    Examples
    --------
    >>> abs(plane_of([0.0, 0.0, 1.0], [[2.0, 1.0], [0.0, 3.0], [0.0, 0.0]]).basis).tolist()
    [[1.0, 0.0], [0.0, 1.0], [0.0, 0.0]]
    """
    origin, basis = np.asarray(origin, dtype=np.float64), np.asarray(basis, dtype=np.float64)
    if basis.shape != (len(origin), 2):
        raise ShapeError(f"a plane needs a basis of shape ({len(origin)}, 2); this one is {basis.shape}.")
    q, r = np.linalg.qr(basis)
    size = np.linalg.norm(basis, axis=0)
    if not np.isfinite(basis).all() or size.min() == 0 or abs(r[1, 1]) <= 1e-9 * size[1]:
        raise AnalysisError("a plane needs two vectors that are not parallel; this basis has a rank below 2.")
    return Plane(origin, q * np.sign(np.diag(r)), labels)


def axes_plane(origin: Any, axes: Sequence[int], unit_id: Sequence[str] | None = None) -> Plane:
    """The plane of two units' states.

    Parameters
    ----------
    origin : array, shape (units,)
        State of the other units.
    axes : (int, int)
        Numbers of the two units.
    unit_id : sequence of str, optional
        A name per unit, for the labels. Default: the numbers.

    Returns
    -------
    Plane

    Raises
    ------
    AnalysisError
        If they are one and the same, or no units.

    Examples
    --------
    >>> axes_plane([0.0, 0.0, 1.0], (0, 2)).labels
    ('unit 0', 'unit 2')
    """
    origin = np.asarray(origin, dtype=np.float64)
    first, second = axes
    if not (0 <= first < len(origin) and 0 <= second < len(origin)):
        raise AnalysisError(f"axes are {tuple(axes)}; units go from 0 to {len(origin) - 1}.")
    basis = np.zeros((len(origin), 2))
    basis[first, 0] = basis[second, 1] = 1
    names = [str(k) if unit_id is None else unit_id[k] for k in axes]
    return plane_of(origin, basis, (f"unit {names[0]}", f"unit {names[1]}"))
