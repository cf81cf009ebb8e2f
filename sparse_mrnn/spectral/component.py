"""Leading eigenvalues of one strongly connected component: which method, in which coordinates."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import scipy.sparse as sp

from sparse_mrnn.spectral.arnoldi import TwoSidedSearch
from sparse_mrnn.spectral.cyclic import cyclic_search
from sparse_mrnn.spectral.dense import DENSE_COMPONENT, dense_search
from sparse_mrnn.spectral.perron import perron
from sparse_mrnn.spectral.result import ComponentResult, UncertifiedError
from sparse_mrnn.spectral.settings import BudgetSpentError, SearchSettings
from sparse_mrnn.spectral.structure import Cycles, balance, norm_bound, symmetry, trace_bound


def solve_component(block: sp.csr_array, settings: SearchSettings) -> ComponentResult:
    """The k leading eigenvalues of a strongly connected matrix of more than one unit, certified.

    Where they are not, `UncertifiedError` has the bounds that are known.
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
