"""What random-matrix theory expects of a network's eigenvalues."""

from __future__ import annotations

from typing import Any

import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray

from sparse_mrnn.spectral.inputs import as_matrix
from sparse_mrnn.spectral.structure import rows_of


def disc_radius(weights: Any, ptr: NDArray[np.integer] | None = None, seed: int = 0) -> float:
    """Radius of the disc that the eigenvalues of a random network with these statistics would fill.

    ``R^2`` is the largest eigenvalue of the regions' matrix of summed variances, ``S[a, b] = n_b var(W_ab)``:
    the circular law for one region, its extension to blocks for several. Rows of a Dale net are taken by sign
    of source, so the disc does not count the outlier that unbalanced means make.

    Parameters
    ----------
    weights : as for `spectral_radius`
    ptr : ndarray of int, optional
        First unit of each region and the total at the end. Default: one region.
    seed : int
        Of a graph's synapses.

    References
    ----------
    Girko 1985; Rajan & Abbott 2006; Aljadeff, Stern & Sharpee 2015, Transition to chaos in random networks
    with cell-type-specific connectivity.

    Examples
    --------
    >>> w = np.random.default_rng(0).standard_normal((400, 400)) / 20
    >>> round(disc_radius(w), 1)
    1.0
    """
    w: sp.csr_array = as_matrix(weights, seed=seed)
    n = w.shape[0]
    edges = np.array([0, n]) if ptr is None else np.asarray(ptr)
    region = np.repeat(np.arange(len(edges) - 1), np.diff(edges))
    lean = np.sign(np.bincount(w.indices, w.data, minlength=n)).astype(int) + 1
    kind = region * 3 + lean  # a region's excitatory and inhibitory sources have means of their own
    _, kind, size = np.unique(kind, return_inverse=True, return_counts=True)
    count = len(size)
    cell = kind[rows_of(w)] * count + kind[w.indices]
    area = np.outer(size, size)
    mean = np.bincount(cell, w.data, minlength=count**2).reshape(count, count) / area
    square = np.bincount(cell, w.data**2, minlength=count**2).reshape(count, count) / area
    summed = np.maximum(square - mean**2, 0) * size[None]
    return float(np.sqrt(np.abs(np.linalg.eigvals(summed)).max()))
