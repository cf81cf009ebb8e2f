"""Numbers by which ranks compare what they have: digests, and sums of hashes that add up over ranks."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from sparse_mrnn.files.digest import digest
from sparse_mrnn.models.weights import SparseWeights


def digest_number(described: Any) -> int:
    """A digest as a number of 63 bits, which fits a tensor.

    >>> digest_number(np.zeros(2)) == digest_number(np.zeros(2)), digest_number(1) == digest_number(2)
    (True, False)
    """
    return int(digest(described)[:16], 16) >> 1


def synapse_sum(weights: SparseWeights, rows: Tensor, columns: Tensor) -> int:
    """A sum over synapses of a hash of target, source and weight; the sum of a matrix is that of its parts.

    The ``rows`` and ``columns`` are the numbers in the network of its targets and sources.
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
