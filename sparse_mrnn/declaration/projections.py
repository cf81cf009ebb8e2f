"""Projection: what is declared of a projection, its fields, and its name in messages."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray

from sparse_mrnn.declaration.connectivity import AllToAll, Bernoulli, ConnectionRule, FixedFanIn, RegionPair
from sparse_mrnn.declaration.explicit_synapses import ExplicitSynapses
from sparse_mrnn.declaration.fields import Choice, Flag, Number, Whole, declared, fields_of
from sparse_mrnn.declaration.initializers import Initializer
from sparse_mrnn.declaration.regions import Region
from sparse_mrnn.declaration.sharing import Sharing
from sparse_mrnn.errors import GraphError, WeightError

PROJECTION_SIGNS: dict[str, int] = {"pos": 1, "neg": -1, "free": 0}
"""Signs by which a projection overrides those of its source units; "inherit" leaves them."""
KINDS = ("chemical", "electrical")
ProjectionKey = tuple[str, str, str]
"""Name of a projection: source, target, key."""


@dataclass(frozen=True, eq=False)
class Projection:
    """A projection, as `RegionGraph.projections` gives it.

    Parameters
    ----------
    source, target, key : str
        Its regions, and its key among parallel projections: together its name.
    pair : RegionPair
        Sizes and positions of both regions, for the rule.
    rule : ConnectionRule or None
        Draws the synapses, unless they are explicit.
    synapses : scipy.sparse.csr_array, SynapseBlock, StoredBlock or None
        Explicit weights, shape (target units, source units).
    initializer, share, sign, trainable, self_connections, delay, delay_std, rank, kind, rectifies
        As `RegionGraph.add_projection` takes them.

    Examples
    --------
    >>> from sparse_mrnn import RegionGraph
    >>> g = RegionGraph(); g.add_region("thal", 3); g.add_projection("thal", "thal", fan_in=1)
    >>> [projection] = g.projections()
    >>> projection.source, projection.expected_synapses
    ('thal', 3)
    """

    source: str
    target: str
    key: str
    pair: RegionPair = field(repr=False)
    rule: ConnectionRule | None
    synapses: ExplicitSynapses | None = field(default=None, repr=False)
    initializer: Initializer | None = None
    share: Sharing | None = None
    sign: str = declared("inherit", Choice(("inherit", *PROJECTION_SIGNS)), "Overrides the source's sign.")
    trainable: bool = declared(True, Flag(), "False keeps the weights as they are.")
    self_connections: bool = declared(True, Flag(), "Let a unit project to itself, within one region.")
    delay: float | None = declared(
        None,
        Number(0.0, above=True, optional=True, unit="ms"),
        "Conduction delay, ms; null for one time step.",
    )
    delay_std: float = declared(
        0.0,
        Number(0.0, unit="ms"),
        "Standard deviation of the delays of single synapses, ms, which are drawn normally around delay.",
    )
    rank: int | None = declared(None, Whole(), "W = U V^T of this rank, without synapses.")
    kind: str = declared("chemical", Choice(KINDS), "Chemical or electrical synapses.")
    rectifies: bool = declared(False, Flag(), "Electrical current flows from source to target only.")

    @property
    def weights(self) -> sp.csr_array | None:
        """Explicit weights, shape (target units, source units); None if a rule draws the synapses."""
        return None if self.synapses is None else self.synapses.tocsr()

    @property
    def expected_synapses(self) -> float:
        """Synapses the projection will have: exact for explicit weights and exact rules."""
        if self.synapses is not None or self.rank is not None:
            return 0 if self.synapses is None else self.synapses.nnz
        return self.rule.expected(self.pair)  # type: ignore[union-attr]


PROJECTION_FIELDS = fields_of(Projection)


def kept(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Fields of a projection as attributes of a networkx edge: flags of any synapse, and what is not at its
    default."""
    return {
        name: value
        for name, value in settings.items()
        if (isinstance(value, bool) and name != "rectifies") or value != PROJECTION_FIELDS[name].default
    }


def projection_label(source: str, target: str, key: str = "default") -> str:
    """A projection as messages name it.

    >>> projection_label("thal", "cortex"), projection_label("thal", "cortex", "fast")
    ("projection 'thal' -> 'cortex'", "projection 'thal' -> 'cortex' (key 'fast')")
    """
    return f"projection {source!r} -> {target!r}" + ("" if key == "default" else f" (key {key!r})")


def pair_of(source: Region, target: Region, key: str, attrs: Mapping[str, Any]) -> RegionPair:
    """The regions of a projection as its rule sees them, from the attributes of its edge."""
    return RegionPair(
        projection_label(source.name, target.name, key),
        n_target=target.n,
        n_source=source.n,
        exclude_self=source.name == target.name and not attrs.get("self_connections", True),
        target_positions=target.positions,
        source_positions=source.positions,
    )


