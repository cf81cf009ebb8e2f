"""RegionGraph: regions and projections as a networkx MultiDiGraph. A declaration; it holds no tensors."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import wraps
from typing import Any, TypeVar

import networkx as nx
import numpy as np
import scipy.sparse as sp
from numpy.typing import ArrayLike, NDArray

from sparse_mrnn.checks import Seed
from sparse_mrnn.declaration.connectivity import ConnectionRule
from sparse_mrnn.declaration.explicit_synapses import blocks_by_region, explicit_weights
from sparse_mrnn.declaration.fields import checked
from sparse_mrnn.declaration.initializers import Default, Initializer
from sparse_mrnn.declaration.projection_columns import (
    DeclaredProjections,
    Edge,
    ProjectionColumns,
    Projections,
)
from sparse_mrnn.declaration.projections import (
    PROJECTION_FIELDS,
    PROJECTION_SIGNS,
    Projection,
    ProjectionKey,
    check_conductances,
    check_drawn_delays,
    check_electrical,
    check_low_rank,
    kept,
    pair_of,
    projection_label,
    rule_of,
    source_signs,
)
from sparse_mrnn.declaration.regions import FIELDS_OF_KIND, REGION_FIELDS, Region
from sparse_mrnn.declaration.sharing import Sharing, check_sharing
from sparse_mrnn.declaration.shuffling import shuffled_edges
from sparse_mrnn.display import SummaryTable
from sparse_mrnn.errors import FinalizeError, GraphError, UnknownNameError, WeightError, suggest

__all__ = ["PROJECTION_SIGNS", "Projection", "Region", "RegionGraph", "projection_label"]


ONE_WEIGHT = (
    "a projection has a weight for each synapse; use add_projection(source, target, weights=...), or "
    "initializer=Constant(weight)."
)
KNOWN = frozenset(Region.__dataclass_fields__) - {"name"}
Method = TypeVar("Method", bound=Callable[..., Any])


def _past_networkx(method: Method) -> Method:
    """Leave networkx its own method if it is the caller: its copies move what was checked before."""
    own = getattr(nx.MultiDiGraph, method.__name__)

    @wraps(method)
    def checked_unless_moved(*args: Any, **given: Any) -> Any:
        caller = inspect.currentframe().f_back  # type: ignore[union-attr]
        moved = caller is not None and str(caller.f_globals.get("__name__")).startswith("networkx.")
        return (own if moved else method)(*args, **given)

    return checked_unless_moved  # type: ignore[return-value]


class _MadeOnDemand:
    """A dictionary of networkx' edges, which is filled when somebody first reads it."""

    def __init__(self, name: str) -> None:
        self.name, self.own = name, nx.MultiDiGraph.__dict__.get(name) or nx.DiGraph.__dict__[name]

    def __get__(self, graph: RegionGraph | None, owner: type) -> Any:
        if graph is None:
            return self
        if graph._declared is not None:
            graph._fill_dictionaries()
        return vars(graph)[self.name]

    def __set__(self, graph: RegionGraph, value: Any) -> None:
        graph._declared = None
        self.own.__set__(graph, value)


