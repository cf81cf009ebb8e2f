"""RegionGraph: regions and projections as a networkx MultiDiGraph. A declaration; it holds no tensors."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import networkx as nx
import numpy as np
import scipy.sparse as sp
from numpy.typing import ArrayLike, NDArray

from sparse_mrnn.declaration.connectivity import AllToAll, Bernoulli, ConnectionRule, FixedFanIn, RegionPair
from sparse_mrnn.declaration.explicit_synapses import ExplicitSynapses, blocks_by_region, explicit_weights
from sparse_mrnn.declaration.initializers import Default, Initializer
from sparse_mrnn.declaration.sharing import Sharing, SynapseLabels, check_sharing
from sparse_mrnn.display import SummaryTable
from sparse_mrnn.errors import FinalizeError, GraphError, UnknownNameError, WeightError, suggest

REGION_SIGNS: dict[str | None, int] = {"pos": 1, "neg": -1, None: 0}
PROJECTION_SIGNS: dict[str, int] = {"pos": 1, "neg": -1, "free": 0}
"""Signs by which a projection overrides those of its source units; "inherit" is no override."""
MOST_UNITS = 2**31
"""Units are numbered in 32 bits: fewer of a region, and fewer in all."""


@dataclass(frozen=True, eq=False)
class Region:
    """A region or an input, as `RegionGraph.regions` gives it.

    Parameters
    ----------
    name : str
    n : int
        Units, or channels of an input.
    kind : {"recurrent", "input"}
    sign, base_firing, init, parent_region, unit_ids, positions
        As `RegionGraph.add_region` takes them; arrays have one entry per unit.
    learnable_bias, learnable_init, tau, learnable_tau, tau_bounds, activation, noise_level
        Likewise.

    Examples
    --------
    >>> g = RegionGraph(); g.add_region("thal", 3, sign="neg")
    >>> region = g.region("thal")
    >>> region.n, region.unit_signs.tolist()
    (3, [-1, -1, -1])
    """

    name: str
    n: int
    kind: str = "recurrent"
    sign: str | NDArray[np.int8] | None = "pos"
    base_firing: float | NDArray[np.float64] = 0.0
    init: float | NDArray[np.float64] = 0.0
    parent_region: str | None = None
    learnable_bias: bool | str = False
    learnable_init: bool | str = False
    tau: float | None = None
    learnable_tau: bool = False
    tau_bounds: tuple[float | None, float | None] | None = None
    activation: str | None = None
    noise_level: float | None = None
    unit_ids: tuple[str, ...] | None = field(default=None, repr=False)
    positions: NDArray[np.float64] | None = field(default=None, repr=False)

    @property
    def num_units(self) -> int:
        """mRNNTorch's name for ``n``."""
        return self.n

    @property
    def unit_signs(self) -> NDArray[np.int8]:
        """One int8 per unit: +1, -1, or 0 for a unit without a sign."""
        if isinstance(self.sign, np.ndarray):
            return self.sign
        return np.full(self.n, REGION_SIGNS[self.sign], dtype=np.int8)

    def cut(self, units: NDArray[np.int64]) -> Region:
        """The region with some of its units only, ascending, perhaps none."""
        if len(units) == self.n:
            return self
        arrays = ("sign", "base_firing", "init", "positions")
        values = {name: getattr(self, name) for name in arrays}
        cut: dict[str, Any] = {name: v[units] for name, v in values.items() if isinstance(v, np.ndarray)}
        if self.unit_ids is not None:
            cut["unit_ids"] = tuple(self.unit_ids[k] for k in units)
        return replace(self, n=len(units), **cut)


