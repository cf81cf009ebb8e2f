"""Leading eigenvalues of one strongly connected component: which method, in which coordinates.

A component with a period h is searched by the product of the h blocks of its Frobenius form: the eigenvalues
are its h-th roots (Horn & Johnson, Matrix Analysis, 8.4). Small ones are made dense.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import scipy.linalg as sla
import scipy.sparse as sp

from sparse_mrnn.spectral.arnoldi import TwoSidedSearch
from sparse_mrnn.spectral.perron import perron
from sparse_mrnn.spectral.result import ComponentResult, UncertifiedError
from sparse_mrnn.spectral.settings import BudgetSpentError, Complex, Float, SearchSettings, leading_order
from sparse_mrnn.spectral.structure import Cycles, Int, balance, norm_bound, symmetry, trace_bound

DENSE_COMPONENT = 400
"""Components, and cyclic classes, of up to this many units are made dense (1.3 MB); larger ones never are."""

EPS = float(np.finfo(np.float64).eps)


def dense_search(w: sp.csr_array, settings: SearchSettings, *, normal: bool) -> ComponentResult:
    """The k leading eigenpairs: a backward error of a few ulp of the norm, times ``1 / |y^H x|``.

    `UncertifiedError`, with an upper bound, if the eigenvalues are too ill-conditioned.
    """
    dense = w.toarray()
    values, y, x = sla.eig(dense, left=True, right=True)
    top = leading_order(values, settings.which)[: settings.k]
    values, x, y = values[top], x[:, top], y[:, top].conj()
    with np.errstate(divide="ignore"):
        condition = np.ones(len(top)) if normal else 1 / np.abs((y * x).sum(axis=0))
    scale = max(float(np.abs(values).max()), 1e-300)
    error = float(10 * EPS * np.linalg.norm(dense) * condition.max() / scale)
    residual = float(np.linalg.norm(dense @ x - x * values, axis=0).max() / scale)
    lead, off = settings.score(values), error * scale
    found = ComponentResult(values, error, residual, lead - off, lead + off, "dense component", x, y)
    if error <= settings.rtol:
        return found
    raise UncertifiedError(
        "the eigenvalues of a small component are too ill-conditioned for double precision "
        "(it is highly non-normal, perhaps nilpotent)",
        replace(found, lower=None, upper=power_bound(dense)),
    )


def power_bound(dense: Float) -> float:
    """``|W^m|^(1/m)``, m = 1, 2, 4, ..., with an allowance for rounding: an upper bound of the radius."""
    size = float(np.linalg.norm(dense))
    if size == 0:
        return 0.0
    power, noise, log_size, bound, m = dense / size, 0.0, np.log(size), size, 1
    for _ in range(12):
        norm = float(np.linalg.norm(power))
        noise = 2 * noise * norm + noise**2 + len(dense) * EPS * norm**2
        power = power @ power
        m *= 2
        total = float(np.linalg.norm(power)) + noise
        if total < 1e-100:
            break
        bound = min(bound, float(np.exp(np.log(total) / m + log_size)))
    return bound


def cyclic_search(block: sp.csr_array, cycles: Cycles, settings: SearchSettings) -> ComponentResult | None:
    """The k leading eigenvalues of a matrix of period h, from the product over its smallest class.

    None if that class is large and more than the radius is asked for, or if roots are missing;
    `UncertifiedError` if the radius alone is asked for and cannot be certified.
    """
    h, budget = cycles.period, settings.budget
    budget.unit = 0.0
    size = int(np.bincount(cycles.level, minlength=h).min())
    radius_only = settings.one_value and settings.which == "LM"
    if size > DENSE_COMPONENT and not radius_only:
        return None
    form = FrobeniusForm.of(block, cycles)
    # An error e of the product's eigenvalue is e / h of its h-th root.
    rtol = min(settings.rtol * h if settings.which == "LM" else settings.rtol, 0.5)
    inner = replace(settings, which="LM", k=1 if radius_only else size, rtol=rtol)
    try:
        if size > DENSE_COMPONENT:
            found = TwoSidedSearch(form.factors, inner).run()
        else:
            budget.spend(1)
            product = form.product()
            if radius_only and cycles.one_signed and size > 1:
                found = perron(abs(product), inner)
                found = replace(found, values=found.values * cycles.one_signed)
            else:
                found = _dense_product(product, inner)
    except UncertifiedError as error:
        if not radius_only:
            return None  # the matrix itself may be kinder
        raise UncertifiedError(error.why, form.root(error.best)) from None
    method = "cycle" if size == 1 else f"cyclic classes: {found.method}"
    roots = form.root(found) if radius_only else form.all_roots(found, settings)
    return None if roots is None else replace(roots, method=method)


def _dense_product(w: sp.csr_array, settings: SearchSettings) -> ComponentResult:
    if w.shape[0] > 1:
        balanced, d = balance(w)
        return dense_search(balanced, settings, normal=False).unbalanced(d)
    value, slack, one = float(w.sum()), 4 * EPS, np.ones((1, 1), dtype=complex)
    bounds = abs(value) * (1 - slack), abs(value) * (1 + slack)
    return ComponentResult(np.array([value + 0j]), slack, 0.0, *bounds, "cycle", one, one)


@dataclass(frozen=True, eq=False)
class FrobeniusForm:
    """The blocks of a matrix between its cyclic classes, from the smallest class on.

    ``factors`` map each class to the one before, divided by ``sizes`` so that no product overflows;
    ``members`` are the units of each class.
    """

    factors: list[sp.csr_array]
    members: list[Int]
    sizes: Float

    @classmethod
    def of(cls, block: sp.csr_array, cycles: Cycles) -> FrobeniusForm:
        """O(synapses)."""
        h = cycles.period
        count = np.bincount(cycles.level, minlength=h)
        members = np.split(np.argsort(cycles.level, kind="stable"), np.cumsum(count)[:-1])
        first = int(np.argmin(count))
        members = members[first:] + members[:first]
        number = np.empty(block.shape[0], dtype=np.int32)
        for units in members:
            number[units] = np.arange(len(units))
        factors, sizes = [], []
        x = np.ones(len(members[0]))
        for s in range(h - 1, -1, -1):
            rows = block[members[s]]
            shape = (len(members[s]), len(members[(s + 1) % h]))
            factor = sp.csr_array((rows.data, number[rows.indices], rows.indptr), shape=shape)
            x = abs(factor) @ x
            size = float(x.max())
            x /= size
            sizes.append(size)
            factors.append(sp.csr_array((factor.data / size, factor.indices, factor.indptr), shape=shape))
        return cls(factors[::-1], members, np.array(sizes[::-1]))

    def product(self) -> sp.csr_array:
        """The product of the factors, on the smallest class."""
        product = np.eye(len(self.members[0]))
        for factor in reversed(self.factors):
            product = factor @ product
        return sp.csr_array(product)

    @property
    def log_scale(self) -> float:
        """Logarithm of what the product was divided by."""
        return float(np.log(self.sizes).sum())

    def root(self, found: ComponentResult) -> ComponentResult:
        """From the product's leading eigenvalue to the principal h-th root."""
        h, slack = len(self.factors), 1e-12  # rounding of logarithms

        def root(value: float) -> float:
            return float(np.exp((np.log(value) + self.log_scale) / h)) if 0 < value < np.inf else value

        roots = [root(abs(v)) * np.exp(1j * np.angle(v) / h) if v else 0.0 for v in found.values[:1]]
        values = np.array(roots, dtype=complex)
        lower = None if found.lower is None else root(max(found.lower, 0.0)) * (1 - slack)
        error, upper = found.error / h + slack, root(found.upper) * (1 + slack)
        return ComponentResult(values, error, found.residual / h, lower, upper, found.method)

    def all_roots(self, found: ComponentResult, settings: SearchSettings) -> ComponentResult | None:
        """The k leading eigenvalues: h-th roots, and 0 as often as the classes differ in size.

        None if the roots of the smallest eigenvalues of the product, which drown in rounding, may be among
        them, or if there are too few vectors.
        """
        h, mu, x0 = len(self.factors), found.values, found.right
        scale = max(float(np.abs(mu).max()), 1e-300)
        share = np.abs(mu) / scale
        known = share > max(1e3 * EPS, 100 * found.error)
        if x0 is None or not known.any():
            return None
        size = np.exp((np.log(np.abs(mu[known])) + self.log_scale) / h)
        angle = (np.angle(mu[known])[:, None] + 2 * np.pi * np.arange(h)) / h
        cos, sin = (np.where(np.abs(part) < 4 * EPS, 0, part) for part in (np.cos(angle), np.sin(angle)))
        roots, origin = (size[:, None] * (cos + 1j * sin)).ravel(), np.repeat(np.flatnonzero(known), h)
        zeros = min(sum(map(len, self.members)) - h * len(mu), settings.k)
        values: Complex = np.append(roots, np.zeros(zeros, dtype=complex))
        origin = np.append(origin, np.full(zeros, -1))
        top = leading_order(values, settings.which)[: settings.k]
        values, origin = values[top], origin[top]
        if len(top) < settings.k:
            return None
        if not known.all():
            drowned = size.max() * (float(share[~known].max()) + found.error) ** (1 / h)
            if settings.score(values[-1:]) <= drowned:
                return None
        # An error e of an eigenvalue m of the product is one of e |m|^(1/h - 1) / h of its roots.
        error = found.error / h * float((share[origin[origin >= 0]] ** (1 / h - 1)).max(initial=1.0))
        vectors = self._vectors(values, origin, x0) if settings.vectors else None
        if error > settings.rtol or (settings.vectors and vectors is None):
            return None
        return ComponentResult(values, error, found.residual / h, None, np.inf, found.method, vectors)

    def _vectors(self, values: Complex, origin: Int, x0: Complex) -> Complex | None:
        """Vectors over all classes, from those of the product; of 0 (``origin`` -1), of a single class.

        None if 0 has fewer vectors, or the classes are too large to look for them.
        """
        h = len(self.factors)
        vectors = np.zeros((sum(map(len, self.members)), len(values)), dtype=complex)
        for column in np.flatnonzero(origin >= 0):
            x = x0[:, origin[column]].astype(complex)
            vectors[self.members[0], column] = x
            for s in range(h - 1, 0, -1):  # W x = lambda x: class s is fed by class s + 1
                x = self.factors[s] @ x * (self.sizes[s] / values[column])
                vectors[self.members[s], column] = x
        wanted = np.flatnonzero(origin < 0).tolist()
        for s, factor in enumerate(self.factors):
            if not wanted or max(factor.shape) > DENSE_COMPONENT:
                break
            for null in sla.null_space(factor.toarray()).T[: len(wanted)]:
                vectors[self.members[(s + 1) % h], wanted.pop()] = null
        if wanted:
            return None
        vectors /= np.linalg.norm(vectors, axis=0)
        return vectors


