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
from sparse_mrnn.errors import GraphError

PROJECTION_SIGNS: dict[str, int] = {"pos": 1, "neg": -1, "free": 0}
"""Signs by which a projection overrides those of its source units; "inherit" leaves them."""
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
    initializer, share, sign, trainable, self_connections, delay, delay_std, rank
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
    """Fields of a projection as attributes of a networkx edge: flags, and what is not at its default."""
    return {
        name: value
        for name, value in settings.items()
        if isinstance(value, bool) or value != PROJECTION_FIELDS[name].default
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
