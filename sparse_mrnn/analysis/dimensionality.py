"""Dimensionality of states: the participation ratio of their covariance, which is never made as a whole."""

from __future__ import annotations

from typing import Any

import numpy as np

from sparse_mrnn.analysis.state_source import BLOCK_BYTES, StateSource
from sparse_mrnn.errors import AnalysisError


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
