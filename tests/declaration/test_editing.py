"""Declaring and changing graphs and networks in any order, against a plain dict of what should be there."""

import networkx as nx
import numpy as np
import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, consumes, invariant, precondition, rule

import sparse_mrnn as sm
from sparse_mrnn.errors import FinalizeError, GraphError, SparseMRNNError

NAMES = st.sampled_from(["ctx", "thal", "str", "gpi", "cue", "go", "a b", "ü"])
SIZES = st.integers(1, 4)
PARENTS = st.sampled_from([None, "left", "right"])
KINDS = st.sampled_from(["recurrent", "input"])
KEYS = st.sampled_from(["default", "second"])
WAYS = st.sampled_from(["all", "density", "fan_in", "weights", "one_to_one"])


def way_of(way, source, target, rng):
    """Arguments of a projection, and the synapses that it must have (None: a random number)."""
    n_source, n_target = source["n"], target["n"]
    if way == "weights":
        weights = rng.integers(1, 5, (n_target, n_source)) / 2 * (rng.random((n_target, n_source)) < 0.5)
        return {"weights": weights}, int((weights != 0).sum())
    if way == "density":
        return {"density": 0.5}, None
    if way == "fan_in":
        return {"fan_in": n_source}, n_source * n_target
    if way == "one_to_one":
        return {"rule": sm.OneToOne()}, n_source
    return {}, n_source * n_target


class Editing(RuleBasedStateMachine):
    """A RegionGraph and, beside it, dicts of regions and projections."""

    regions = Bundle("regions")

    def __init__(self):
        super().__init__()
        self.graph = sm.RegionGraph(name="edited")
        self.nodes, self.edges = {}, {}
        self.rng = np.random.default_rng(0)

    @rule(target=regions, name=NAMES, n=SIZES, parent=PARENTS, sign=st.sampled_from(["pos", "neg", None]))
    def add_region(self, name, n, parent, sign):
        if name in self.nodes:
            with pytest.raises(GraphError, match="exists already"):
                self.graph.add_region(name, n)
            return name
        self.graph.add_region(name, n, parent_region=parent, sign=sign)
        self.nodes[name] = {"kind": "recurrent", "n": n, "parent": parent, "sign": sign}
        return name

    @rule(target=regions, name=NAMES, n=SIZES)
    def add_input(self, name, n):
        if name in self.nodes:
            with pytest.raises(GraphError, match="exists already"):
                self.graph.add_input(name, n)
            return name
        self.graph.add_input(name, n)
        self.nodes[name] = {"kind": "input", "n": n, "parent": None, "sign": "pos"}
        return name

    @rule(src=regions, dst=regions, key=KEYS, way=WAYS, trainable=st.booleans())
    def add_projection(self, src, dst, key, way, trainable):
        source, target = src, dst
        known = source in self.nodes and target in self.nodes
        options, synapses = {}, None
        if known:
            options, synapses = way_of(way, self.nodes[source], self.nodes[target], self.rng)
        new = (source, target, key) not in self.edges
        allowed = known and new and self.nodes[target]["kind"] == "recurrent"
        if allowed and way == "one_to_one" and self.nodes[source]["n"] != self.nodes[target]["n"]:
            allowed = False
        if allowed and way == "weights" and self.nodes[source]["sign"] == "neg" and synapses:
            allowed = False
        if not allowed:
            before = list(self.graph.edges(keys=True))
            with pytest.raises(SparseMRNNError):
                self.graph.add_projection(source, target, key=key, trainable=trainable, **options)
            assert list(self.graph.edges(keys=True)) == before
            return
        self.graph.add_projection(source, target, key=key, trainable=trainable, **options)
        self.edges[source, target, key] = {"trainable": trainable, "synapses": synapses}

    @rule(name=consumes(regions))
    def remove_region(self, name):
        if name in self.nodes:
            self.graph.remove_node(name)
            del self.nodes[name]
            self.edges = {edge: attrs for edge, attrs in self.edges.items() if name not in edge[:2]}

    @precondition(lambda self: self.edges)
    @rule(data=st.data())
    def remove_projection(self, data):
        edge = data.draw(st.sampled_from(sorted(self.edges)))
        self.graph.remove_edge(*edge)
        del self.edges[edge]

    @rule()
    def copy(self):
        self.graph = self.graph.copy()

    @precondition(lambda self: self.nodes)
    @rule(target=regions, data=st.data())
    def rename(self, data):
        old = data.draw(st.sampled_from(sorted(self.nodes)))
        new = old + "'"
        if new in self.nodes:
            return old
        self.graph = self.graph.relabel({old: new})
        self.nodes = {new if name == old else name: attrs for name, attrs in self.nodes.items()}
        named = {old: new}
        self.edges = {(named.get(s, s), named.get(t, t), k): v for (s, t, k), v in self.edges.items()}
        return new

    @precondition(lambda self: self.nodes)
    @rule(data=st.data())
    def subgraph(self, data):
        keep = data.draw(st.sets(st.sampled_from(sorted(self.nodes))))
        self.graph = self.graph.subgraph(keep).copy()
        self.nodes = {name: attrs for name, attrs in self.nodes.items() if name in keep}
        self.edges = {edge: attrs for edge, attrs in self.edges.items() if {*edge[:2]} <= keep}

    @rule()
    def through_a_configuration(self):
        self.graph = sm.read_config(sm.to_config(self.graph))

    @invariant()
    def agrees(self):
        graph = self.graph
        assert isinstance(graph, sm.RegionGraph)
        assert set(graph) == set(self.nodes)
        for kind in ("recurrent", "input"):
            sizes = {name: attrs["n"] for name, attrs in self.nodes.items() if attrs["kind"] == kind}
            assert {region.name: region.n for region in graph.regions(kind)} == sizes
            assert (graph.n_units if kind == "recurrent" else graph.n_inputs) == sum(sizes.values())
        for name, attrs in self.nodes.items():
            region = graph.region(name)
            assert (region.kind, region.n) == (attrs["kind"], attrs["n"])
            assert (region.parent_region, region.sign) == (attrs["parent"], attrs["sign"])
        projections = {(p.source, p.target, p.key): p for p in graph.projections()}
        assert set(projections) == set(self.edges)
        for edge, attrs in self.edges.items():
            assert projections[edge].trainable == attrs["trainable"]
            if attrs["synapses"] is not None:
                assert projections[edge].expected_synapses == attrs["synapses"]
        for parent in ("left", "right"):
            members = [name for name, attrs in self.nodes.items() if attrs["parent"] == parent]
            assert (parent in graph.parents) == bool(members)
            if members:
                assert set(graph.members(parent)) == set(members)

    def teardown(self):
        if not any(attrs["kind"] == "recurrent" for attrs in self.nodes.values()):
            return
        net = sm.mRNN(self.graph, device="cpu", seed=0)
        assert net.rec.shape == (self.graph.n_units, self.graph.n_units)
        for (source, target, key), attrs in self.edges.items():
            weights = net.weights(self.nodes[source]["kind"])
            values = weights.projection_values(source=source, target=target, key=key)
            assert attrs["synapses"] in (None, values.numel())