def solve_component(block: sp.csr_array, settings: SearchSettings) -> ComponentResult:
    """The k leading eigenvalues of a strongly connected matrix of more than one unit, certified.

    If they cannot be certified, `UncertifiedError` has the bounds that are known.
    """
    settings = replace(settings, k=min(settings.k, block.shape[0]))
    lower, upper = trace_bound(block, settings.which), norm_bound(block)
    try:
        return _by_best_method(block, settings).within(lower, upper)
    except UncertifiedError as error:
        raise UncertifiedError(error.why, error.best.within(lower, upper)) from None
    except BudgetSpentError:
        nothing = ComponentResult(np.empty(0, dtype=complex), np.inf, np.inf, lower, upper, "")
        raise UncertifiedError(settings.budget.why, nothing) from None


def _by_best_method(block: sp.csr_array, settings: SearchSettings) -> ComponentResult:
    normal, which = symmetry(block), settings.which
    if normal == -1 and which in ("LR", "SR") and settings.one_value:
        return ComponentResult(np.zeros(1, dtype=complex), 0.0, 0.0, 0.0, 0.0, "skew-symmetric")
    cycles = Cycles.of(block)
    small = block.shape[0] <= DENSE_COMPONENT
    if cycles.period > 1 and not settings.precise:
        found = cyclic_search(block, cycles, settings)
        if found is not None:
            return found
    at_radius = which == "LM" or (which == "LR" and cycles.one_signed == 1)
    if settings.one_value and cycles.one_signed and at_radius:
        try:
            found = perron(abs(block), settings)
        except UncertifiedError:
            if not small:
                raise
        else:
            return replace(found, values=found.values * _phase(cycles))
    balanced, d = (block, np.ones(block.shape[0])) if normal else balance(block)
    if small:
        return dense_search(balanced, settings, normal=normal != 0).unbalanced(d)
    size = norm_bound(balanced)
    settings.budget.unit = size
    unit = sp.csr_array((balanced.data / size, balanced.indices, balanced.indptr), shape=balanced.shape)
    try:
        found = TwoSidedSearch([unit], settings, normal != 0).run()
        return found.times(size).unbalanced(d)
    except UncertifiedError as error:
        raise UncertifiedError(error.why, error.best.times(size)) from None


def _phase(cycles: Cycles) -> complex:
    """``exp(i phi)`` with W = exp(i phi) D |W| D^-1."""
    if cycles.one_signed == 1:
        return 1.0
    return -1.0 if cycles.period == 1 else complex(np.exp(1j * np.pi / cycles.period))
