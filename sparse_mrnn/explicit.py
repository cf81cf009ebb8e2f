"""Explicit synapses: dense arrays, scipy sparse arrays and networkx graphs, checked and made CSR."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import networkx as nx
import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray

from sparse_mrnn.errors import WeightError, suggest

Ids = Sequence[str] | None


def explicit_weights(label: str, weights: Any, shape: tuple[int, int], signs: NDArray[np.int8], ids: tuple[Ids, Ids]) -> sp.csr_array:
    """The weights of a projection as CSR, without repeats.

    Parameters
    ----------
    label : str
        The projection, as errors name it.
    weights : array, scipy sparse array or networkx graph
        Entry (i, j) is from source unit j to target unit i; zeros of a dense array are no synapses.
    shape : (int, int)
        Target and source units.
    signs : ndarray of int8, shape (source units,)
        What the sources' weights may be: +1, -1, or 0 for either.
    ids : pair of sequences of str, or None
        Unit ids of target and source, which a networkx graph needs.

    Raises
    ------
    WeightError
        If the shape is wrong, a weight is not finite, or it conflicts with the sign of its source.

    Examples
    --------
    >>> explicit_weights("a -> b", [[0, 2.0]], (1, 2), np.ones(2, np.int8), (None, None)).nnz
    1
    """
    if isinstance(weights, nx.Graph):
        weights = _from_networkx(label, weights, shape, ids)
    elif not sp.issparse(weights):
        weights = np.asarray(weights)
        if weights.ndim != 2:
            raise WeightError(f"{label}: weights must have 2 dimensions (target, source), not {weights.ndim}.")
    if weights.shape != shape:
        hint = " It looks transposed: rows are targets." if weights.shape == shape[::-1] else ""
        raise WeightError(f"{label}: weights have shape {weights.shape}, expected (target, source) = {shape}.{hint}")
    matrix = sp.csr_array(weights, copy=True)
    if not np.issubdtype(matrix.dtype, np.floating):
        matrix = matrix.astype(np.float32)
    matrix.sum_duplicates()
    coo = matrix.tocoo()
    bad = np.flatnonzero(~np.isfinite(coo.data))
    if len(bad):
        i, j = coo.row[bad[0]], coo.col[bad[0]]
        raise WeightError(f"{label}: {len(bad)} weights are NaN or infinite, first from unit {j} to unit {i}.")
    bad = np.flatnonzero(coo.data * signs[coo.col] < 0)
    if len(bad):
        i, j, value = coo.row[bad[0]], coo.col[bad[0]], coo.data[bad[0]]
        side = "excitatory" if value < 0 else "inhibitory"
        raise WeightError(
            f"{label}: {len(bad)} weights conflict with the source's sign, first {value:g} from {side} unit {j} "
            f"to unit {i}. Change the weight or the region's sign, or give the projection a sign of its own."
        )
    return matrix


def _from_networkx(label: str, graph: nx.Graph, shape: tuple[int, int], ids: tuple[Ids, Ids]) -> sp.coo_array:
    """Edges u -> v of unit ids; the ``weight`` attribute, 1 where there is none."""
    places: list[dict[str, int]] = []
    for side, names in zip(("target", "source"), ids, strict=True):
        if names is None:
            raise WeightError(f"{label}: weights from a networkx graph need unit_ids on the {side} region.")
        places.append({unit: k for k, unit in enumerate(names)})
    edges = list(graph.edges(data="weight", default=1.0))
    if not graph.is_directed():
        edges += [(v, u, w) for u, v, w in edges if u != v]
    for u, v, _ in edges:
        for unit, place, side in ((u, places[1], "source"), (v, places[0], "target")):
            if unit not in place:
                raise WeightError(f"{label}: edge {u!r} -> {v!r}: {unit!r} is no unit of the {side}. {suggest(unit, place, what='units')}")
    rows = np.array([places[0][v] for _, v, _ in edges], dtype=np.int64)
    cols = np.array([places[1][u] for u, _, _ in edges], dtype=np.int64)
    values = np.array([w for _, _, w in edges], dtype=np.float64)
    return sp.coo_array((values, (rows, cols)), shape=shape)
