"""Planes in the state space, and statistics of states, out of core: dimensionality, principal components.

Above 1,000 units components come from a randomised range with subspace iterations, in a few passes over the
states: Halko, Martinsson & Tropp 2011, SIAM Review 53:217.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Annotated, Any

import numpy as np
from torch import Tensor

from sparse_mrnn.analysis.dynamics import as_tensor
from sparse_mrnn.analysis.result import Float, Result
from sparse_mrnn.analysis.time_blocks import BLOCK_BYTES, TimeBlocks
from sparse_mrnn.checks import Seed
from sparse_mrnn.errors import AnalysisError, ShapeError
from sparse_mrnn.plot.figure import Axes, axes_or_new


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
        return np.asarray((given - self.origin) @ self.basis)

    def lift(self, coordinates: Any) -> Float:
        """States on the plane at some coordinates, shape (..., 2)."""
        return np.asarray(self.origin + np.asarray(coordinates, dtype=np.float64) @ self.basis.T)


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


class StateSource:
    """States of units over trials and time, read block by block, centred on their mean.

    They are an array of shape (..., time, units), an xarray DataArray or Dataset (of which the first variable
    by unit is read, usually h), or the path of a recording.
    """

    def __init__(self, states: Any) -> None:
        if isinstance(states, Tensor | np.ndarray | Sequence) and not isinstance(states, str):
            array = as_tensor(states).cpu().numpy()
            if array.ndim < 2:
                raise ShapeError(f"states have shape {array.shape}; expected at least (time, units).")
            states = array.reshape(-1, *array.shape[-2:])
        self.states = TimeBlocks(states, None)
        trials, self.steps, self.n = self.states.shape
        self.count = trials * self.steps
        if self.count < 2:
            raise AnalysisError(f"{self.count} states have no variance; give at least two.")
        self.mean = np.zeros(self.n)
        self.mean = sum(block.sum(axis=0) for block in self.blocks()) / self.count

    def blocks(self) -> Iterator[Float]:
        """Centred states, shape (some, units)."""
        return (block.reshape(-1, self.n) for block in self.blocks_of_times())

    def blocks_of_times(self) -> Iterator[Float]:
        """Centred states, shape (trials, some times, units), in order."""
        for start, stop in self.states.ranges(8 * self.states.shape[0] * self.n):
            yield self.states.read(start, stop) - self.mean


def dimensionality(states: Any) -> float:
    """Participation ratio of the covariance C of states, (tr C)^2 / tr C^2: from 1 to the number of units.

    Out of core: one block of states and one of the smaller Gram matrix are in memory. O(m^2 M) in time, with
    m the smaller and M the larger of states and units.

    Parameters
    ----------
    states : array, shape (..., time, units); xarray DataArray or Dataset; or path of a recording

    Raises
    ------
    AnalysisError
        If the states are fewer than two, all the same, or not finite.

    References
    ----------
    Gao et al. 2017, A theory of multineuronal dimensionality, dynamics and measurement.

    Examples
    --------
    >>> round(dimensionality(np.eye(4)), 6)
    3.0
    """
    source = StateSource(states)
    trace = float(sum((block**2).sum() for block in source.blocks()))
    if trace <= 1e-24 * source.count * max(float((source.mean**2).sum()), 1e-300):
        raise AnalysisError("the states are all the same; they have no dimension.")
    if source.n <= source.count:
        square = 0.0
        width = max(1, BLOCK_BYTES // (8 * source.n))
        for start in range(0, source.n, width):  # columns of the covariance
            part = np.zeros((source.n, min(width, source.n - start)))
            for block in source.blocks():
                part += block.T @ block[:, start : start + width]
            square += float((part**2).sum())
    else:
        square = sum(float(((a @ b.T) ** 2).sum()) for a in source.blocks() for b in source.blocks())
    return trace**2 / square


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

    mean: Annotated[Float, "unit"]
    components: Annotated[Float, "component", "unit"]
    variance: Annotated[Float, "component"]
    total: float

    @property
    def explained(self) -> Float:
        """Share of each component in the variance."""
        return np.asarray(self.variance / self.total)

    def plane(self, first: int = 0, second: int = 1) -> Plane:
        """The plane of two components, for `flow_field` and the plots."""
        if not 0 <= first < len(self.variance) > second >= 0 or first == second:
            pair = f"components {first} and {second} of {len(self.variance)}"
            raise AnalysisError(f"{pair} do not span a plane.")
        labels = [f"PC {c + 1} ({100 * self.explained[c]:.0f}% of variance)" for c in (first, second)]
        return Plane(self.mean, self.components[[first, second]].T, (labels[0], labels[1]))

    def project(self, states: Any) -> Float:
        """Coordinates of states, shape (..., units): (..., k)."""
        return np.asarray((as_tensor(states).cpu().double().numpy() - self.mean) @ self.components.T)

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
    states: Any, k: int = 10, *, passes: int = 4, seed: Seed = 0
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
    seed : int, numpy SeedSequence or Generator

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
        basis = np.linalg.qr(np.random.default_rng(seed).standard_normal((source.n, width)))[0]
        for _ in range(passes):
            basis = np.linalg.qr(sum(block.T @ (block @ basis) for block in source.blocks()))[0]
    small = sum((part := block @ basis).T @ part for block in source.blocks()) / (source.count - 1)
    variance, vectors = np.linalg.eigh(small)
    variance, vectors = np.maximum(variance[::-1][:k], 0), vectors[:, ::-1][:, :k]
    return PrincipalComponents(source.mean, (basis @ vectors).T, variance, total)


def principal_plane(states: Any, components: tuple[int, int] = (0, 1)) -> Plane:
    """The plane of two principal components of states.

    Parameters
    ----------
    states : array, shape (..., units)
    components : (int, int)
        Numbers of the components, from 0.

    Raises
    ------
    AnalysisError
        If the states do not span a plane.

    Examples
    --------
    >>> principal_plane(np.eye(3)).labels
    ('PC 1 (50% of variance)', 'PC 2 (50% of variance)')
    """
    flat = as_tensor(states).cpu().double().numpy()
    flat = flat.reshape(-1, flat.shape[-1])
    most = min(flat.shape[1], len(flat) - 1)
    need, rank = max(components) + 1, 0
    if most > 0:
        found = principal_components(flat, min(most, need))
        rank = int((found.variance > 1e-12 * max(found.total, 1e-300)).sum())
        if rank >= need:
            return found.plane(*components)
    raise AnalysisError(
        f"the {len(flat)} states span {rank} dimensions, too few for a plane of components "
        f"{components[0] + 1} and {components[1] + 1}; give more different states, or a basis."
    )


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

    origin: Annotated[Float, "unit"]
    basis: Annotated[Float, "unit", "axis"]
    frequency: float
    r2: float
    r2_any: float

    @property
    def plane(self) -> Plane:
        """The plane, for `flow_field` and the plots."""
        return Plane(self.origin, self.basis, ("rotation 1", "rotation 2"))


def rotational_plane(
    states: Any, dt: float, *, components: int = 6, seed: Seed = 0
) -> Rotation:
    """The plane of strongest rotation: of a skew-symmetric M fitted to dx/dt = M x in leading components.

    Parameters
    ----------
    states : array, shape (..., time, units); xarray DataArray or Dataset; or path of a recording
    dt : float
        ms between two times.
    components : int
        Principal components to look in.
    seed : int, numpy SeedSequence or Generator
        Of the randomised search for the components.

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
    pca = principal_components(states, components, seed=seed)
    source = StateSource(states)
    scores = np.concatenate([part @ pca.components.T for part in source.blocks_of_times()], axis=1)
    if source.steps < 3:
        raise AnalysisError("rotational_plane: needs at least three times.")
    x = scores[:, 1:-1].reshape(-1, components)
    dx = ((scores[:, 2:] - scores[:, :-2]) / (2 * dt)).reshape(-1, components)
    moved = float((dx**2).sum())
    if moved == 0:
        raise AnalysisError("rotational_plane: the states do not move.")
    # The least squares of dx = M x with M^T = -M solve M S + S M = dx^T x - x^T dx, S = x^T x.
    s, v = np.linalg.eigh(x.T @ x)
    right, both = v.T @ (dx.T @ x - x.T @ dx) @ v, s[:, None] + s
    m = v @ np.divide(right, both, out=np.zeros_like(right), where=both > 1e-14 * s[-1]) @ v.T
    free = np.linalg.lstsq(x, dx, rcond=None)[0]
    left, left_any = float(((dx - x @ m.T) ** 2).sum()), float(((dx - x @ free) ** 2).sum())
    values, vectors = np.linalg.eigh(1j * m)  # eigenvalues of a skew-symmetric matrix are imaginary, in pairs
    lead = vectors[:, -1]
    plane, _ = np.linalg.qr(np.stack([lead.real, lead.imag], axis=1))
    frequency = 1000 * abs(float(values[-1])) / (2 * math.pi)
    return Rotation(pca.mean, pca.components.T @ plane, frequency, 1 - left / moved, 1 - left_any / moved)
