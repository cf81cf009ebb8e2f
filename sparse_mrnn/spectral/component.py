"""Leading eigenvalues of one strongly connected component: which method, in which coordinates."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import scipy.linalg as sla
import scipy.sparse as sp
from numpy.typing import NDArray

from sparse_mrnn.spectral.arnoldi import Found, UncertifiedError, search
from sparse_mrnn.spectral.krylov import SCORES
from sparse_mrnn.spectral.perron import perron
from sparse_mrnn.spectral.result import Budget, Complex
from sparse_mrnn.spectral.structure import Cycles, balance, norm_bound, rows_of, symmetry, trace_bound

DENSE_COMPONENT = 400
"""Components, and cyclic classes, of up to this many units are made dense (1.3 MB); larger ones never are."""

EPS = float(np.finfo(np.float64).eps)


def solve(
    block: sp.csr_array, which: str, k: int, rtol: float, seed: int, budget: Budget, *, pairs: bool = False, sharp: bool = False
) -> Found:
    """The k leading eigenvalues of a strongly connected matrix of more than one unit, certified.

    ``pairs`` asks for eigenvectors, ``sharp`` for accurate ones on both sides.

    Raises
    ------
    UncertifiedError
        With the bounds that are known.
    """
    k = min(k, block.shape[0])
    low, high = trace_bound(block, which), norm_bound(block)
    values_only = k == 1 and not pairs and not sharp
    try:
        found = _choose(block, which, k, rtol, seed, budget, values_only, sharp)
    except UncertifiedError as error:
        raise UncertifiedError(error.why, _bounded(error.found, low, high)) from None
    return _bounded(found, low, high)


def _bounded(found: Found, low: float | None, high: float) -> Found:
    lowers = [b for b in (found.lower, low) if b is not None]
    return replace(found, lower=max(lowers) if lowers else None, upper=min(found.upper, high))


def _choose(block: sp.csr_array, which: str, k: int, rtol: float, seed: int, budget: Budget, values_only: bool, sharp: bool) -> Found:
    normal = symmetry(block)
    if normal == -1 and which in ("LR", "SR") and values_only:
        return Found(np.zeros(1, dtype=complex), 0.0, 0.0, 0.0, 0.0, "skew-symmetric")
    cycles = Cycles.of(block)
    small = block.shape[0] <= DENSE_COMPONENT
    if cycles.period > 1 and not sharp:
        found = _by_classes(block, cycles, which, k, rtol, seed, budget, values_only)
        if found is not None:
            return found
    if values_only and cycles.one_signed and (which == "LM" or (which == "LR" and cycles.one_signed == 1)):
        try:
            found = perron(abs(block), rtol, seed, budget)
        except UncertifiedError:
            if not small:
                raise
        else:
            return replace(found, values=found.values * _phase(cycles))
    scaled, d = (block, np.ones(block.shape[0])) if normal else balance(block)
    if small:
        found = _dense(scaled, which, k, rtol, normal != 0)
    else:
        size = norm_bound(scaled)
        budget.unit = size
        unit = sp.csr_array((scaled.data / size, scaled.indices, scaled.indptr), shape=scaled.shape)
        try:
            found = _scaled(search([unit], which, k, rtol, seed, budget, normal=normal != 0, sharp=sharp), size)
        except UncertifiedError as error:
            raise UncertifiedError(error.why, _scaled(error.found, size)) from None
    return _unbalanced(found, d)


def _phase(cycles: Cycles) -> complex:
    """``exp(i phi)`` with W = exp(i phi) D |W| D^-1."""
    if cycles.one_signed == 1:
        return 1.0
    return -1.0 if cycles.period == 1 else complex(np.exp(1j * np.pi / cycles.period))


def _scaled(found: Found, size: float) -> Found:
    lower = None if found.lower is None else found.lower * size
    return replace(found, values=found.values * size, lower=lower, upper=found.upper * size)


def _unbalanced(found: Found, d: NDArray[np.float64]) -> Found:
    """Eigenvectors of W from those of ``D^-1 W D``."""
    if found.right is None or found.left is None or (d == 1).all():
        return found
    right, left = found.right * d[:, None], found.left / d[:, None]
    return replace(found, right=right / np.linalg.norm(right, axis=0), left=left / np.linalg.norm(left, axis=0))


def order_of(values: Complex, which: str) -> NDArray[np.intp]:
    """Indices from the leading value on; of a conjugate pair, the upper one first."""
    score = SCORES[which](values)
    digits = 12 - int(np.ceil(np.log10(max(float(np.abs(score).max()), 1e-300))))
    return np.lexsort((-values.imag, -np.round(score, min(digits, 300))))


def _dense(w: sp.csr_array, which: str, k: int, rtol: float, normal: bool) -> Found:
    """LAPACK with condition numbers: a backward error of a few ulp of the norm, times ``1 / |y^H x|``."""
    dense = w.toarray()
    values, y, x = sla.eig(dense, left=True, right=True)
    top = order_of(values, which)[:k]
    values, x, y = values[top], x[:, top], y[:, top].conj()
    with np.errstate(divide="ignore"):
        condition = np.ones(len(top)) if normal else 1 / np.abs((y * x).sum(axis=0))
    scale = max(float(np.abs(values).max()), 1e-300)
    error = float(10 * EPS * np.linalg.norm(dense) * condition.max() / scale)
    residual = float(np.linalg.norm(dense @ x - x * values, axis=0).max() / scale)
    lead = float(SCORES[which](values[:1])[0])
    found = Found(values, error, residual, lead - error * scale, lead + error * scale, "dense component", x, y)
    if error <= rtol:
        return found
    why = "the eigenvalues of a small component are too ill-conditioned for double precision (it is highly non-normal, perhaps nilpotent)"
    raise UncertifiedError(why, replace(found, lower=None, upper=power_bound(dense)))


def power_bound(dense: NDArray[np.float64]) -> float:
    """``|W^m|^(1/m)`` for m = 1, 2, 4, ..., with an allowance for rounding: an upper bound of the radius."""
    size = float(np.linalg.norm(dense))
    if size == 0:
        return 0.0
    power, noise, log_size, bound, m = dense / size, 0.0, np.log(size), size, 1
    for _ in range(12):
        noise = 2 * noise * float(np.linalg.norm(power)) + noise**2 + len(dense) * EPS * float(np.linalg.norm(power)) ** 2
        power = power @ power
        m *= 2
        total = float(np.linalg.norm(power)) + noise
        if total < 1e-100:
            break
        bound = min(bound, float(np.exp(np.log(total) / m + log_size)))
    return bound


# ---------------------------------------------------------------- cyclic matrices


def _by_classes(
    block: sp.csr_array, cycles: Cycles, which: str, k: int, rtol: float, seed: int, budget: Budget, values_only: bool
) -> Found | None:
    """A matrix of period h by the product of its h blocks on the smallest class: its eigenvalues are h-th roots.

    None where the class is not small and one radius is not all that is asked for. Horn & Johnson, Matrix
    Analysis, 8.4 (Frobenius form).
    """
    h = cycles.period
    budget.unit = 0.0
    size = np.bincount(cycles.level, minlength=h)
    first = int(np.argmin(size))
    small = size[first] <= DENSE_COMPONENT
    if not small and not (values_only and which == "LM"):
        return None
    factors, members = _class_blocks(block, cycles, first)
    factors, sizes = _scale_factors(factors)
    log_scale = float(np.log(sizes).sum())
    everything = not (values_only and which == "LM")
    relax = rtol * h if which == "LM" else rtol  # an error e of mu is e / h of its h-th root
    try:
        if small:
            product = np.eye(int(size[first]))
            for factor in reversed(factors):
                product = factor @ product
            budget.spend(1)
            w = sp.csr_array(product)
            if values_only and which == "LM" and cycles.one_signed and len(product) > 1:
                found = perron(abs(w), min(relax, 0.5), seed, budget)
            else:
                found = _dense_product(w, everything, min(relax, 0.5))
        else:
            found = search(factors, "LM", 1, min(relax, 0.5), seed, budget)
    except UncertifiedError as error:
        if everything:
            return None  # the matrix itself may be kinder
        raise UncertifiedError(error.why, _root(error.found, h, log_scale)) from None
    if found.method == "Perron-Frobenius" and cycles.one_signed == -1:
        found = replace(found, values=-found.values)
    if not everything:
        return replace(_root(found, h, log_scale), method="cycle" if size[first] == 1 else f"cyclic classes: {found.method}")
    return _all_roots(found, factors, members, sizes, which, k)


def _dense_product(w: sp.csr_array, everything: bool, rtol: float) -> Found:
    """The leading eigenvalue of the product, or all of them, so that all roots can be compared."""
    n = w.shape[0]
    if n == 1:
        one = np.ones((1, 1), dtype=complex)
        value = float(w.sum())
        return Found(np.array([value + 0j]), 4 * EPS, 0.0, abs(value) * (1 - 4 * EPS), abs(value) * (1 + 4 * EPS), "cycle", one, one)
    scaled, d = balance(w)
    return _unbalanced(_dense(scaled, "LM", n if everything else 1, rtol, normal=False), d)


def _class_blocks(block: sp.csr_array, cycles: Cycles, first: int) -> tuple[list[sp.csr_array], list[NDArray[np.int64]]]:
    """Blocks F_1 .. F_h of the Frobenius form, from each class to the one before, and the units of the classes."""
    h = cycles.period
    members = np.split(np.argsort(cycles.level, kind="stable"), np.cumsum(np.bincount(cycles.level, minlength=h))[:-1])
    members = members[first:] + members[:first]
    number = np.empty(block.shape[0], dtype=np.int32)
    for units in members:
        number[units] = np.arange(len(units))
    factors = []
    for s, units in enumerate(members):
        rows = block[units]
        shape = (len(units), len(members[(s + 1) % h]))
        factors.append(sp.csr_array((rows.data, number[rows.indices], rows.indptr), shape=shape))
    return factors, members


def _scale_factors(factors: list[sp.csr_array]) -> tuple[list[sp.csr_array], NDArray[np.float64]]:
    """Factors whose product neither overflows nor underflows, and what each was divided by."""
    x = np.ones(factors[-1].shape[1])
    sizes, scaled = [], []
    for factor in reversed(factors):
        x = abs(factor) @ x
        sizes.append(float(x.max()))
        x /= sizes[-1]
        scaled.append(sp.csr_array((factor.data / sizes[-1], factor.indices, factor.indptr), shape=factor.shape))
    return scaled[::-1], np.array(sizes[::-1])


def _root(found: Found, h: int, log_scale: float) -> Found:
    """From the product's leading eigenvalue to the principal h-th root."""

    def root(value: float) -> float:
        return float(np.exp((np.log(value) + log_scale) / h)) if 0 < value < np.inf else value

    values = np.array([root(abs(v)) * np.exp(1j * np.angle(v) / h) if v else 0.0 for v in found.values[:1]], dtype=complex)
    slack = 1e-12  # rounding of logarithms
    lower = None if found.lower is None else root(max(found.lower, 0.0)) * (1 - slack)
    return Found(values, found.error / h + slack, found.residual / h, lower, root(found.upper) * (1 + slack), found.method)


