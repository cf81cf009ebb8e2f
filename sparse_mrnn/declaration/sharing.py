"""Shared weights: which synapses of a projection have a gain in common.

A shared weight is a fixed base value (a synapse count, say) times a gain that is learnt,

    effective[e] = base[e] * gain[group[e]],

as in connectome-constrained models (Lappalainen et al. 2024, Nature 634:1132).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray

from sparse_mrnn.checks import real_number
from sparse_mrnn.declaration.fields import Bounds
from sparse_mrnn.errors import GraphError

BY = ("projection", "source", "target")
"""The choices for one gain, besides labels and names."""


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

    @classmethod
    def of(cls, attrs: Mapping[str, Any]) -> Sharing | None:
        """The sharing that the attributes of an edge stand for; None if its synapses share no gains."""
        if "share" not in attrs:
            return None
        bounds = attrs.get("gain_low"), attrs.get("gain_high")
        return cls(attrs["share"], attrs.get("share_labels"), attrs.get("gain", 1.0), bounds)

    def attributes(self) -> dict[str, Any]:
        """The sharing as attributes of an edge, plain ones if they can be."""
        low, high = self.bounds
        attrs = {"share": self.by, "share_labels": self.labels, "gain": self.gain}
        attrs |= {"gain_low": low, "gain_high": high}
        return {name: value for name, value in attrs.items() if value is not None}

    @property
    def name(self) -> str | None:
        """The name that several projections may give; None if the gains are this projection's own."""
        return None if self.by in (*BY, "labels") else self.by

    def gain_names(self, n_source: int, n_target: int) -> list[str]:
        """Name what each gain is for: a unit number, a label, or "" for the projection."""
        if self.labels is not None:
            return list(self.labels.names)
        count = {"source": n_source, "target": n_target}.get(self.by)
        return [""] if count is None else [str(k) for k in range(count)]

    def groups(
        self, rows: NDArray[np.int32], cols: NDArray[np.int32], entries: slice | None = None
    ) -> NDArray[np.int32]:
        """Number the gain of each synapse, from its row and column within the regions.

        ``entries``: which synapses these are, if not all; it matters for labels only.
        """
        if self.labels is not None:
            return self.labels.codes if entries is None else self.labels.codes[entries]
        units = {"source": cols, "target": rows}.get(self.by)
        return np.zeros(len(rows), dtype=np.int32) if units is None else units


def check_sharing(label: str, share: Any, gain: Any, bounds: Any, weights: sp.csr_array | None) -> Sharing:
    """Check how a projection shares its weights, as `RegionGraph.add_projection` takes that.

    ``label`` is the projection, as errors name it; labels belong to explicit weights.

    Raises
    ------
    GraphError
        If a value does not fit.

    Examples
    --------
    >>> check_sharing("a -> b", ["x", "y"], 1.0, None, sp.csr_array(np.array([[1.0, 2.0]]))).labels.names
    ('x', 'y')
    """
    low, high = Bounds().check(f"{label}: bounds", bounds, 0) or (None, None)
    gain = real_number(gain, f"{label}: gain", GraphError)
    if (low is not None and gain < low) or (high is not None and gain > high):
        raise GraphError(f"{label}: gain {gain:g} lies outside of its bounds, {bounds!r}.")
    if isinstance(share, str):
        if not share or share == "labels":
            known = "'projection', 'source', 'target', a name or labels"
            raise GraphError(f"{label}: share is {share!r}; use {known}.")
        return Sharing(share, None, float(gain), (low, high))
    return Sharing("labels", _labels(label, share, weights), float(gain), (low, high))


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
        given = f"share has {len(values) if values.ndim else 'no'} labels"
        wanted = f"one for each of the {weights.nnz} synapses, row by row (target, then source)"
        raise GraphError(f"{label}: {given}; give {wanted}.")
    names, codes = np.unique(values.astype(str), return_inverse=True)
    return SynapseLabels(codes.reshape(-1).astype(np.int32), tuple(names.tolist()))