@dataclass(frozen=True, eq=False)
class Projection:
    """A projection, as `RegionGraph.projections` gives it.

    Parameters
    ----------
    source, target, key : str
        What names it: its regions, and its key among parallel projections.
    pair : RegionPair
        Sizes and positions of both regions, for the rule.
    rule : ConnectionRule or None
        Draws the synapses, where they are not explicit.
    synapses : scipy.sparse.csr_array, SynapseBlock, StoredBlock or None
        Explicit weights, shape (target units, source units).
    initializer, sign, trainable, delay, share, rank
        As `RegionGraph.add_projection` takes them.

    Examples
    --------
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
    sign: str = "inherit"
    trainable: bool = True
    delay: float | None = None
    share: Sharing | None = None
    rank: int | None = None

    @property
    def weights(self) -> sp.csr_array | None:
        """Explicit weights, shape (target units, source units); None where a rule draws the synapses."""
        return None if self.synapses is None else self.synapses.tocsr()

    @property
    def expected_synapses(self) -> float:
        """Synapses the projection will have: exact for explicit weights and exact rules."""
        if self.synapses is not None or self.rank is not None:
            return 0 if self.synapses is None else self.synapses.nnz
        return self.rule.expected(self.pair)  # type: ignore[union-attr]


def projection_label(source: str, target: str, key: str = "default") -> str:
    """A projection as messages name it.

    >>> projection_label("thal", "cortex"), projection_label("thal", "cortex", "fast")
    ("projection 'thal' -> 'cortex'", "projection 'thal' -> 'cortex' (key 'fast')")
    """
    return f"projection {source!r} -> {target!r}" + ("" if key == "default" else f" (key {key!r})")


class RegionGraph(nx.MultiDiGraph):
    """Regions and the projections between them.

    A ``networkx.MultiDiGraph`` whose nodes are regions and whose edges are projections, so networkx
    algorithms, ``copy``, ``subgraph`` and ``nx.relabel_nodes`` work on it. Node and edge attributes are plain
    scalars unless arrays are given, so the networkx writers work too.

    Parameters
    ----------
    incoming_graph_data : optional
        As for networkx.
    **attr
        Graph attributes, such as ``name``.

    Examples
    --------
    >>> g = RegionGraph(name="motor")
    >>> g.add_region("thal", 50)
    >>> g.add_region("cortex", 100, sign=None)
    >>> g.add_input("cue", 3)
    >>> g.add_projection("thal", "cortex", density=0.1)
    >>> g.add_projection("cue", "thal")
    >>> g.n_units, g.n_inputs
    (150, 3)
    """

    # ---------------------------------------------------------------- declaring

    def add_region(
        self,
        name: str,
        n: int,
        *,
        sign: str | ArrayLike | None = "pos",
        base_firing: float | ArrayLike = 0.0,
        init: float | ArrayLike = 0.0,
        parent_region: str | None = None,
        learnable_bias: bool | str = False,
        learnable_init: bool | str = False,
        tau: float | None = None,
        learnable_tau: bool = False,
        tau_bounds: tuple[float | None, float | None] | None = None,
        activation: str | None = None,
        noise_level: float | None = None,
        unit_ids: list[str] | None = None,
        positions: ArrayLike | None = None,
    ) -> None:
        """Add a recurrent region.

        Parameters
        ----------
        name : str
            Unique among regions and inputs.
        n : int
            Number of units, at least 1.
        sign : {"pos", "neg", None} or array of +1/-1/0, shape (n,)
            Dale's law: what the units' outputs are. None or 0: unconstrained.
        base_firing : float or array, shape (n,)
            Tonic input to each unit.
        init : float or array, shape (n,)
            Initial pre-activation state x of the units.
        parent_region : str, optional
            A name that groups regions; every query by region name takes it too.
        learnable_bias, learnable_init : bool, "unit" or "region"
            Whether the tonic input, or the initial state, is trained: of each unit (True), or one for the
            region.
        tau : float, optional
            Time constant in ms, where it differs from the network's.
        learnable_tau : bool
            Whether the time constant is trained, one for the region.
        tau_bounds : (float or None, float or None), optional
            Least and largest time constant that it can learn, ms. It stays above one time step in any case.
        activation : str, optional
            Activation, where it differs from the network's.
        unit_ids : list of str, optional
            A unique name per unit.
        positions : array, shape (n, dimensions), optional
            Unit positions, for distance-dependent rules.

        Raises
        ------
        GraphError
            If the name is taken, n < 1, an array has another length, or parents form a cycle.
        """
        self._check_new(name, n)
        attrs: dict[str, Any] = {"kind": "recurrent", "n": int(n), **_sign(name, sign, n)}
        for what, value in (("base_firing", base_firing), ("init", init)):
            attrs[what] = _per_unit(name, what, value, n)
        if parent_region is not None:
            self._check_parent(name, parent_region)
            attrs["parent_region"] = parent_region
        for what, learnable in (("learnable_bias", learnable_bias), ("learnable_init", learnable_init)):
            attrs[what] = _learnable(name, what, learnable)
            value = what.replace("learnable_bias", "base_firing").replace("learnable_", "")
            if attrs[what] == "region" and np.ndim(attrs[value]):
                raise GraphError(
                    f"region {name!r}: {what}='region' needs one {value} for the region, not one a unit."
                )
        if not attrs["learnable_init"]:
            del attrs["learnable_init"]
        if tau is not None:
            if not (math.isfinite(tau) and tau > 0):
                raise GraphError(f"region {name!r}: tau is {tau!r}; it must be a positive time in ms.")
            attrs["tau"] = float(tau)
        attrs["learnable_tau"] = bool(learnable_tau)
        if tau_bounds is not None:
            attrs["tau_bounds"] = _tau_bounds(name, tau_bounds, bool(learnable_tau), tau)
        if activation is not None:
            attrs["activation"] = activation
        if noise_level is not None:
            if not (math.isfinite(noise_level) and noise_level >= 0):
                raise GraphError(f"region {name!r}: noise_level is {noise_level!r}; it must be at least 0.")
            attrs["noise_level"] = float(noise_level)
        if unit_ids is not None:
            ids = tuple(str(unit) for unit in unit_ids)
            if len(ids) != n or len(set(ids)) != n:
                raise GraphError(
                    f"region {name!r}: unit_ids must be {n} different names; got {len(ids)}, "
                    f"{len(set(ids))} different."
                )
            attrs["unit_ids"] = ids
        if positions is not None:
            where = np.asarray(positions, dtype=np.float64)
            if where.ndim != 2 or len(where) != n or not np.isfinite(where).all():
                expected = f"finite, of shape ({n}, dimensions)"
                raise GraphError(f"region {name!r}: positions must be {expected}; got {where.shape}.")
            attrs["positions"] = where
        self.add_node(name, **attrs)

    def add_input(self, name: str, n: int, *, sign: str | ArrayLike | None = "pos") -> None:
        """Add an input region of ``n`` channels.

        Raises
        ------
        GraphError
            If the name is taken or n < 1.
        """
        self._check_new(name, n)
        self.add_node(name, kind="input", n=int(n), **_sign(name, sign, n))

    def add_projection(
        self,
        source: str,
        target: str,
        *,
        density: float | None = None,
        fan_in: int | None = None,
        rule: ConnectionRule | None = None,
        weights: Any = None,
        key: str = "default",
        initializer: Initializer | None = None,
        sign: str = "inherit",
        trainable: bool = True,
        self_connections: bool = True,
        delay: float | None = None,
        share: str | Any = None,
        gain: float = 1.0,
        bounds: tuple[float | None, float | None] | None = None,
        rank: int | None = None,
    ) -> None:
        """Add a projection. Without density, fan_in, rule or weights, every unit reaches every unit.

        Parameters
        ----------
        source, target : str
            Regions. The source may be an input.
        density : float in [0, 1], optional
            Each possible synapse exists with this probability (`Bernoulli`).
        fan_in : int, optional
            Exactly this many sources for every target unit (`FixedFanIn`).
        rule : ConnectionRule, optional
            Any other rule.
        weights : array, scipy sparse array or networkx graph, optional
            Explicit synapses, shape (target units, source units): entry (i, j) is from unit j to unit i.
            Zeros of a dense array are no synapses. A networkx graph has the unit ids of both as nodes.
        key : str
            Names parallel projections between the same two regions; their effects add.
        initializer : Initializer, optional
            Initial weights. Default: mRNNTorch's.
        sign : {"inherit", "pos", "neg", "free"}
            Overrides the sign of the source units, as for gap junctions; "free": either sign.
        trainable : bool
            False keeps the weights out of the parameters.
        self_connections : bool
            Whether a unit may project to itself, within one region.
        delay : float, optional
            Conduction delay, ms: activity arrives so much later, at least one time step. Default:
            one time step.
        share : {"projection", "source", "target"}, name or labels, optional
            Weights are fixed base values (``weights``, or what the initialiser draws) times learnt gains: one
            for the projection, one per source or target unit, one for all projections that give the same
            name, or one per label. Labels are for explicit weights: one for each synapse row by row, or a
            matrix of them.
        gain : float
            What every gain starts with.
        bounds : (float or None, float or None), optional
            Least and largest gain, kept by how it is parametrised. Under Dale's law a gain is at least 0
            without.
        rank : int, optional
            W = U V^T with this many columns in U and V, both trained; no synapses (Mastrogiuseppe & Ostojic
            2018).

        Raises
        ------
        UnknownNameError
            If a region does not exist.
        GraphError
            If the key is taken, the target is an input, several ways to connect are given, or a sharing or a
            rank does not fit.
        ConnectivityError
            If the rule cannot be satisfied.
        WeightError
            If explicit weights have the wrong shape or sign, or are not finite.
        """
        self._check_open()
        src, dst = self._endpoint(source, "source"), self._endpoint(target, "target")
        label = projection_label(source, target, key)
        if dst["kind"] == "input":
            raise GraphError(f"{label}: {target!r} is an input; projections end in recurrent regions.")
        if self.has_edge(source, target, key):
            raise GraphError(f"{label} exists already; give the parallel one another key=.")
        ways = {"density": density, "fan_in": fan_in, "rule": rule, "weights": weights, "rank": rank}
        given = [name for name, value in ways.items() if value is not None]
        if len(given) > 1:
            raise GraphError(f"{label}: {' and '.join(given)} exclude each other; give one.")
        _check_sign(label, sign)
        source_signs = np.empty(0, dtype=np.int8)
        if weights is not None or rank is not None or share is not None:
            source_signs = _source_signs(sign, self.region(source))
        attrs: dict[str, Any] = {"trainable": bool(trainable), "self_connections": bool(self_connections)}
        if delay is not None:
            if not (math.isfinite(delay) and delay > 0):
                raise GraphError(f"{label}: delay is {delay!r}; it must be a positive time in ms.")
            attrs["delay"] = float(delay)
        if sign != "inherit":
            attrs["sign"] = sign
        if initializer is not None:
            attrs["initializer"] = initializer
        if density is not None:
            attrs["density"] = density
        elif fan_in is not None:
            attrs["fan_in"] = fan_in
        elif rule is not None:
            attrs["rule"] = rule
        elif weights is not None:
            if initializer is not None:
                raise GraphError(f"{label}: explicit weights need no initializer; remove one.")
            shape, ids = (dst["n"], src["n"]), (dst.get("unit_ids"), src.get("unit_ids"))
            attrs["weights"] = explicit_weights(label, weights, shape=shape, signs=source_signs, ids=ids)
            if source == target and not self_connections and attrs["weights"].diagonal().any():
                raise WeightError(f"{label}: weights have self-connections, but self_connections=False.")
        elif rank is not None:
            attrs["rank"] = _rank(label, rank, (dst["n"], src["n"]), source_signs, attrs, share)
        if weights is None and rank is None:
            _rule_of(attrs, label).check(self._pair(source, target, key, attrs))
        if share is not None:
            sharing = check_sharing(label, share, gain, bounds, attrs.get("weights"))
            if weights is None and not (initializer or Default()).keeps_sign(bool(source_signs.all())):
                raise GraphError(
                    f"{label}: a shared gain needs base weights of one sign, and "
                    f"{type(initializer or Default()).__name__} "
                    "draws both; use initializer=Constant(...), Gamma, LogNormal or explicit weights."
                )
            self._check_shared_name(label, sharing, source_signs, attrs["trainable"])
            self.__dict__.get("_shared_names", {}).setdefault(sharing.by, (source, target, key))
            attrs |= _share_attributes(sharing)
        elif gain != 1.0 or bounds is not None:
            raise GraphError(f"{label}: gain and bounds are for shared weights; give share=.")
        self.add_edge(source, target, key=key, **attrs)

    def add_projections(
        self,
        weights: Any,
        *,
        key: str = "default",
        sign: str = "inherit",
        trainable: bool = True,
        share: str | None = None,
        gain: float = 1.0,
        bounds: tuple[float | None, float | None] | None = None,
    ) -> None:
        """Add explicit synapses between all recurrent units: a projection for each pair of regions with any.

        O(synapses log synapses); the projections share their arrays, so 100,000 of them are cheap.

        Parameters
        ----------
        weights : array or scipy sparse array, shape (units, units)
            Entry (i, j) is from unit j to unit i, in unit order: region after region.
        key, sign, trainable, share, gain, bounds
            Of every projection, as in `add_projection`; so are the errors. Labels are for `add_projection`
            only.
        """
        self._check_open()
        regions, label = self.regions(), f"projections (key {key!r})"
        ptr = np.cumsum([0, *(region.n for region in regions)])
        none = np.empty(0, dtype=np.int8)
        _check_sign(label, sign)
        signs = np.concatenate([none, *(_source_signs(sign, region) for region in regions)])
        shape = (int(ptr[-1]), int(ptr[-1]))
        matrix = explicit_weights(label, weights, shape=shape, signs=signs, ids=(None, None))
        attrs: dict[str, Any] = {"trainable": bool(trainable), "self_connections": True}
        if sign != "inherit":
            attrs["sign"] = sign
        if share is not None:
            if not isinstance(share, str):
                raise GraphError(f"{label}: labels belong to one projection; use add_projection for them.")
            attrs |= _share_attributes(check_sharing(label, share, gain, bounds, None))
        edges = []
        for target, source, block in blocks_by_region(matrix, ptr):
            pair = regions[source].name, regions[target].name
            if self.has_edge(*pair, key):
                label = projection_label(*pair, key)
                raise GraphError(f"{label} exists already; give the parallel one another key=.")
            edges.append((*pair, key, {**attrs, "weights": block}))
        self.add_edges_from(edges)

    # ---------------------------------------------------------------- asking

    def region(self, name: str) -> Region:
        """The region or input ``name``.

        Raises
        ------
        UnknownNameError
            If there is none.
        """
        if name not in self:
            raise UnknownNameError(f"unknown region {name!r}. {suggest(name, self, what='regions')}")
        attrs = self.nodes[name]
        if "n" not in attrs:
            raise GraphError(f"region {name!r} has no number of units; add it with add_region or add_input.")
        return Region(name, **{"sign": None, **attrs})

    def regions(self, kind: str = "recurrent") -> list[Region]:
        """Regions of a kind ("recurrent" or "input"), in insertion order."""
        return [region for region in map(self.region, self) if region.kind == kind]

    def projections(self, kind: str | None = None) -> Iterator[Projection]:
        """Projections in order of their sources, optionally only those of "recurrent" or "input" sources."""
        for source, target, key, attrs in self.edges(keys=True, data=True):
            if kind is None or self.nodes[source].get("kind") == kind:
                label = projection_label(source, target, key)
                yield Projection(
                    source,
                    target,
                    key,
                    pair=self._pair(source, target, key, attrs),
                    rule=None if "weights" in attrs or "rank" in attrs else _rule_of(attrs, label),
                    synapses=attrs.get("weights"),
                    initializer=attrs.get("initializer"),
                    sign=attrs.get("sign", "inherit"),
                    trainable=attrs.get("trainable", True),
                    delay=attrs.get("delay"),
                    share=_sharing_of(attrs),
                    rank=attrs.get("rank"),
                )

    def members(self, name: str) -> list[str]:
        """Regions that ``name`` stands for: itself and, for a parent, everything below it, in unit order.

        Raises
        ------
        UnknownNameError
            If it is neither a region nor a parent.
        """
        inside = [r for r in self if r == name or name in self._ancestors(r)]
        if not inside:
            known = [*self, *self.parents]
            raise UnknownNameError(f"unknown region {name!r}. {suggest(name, known, what='regions')}")
        return inside

    @property
    def parents(self) -> list[str]:
        """Names of parent regions, in order of first use."""
        named = (attrs.get("parent_region") for _, attrs in self.nodes(data=True))
        return list(dict.fromkeys(name for name in named if name is not None))

    @property
    def n_units(self) -> int:
        """Recurrent units."""
        return sum(region.n for region in self.regions())

    @property
    def n_inputs(self) -> int:
        """Input channels."""
        return sum(region.n for region in self.regions("input"))

    def relabel(self, mapping: Mapping[str, str]) -> RegionGraph:
        """A copy with regions renamed, also where they are parents (``nx.relabel_nodes`` leaves those)."""
        renamed: RegionGraph = nx.relabel_nodes(self, dict(mapping))
        for _, attrs in renamed.nodes(data=True):
            if attrs.get("parent_region") in mapping:
                attrs["parent_region"] = mapping[attrs["parent_region"]]
        return renamed

    # ---------------------------------------------------------------- showing

    def summary(self) -> list[dict[str, Any]]:
        """One row per region: name, kind, units, sign, parent, projections and expected synapses."""
        incoming: dict[str, float] = dict.fromkeys(self, 0.0)
        for projection in self.projections():
            incoming[projection.target] += projection.expected_synapses
        return [
            {
                "region": region.name,
                "kind": region.kind,
                "units": region.n,
                "sign": "per unit" if isinstance(region.sign, np.ndarray) else region.sign or "none",
                "parent": region.parent_region or "",
                "in": self.in_degree(region.name),
                "out": self.out_degree(region.name),
                "synapses onto": round(incoming[region.name]),
            }
            for region in map(self.region, self)
        ]

    def _size(self) -> str:
        return f"{self.n_units:,} units, {self.n_inputs:,} inputs, {self.number_of_edges():,} projections"

    def table(self) -> SummaryTable:
        """`summary` as a table to read, without the columns in which nothing is."""
        rows = [{**row, "kind": row["kind"].replace("recurrent", "")} for row in self.summary()]
        columns = [column for column in (rows[0] if rows else ()) if any(row[column] != "" for row in rows)]
        cells = [[f"{row[c]:,}" if isinstance(row[c], int) else row[c] for c in columns] for row in rows]
        heads = [column.replace("synapses onto", "synapses") for column in columns]
        return SummaryTable([f"{type(self).__name__} {self.name!r}: {self._size()}"], heads, cells)

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.name!r}: {self._size()}>"

    def __str__(self) -> str:
        return str(self.table())

    def __rich__(self) -> Any:
        return self.table()

    def _repr_html_(self) -> str:
        return self.table()._repr_html_()

    # ---------------------------------------------------------------- checking

    def _check_open(self) -> None:
        if nx.is_frozen(self):
            text = "a finalised network's graph is read-only; change a copy and build a new one."
            raise FinalizeError(text)

    def _check_new(self, name: str, n: int) -> None:
        self._check_open()
        if not isinstance(name, str) or not name:
            raise GraphError(f"a region's name must be a non-empty string, not {name!r}.")
        if name in self:
            raise GraphError(f"region {name!r} exists already; names are unique among regions and inputs.")
        if not isinstance(n, (int, np.integer)) or isinstance(n, bool) or n < 1:
            raise GraphError(f"region {name!r}: the number of units is {n!r}; use an integer of at least 1.")
        if n >= MOST_UNITS:
            raise GraphError(f"region {name!r}: {n:,} units are too many; it can have {MOST_UNITS - 1:,}.")

    def _check_shared_name(
        self, label: str, sharing: Sharing, signs: NDArray[np.int8], trainable: bool
    ) -> None:
        """Projections of one name have one gain: its start, its bounds, the signs under it and its training
        agree."""
        if sharing.name is None:
            return
        first = self._first_of_name(sharing.name)
        if first is None:
            return
        attrs = self.edges[first]
        their = _source_signs(attrs.get("sign", "inherit"), self.region(first[0]))
        bounds = attrs.get("gain_low"), attrs.get("gain_high")
        for what, mine, theirs in (
            ("gain", sharing.gain, attrs["gain"]),
            ("bounds", sharing.bounds, bounds),
            ("trainable", trainable, attrs["trainable"]),
            ("source signs", sorted(set(signs.tolist())), sorted(set(their.tolist()))),
        ):
            if mine != theirs:
                raise GraphError(
                    f"{label}: shares the gain {sharing.name!r} with {projection_label(*first)}, but {what} "
                    "differ: "
                    f"{mine} and {theirs}. Make them equal, or give another name."
                )

    def _first_of_name(self, name: str) -> tuple[str, str, str] | None:
        """The first projection that shares the gain of a name; names are kept, and looked up anew in a
        copy."""
        names: dict[str, tuple[str, str, str]] | None = self.__dict__.get("_shared_names")
        if names is None:
            names = self.__dict__["_shared_names"] = {}
            for source, target, key, share in self.edges(keys=True, data="share"):
                names.setdefault(share, (source, target, key))
        first = names.get(name)
        return first if first is not None and self.has_edge(*first) else None

    def _ancestors(self, name: str) -> list[str]:
        chain: list[str] = []
        parent = self.nodes[name].get("parent_region") if name in self else None
        while parent is not None and parent not in chain:
            chain.append(parent)
            parent = self.nodes[parent].get("parent_region") if parent in self else None
        return chain

    def _check_parent(self, name: str, parent: str) -> None:
        if parent == name:
            raise GraphError(f"region {name!r} cannot be its own parent_region; use the name of the group.")
        if parent in self and self.nodes[parent]["kind"] == "input":
            raise GraphError(f"region {name!r}: parent_region {parent!r} is an input; parents group regions.")
        chain = [parent, *self._ancestors(parent)]
        if name in chain:
            circle = " -> ".join([name, *chain[: chain.index(name) + 1]])
            raise GraphError(f"region {name!r}: parents form a cycle: {circle}. Remove one parent_region.")

    def _endpoint(self, name: str, side: str) -> dict[str, Any]:
        if name in self:
            attrs: dict[str, Any] = self.nodes[name]
            return attrs
        if name in self.parents:
            inside = ", ".join(map(repr, self.members(name)))
            raise UnknownNameError(f"{side} {name!r} is a parent that only groups {inside}; connect those.")
        raise UnknownNameError(f"unknown {side} region {name!r}. {suggest(name, self, what='regions')}")

    def _pair(self, source: str, target: str, key: str, attrs: Mapping[str, Any]) -> RegionPair:
        src, dst = self.nodes[source], self.nodes[target]
        return RegionPair(
            projection_label(source, target, key),
            n_target=dst["n"],
            n_source=src["n"],
            exclude_self=source == target and not attrs.get("self_connections", True),
            target_positions=dst.get("positions"),
            source_positions=src.get("positions"),
        )


def _rule_of(attrs: Mapping[str, Any], label: str) -> ConnectionRule:
    try:
        if "density" in attrs:
            return Bernoulli(attrs["density"])
        if "fan_in" in attrs:
            return FixedFanIn(attrs["fan_in"])
    except ValueError as error:
        raise type(error)(f"{label}: {error}") from None
    rule: ConnectionRule = attrs.get("rule", AllToAll())
    return rule


def _sign(name: str, sign: Any, n: int) -> dict[str, Any]:
    """The sign attribute; None is left out, since networkx writers take no None."""
    if sign is None or isinstance(sign, str):
        if sign not in REGION_SIGNS:
            raise GraphError(f"region {name!r}: sign is {sign!r}; use 'pos', 'neg', None or +1/-1/0 by unit.")
        return {} if sign is None else {"sign": sign}
    array = np.asarray(sign)
    if array.shape != (n,) or not np.isin(array, (-1, 0, 1)).all():
        raise GraphError(f"region {name!r}: sign must be {n} values of +1, -1 or 0; got shape {array.shape}.")
    return {"sign": array.astype(np.int8)}


def _check_sign(label: str, sign: str) -> None:
    if sign != "inherit" and sign not in PROJECTION_SIGNS:
        raise GraphError(f"{label}: sign is {sign!r}; use 'inherit', 'pos', 'neg' or 'free'.")


def _source_signs(sign: str, source: Region) -> NDArray[np.int8]:
    """Signs that a projection's weights must have, by source unit: the region's, or the projection's own."""
    if sign == "inherit":
        return source.unit_signs
    return np.full(source.n, PROJECTION_SIGNS[sign], dtype=np.int8)