def _all_roots(
    found: Found,
    factors: list[sp.csr_array],
    members: list[NDArray[np.int64]],
    sizes: NDArray[np.float64],
    which: str,
    k: int,
) -> Found | None:
    """The k leading of all h-th roots, with vectors carried from class to class."""
    h, mu, x0 = len(factors), found.values, found.right
    keep = np.abs(mu) > 1e3 * EPS * max(float(np.abs(mu).max()), 1e-300)
    if x0 is None or keep.sum() * h < k:
        return None
    size = np.exp((np.log(np.abs(mu[keep])) + np.log(sizes).sum()) / h)
    angle = (np.angle(mu[keep])[:, None] + 2 * np.pi * np.arange(h)) / h
    turns = np.where(np.abs(np.cos(angle)) < 4 * EPS, 0, np.cos(angle)) + 1j * np.where(np.abs(np.sin(angle)) < 4 * EPS, 0, np.sin(angle))
    roots, origin = (size[:, None] * turns).ravel(), np.repeat(np.flatnonzero(keep), h)
    top = order_of(roots, which)[:k]
    vectors = np.zeros((sum(map(len, members)), len(top)), dtype=complex)
    for column, t in enumerate(top):
        x = x0[:, origin[t]].astype(complex)
        vectors[members[0], column] = x
        for s in range(h - 1, 0, -1):  # W x = lambda x: class s is fed by class s + 1
            x = factors[s] @ x * (sizes[s] / roots[t])
            vectors[members[s], column] = x
    vectors /= np.linalg.norm(vectors, axis=0)
    method = "cycle" if len(members[0]) == 1 else f"cyclic classes: {found.method}"
    return Found(roots[top], found.error / h, found.residual / h, None, np.inf, method, vectors)


def gradient_entries(block: sp.csr_array, found: Found) -> NDArray[np.float64]:
    """Derivative of the leading modulus by every stored entry: ``Re(conj(v) / |v| y_i x_j / (y^T x))``.

    Magnus 1985, On differentiating eigenvalues and eigenvectors.
    """
    if found.right is None or found.left is None:
        raise ValueError("a gradient needs both eigenvectors, which a sharp search finds.")
    x, y, value = found.right[:, 0], found.left[:, 0], found.values[0]
    direction = np.conj(value) / np.abs(value) / (y @ x)
    grad: NDArray[np.float64] = np.real(direction * y[rows_of(block)] * x[block.indices])
    return grad