def rule_of(attrs: Mapping[str, Any], label: str) -> ConnectionRule:
    """The connection rule that the attributes of an edge stand for."""
    try:
        if "density" in attrs:
            return Bernoulli(attrs["density"])
        if "fan_in" in attrs:
            return FixedFanIn(attrs["fan_in"])
    except ValueError as error:
        raise type(error)(f"{label}: {error}") from None
    rule: ConnectionRule = attrs.get("rule", AllToAll())
    return rule


def source_signs(sign: str, source: Region) -> NDArray[np.int8]:
    """Signs that a projection's weights must have, by source unit: the region's, or the projection's own."""
    if sign == "inherit":
        return source.unit_signs
    return np.full(source.n, PROJECTION_SIGNS[sign], dtype=np.int8)


def check_drawn_delays(label: str, settings: Mapping[str, Any], kind: str) -> None:
    """Refuse delays drawn for single synapses where there is nothing to draw them around, or for.

    Raises
    ------
    GraphError
    """
    if not settings["delay_std"]:
        return
    if settings["delay"] is None:
        raise GraphError(f"{label}: delay_std is given without delay; give their mean as delay.")
    if settings["rank"] is not None or kind == "input":
        what = "an input" if kind == "input" else "a low-rank projection, which has no synapses"
        raise GraphError(f"{label}: delays are not drawn for synapses of {what}; leave out delay_std.")


def check_low_rank(label: str, settings: Mapping[str, Any], shape: tuple[int, int], signed: bool) -> None:
    """Refuse a low-rank projection that its regions, or its other settings, rule out.

    Raises
    ------
    GraphError
    """
    rank = settings["rank"]
    if rank > min(shape):
        limit = f"1 to {min(shape)}, the units of the smaller region"
        raise GraphError(f"{label}: rank is {rank!r}; use {limit}.")
    if signed:
        why = "U V^T has entries of both signs, so a low-rank projection cannot obey Dale's law"
        raise GraphError(f"{label}: {why}; give it sign='free', or its source no sign.")
    if not settings["self_connections"]:
        raise GraphError(f"{label}: a low-rank projection has no synapses; leave out self_connections.")


def check_electrical(label: str, settings: Mapping[str, Any], source: Region, target: Region) -> None:
    """Refuse settings of an electrical projection that have no meaning for one.

    Raises
    ------
    GraphError
        The message names the projection and the setting.
    """
    if settings["kind"] != "electrical":
        if settings["rectifies"]:
            raise GraphError(f"{label}: rectifies is for electrical synapses; give kind='electrical'.")
        return
    if source.kind == "input":
        why = f"{source.name!r} is an input, which has no state for a current to flow from"
        raise GraphError(f"{label}: electrical synapses connect recurrent units, and {why}.")
    if settings["delay"] is not None:
        raise GraphError(f"{label}: an electrical current has no delay; leave out delay.")
    if settings["rank"] is not None:
        raise GraphError(f"{label}: electrical synapses have no rank; give their conductances as weights=.")
    if settings["sign"] not in ("inherit", "pos"):
        what = f"sign is {settings['sign']!r}"
        raise GraphError(f"{label}: {what}, and conductances are never negative; leave out sign.")


def check_conductances(label: str, weights: sp.csr_array, *, within: bool, rectifies: bool) -> None:
    """Refuse conductances that are negative, of a unit with itself, or different by direction.

    ``within``: the rows and the columns are the same units.

    Raises
    ------
    WeightError
        The message names the projection and the units.
    """
    coo = weights.tocoo()
    for k in np.flatnonzero(coo.data < 0)[:1]:
        where = f"{coo.data[k]:g} between unit {coo.col[k]} and unit {coo.row[k]}"
        raise WeightError(f"{label}: a conductance is never negative, and there is {where}.")
    if not within:
        return
    for k in np.flatnonzero((coo.row == coo.col) & (coo.data != 0))[:1]:
        what = f"unit {coo.row[k]} has an electrical synapse with itself, through which no current flows"
        raise WeightError(f"{label}: {what}; set the diagonal to 0.")
    if rectifies:
        return
    other = sp.coo_array(weights - weights.T)
    for k in np.flatnonzero(other.data != 0)[:1]:
        i, j = int(other.row[k]), int(other.col[k])
        there, back = weights[i, j], weights[j, i]
        what = f"{there:g} from unit {j} to unit {i}, and {back:g} back"
        advice = "give a symmetric matrix, or rectifies=True for current in one direction"
        raise WeightError(f"{label}: the conductances are not symmetric: {what}; {advice}.")