class NetworkEditing(RuleBasedStateMachine):
    """An mRNN declared call by call: its answers agree with the declaration; finalised, it is closed."""

    regions = Bundle("regions")

    def __init__(self):
        super().__init__()
        self.net = sm.mRNN(device="cpu", seed=0)
        self.sizes = {"recurrent": {}, "input": {}}
        self.edges = set()
        self.closed = {"recurrent": False, "input": False}

    @rule(target=regions, name=NAMES, n=SIZES, kind=KINDS)
    def add_region(self, name, n, kind):
        add = self.net.add_recurrent_region if kind == "recurrent" else self.net.add_input_region
        if self.closed[kind] or (kind == "recurrent" and self.closed["input"]):
            with pytest.raises(FinalizeError, match="finalised"):
                add(name, n)
        elif name in self.sizes["recurrent"] or name in self.sizes["input"]:
            with pytest.raises(GraphError, match="exists already"):
                add(name, n)
        else:
            add(name, n)
            self.sizes[kind][name] = n
        return name

    @rule(src=regions, dst=regions, kind=KINDS, sparsity=st.sampled_from([None, 0.0, 0.5, 1.0]))
    def connect(self, src, dst, kind, sparsity):
        source, target = src, dst
        connect = self.net.add_recurrent_connection if kind == "recurrent" else self.net.add_input_connection
        fits = source in self.sizes[kind] and target in self.sizes["recurrent"]
        if self.closed[kind] or not fits or (source, target) in self.edges:
            with pytest.raises(SparseMRNNError):
                connect(source, target, sparsity)
        else:
            connect(source, target, sparsity)
            self.edges.add((source, target))

    @rule(kind=KINDS)
    def finalize(self, kind):
        net = self.net
        finalize = net.finalize_rec_connectivity if kind == "recurrent" else net.finalize_inp_connectivity
        if not self.sizes["recurrent"]:
            with pytest.raises(FinalizeError, match="no recurrent region"):
                finalize()
        else:
            finalize()
            self.closed[kind] = True

    @invariant()
    def agrees(self):
        net, start = self.net, 0
        assert net.hid_regions == list(self.sizes["recurrent"])
        assert net.inp_regions == list(self.sizes["input"])
        assert (net.rec_finalized, net.inp_finalized) == (self.closed["recurrent"], self.closed["input"])
        for name, n in self.sizes["recurrent"].items():
            assert net.get_region_size(name) == n
            assert net.get_region_indices(name) == (start, start + n)
            start += n
        assert {(p.source, p.target) for p in net.graph.projections()} == self.edges
        both = all(self.closed.values())
        assert nx.is_frozen(net.graph) == both
        if both:
            with pytest.raises((nx.NetworkXError, FinalizeError)):
                net.graph.add_region("late", 1)

    def teardown(self):
        if self.sizes["recurrent"]:
            self.net.finalize_connectivity()
            x0, h0 = self.net.batched_initial_condition(2)
            inputs = x0.new_zeros(2, 3, sum(self.sizes["input"].values()))
            x, h = self.net(inputs, x0, h0, noise=False)
            assert x.shape == h.shape == (2, 3, sum(self.sizes["recurrent"].values()))
            assert bool(x.isfinite().all())


CHECKS = list(HealthCheck)
QUICK = settings(max_examples=25, stateful_step_count=20, deadline=None, suppress_health_check=CHECKS)
TestEditing = Editing.TestCase
TestEditing.settings = QUICK
TestNetworkEditing = NetworkEditing.TestCase
TestNetworkEditing.settings = QUICK
