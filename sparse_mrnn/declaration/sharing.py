"""Shared weights as they are declared: which synapses of a projection have a gain in common.

A shared weight is a fixed base value (a synapse count, say) times a gain that is learnt,

    effective[e] = base[e] * gain[group[e]],

as in connectome-constrained models (Lappalainen et al. 2024, Nature 634:1132).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray

from sparse_mrnn.errors import GraphError

BY = ("projection", "source", "target")
"""What one gain may be for, other than labels and names of the user's own."""


@dataclass(frozen=True, eq=False)
class SynapseLabels:
    """A label per synapse, row-major: label ``names[codes[e]]``."""

    codes: NDArray[np.int32]
    names: tuple[str, ...]


@dataclass(frozen=True, eq=False)
class Sharing:
    """How the synapses of a projection share gains.

    Parameters
    ----------
    by : str
        "projection": one gain; "source" or "target": one per unit of that region; "labels": one per label;
        any other text: one gain for all projections that give this name.
    labels : SynapseLabels, optional
    gain : float
        What every gain starts with.
    bounds : (float or None, float or None)
        Least and largest gain; None: no bound.
    """

    by: str
    labels: SynapseLabels | None = None
    gain: float = 1.0
    bounds: tuple[float | None, float | None] = (None, None)

    @property
    def name(self) -> str | None:
        """The name that several projections may give; None where the gains are this projection's own."""
        return None if self.by in (*BY, "labels") else self.by

    def gain_names(self, n_source: int, n_target: int) -> list[str]:
        """What each gain is for: a unit number, a label, or nothing more than the projection."""
        if self.labels is not None:
            return list(self.labels.names)
        count = {"source": n_source, "target": n_target}.get(self.by)
        return [""] if count is None else [str(k) for k in range(count)]

    def groups(
        self, rows: NDArray[np.int32], cols: NDArray[np.int32], entries: slice | None = None
    ) -> NDArray[np.int32]:
        """Which of the projection's gains each synapse has; rows and columns within the regions.

        ``entries``: which synapses these are, where not all; it counts for labels only.
        """
        if self.labels is not None:
            return self.labels.codes if entries is None else self.labels.codes[entries]
        units = {"source": cols, "target": rows}.get(self.by)
        return np.zeros(len(rows), dtype=np.int32) if units is None else units


def check_sharing(label: str, share: Any, gain: Any, bounds: Any, weights: sp.csr_array | None) -> Sharing:
    """The sharing that a caller asks for.

    Parameters
    ----------
    label : str
        The projection, as errors name it.
    share : str, or labels
        As in `RegionGraph.add_projection`.
    gain : float
    bounds : pair of float or None, optional
    weights : csr_array, optional
        Explicit weights, to which labels belong.

    Raises
    ------
    GraphError
        If a value does not fit.

    Examples
    --------
    >>> check_sharing("a -> b", ["x", "y"], 1.0, None, sp.csr_array(np.array([[1.0, 2.0]]))).labels.names
    ('x', 'y')
    """
    low, high = _check_bounds(label, bounds)
    if not isinstance(gain, int | float | np.number) or isinstance(gain, bool) or not math.isfinite(gain):
        raise GraphError(f"{label}: gain is {gain!r}; it must be a finite number.")
    if (low is not None and gain < low) or (high is not None and gain > high):
        raise GraphError(f"{label}: gain {gain:g} lies outside of its bounds, {bounds!r}.")
    if isinstance(share, str):
        if not share or share == "labels":
            known = "'projection', 'source', 'target', a name or labels"
            raise GraphError(f"{label}: share is {share!r}; use {known}.")
        return Sharing(share, None, float(gain), (low, high))
    return Sharing("labels", _labels(label, share, weights), float(gain), (low, high))


def _check_bounds(label: str, bounds: Any) -> tuple[float | None, float | None]:
    if bounds is None:
        return None, None
    ends = tuple(bounds) if isinstance(bounds, Sequence) else ()
    numbers = [float(end) for end in ends if end is not None and isinstance(end, int | float | np.number)]
    if len(ends) != 2 or len(numbers) != 2 - ends.count(None) or not all(map(math.isfinite, numbers)):
        raise GraphError(f"{label}: bounds is {bounds!r}; give (least, largest), numbers or None.")
    low, high = (None if end is None else float(end) for end in ends)
    if low is not None and high is not None and low >= high:
        raise GraphError(f"{label}: bounds is {bounds!r}; the least must be below the largest.")
    return low, high


def _labels(label: str, share: Any, weights: sp.csr_array | None) -> SynapseLabels:
    if weights is None:
        hint = "use share='projection' or a name"
        raise GraphError(f"{label}: labels for each synapse need explicit weights; {hint}.")
    rows = np.repeat(np.arange(weights.shape[0]), np.diff(weights.indptr))
    if sp.issparse(share):
        found = sp.csr_array(share)
        found.sort_indices()
        same = found.shape == weights.shape and np.array_equal(found.indptr, weights.indptr)
        if not (same and np.array_equal(found.indices, weights.indices)):
            what = "must have an entry for each synapse and no other"
            raise GraphError(f"{label}: the sparse matrix of labels {what}.")
        values = found.data
    else:
        values = np.asarray(share)
        if values.shape == weights.shape and values.ndim == 2:
            values = values[rows, weights.indices]
    if values.shape != (weights.nnz,):
        raise GraphError(
            f"{label}: share has {len(values) if values.ndim else 'no'} labels; give one for each of the "
            f"{weights.nnz} synapses, row by row (target, then source)."
        )
    names, codes = np.unique(values.astype(str), return_inverse=True)
    return SynapseLabels(codes.reshape(-1).astype(np.int32), tuple(names.tolist()))
