"""Eigenvalues of a small component by LAPACK, with condition numbers."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import scipy.linalg as sla
import scipy.sparse as sp

from sparse_mrnn.spectral.result import ComponentResult, UncertifiedError
from sparse_mrnn.spectral.settings import Float, SearchSettings, leading_order

DENSE_COMPONENT = 400
"""Components, and cyclic classes, of up to this many units are made dense (1.3 MB); larger ones never are."""

EPS = float(np.finfo(np.float64).eps)


def dense_search(w: sp.csr_array, settings: SearchSettings, *, normal: bool) -> ComponentResult:
    """The k leading eigenpairs: a backward error of a few ulp of the norm, times ``1 / |y^H x|``.

    Raises
    ------
    UncertifiedError
        If the eigenvalues are too ill-conditioned; with an upper bound.
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
