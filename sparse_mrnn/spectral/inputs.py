"""A graph, model, scipy, numpy or torch matrix becomes a checked scipy CSR matrix of float64."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import scipy.sparse as sp
import torch

from sparse_mrnn.declaration.graph import RegionGraph
from sparse_mrnn.errors import SpectralInputError
from sparse_mrnn.lowering.layout import Layout
from sparse_mrnn.lowering.low_rank import draw_factors
from sparse_mrnn.lowering.lower import lower
from sparse_mrnn.lowering.random_streams import low_rank_stream, synapse_stream
from sparse_mrnn.ops.pattern import to_scipy

LOW_RANK_UNITS = 4096
"""Units up to which U V^T is added to the synapses as a dense matrix."""


def as_matrix(weights: Any, regions: str | Sequence[str] | None = None, seed: int = 0) -> sp.csr_array:
    """The weight matrix to analyse, a copy without stored zeros or repeats.

    Raises
    ------
    SpectralInputError
        If it is not a square matrix of finite floats, or is empty.
    UnknownNameError
        If a region does not exist.
    """
    names = region_names(regions)
    if isinstance(weights, RegionGraph):
        matrix = _of_graph(weights, names, seed)
    elif hasattr(weights, "get_weight_subset"):  # a model, of a layer above this one
        low_rank = weights.weights("recurrent").low_rank is not None
        if low_rank:
            check_low_rank(len(weights.layout().indices(*names or weights.hid_regions)))
        matrix = to_scipy(weights.get_weight_subset(*names, sparse=not low_rank))
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
    if w.nnz < 2**31 and w.indices.dtype != np.int32:
        w.indices, w.indptr = w.indices.astype(np.int32), w.indptr.astype(np.int32)
    return w


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
    """Refuse U V^T of so many units: it is added to the synapses as a dense matrix.

    Raises
    ------
    SpectralInputError
        If there are more than `LOW_RANK_UNITS` units.
    """
    if units > LOW_RANK_UNITS:
        raise SpectralInputError(
            f"projections of low rank are multiplied out for eigenvalues, up to {LOW_RANK_UNITS:,} units; "
            f"these are {units:,}. Name fewer regions."
        )


def _of_graph(graph: RegionGraph, names: Sequence[str], seed: int) -> sp.csr_array:
    """The effective weights that ``mRNN(graph, seed=seed)`` starts with, from the same random streams."""
    if not graph.regions():
        raise SpectralInputError("the graph has no recurrent region; add one with add_region.")
    matrix, layout = lower(graph, rng=synapse_stream(seed, "recurrent")).to_scipy(), Layout.of(graph)
    units = layout.indices(*names) if names else np.arange(layout.n)
    low_rank = [projection for projection in graph.projections("recurrent") if projection.rank is not None]
    if low_rank:
        check_low_rank(layout.n)
        dense, rng = matrix.toarray(), low_rank_stream(seed, "recurrent")
        for projection in low_rank:
            left, right = (factor.astype(dense.dtype) for factor in draw_factors(projection, rng))
            dense[layout.slice(projection.target), layout.slice(projection.source)] += left @ right.T
        matrix = sp.csr_array(dense)
    return matrix[units][:, units] if names else matrix
