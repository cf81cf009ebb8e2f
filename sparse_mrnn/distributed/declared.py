"""What the ranks must have alike before they share a network: digests of a graph and of settings."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import fields
from typing import Any

import numpy as np

from sparse_mrnn.graph import Projection, Region, RegionGraph


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
    p, share, weights = projection, projection.share, projection.weights
    found: list[Any] = [p.source, p.target, p.key, p.rule, p.initializer, p.sign, p.trainable, p.delay]
    found += [p.rank, p.site.exclude_self]
    if share is not None:
        found += [share.by, share.gain, share.bounds]
        found += [] if share.labels is None else [share.labels.codes, share.labels.names]
    if weights is not None:
        found += [weights.indptr, weights.indices, weights.data]
    return found
