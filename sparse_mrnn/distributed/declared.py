"""Digests of a graph, of settings, and of the weights that ranks have, which add up to that of the whole."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import fields
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from sparse_mrnn.declaration.explicit_synapses import StoredBlock
from sparse_mrnn.declaration.graph import Projection, Region, RegionGraph
from sparse_mrnn.models.weights import SparseWeights


def digest(parts: Iterable[Any]) -> int:
    """A number of 63 bits that differs where any of the parts does: arrays by their values, others by repr.

    >>> digest([1, np.zeros(2)]) == digest([1, np.zeros(2)]), digest([1]) == digest([2])
    (True, False)
    """
    found = hashlib.blake2b(digest_size=8)
    for part in parts:
        array = isinstance(part, np.ndarray)
        text = f"{part.dtype}{part.shape}" if array else repr(part)
        found.update(f"{text}\0".encode())
        if array:
            found.update(np.ascontiguousarray(part).tobytes())
    return int.from_bytes(found.digest(), "big") >> 1


def graph_digests(graph: RegionGraph) -> dict[str, int]:
    """Digests of the regions and of the projections of a graph, explicit synapses included."""
    kinds = ("recurrent", "input")
    return {
        "regions": digest(part for kind in kinds for r in graph.regions(kind) for part in _of_region(r)),
        "projections": digest(part for p in graph.projections() for part in _of_projection(p)),
    }


def _of_region(region: Region) -> list[Any]:
    return [getattr(region, f.name) for f in fields(region)]


def _of_projection(projection: Projection) -> list[Any]:
    p, share, synapses = projection, projection.share, projection.synapses
    found: list[Any] = [p.source, p.target, p.key, p.rule, p.initializer, p.sign, p.trainable, p.delay]
    found += [p.rank, p.pair.exclude_self]
    if share is not None:
        found += [share.by, share.gain, share.bounds]
        found += [] if share.labels is None else [share.labels.codes, share.labels.names]
    if isinstance(synapses, StoredBlock):
        found += [synapses.stored.digest, synapses.projection]
    elif synapses is not None:
        weights = synapses.tocsr()
        found += [weights.indptr, weights.indices, weights.data]
    return found


def synapse_sum(weights: SparseWeights, rows: Tensor, columns: Tensor) -> int:
    """A sum over synapses of a hash of target, source and weight: that of a matrix is that of its parts.

    Parameters
    ----------
    weights : SparseWeights
    rows, columns : Tensor of int64
        Numbers in the network of its targets and sources.
    """
    target = rows[weights.pattern.row.long().cpu()].numpy()
    source = columns[weights.col.long().cpu()].numpy()
    return hash_sum([target, source, bits(weights.csr_values())])


def unit_sum(units: Tensor, values: Sequence[Tensor]) -> int:
    """A sum over units of a hash of their numbers and values (one each, or one for all)."""
    each = [bits(value.expand(len(units))) for value in values]
    return hash_sum([units.numpy(), *each])


def bits(values: Tensor) -> NDArray[np.int64]:
    found: NDArray[np.int64] = values.detach().cpu().double().contiguous().numpy().view(np.int64)
    return found


def hash_sum(columns: Sequence[NDArray[np.int64]]) -> int:
    """Sum of a hash of 32 bits of each row (splitmix64: Steele et al. 2014, doi 10.1145/2714064.2660195)."""
    mixed = np.zeros(len(columns[0]), dtype=np.uint64)
    for column in columns:
        mixed += column.astype(np.uint64) + np.uint64(0x9E3779B97F4A7C15)
        mixed = (mixed ^ (mixed >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        mixed = (mixed ^ (mixed >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        mixed ^= mixed >> np.uint64(31)
    return int((mixed >> np.uint64(32)).sum(dtype=np.uint64))