class RegionGraph(nx.MultiDiGraph):
    """Regions and the projections between them.

    A ``networkx.MultiDiGraph`` whose nodes are regions and whose edges are projections, so networkx
    algorithms, ``copy``, ``subgraph`` and ``nx.relabel_nodes`` work on it. Node and edge attributes are plain
    scalars unless arrays are given, so the networkx writers work too. The dictionaries of networkx are made
    when its edges are first asked for; until then, many projections are a few arrays.

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

    _adj, _succ, _pred = map(_MadeOnDemand, ("_adj", "_succ", "_pred"))
    _declared: DeclaredProjections | None = None
    """The projections, until networkx' dictionaries have them."""

    def __init__(self, incoming_graph_data: Any = None, **attr: Any) -> None:
        super().__init__(incoming_graph_data, **attr)
        if incoming_graph_data is None:
            self._declared = DeclaredProjections()

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
        tau: float | ArrayLike | None = None,
        learnable_tau: bool | str = False,
        tau_bounds: tuple[float | None, float | None] | None = None,
        activation: str | None = None,
        noise_level: float | ArrayLike | None = None,
        learnable_noise: bool | str = False,
        activation_gain: float | ArrayLike | None = None,
        activation_threshold: float | ArrayLike | None = None,
        learnable_activation_gain: bool | str = False,
        learnable_activation_threshold: bool | str = False,
        threshold: float | ArrayLike | None = None,
        v_rest: float | ArrayLike | None = None,
        v_reset: float | ArrayLike | None = None,
        t_ref: float | ArrayLike | None = None,
        tau_syn: float | ArrayLike | None = None,
        background_rate: float = 0.0,
        background_weight: float = 0.0,
        unit_ids: Iterable[str] | None = None,
        positions: ArrayLike | None = None,
        unit_table: Mapping[str, Any] | None = None,
        **more: Any,
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
            Train the tonic input, or the initial state: one for each unit (True is "unit"), or one for the
            region.
        tau : float or array, shape (n,), optional
            Time constant in ms, if it is not the network's.
        learnable_tau : bool, "unit" or "region"
            Train the time constant: one for the region (True is "region"), or one for each unit.
        tau_bounds : (float or None, float or None), optional
            Least and largest time constant that training can reach, ms. It stays above one time step in any
            case. A time constant declared at a bound starts a millionth of the range inside, since at the
            bound it would have no gradient.
        activation : str, optional
            Activation, if it is not the network's; names are matched without case.
        noise_level : float or array, shape (n,), optional
            Noise of the units, if it is not the network's ``noise_level_act``.
        learnable_noise : bool, "unit" or "region"
            Train the noise level, which stays above 0: one for each unit (True), or one for the region.
        activation_gain, activation_threshold : float or array, shape (n,), optional
            The activity is f(gain (x - threshold)), f being the activation. Default: 1 and 0.
        learnable_activation_gain, learnable_activation_threshold : bool, "unit" or "region"
            Train the gain, which stays above 0, or the threshold: of each unit (True), or of the region.
        threshold, v_rest, v_reset : float or array, shape (n,), optional
            Of spiking units (`LIF`), mV, if not the network's.
        t_ref, tau_syn : float or array, shape (n,), optional
            Of spiking units: refractory time and time constant of the synaptic current, ms.
        background_rate, background_weight : float
            Poisson events into each spiking unit in a simulation: Hz, and mV added by each.
        unit_ids : list of str, optional
            A unique name per unit.
        positions : array, shape (n, dimensions), optional
            Unit positions, for distance-dependent rules.
        unit_table : mapping or DataFrame, optional
            Columns by name, each with a text or a number per unit, such as a cell type and a side. Units are
            chosen by them, and ``net.units`` has them all.
        **more
            Further declared fields of `Region`, by name.

        Raises
        ------
        GraphError
            If the name is taken, n < 1, an array has another length, parents form a cycle, or a field is not
            known.

        Examples
        --------
        >>> g = RegionGraph()
        >>> g.add_region("cortex", 3, sign=[1, 1, -1], tau=[20.0, 20.0, 10.0], learnable_bias="region")
        >>> g.region("cortex").tau.tolist()
        [20.0, 20.0, 10.0]
        """
        given = {key: value for key, value in locals().items() if key in REGION_FIELDS}
        self._declare(Region.checked(name, n, "recurrent", {**given, **more}))

    def add_input(self, name: str, n: int, *, sign: str | ArrayLike | None = "pos", **more: Any) -> None:
        """Add an input region of ``n`` channels.

        Parameters
        ----------
        name : str
        n : int
            Number of channels, at least 1.
        sign : {"pos", "neg", None} or array of +1/-1/0, shape (n,)
            Sign of the channels' weights.
        **more
            Further declared fields of `Region` that inputs have.

        Raises
        ------
        GraphError
            If the name is taken or n < 1.
        """
        self._declare(Region.checked(name, n, "input", {"sign": sign, **more}))

    def set_region(self, region: Region) -> None:
        """Add a region, or replace the one of its name; its fields are checked as `add_region` checks them.

        Raises
        ------
        GraphError
            If a field does not fit, or the replaced one has projections and another kind or size.
        """
        given = {name: getattr(region, name) for name in FIELDS_OF_KIND[region.kind]}
        self._declare(Region.checked(region.name, region.n, region.kind, given), replace=True)

    def _declare(self, region: Region, *, replace: bool = False) -> None:
        self._check_open()
        name, parent, known = region.name, region.parent_region, region.name in self
        if known and not replace:
            raise GraphError(f"region {name!r} exists already; names are unique among regions and inputs.")
        if known:
            old = self.region(name)
            if (old.n, old.kind) != (region.n, region.kind) and self._has_projections(name):
                what = f"by a region of kind {old.kind!r} and {old.n} units"
                raise GraphError(f"region {name!r} has projections; replace it {what}.")
        if parent is not None:
            self._check_parent(name, parent)
        if known:
            self._node[name].clear()
        if self._declared is None:
            super().add_node(name, **region.attributes())
        else:
            self._declared.numbers.setdefault(name, len(self._node))
            self._node.setdefault(name, {}).update(region.attributes())

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
        delay_std: float = 0.0,
        share: str | Any = None,
        gain: float = 1.0,
        bounds: tuple[float | None, float | None] | None = None,
        rank: int | None = None,
        kind: str = "chemical",
        rectifies: bool = False,
        **more: Any,
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
            A zero of a dense array is not a synapse. A networkx graph has the unit ids of both as nodes.
        key : str
            Names parallel projections between the same two regions; their effects add.
        initializer : Initializer, optional
            Initial weights. Default: mRNNTorch's.
        sign : {"inherit", "pos", "neg", "free"}
            Overrides the sign of the source units, as for gap junctions; "free": either sign.
        trainable : bool
            False keeps the weights out of the parameters.
        self_connections : bool
            Let a unit project to itself, within one region.
        delay : float, optional
            Conduction delay, ms: activity arrives so much later, at least one time step. Default:
            one time step.
        delay_std : float
            Standard deviation of delays, ms, one drawn for each synapse from a normal distribution around
            ``delay``, rounded to time steps, and drawn again while that is below one. What is drawn follows
            from the names of the projection and the numbers of both units, whatever the seed.
        share : {"projection", "source", "target"}, name or labels, optional
            Weights are fixed base values (``weights``, or what the initialiser draws) times learnt gains: one
            for the projection, one per source or target unit, one for all projections that give the same
            name, or one per label. Labels are for explicit weights: one for each synapse row by row, or a
            matrix of them.
        gain : float
            What every gain starts with.
        bounds : (float or None, float or None), optional
            Least and largest gain, kept by how it is parametrised. Without bounds, a gain under Dale's law is
            at least 0. A gain declared at a bound starts a millionth of the range inside, since at the bound
            it would have no gradient.
        rank : int, optional
            W = U V^T with this many columns in U and V, both trained; no synapses (Mastrogiuseppe & Ostojic
            2018).
        kind : {"chemical", "electrical"}
            "electrical": ``weights`` are conductances g >= 0, and unit i receives g_ij (x_j - x_i) from unit
            j, which loses as much; x is the state before the activation. One projection is both directions:
            within a region the matrix is symmetric, and between two it is declared once. A conductance of 1
            is as large as the leak.
        rectifies : bool
            Electrical current flows from source to target only: g_ij max(x_j - x_i, 0).
        **more
            Further declared fields of `Projection`, by name.

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
            If explicit weights have the wrong shape or sign, or are not finite; or conductances are negative
            or not symmetric.
        """
        self._check_open()
        src, dst = self._endpoint(source, "source"), self._endpoint(target, "target")
        label = projection_label(source, target, key)
        if dst["kind"] == "input":
            raise GraphError(f"{label}: {target!r} is an input; projections end in recurrent regions.")
        if self.has_edge(source, target, key):
            raise GraphError(f"{label} exists already; give the parallel one another key=.")
        ways = {"density": density, "fan_in": fan_in, "rule": rule, "weights": weights}
        given = [name for name, value in {**ways, "rank": rank}.items() if value is not None]
        if len(given) > 1:
            raise GraphError(f"{label}: {' and '.join(given)} exclude each other; give one.")
        plain = {"sign": sign, "trainable": trainable, "self_connections": self_connections}
        plain |= {"delay": delay, "delay_std": delay_std, "rank": rank, **more}
        plain |= {"kind": kind, "rectifies": rectifies}
        settings = checked(PROJECTION_FIELDS, label, plain)
        check_drawn_delays(label, settings, src["kind"])
        check_electrical(label, settings, self.region(source), self.region(target))
        electrical = settings["kind"] == "electrical"
        if electrical and (weights is None or share is not None or initializer is not None):
            advice = "give weights=, and no rule, initializer or share"
            raise GraphError(f"{label}: conductances are explicit; {advice}.")
        if electrical and source != target and not settings["rectifies"]:
            known = self.has_edge(target, source, key)
            back = self.projection_attributes(target, source, key) if known else {}
            if back.get("kind") == "electrical":
                there = projection_label(target, source, key)
                why = "for its current flows both ways"
                raise GraphError(f"{label}: {there} is this projection already, {why}.")
        attrs: dict[str, Any] = kept(settings)
        attrs |= {name: value for name, value in ways.items() if value is not None}
        signs = np.empty(0, dtype=np.int8)
        if weights is not None or rank is not None or share is not None:
            signs = source_signs("free" if electrical else settings["sign"], self.region(source))
        shape = dst["n"], src["n"]
        if weights is not None:
            ids = dst.get("unit_ids"), src.get("unit_ids")
            attrs["weights"] = explicit_weights(label, weights, shape=shape, signs=signs, ids=ids)
            if initializer is not None:
                raise GraphError(f"{label}: explicit weights need no initializer; remove one.")
            if electrical:
                one_way = settings["rectifies"]
                check_conductances(label, attrs["weights"], within=source == target, rectifies=one_way)
            if source == target and not self_connections and attrs["weights"].diagonal().any():
                raise WeightError(f"{label}: weights have self-connections, but self_connections=False.")
        elif rank is not None:
            if share is not None:
                raise GraphError(f"{label}: a low-rank projection has no synapses; leave out share.")
            check_low_rank(label, settings, shape, bool(signs.any()))
        else:
            chosen = rule_of(attrs, label)
            chosen.check(pair_of(self.region(source), self.region(target), key, attrs))
            attrs |= {name: vars(chosen)[name] for name in ("density", "fan_in") if name in attrs}
        if initializer is not None:
            attrs["initializer"] = initializer
        if share is not None:
            sharing = check_sharing(label, share, gain, bounds, attrs.get("weights"))
            drawn = initializer or Default()
            if weights is None and not drawn.keeps_sign(bool(signs.all())):
                need = "a shared gain needs base weights of one sign"
                advice = "use initializer=Constant(...), Gamma, LogNormal or explicit weights"
                raise GraphError(f"{label}: {need}, and {type(drawn).__name__} draws both; {advice}.")
            self._check_shared_name((source, target, key), sharing, settings["trainable"], signs)
            attrs |= sharing.attributes()
        elif gain != 1.0 or bounds is not None:
            raise GraphError(f"{label}: gain and bounds are for shared weights; give share=.")
        self.add_checked(source, target, key, attrs)

    def add_projections(
        self, weights: Any, *, key: str = "default", sign: str = "inherit", trainable: bool = True,
        share: str | None = None, gain: float = 1.0, bounds: tuple[float | None, float | None] | None = None,
        delay: float | None = None, delay_std: float = 0.0, kind: str = "chemical", rectifies: bool = False,
    ) -> None:
        """Add explicit synapses between all recurrent units: a projection for each pair of regions with any.

        O(synapses log synapses); the projections share their arrays, so 100,000 of them are cheap.

        Parameters
        ----------
        weights : array or scipy sparse array, shape (units, units)
            Entry (i, j) is from unit j to unit i, in unit order: region after region.
        key, sign, trainable, share, gain, bounds, delay, delay_std, kind, rectifies
            Of every projection, as in `add_projection`; so are the errors. Labels are for `add_projection`
            only. Conductances of electrical synapses that do not rectify are a symmetric matrix; the
            projection of two regions goes from the one declared first.
        """
        self._check_open()
        regions, label = self.regions(), f"projections (key {key!r})"
        ptr = np.cumsum([0, *(region.n for region in regions)])
        given = {"sign": sign, "trainable": trainable, "delay": delay, "delay_std": delay_std}
        given |= {"kind": kind, "rectifies": rectifies}
        settings = checked(PROJECTION_FIELDS, label, {**given, "rank": None})
        check_drawn_delays(label, settings, "recurrent")
        for region in regions[:1]:
            check_electrical(label, settings, region, region)
        electrical = settings["kind"] == "electrical"
        if electrical and share is not None:
            raise GraphError(f"{label}: electrical synapses share no gain; leave out share.")
        none = np.empty(0, dtype=np.int8)
        sign = "free" if electrical else settings["sign"]
        signs = np.concatenate([none, *(source_signs(sign, region) for region in regions)])
        shape = (int(ptr[-1]), int(ptr[-1]))
        matrix = explicit_weights(label, weights, shape=shape, signs=signs, ids=(None, None))
        if electrical:
            check_conductances(label, matrix, within=True, rectifies=settings["rectifies"])
        if electrical and not settings["rectifies"]:  # each pair of regions once
            number = np.repeat(np.arange(len(regions)), np.diff(ptr))
            coo = matrix.tocoo()
            once = number[coo.row] >= number[coo.col]
            matrix = sp.csr_array((coo.data[once], (coo.row[once], coo.col[once])), shape=shape)
            matrix.sort_indices()
        attrs: dict[str, Any] = kept(settings)
        if share is not None:
            if not isinstance(share, str):
                raise GraphError(f"{label}: labels belong to one projection; use add_projection for them.")
            sharing = check_sharing(label, share, gain, bounds, None)
            attrs |= sharing.attributes()
        source, target, arrays, start, stop = blocks_by_region(matrix, ptr)
        numbers = {name: k for k, name in enumerate(self)}
        number = np.array([numbers[region.name] for region in regions], dtype=np.int32)
        ends, setting = (number[source], number[target]), np.zeros(len(source), dtype=np.int32)
        columns = ProjectionColumns.of_ranges(*ends, setting, ((key, attrs),), arrays, start, stop)
        if share is not None and len(columns):
            first = regions[source[0]].name, regions[target[0]].name, key
            self._check_shared_name(first, sharing, settings["trainable"])
        self.add_columns(columns)

    def add_columns(self, columns: ProjectionColumns) -> None:
        """Add projections whose settings and synapses were checked before.

        A file's reader, and whatever makes a graph of a network, has a million of them at once.

        Raises
        ------
        GraphError
            If one exists already, or is there twice; none is added then.
        """
        regions = tuple(self)
        declared = self._declared
        keys = {key for key, _ in columns.settings}
        present = self._columns() if declared is None else declared.with_keys(keys)
        codes = ProjectionColumns.joined([present, columns]).names(regions).codes()
        once, first = np.unique(codes, return_index=True)
        if len(once) < len(codes):
            again = np.setdiff1d(np.arange(len(codes)), first)[0] - len(present)
            label = projection_label(*columns.names(regions)[int(again)])
            raise GraphError(f"{label} exists already; give the parallel one another key=.")
        if declared is None:
            self._fill(columns.edges(regions, self._sizes()))
        else:
            declared.extend(columns)

    def replace_columns(self, columns: ProjectionColumns) -> None:
        """Replace all projections by others, which were checked before."""
        self._adj, self._pred = {}, {}
        self._declared = DeclaredProjections({name: k for k, name in enumerate(self)})
        self._declared.extend(columns)

    def add_checked(self, source: str, target: str, key: str, attrs: dict[str, Any]) -> None:
        """Add a projection whose settings and synapses were checked before."""
        if self._declared is None:
            super().add_edge(source, target, key=key, **attrs)
        else:
            self._declared.add((source, target, key), attrs)

    # ---------------------------------------------------------------- networkx

    @_past_networkx
    def add_node(self, node_for_adding: str, **attr: Any) -> None:
        """Add or change a region by networkx's name: `add_region` or `add_input`, with ``n`` and ``kind``.

        Raises
        ------
        GraphError
            As these, and if a new region has no number of units.
        """
        kind = attr.pop("kind", "recurrent")
        if node_for_adding in self:
            old = self.region(node_for_adding)
            kept_fields = {name: value for name, value in old.attributes().items() if name in REGION_FIELDS}
            n, given = attr.pop("n", old.n), {"sign": old.sign, **kept_fields, **attr}
            self._declare(Region.checked(old.name, n, old.kind, given), replace=True)
        elif "n" not in attr:
            advice = "use add_region(name, n) or add_input(name, n)"
            raise GraphError(f"region {node_for_adding!r} has no number of units; {advice}.")
        else:
            self._declare(Region.checked(node_for_adding, attr.pop("n"), kind, attr))

    @_past_networkx
    def add_nodes_from(self, nodes_for_adding: Iterable[Any], **attr: Any) -> None:
        """Add or change regions by networkx's name, as `add_node`."""
        for node in nodes_for_adding:
            name, own = node if isinstance(node, tuple) else (node, {})
            self.add_node(name, **{**attr, **own})

    @_past_networkx
    def add_edge(self, u_for_edge: str, v_for_edge: str, key: str | None = None, **attr: Any) -> str:
        """Add a projection by networkx's name: `add_projection`, whose key is "default" without one.

        Raises
        ------
        GraphError
            As `add_projection`: if it exists already, or a setting is not known.
        """
        if "weight" in attr:
            raise GraphError(ONE_WEIGHT)
        key = "default" if key is None else key
        self.add_projection(u_for_edge, v_for_edge, key=key, **attr)
        return key

    @_past_networkx
    def add_edges_from(self, ebunch_to_add: Iterable[Any], **attr: Any) -> list[str]:
        """Add projections by networkx's name, as `add_edge`, with or without key and settings."""
        keys = []
        for source, target, *rest in ebunch_to_add:
            settings = rest.pop() if rest and isinstance(rest[-1], Mapping) else {}
            keys.append(self.add_edge(source, target, *rest, **{**attr, **settings}))
        return keys

    def add_weighted_edges_from(self, ebunch_to_add: Any, weight: str = "weight", **attr: Any) -> None:
        """Refuse networkx's one weight for an edge: a projection has one for each synapse.

        Raises
        ------
        GraphError
        """
        raise GraphError(ONE_WEIGHT)

    @_past_networkx
    def update(self, edges: Any = None, nodes: Any = None) -> None:
        """Add regions and projections by networkx's name, as `add_nodes_from` and `add_edges_from`."""
        if isinstance(edges, nx.Graph):
            edges, nodes = edges.edges(keys=True, data=True), edges.nodes(data=True)
        self.add_nodes_from(() if nodes is None else nodes)
        self.add_edges_from(() if edges is None else edges)

    def has_edge(self, u: str, v: str, key: str | None = None) -> bool:
        """Tell if there is a projection, by networkx's name."""
        if self._declared is None or key is None:
            found: bool = super().has_edge(u, v, key)
            return found
        return self._declared.find((u, v, key)) is not None

    def number_of_edges(self, u: str | None = None, v: str | None = None) -> int:
        """Count projections, by networkx's name: all, or those between two regions."""
        if self._declared is None or u is not None:
            found: int = super().number_of_edges(u, v)
            return found
        return len(self._declared)

    def copy(self, as_view: bool = False) -> RegionGraph:
        """Copy the graph, as networkx does; arrays are shared."""
        if self._declared is None or as_view:
            found: RegionGraph = super().copy(as_view)
            return found
        made = self.__class__()
        made.graph.update(self.graph)
        made._node.update((name, attrs.copy()) for name, attrs in self._node.items())
        made._declared = self._declared.copy()
        return made

    def _fill_dictionaries(self) -> None:
        """Give networkx' dictionaries all regions and projections; from now on they are the graph."""
        declared, self.__dict__["_declared"] = self._declared, None
        for name in self._node:
            self._succ[name], self._pred[name] = {}, {}
        if declared is not None:
            self._fill(declared.edges(self._sizes()))

    def _fill(self, edges: Iterable[Edge]) -> None:
        """Put projections that are not there yet into the dictionaries, faster than networkx does."""
        successors, predecessors = self._succ, self._pred
        for source, target, key, attrs in edges:
            parallel = successors[source].get(target)
            if parallel is None:
                parallel = successors[source][target] = predecessors[target][source] = {}
            parallel[key] = attrs

    def _sizes(self) -> list[int]:
        return [attrs.get("n", 0) for attrs in self._node.values()]

    def _columns(self) -> ProjectionColumns:
        """All projections in networkx' order."""
        if self._declared is None:
            numbers = {name: k for k, name in enumerate(self)}
            return ProjectionColumns.of_edges(self.edges(keys=True, data=True), numbers)
        return self._declared.columns()

    def _has_projections(self, name: str) -> bool:
        """Tell if a region has projections."""
        columns, number = self._columns(), list(self).index(name)
        return bool(((columns.source == number) | (columns.target == number)).any())

    # ---------------------------------------------------------------- asking

    def region(self, name: str) -> Region:
        """The region or input ``name``.

        Raises
        ------
        UnknownNameError
            If nothing has this name.
        """
        if name not in self:
            raise UnknownNameError(f"unknown region {name!r}. {suggest(name, self, what='regions')}")
        attrs = self.nodes[name]
        if "n" not in attrs:
            raise GraphError(f"region {name!r} has no number of units; add it with add_region or add_input.")
        # A node has no attribute that is None, and may have others, which are the user's own.
        return Region(name, **{"sign": None, **{key: attrs[key] for key in attrs if key in KNOWN}})

    def regions(self, kind: str = "recurrent") -> list[Region]:
        """Regions of a kind ("recurrent" or "input"), in insertion order."""
        return [region for region in map(self.region, self) if region.kind == kind]

    def projections(self, kind: str | None = None) -> Iterator[Projection]:
        """Projections in order of their sources, optionally only those of "recurrent" or "input" sources."""
        yield from self.projection_columns(kind)

    def projection_columns(self, kind: str | None = None) -> Projections:
        """Projections as `projections` gives them, in columns: a sequence that makes each when asked for."""
        columns, regions = self._columns(), tuple(map(self.region, self))
        inputs = np.array([region.kind == "input" for region in regions], dtype=bool)
        if kind is not None:
            columns = columns.take(inputs[columns.source] == (kind == "input"))
        for k in np.flatnonzero(inputs[columns.target])[:1]:
            label = projection_label(*columns.names(tuple(self))[k])
            raise GraphError(f"{label} ends in an input; projections end in recurrent regions.")
        return Projections(regions, columns)

    def projection_attributes(self, source: str, target: str, key: str) -> Mapping[str, Any]:
        """Settings of a projection, as attributes of its edge; without synapses that it has with others."""
        found = None if self._declared is None else self._declared.find((source, target, key))
        return self.edges[source, target, key] if found is None else found

    def electrical_projections(self) -> Projections:
        """Projections of electrical synapses."""
        every = self.projection_columns("recurrent")
        return every.take(every.is_electrical)

    def check_electrical_projections(self) -> None:
        """Check electrical projections that were added without checks, as those of a file are.

        Raises
        ------
        GraphError, WeightError
            As `add_projection`.
        """
        seen: set[ProjectionKey] = set()
        for p in self.electrical_projections():
            label, within = projection_label(p.source, p.target, p.key), p.source == p.target
            settings = {name: getattr(p, name) for name in PROJECTION_FIELDS}
            check_electrical(label, settings, self.region(p.source), self.region(p.target))
            if (p.target, p.source, p.key) in seen and not (p.rectifies or within):
                there = projection_label(p.target, p.source, p.key)
                raise GraphError(f"{label}: {there} is this projection already; current flows both ways.")
            seen.add((p.source, p.target, p.key))
            if p.weights is None:
                raise GraphError(f"{label}: conductances are explicit; it has none.")
            check_conductances(label, p.weights, within=within, rectifies=p.rectifies)

    def low_rank_projections(self, kind: str | None = None) -> Projections:
        """Projections of low rank, which have no synapses."""
        every = self.projection_columns(kind)
        return every.take(every.has("rank"))

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

    def without_electrical(self) -> RegionGraph:
        """A copy without its electrical projections: for what takes chemical synapses alone.

        Examples
        --------
        >>> g = RegionGraph(); g.add_region("a", 2); g.add_projection("a", "a")
        >>> g.add_projection("a", "a", key="gap", kind="electrical", weights=[[0, 1.0], [1.0, 0]])
        >>> g.without_electrical().number_of_edges()
        1
        """
        found: RegionGraph = self.copy()
        every = self.projection_columns()
        if every.is_electrical.any():
            found.replace_columns(every.columns.take(~every.is_electrical))
        return found

    def shuffled(self, keep: str | Iterable[str] = "degrees", seed: Seed = 0) -> RegionGraph:
        """A copy whose recurrent synapses are shuffled within each projection: a null model of the wiring.

        Projections keep their regions, number of synapses, weights, signs, delays and sharing, and no
        synapse is doubled. A unit's synapses onto itself stay, and none is made. Projections of inputs are
        left as they are. O(synapses log synapses).

        Parameters
        ----------
        keep : {"degrees", "blocks", "signs", "weights", "geometry"}, or several of them
            "degrees": each synapse keeps its source and its weight, and each unit, in each projection, the
            number of synapses it sends and receives. "blocks": no more than the number of synapses in each
            projection, from sources of each sign, and their weights. The others keep the degrees, and
            "signs": the number of excitatory and inhibitory synapses that each unit receives; "weights":
            the weights, one by one, that each unit receives, and so all strengths; for synapse counts;
            "geometry": how many synapses of about each length (one of 20 bins) each projection has; for
            regions with positions (Betzel & Bassett 2018, PNAS 115:E4880).
        seed : int, numpy SeedSequence or Generator

        Returns
        -------
        RegionGraph

        Raises
        ------
        GraphError
            If synapses are still to be drawn by a rule, no synapse can be moved, or positions are missing.

        Examples
        --------
        >>> import numpy as np
        >>> g = RegionGraph(); g.add_region("a", 50)
        >>> g.add_projection("a", "a", weights=np.random.default_rng(0).random((50, 50)) < 0.1)
        >>> before, after = (next(graph.projections()).weights for graph in (g, g.shuffled()))
        >>> bool((before.sum(axis=1) == after.sum(axis=1)).all()), before.multiply(after).nnz < before.nnz / 4
        (True, True)
        """
        found: RegionGraph = self.copy()
        projections = list(self.projections("recurrent"))
        for name, attrs in shuffled_edges(projections, self.regions(), keep, seed):
            found.edges[name].update(attrs)
        return found

    # ---------------------------------------------------------------- showing

    def summary(self) -> list[dict[str, Any]]:
        """One row per region: name, kind, units, sign, parent, projections and expected synapses."""
        found, n = self.projection_columns(), len(self)
        source, target = found.columns.source, found.columns.target
        onto = np.bincount(target, weights=found.expected_synapses(), minlength=n).tolist()
        in_degree, out_degree = (np.bincount(end, minlength=n).tolist() for end in (target, source))
        return [
            {
                "region": region.name,
                "kind": region.kind,
                "units": region.n,
                "sign": "per unit" if isinstance(region.sign, np.ndarray) else region.sign or "none",
                "parent": region.parent_region or "",
                "in": in_degree[k],
                "out": out_degree[k],
                "synapses onto": round(onto[k]),
            }
            for k, region in enumerate(found.regions)
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

    def _check_shared_name(
        self, name: tuple[str, str, str], sharing: Sharing, trainable: bool,
        signs: NDArray[np.int8] | None = None,
    ) -> None:
        """Check that projections of one shared name agree, for they have one gain: its start, its bounds, its
        training, the signs under it (if given) and the matrix it belongs to."""
        if sharing.name is None:
            return
        first = self._first_of_name(sharing.name, name)
        if first == name:
            return
        attrs, other = self.projection_attributes(*first), self.region(first[0])
        same: dict[str, tuple[Any, Any]] = {
            "gain": (sharing.gain, attrs["gain"]),
            "bounds": (sharing.bounds, (attrs.get("gain_low"), attrs.get("gain_high"))),
            "trainable": (trainable, attrs["trainable"]),
            "kind of source": (self.region(name[0]).kind, other.kind),
        }
        if signs is not None:
            theirs = source_signs(attrs.get("sign", "inherit"), other)
            same["source signs"] = np.unique(signs).tolist(), np.unique(theirs).tolist()
        for what, (mine, their) in same.items():
            if mine != their:
                shares = f"shares the gain {sharing.name!r} with {projection_label(*first)}"
                differ = f"but {what} differ: {mine} and {their}. Make them equal, or give another name"
                raise GraphError(f"{projection_label(*name)}: {shares}, {differ}.")

    def _first_of_name(self, shared: str, name: ProjectionKey) -> ProjectionKey:
        """Find the first projection that shares the gain of a name, which may be ``name`` itself.

        Names are kept, and looked up anew in a copy: among 100,000 projections none looks through the others.
        """
        names: dict[str, ProjectionKey] | None = self.__dict__.get("_shared_names")
        if names is None:
            names = self.__dict__["_shared_names"] = {}
            columns = self._columns()
            labels = columns.names(tuple(self))
            for k in np.flatnonzero(columns.from_settings(lambda attrs: "share" in attrs, np.bool_)).tolist():
                share = columns.settings[columns.setting[k]][1]["share"]
                if share not in names:
                    names[share] = labels[k]
        if not self.has_edge(*names.setdefault(shared, name)):
            names[shared] = name
        return names[shared]

    def _ancestors(self, name: str) -> list[str]:
        chain: list[str] = []
        parent = self.nodes[name].get("parent_region") if name in self else None
        while parent is not None and parent not in chain:
            chain.append(parent)
            parent = self.nodes[parent].get("parent_region") if parent in self else None
        return chain

    def _check_parent(self, name: str, parent: str) -> None:
        if parent in self and self.nodes[parent]["kind"] == "input":
            raise GraphError(f"region {name!r}: parent_region {parent!r} is an input; parents group regions.")
        chain = [parent, *self._ancestors(parent)]
        if name in chain:
            circle = " -> ".join([name, *chain[: chain.index(name) + 1]])
            raise GraphError(f"region {name!r}: parents form a cycle: {circle}. Remove one parent_region.")

    def _endpoint(self, name: str, side: str) -> dict[str, Any]:
        if name in self:
            attrs: dict[str, Any] = self._node[name]
            return attrs
        if name in self.parents:
            inside = ", ".join(map(repr, self.members(name)))
            raise UnknownNameError(f"{side} {name!r} is a parent that only groups {inside}; connect those.")
        raise UnknownNameError(f"unknown {side} region {name!r}. {suggest(name, self, what='regions')}")
