"""A graph, model, scipy, numpy or torch matrix becomes a checked scipy CSR matrix of float64."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import scipy.sparse as sp
import torch
from numpy.typing import NDArray

from sparse_mrnn.declaration.graph import RegionGraph, projection_label
from sparse_mrnn.errors import SpectralInputError
from sparse_mrnn.lowering.layout import Layout
from sparse_mrnn.lowering.lower import lower
from sparse_mrnn.lowering.random_streams import low_rank_stream, synapse_stream
from sparse_mrnn.lowering.sampling import draw_factors
from sparse_mrnn.ops.pattern import to_scipy

Units = NDArray[np.int64] | slice
LOW_RANK_UNITS = 4096
"""Units up to which U V^T is added to the synapses as a dense matrix."""


@dataclass(frozen=True, eq=False)
class LowRankMatrix:
    """``synapses + left @ right.T``: weights (units, units), factors (units, ranks of all projections)."""

    synapses: sp.csr_array
    left: sp.csr_array
    right: sp.csr_array

    def among(self, units: Units) -> LowRankMatrix:
        """Rows and columns of some units."""
        return LowRankMatrix(self.synapses[units][:, units], self.left[units], self.right[units])

    def multiplied_out(self) -> sp.csr_array:
        """One matrix; `SpectralInputError` if there are more than `LOW_RANK_UNITS` units."""
        check_low_rank(self.synapses.shape[0])
        return sp.csr_array(self.synapses.toarray() + (self.left @ self.right.T).toarray())


def among(weights: sp.csr_array | LowRankMatrix, units: Units) -> sp.csr_array | LowRankMatrix:
    """Rows and columns of some units. O(synapses onto them) for a slice."""
    return weights.among(units) if isinstance(weights, LowRankMatrix) else weights[units][:, units]


def as_matrix(weights: Any, regions: str | Sequence[str] | None = None, seed: int = 0) -> sp.csr_array:
    """The weight matrix to analyse, a copy without stored zeros or repeats; U V^T is multiplied out.

    `SpectralInputError` if it is not a square matrix of finite floats, is empty, or has low-rank projections
    among more than 4,096 units.
    """
    found = as_weights(weights, regions, seed)
    return _checked(found.multiplied_out()) if isinstance(found, LowRankMatrix) else found


def as_weights(
    weights: Any, regions: str | Sequence[str] | None = None, seed: int = 0
) -> sp.csr_array | LowRankMatrix:
    """Read the weights as `as_matrix`, but leave projections of low rank as they are."""
    refuse_electrical(weights, "the eigenvalues of the weights")
    return _read(weights, regions, seed)


def refuse_electrical(weights: Any, what: str) -> None:
    """Refuse a network or graph with electrical synapses, which its weight matrix has not.

    Raises
    ------
    SpectralInputError
    """
    electrical = _electrical_of(weights)
    if electrical is not None:
        label = projection_label(*electrical)
        raise SpectralInputError(
            f"{what} do not decide the stability of a network with electrical synapses ({label}): these "
            "leak current besides. Use spectral_abscissa(net), which adds them (stable below 1), or the "
            "weights of the chemical ones alone: net.to_scipy()."
        )


def _electrical_of(weights: Any) -> tuple[str, str, str] | None:
    """Name of the first electrical projection of a network or graph."""
    if isinstance(weights, RegionGraph):
        for name in weights.electrical_projections().names.tuples[:1]:
            return name
    own = getattr(weights, "electrical", None)
    return None if own is None else own.names[0]


def as_linear_dynamics(weights: Any, regions: str | Sequence[str] | None, seed: int) -> Any:
    """Read W + G of ``tau dx/dt = -x + W f(x) + G x``; G is 0 without electrical synapses.

    `SpectralInputError` if some rectify: G then depends on the state.
    """
    label, names = _electrical_of(weights), region_names(regions)
    found = _read(weights, regions, seed)
    if label is None:
        return found
    if isinstance(weights, RegionGraph):
        layout = Layout.of(weights)
        projections = weights.electrical_projections()
        electrical = [(p.source == p.target, p.rectifies, *_units(p, layout)) for p in projections]
        rows, cols, g = (np.concatenate([each[k] for each in electrical]) for k in (2, 3, 4))
        rectifies = any(each[1] for each in electrical)
    else:
        pairs, layout = weights.electrical.pairs, weights.layout()
        tensors = pairs.rows, pairs.cols, weights.electrical.values()
        rows, cols, g = (t.detach().cpu().numpy() for t in tensors)
        rectifies = pairs.any_rectifies
    if rectifies:
        one_way = f"some electrical synapses rectify (the first electrical one is {projection_label(*label)})"
        advice = "linearise the network at one: sparse_mrnn.analysis.linearize"
        raise SpectralInputError(f"{one_way}, so the eigenvalues depend on the state; {advice}.")
    index = np.concatenate([rows, cols, rows, cols]), np.concatenate([cols, rows, rows, cols])
    exchange = sp.csr_array(sp.coo_array((np.concatenate([g, g, -g, -g]), index), shape=(layout.n,) * 2))
    if names:
        units = layout.indices(*names)
        units = units if isinstance(weights, RegionGraph) else np.sort(units)
        exchange = sp.csr_array(exchange[units][:, units])
    if isinstance(found, LowRankMatrix):
        return replace(found, synapses=_checked(found.synapses + exchange))
    return _checked(sp.csr_array(found + exchange))


def _units(projection: Any, layout: Layout) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[Any]]:
    """Units of each pair of an electrical projection, each pair once, and its conductance."""
    coo = projection.weights.tocoo()
    once = np.full(coo.nnz, True) if projection.source != projection.target else coo.row > coo.col
    rows = coo.row[once].astype(np.int64) + layout.slice(projection.target).start
    cols = coo.col[once].astype(np.int64) + layout.slice(projection.source).start
    return rows, cols, coo.data[once].astype(np.float64)


def _read(
    weights: Any, regions: str | Sequence[str] | None, seed: int
) -> sp.csr_array | LowRankMatrix:
    names = region_names(regions)
    if isinstance(weights, LowRankMatrix):
        return weights
    if isinstance(weights, RegionGraph):
        return _of_graph(weights, names, seed)
    if hasattr(weights, "get_weight_subset"):  # a model, of a layer above this one
        if weights.weights("recurrent").low_rank is not None:
            return _of_low_rank_network(weights, names)
        matrix = to_scipy(weights.get_weight_subset(*names, sparse=True))
    elif names:
        what = f"{type(weights).__name__} has no regions. Index the matrix instead"
        raise SpectralInputError(f"regions needs a RegionGraph or a network; {what}.")
    else:
        _check_kind(weights)
        if isinstance(weights, torch.Tensor):
            weights = weights.to(torch.float64)
        elif not sp.issparse(weights):
            weights = np.asarray(weights, dtype=np.float64)
        matrix = to_scipy(weights)
    return _checked(matrix)


def _checked(matrix: sp.csr_array) -> sp.csr_array:
    """A copy without stored zeros or repeats, after it was found finite and not empty."""
    if matrix.shape[0] == 0:
        raise SpectralInputError("the matrix is empty (0 x 0); it has no eigenvalues.")
    w = sp.csr_array(matrix, dtype=np.float64, copy=True)
    bad = np.flatnonzero(~np.isfinite(w.data))
    if len(bad):
        row = int(np.searchsorted(w.indptr, bad[0], side="right")) - 1
        first = f"the first at row {row}, column {w.indices[bad[0]]}: {w.data[bad[0]]}"
        raise SpectralInputError(f"the matrix has {len(bad)} NaN or infinite entries, {first}.")
    w.sum_duplicates()
    w.eliminate_zeros()
    return with_small_indices(w)


def with_small_indices(matrix: sp.csr_array) -> sp.csr_array:
    """Give a matrix indices of 32 bits, which MKL takes without converting them at every product."""
    if matrix.nnz < 2**31 and matrix.indices.dtype != np.int32:
        matrix.indices, matrix.indptr = matrix.indices.astype(np.int32), matrix.indptr.astype(np.int32)
    return matrix


def region_names(regions: str | Sequence[str] | None) -> tuple[str, ...]:
    """Names as a tuple, empty for None; `SpectralInputError` if the sequence is empty."""
    names = () if regions is None else (regions,) if isinstance(regions, str) else tuple(regions)
    if regions is not None and not names:
        raise SpectralInputError("regions is empty; name at least one, or leave it out for all of them.")
    return names


def _check_kind(weights: Any) -> None:
    """Refuse anything but a real, square, floating-point matrix, before it is converted."""
    if not hasattr(weights, "shape"):
        try:
            weights = np.asarray(weights)
        except ValueError as error:
            kind = type(weights).__name__
            raise SpectralInputError(f"cannot read a matrix from {kind}: {error}.") from None
    shape = tuple(weights.shape)
    if len(shape) != 2 or shape[0] != shape[1]:
        got = " x ".join(map(str, shape)) or "a single number"
        raise SpectralInputError(f"eigenvalues need a square matrix; this one is {got}.")
    if isinstance(weights, torch.Tensor):
        floating, convert = weights.dtype.is_floating_point, "W.to(torch.float64)"
    else:
        floating, convert = np.issubdtype(weights.dtype, np.floating), "W.astype(float)"
    if not floating:
        hint = f"weights are real floating-point numbers: use {convert}"
        if "complex" in str(weights.dtype):
            hint = "complex matrices are not supported; use scipy.sparse.linalg.eigs"
        raise SpectralInputError(f"the matrix has dtype {weights.dtype}; {hint}.")


def check_low_rank(units: int) -> None:
    """Refuse U V^T of more than `LOW_RANK_UNITS` units: it is added to the synapses as a dense matrix."""
    if units > LOW_RANK_UNITS:
        raise SpectralInputError(
            f"this needs the projections of low rank multiplied out, which is done up to {LOW_RANK_UNITS:,} "
            f"units; these are {units:,}. Name fewer regions."
        )


def _of_graph(graph: RegionGraph, names: Sequence[str], seed: int) -> sp.csr_array | LowRankMatrix:
    """The effective weights that ``mRNN(graph, seed=seed)`` starts with, from the same random streams."""
    if not graph.regions():
        raise SpectralInputError("the graph has no recurrent region; add one with add_region.")
    matrix, layout = lower(graph, seed=synapse_stream(seed, "recurrent")).to_scipy(), Layout.of(graph)
    units = layout.indices(*names) if names else np.arange(layout.n)
    low_rank = [projection for projection in graph.projections("recurrent") if projection.rank is not None]
    if not low_rank:
        return _checked(matrix[units][:, units] if names else matrix)
    rng = low_rank_stream(seed, "recurrent")
    drawn = [draw_factors(projection, rng) for projection in low_rank]
    left = [u.astype(matrix.dtype) for u, _ in drawn]
    right = [v.astype(matrix.dtype) for _, v in drawn]
    targets = [layout.slice(projection.target).start for projection in low_rank]
    sources = [layout.slice(projection.source).start for projection in low_rank]
    factors = _columns(left, targets, layout.n), _columns(right, sources, layout.n)
    return LowRankMatrix(_checked(matrix), *factors).among(units)


def _of_low_rank_network(net: Any, names: Sequence[str]) -> LowRankMatrix:
    rec = net.weights("recurrent")
    low_rank, n = rec.low_rank, rec.shape[0]
    with torch.no_grad():
        synapses = _checked(to_scipy(rec.pattern.matrix(rec.csr_values())))
        left, right = ([f.cpu().numpy() for f in factors] for factors in (low_rank.left, low_rank.right))
    units = np.sort(net.layout().indices(*names)) if names else np.arange(n)
    targets, sources = zip(*((block.rows.start, block.cols.start) for block in low_rank.blocks), strict=True)
    return LowRankMatrix(synapses, _columns(left, targets, n), _columns(right, sources, n)).among(units)


def _columns(factors: Sequence[NDArray[Any]], first: Sequence[int], n: int) -> sp.csr_array:
    """Factors side by side, each from its first unit on, shape (n units, ranks of all)."""
    parts = []
    for factor, start in zip(map(sp.coo_array, factors), first, strict=True):
        index = factor.row + start, factor.col
        parts.append(sp.coo_array((factor.data, index), shape=(n, factor.shape[1])))
    return sp.csr_array(sp.hstack(parts), dtype=np.float64)