def _learnable(name: str, what: str, value: Any) -> bool | str:
    if value not in (True, False, "unit", "region"):
        raise GraphError(f"region {name!r}: {what} is {value!r}; use True ('unit'), 'region' or False.")
    return "region" if value == "region" else bool(value)


def _tau_bounds(
    name: str, bounds: Any, learnable: bool, tau: float | None
) -> tuple[float | None, float | None]:
    try:
        low, high = (None if end is None else float(end) for end in bounds)
    except (TypeError, ValueError):
        raise GraphError(
            f"region {name!r}: tau_bounds is {bounds!r}; give (least, largest) in ms, or None."
        ) from None
    inside = [
        0.0 if low is None else low,
        low or 0.0 if tau is None else tau,
        math.inf if high is None else high,
    ]
    if not learnable or not (
        inside[0] <= inside[1] <= inside[2] and inside[0] < inside[2] and min(inside) >= 0
    ):
        raise GraphError(
            f"region {name!r}: tau_bounds is {bounds!r}; they need learnable_tau=True, least < largest, and "
            "tau within."
        )
    return low, high


def _rank(
    label: str, rank: Any, shape: tuple[int, int], signs: NDArray[np.int8], attrs: dict[str, Any], share: Any
) -> int:
    if not isinstance(rank, int | np.integer) or isinstance(rank, bool) or not 1 <= rank <= min(shape):
        raise GraphError(
            f"{label}: rank is {rank!r}; use 1 to {min(shape)}, the units of the smaller region."
        )
    if signs.any():
        raise GraphError(
            f"{label}: U V^T has entries of both signs, so a low-rank projection cannot obey Dale's law; "
            "give it sign='free', or its source no sign."
        )
    if share is not None or not attrs["self_connections"]:
        raise GraphError(
            f"{label}: a low-rank projection has no synapses; leave out share and self_connections."
        )
    return int(rank)


def _share_attributes(sharing: Sharing) -> dict[str, Any]:
    """A sharing as edge attributes, plain ones where they can be."""
    low, high = sharing.bounds
    attrs = {"share_labels": sharing.labels, "gain_low": low, "gain_high": high}
    known = {name: value for name, value in attrs.items() if value is not None}
    return {"share": sharing.by, "gain": sharing.gain, **known}


def _sharing_of(attrs: Mapping[str, Any]) -> Sharing | None:
    if "share" not in attrs:
        return None
    bounds = attrs.get("gain_low"), attrs.get("gain_high")
    labels: SynapseLabels | None = attrs.get("share_labels")
    return Sharing(attrs["share"], labels, attrs.get("gain", 1.0), bounds)


def _per_unit(name: str, what: str, value: Any, n: int) -> Any:
    array = np.asarray(value, dtype=np.float64)
    if array.shape not in ((), (n,)) or not np.isfinite(array).all():
        raise GraphError(f"region {name!r}: {what} must be finite, one number or {n}, not {array.shape}.")
    return float(array) if array.ndim == 0 else array
